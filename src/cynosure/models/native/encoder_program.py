"""Run an encoder from token ids to vectors by one native call. Knows nothing of text or of files.

Rows are packed and never padded; where there are enough texts, a thread takes some of them through all layers
by itself (`kernels/cpu/encoder_plan.h`). What the program does not know it refuses by name, and the modules
run instead: they are the plain path that this one is compared with.
"""

from __future__ import annotations

import ctypes
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionSpec
from cynosure.attention.grid import Grid
from cynosure.attention.masks import Full, Window
from cynosure.attention.positions import NoPosition, Rope, T5Bias
from cynosure.attention.spec import Score, Sink
from cynosure.kernels.encoder import (
    MAX_HEAD_DIM,
    WIDTH_UNIT,
    CEncoder,
    CEncoderLayer,
    CEncoderPass,
    CLayerNorm,
    PooledRows,
    encode,
    why_no_encoders,
)
from cynosure.kernels.linear import Type
from cynosure.models.batch import Batch
from cynosure.models.encoder import Encoder, EncoderLayer
from cynosure.models.encoder_spec import EncoderLayerSpec, EncoderSpec
from cynosure.models.mlp import Mlp
from cynosure.models.native.feed_forward import NativeFeedForward
from cynosure.models.native_linear import KERNEL_ACTIVATIONS, NativeLinear, Prologue
from cynosure.models.norm import Norm, NormKind
from cynosure.models.pooling import pool
from cynosure.models.pooling_kind import Pooling

POOLED = {
    Pooling.CLS: PooledRows.FIRST,
    Pooling.MEAN: PooledRows.MEAN,
    Pooling.LAST_TOKEN: PooledRows.LAST,
}


def refusal_of_encoder(graph: Encoder) -> str:
    """Say why an encoder whose layers are native is no program; empty where it is one."""
    if absent := why_no_encoders():
        return absent
    if reason := refusal_of_spec(graph.spec):
        return reason
    tables = (graph.embeddings.token, graph.embeddings.position, graph.embeddings.token_type)
    for table in tables:
        if table is not None and not isinstance(table, nn.Embedding):
            return "its table of tokens is kept in codes"
        if table is not None and table.weight.dtype != torch.bfloat16:
            return f"its embeddings are {table.weight.dtype}; tiles multiply bfloat16"
    for linear in _linears(graph):
        if not isinstance(linear, NativeLinear) or linear.packed.shape.type not in (Type.BFLOAT16, Type.INT8):
            return "its products are not all native, in bfloat16 or int8"
    return ""


def refusal_of_spec(spec: EncoderSpec) -> str:
    """Say what of a spec the program lacks; empty where it lacks nothing."""
    heads = spec.layers[0].attention.heads
    widths = (spec.hidden_size, spec.mlp.intermediate_size, heads.head_dim)
    if any(width % WIDTH_UNIT for width in widths) or heads.head_dim > MAX_HEAD_DIM:
        return (
            f"it is {widths[0]}, {widths[1]} and, by head, {widths[2]} channels wide; tiles take multiples "
            f"of {WIDTH_UNIT}, and {MAX_HEAD_DIM} a head"
        )
    norms = (spec.norm, spec.embeddings.norm)
    if any(norm is not None and norm.kind is not NormKind.LAYER for norm in norms):
        return "its norms do not centre"
    if spec.mlp.activation not in KERNEL_ACTIVATIONS:
        return f"the kernels have no activation {spec.mlp.activation!r}"
    if spec.convolution is not None:
        return "it has a convolution beside its first layer"
    positions = {type(layer.attention.position) for layer in spec.layers}
    if len(positions) > 1:
        return "its layers tell positions in more than one way"
    reasons = (_refusal_of_layer(spec, layer) for layer in spec.layers)
    return next((reason for reason in reasons if reason), "")


def _refusal_of_layer(spec: EncoderSpec, layer: EncoderLayerSpec) -> str:
    attention, first = layer.attention, spec.layers[0].attention
    position, heads = attention.position, attention.heads
    if heads != first.heads or heads.num_kv_heads != heads.num_heads or heads.v_head_dim != heads.head_dim:
        return "its heads differ, or share keys"
    if layer.num_global:
        return "some of its tokens see all others by projections of their own"
    if not layer.has_attention_norm and not spec.is_pre_norm:
        return "a layer lacks a norm behind its attention"
    if not isinstance(attention.mask, Full | Window):
        return f"it has the mask {attention.mask!r}"
    if not isinstance(position, NoPosition | T5Bias | Rope):
        return f"it tells positions by {type(position).__name__}"
    if isinstance(position, Rope) and (position.dim != heads.head_dim or position.is_interleaved):
        return "it rotates a part of each head, or neighbouring channels"
    is_plain = attention.score == Score(attention.score.scale) and attention.score == first.score
    if not is_plain or attention.sink is not Sink.NONE or attention.selection or attention.combination:
        return "its scores have terms beside a scale"
    return ""


@final
class EncoderProgram:
    """An encoder as one call; `refusal_of_encoder` was empty."""

    def __init__(self, graph: Encoder) -> None:
        """Make the structs; weights stay with the graph's packed layers and tables."""
        spec, heads = graph.spec, graph.spec.layers[0].attention.heads
        self._hidden_size = spec.hidden_size
        self._kept: list[object] = []
        self._rotary: dict[Rope, tuple[Tensor, Tensor]] = {}
        self._layers = (CEncoderLayer * len(graph.layers))()
        for index, (struct, layer) in enumerate(zip(self._layers, graph.layers, strict=True)):
            assert isinstance(layer, EncoderLayer)
            self._fill(struct, layer, spec, index)
        struct = self._struct = CEncoder(hidden_size=spec.hidden_size, num_heads=heads.num_heads)
        struct.head_dim, struct.intermediate_size = heads.head_dim, spec.mlp.intermediate_size
        struct.scale = spec.layers[0].attention.score.scale_for(heads.head_dim)
        struct.activation = KERNEL_ACTIVATIONS[spec.mlp.activation]
        struct.is_pre_norm = spec.is_pre_norm
        tables = graph.embeddings
        struct.tokens, struct.positions = self._table(tables.token), self._table(tables.position)
        struct.types, struct.position_offset = self._table(tables.token_type), spec.embeddings.position_offset
        struct.embedding_norm, struct.final_norm = self._norm(tables.norm), self._norm(graph.final_norm)
        self._add_distances(graph)
        struct.num_layers, struct.layers = len(self._layers), self._layers

    def takes(self, batch: Batch) -> bool:
        """Whether the texts of a batch are whole, and all of their tokens are seen."""
        keys, queries = batch.plan.keys[0], batch.plan.queries
        is_whole = keys.offsets == queries.offsets and batch.positions is queries.positions
        return is_whole and keys.is_pad is None and keys.bias is None and keys.starts is None

    def run(self, batch: Batch) -> Float[Tensor, "n hidden"]:
        """Return the last hidden states in float32; ids were checked."""
        return self._run(batch, PooledRows.ALL)

    def pooled(self, batch: Batch, kind: Pooling) -> Float[Tensor, "num_seqs hidden"]:
        """Return one vector a text, in float32; ids were checked."""
        if kind in POOLED:
            return self._run(batch, POOLED[kind])
        return pool(kind, self.run(batch), batch)

    def _run(self, batch: Batch, pooled: PooledRows) -> Float[Tensor, "rows hidden"]:
        num_rows = batch.token_ids.shape[0] if pooled is PooledRows.ALL else len(batch.new_lens)
        out = torch.empty(num_rows, self._hidden_size)
        cu_seqlens = batch.plan.queries.cu_seqlens.to(torch.int64).contiguous()
        token_ids, type_ids = batch.token_ids.contiguous(), batch.type_ids
        texts = CEncoderPass(len(batch.new_lens), cu_seqlens.data_ptr(), token_ids.data_ptr())
        if type_ids is not None:
            type_ids = type_ids.contiguous()
            texts.type_ids = type_ids.data_ptr()
        texts.pooling, texts.out = pooled, out.data_ptr()
        encode(self._struct, texts)
        return out

    def _fill(self, struct: CEncoderLayer, layer: EncoderLayer, spec: EncoderSpec, index: int) -> None:
        attention, mlp = layer.attention, layer.mlp
        assert isinstance(mlp, NativeFeedForward)
        struct.qkv, struct.out = _matrix(attention.qkv), _matrix(attention.out)
        struct.up, struct.down = _matrix(mlp.inner), _matrix(mlp.down)
        struct.attention_norm, struct.mlp_norm = self._norm(layer.attention_norm), self._norm(layer.mlp_norm)
        own = spec.layers[index].attention
        struct.window = own.mask.size if isinstance(own.mask, Window) else 0
        if isinstance(own.position, Rope):
            cos, sin = self._angles(own.position, spec.max_model_len)
            struct.cos, struct.sin = cos.data_ptr(), sin.data_ptr()

    def _angles(self, position: Rope, num_positions: int) -> tuple[Tensor, Tensor]:
        if position not in self._rotary:
            table = position.tables(torch.arange(num_positions), torch.float32)
            self._rotary[position] = table.cos.contiguous(), table.sin.contiguous()
        return self._rotary[position]

    def _add_distances(self, graph: Encoder) -> None:
        """Spell out the bias of every distance, as far as tiles of keys reach beyond the longest text."""
        attention: AttentionSpec = graph.spec.layers[0].attention
        table = graph.position_table
        if table is None or not isinstance(attention.position, T5Bias):
            return
        farthest = -(-graph.spec.max_model_len // WIDTH_UNIT) * WIDTH_UNIT
        line = Grid(
            torch.zeros(1, dtype=torch.int64), torch.arange(-farthest, farthest + 1), 2 * farthest + 1
        )
        bias = attention.position.bias(line, table.weight)[:, 0].detach().float().contiguous()
        self._kept.append(bias)
        self._struct.distance_bias, self._struct.max_distance = bias.data_ptr(), farthest

    def _table(self, table: nn.Module | None) -> int | None:
        if table is None:
            return None
        assert isinstance(table, nn.Embedding)
        weight = table.weight.detach().contiguous()
        self._kept.append(weight)
        return weight.data_ptr()

    def _norm(self, norm: nn.Module) -> CLayerNorm:
        if not isinstance(norm, Norm):
            return CLayerNorm()
        prologue = Prologue.of(norm)
        self._kept.append(prologue)
        bias = None if prologue.bias is None else prologue.bias.data_ptr()
        return CLayerNorm(prologue.weight.data_ptr(), bias, prologue.eps)


def _linears(graph: Encoder) -> list[nn.Module]:
    found: list[nn.Module] = []
    for layer in graph.layers:
        assert isinstance(layer, EncoderLayer)
        mlp = layer.mlp
        if not isinstance(mlp, NativeFeedForward):
            assert isinstance(mlp, Mlp)
            return [mlp]
        found += [layer.attention.qkv, layer.attention.out, mlp.inner, mlp.down]
    return found


def _matrix(linear: nn.Module) -> ctypes._Pointer:
    assert isinstance(linear, NativeLinear)
    return ctypes.pointer(linear.packed.struct)
