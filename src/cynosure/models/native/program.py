"""Lay a decoder's native layers out as a program over buffers of its own. Knows nothing of batches.

A layer is seven calls at most, with what it reads and writes:

    qkv = project(norm(x));  qkv = norm(heads of qkv);  qkv, pages = rotate, write(qkv)
    attended = attend(qkv, pages);  x = o(attended) + x;  inner = act(gate(norm(x))) * up(norm(x))
    x = down(inner) + x

A mixture of experts has in the place of the last two what its router, its shared layer and its experts take.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cynosure.attention import AttentionSpec, PagedSource
from cynosure.attention.backends.native_lowering import ELEMENTS, point_to_source
from cynosure.attention.positions import MRope, Rope, Rotary
from cynosure.attention.spec import Sink
from cynosure.cache import PagedCache
from cynosure.kernels.attention import CAttentionCall
from cynosure.kernels.experts import CExpertsCall
from cynosure.kernels.kv_write import MAX_HEAD_DIM, CKvWriteCall
from cynosure.kernels.linear import CLinearCall, Type, Way
from cynosure.kernels.program import CNormCall, CPages, Program, Step
from cynosure.models.decoder import Decoder
from cynosure.models.forward_pass import paged_source
from cynosure.models.native.experts import NativeMoe
from cynosure.models.native.layer import NativeAttention, NativeLayer
from cynosure.models.native.mlp import NativeMlp
from cynosure.models.native_linear import FLOAT_TYPES, NativeLinear, Prologue
from cynosure.models.norm import Norm
from cynosure.models.rotary_rows import RotaryRows


def refusal_of_layers(graph: Decoder, cache: PagedCache) -> str:
    """Say why layers are no program; empty where they are one."""
    for index, layer in enumerate(graph.layers):
        if not isinstance(layer, NativeLayer) or layer.attention is None or layer.mlp is None:
            return f"layer {index} is not native as a whole"
        spec = layer.attention.spec.attention
        if spec.sink is not Sink.NONE:
            return f"layer {index} has a sink"
        if isinstance(spec.position, Rotary) and not isinstance(spec.position, Rope | MRope):
            return f"layer {index} rotates by {type(spec.position).__name__}"
        if max(spec.heads.head_dim, spec.heads.v_head_dim) > MAX_HEAD_DIM:
            return f"layer {index} has heads of more than {MAX_HEAD_DIM} channels"
    dtype = cache.pages(0)[0].dtype
    return "" if dtype in ELEMENTS else f"pages hold {dtype}"


@dataclass(frozen=True, eq=False)
class Attention:
    """What layers of one spec share: a source that is like theirs, and the struct of their calls.

    `group` is that of their pages in the cache.
    """

    spec: AttentionSpec
    group: int
    q: Float[Tensor, "0 h d"]
    source: PagedSource
    struct: CAttentionCall


@dataclass(frozen=True, eq=False)
class _Choice:
    """What mixtures of experts write down between two calls; layers take turns."""

    logits: Float[Tensor, "capacity experts"]
    gates: Float[Tensor, "capacity 1"]
    chosen: Int[Tensor, "capacity chosen"]
    weights: Float[Tensor, "capacity chosen"]

    @classmethod
    def of(cls, mixtures: Sequence[NativeMoe], capacity: int) -> _Choice:
        """Reserve what the largest needs."""
        num_experts = max((moe.num_experts for moe in mixtures), default=0)
        num_chosen = max((moe.num_chosen for moe in mixtures), default=0)
        return cls(
            torch.empty(capacity, num_experts),
            torch.empty(capacity, 1),
            torch.empty(capacity, num_chosen, dtype=torch.int64),
            torch.empty(capacity, num_chosen),
        )


@final
class LayerProgram:
    """All layers of a decoder, for passes of at most `capacity` tokens."""

    def __init__(self, graph: Decoder, cache: PagedCache, capacity: int) -> None:
        """Reserve the buffers and make every call; only a pass's own numbers are missing."""
        self.capacity = capacity
        self._dtype, self._type = graph.dtype, FLOAT_TYPES[graph.dtype]
        self._cache = cache
        self._hidden = graph.spec.hidden_size
        halves = [(layer.attention, layer.mlp) for layer in graph.layers if isinstance(layer, NativeLayer)]
        layers = [(attention, mlp) for attention, mlp in halves if attention is not None and mlp is not None]
        heads = [attention.spec.attention.heads for attention, _ in layers]
        self._x, self._other = self._buffer(self._hidden), self._buffer(self._hidden)
        self._qkv = self._buffer(max(attention.qkv.out_features for attention, _ in layers))
        self._inner = self._buffer(max(_inner_width(mlp) for _, mlp in layers))
        self._attended = torch.empty(capacity, max(head.num_heads * head.v_head_dim for head in heads))
        self._lse = torch.empty(capacity, max(head.num_heads for head in heads))
        groups = range(1 + len(cache.windows))
        self._slots = tuple(torch.empty(capacity, dtype=torch.int64) for _ in groups)
        self._rotary: dict[Rope | MRope, RotaryRows] = {}
        self._attentions: dict[AttentionSpec, Attention] = {}
        self._choice = _Choice.of([mlp for _, mlp in layers if isinstance(mlp, NativeMoe)], capacity)
        self._by_way: list[CLinearCall | CExpertsCall] = []
        self._norms: list[Prologue] = []
        self._steps: list[Step] = []
        self._pages: dict[int, CPages] = {}
        self._parts: list[str] = []
        for attention, mlp in layers:
            self._add_attention(attention)
            if isinstance(mlp, NativeMoe):
                self._add_moe(mlp)
            else:
                self._add_mlp(mlp)
        self.program, self.parts = Program(self._steps), tuple(self._parts)
        calls = [step.call for step in self._steps]
        self._products = [call for call in calls if isinstance(call, CLinearCall | CExpertsCall)]
        self._norm_calls = [step.call for step in self._steps if isinstance(step.call, CNormCall)]
        self._writes = [step.call for step in self._steps if isinstance(step.call, CKvWriteCall)]
        self._set: tuple[int, Way] = (0, Way.AUTO)

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """What has to be lowered over a plan: each kind of layer once."""
        return tuple(self._attentions.values())

    @property
    def pages(self) -> dict[int, CPages]:
        """The pages of each layer, and what is observed of it."""
        return self._pages

    @property
    def x(self) -> Float[Tensor, "capacity hidden"]:
        """The tokens, before the first layer and after the last."""
        return self._x

    @property
    def slots(self) -> tuple[Int[Tensor, " capacity"], ...]:
        """Where a pass's keys and values go, in each group of layers."""
        return self._slots

    @property
    def rotary(self) -> tuple[RotaryRows, ...]:
        """The angles of a pass's tokens, for each kind of rotation."""
        return tuple(self._rotary.values())

    def take(self, attention: Attention, lowered: CAttentionCall) -> None:
        """Have layers of one kind attend by a plan that was lowered; what that points to must live."""
        struct = attention.struct
        ctypes.memmove(ctypes.addressof(struct), ctypes.addressof(lowered), ctypes.sizeof(struct))
        heads = attention.spec.heads
        struct.q, struct.q_type = self._qkv.data_ptr(), ELEMENTS[self._dtype]
        struct.q_row_stride, struct.q_head_stride = _qkv_width(attention.spec), heads.head_dim
        struct.out, struct.lse = self._attended.data_ptr(), self._lse.data_ptr()
        point_to_source(struct, attention.source)

    def begin(
        self,
        x: Float[Tensor, "n hidden"],
        positions: Int[Tensor, "*axes n"],
        slots: Sequence[Int[Tensor, " n"]],
        way: Way,
    ) -> None:
        """Take a pass's tokens, where they sit and where their keys and values go in each group of layers."""
        num_tokens = x.shape[0]
        self._x[:num_tokens] = x
        for own, given in zip(self._slots, slots, strict=True):
            own[:num_tokens] = given
        for rows in self._rotary.values():
            rows.select(positions)
        self.set(num_tokens, way)

    def set(self, num_tokens: int, way: Way) -> None:
        """Have all calls take so many tokens, and compute in one way."""
        if self._set == (num_tokens, way):
            return
        for call in self._products:
            call.num_rows = num_tokens
        for call in self._by_way:
            call.way = way
        for call in self._norm_calls:
            call.num_rows = num_tokens
        for call in self._writes:
            call.num_tokens = num_tokens
        self._set = num_tokens, way

    def _add_attention(self, attention: NativeAttention) -> None:
        spec = attention.spec.attention
        width = _qkv_width(spec)
        self._linear("qkv", attention.qkv, self._x, (self._qkv, width))
        heads = spec.heads
        start = 0
        for norm, count in ((attention.q_norm, heads.num_heads), (attention.k_norm, heads.num_kv_heads)):
            if isinstance(norm, Norm):
                self._head_norm(norm, count, start, width)
            start += count * heads.head_dim
        write, pages = self._write(spec, attention.layer, width)
        self._add("rotate and write", Step(write))
        self._pages[attention.layer] = pages
        self._add("attention", Step(self._shared(spec, attention.layer).struct, pages))
        out_width = heads.num_heads * heads.v_head_dim
        self._half_end("o", attention.o, self._attended, out_width, attention.post_norm)

    def _add_mlp(self, mlp: NativeMlp) -> None:
        width = mlp.inner.out_features
        self._linear("gate and up", mlp.inner, self._x, (self._inner, width))
        self._half_end("down", mlp.down, self._inner, width, mlp.post_norm)

    def _add_moe(self, moe: NativeMoe) -> None:
        """Route, compute what all rows share, and add that and the experts to `x`."""
        choice = self._choice
        call = self._linear("router", moe.router, self._x, (choice.logits, moe.num_experts))
        call.out_type = Type.FLOAT32
        if moe.shared is not None:
            width = moe.shared.inner.out_features
            self._linear("shared expert", moe.shared.inner, self._x, (self._inner, width))
            self._linear("shared expert", moe.shared.down, self._inner, (self._other, self._hidden), width)
        if moe.gate is not None:
            self._linear("shared expert", moe.gate, self._x, (choice.gates, 1)).out_type = Type.FLOAT32
        call = moe.call()
        call.type, call.logits = self._type, choice.logits.data_ptr()
        call.x = call.residual = call.out = self._x.data_ptr()
        call.x_stride = call.residual_stride = call.out_stride = self._hidden
        call.chosen, call.weights = choice.chosen.data_ptr(), choice.weights.data_ptr()
        if moe.shared is not None:
            call.shared, call.shared_stride = self._other.data_ptr(), self._hidden
        call.shared_gate = None if moe.gate is None else choice.gates.data_ptr()
        self._add("experts", Step(call, moe.packed))
        if not moe.has_one_way:
            self._by_way.append(call)

    def _half_end(
        self, part: str, linear: NativeLinear, source: Tensor, width: int, post_norm: nn.Module | None
    ) -> None:
        """Project and add to `x`, after a norm where there is one."""
        if post_norm is None:
            call = self._linear(part, linear, source, (self._x, self._hidden), width)
            call.residual, call.residual_stride = self._x.data_ptr(), self._hidden
            return
        assert isinstance(post_norm, Norm)
        self._linear(part, linear, source, (self._other, self._hidden), width)
        call = self._norm_call(post_norm)
        call.num_parts, call.width = 1, self._hidden
        call.x, call.x_stride = self._other.data_ptr(), self._hidden
        call.out = call.residual = self._x.data_ptr()
        call.out_stride = call.residual_stride = self._hidden
        self._add("post norm", Step(call))

    def _linear(
        self,
        part: str,
        linear: NativeLinear,
        source: Tensor,
        to: tuple[Tensor, int],
        width: int | None = None,
    ) -> CLinearCall:
        call = linear.call()
        call.x, call.x_type = source.data_ptr(), FLOAT_TYPES[source.dtype]
        call.x_stride = self._hidden if width is None else width
        out, call.out_stride = to
        call.out, call.out_type = out.data_ptr(), self._type
        self._add(part, Step(call, linear.packed))
        if not linear.has_one_way:
            self._by_way.append(call)
        return call

    def _head_norm(self, norm: Norm, num_heads: int, start: int, row_stride: int) -> None:
        call = self._norm_call(norm)
        call.num_parts, call.width = num_heads, norm.weight.shape[0]
        call.x = call.out = self._qkv.data_ptr() + start * self._qkv.element_size()
        call.x_stride = call.out_stride = row_stride
        self._add("head norm", Step(call))

    def _norm_call(self, norm: Norm) -> CNormCall:
        prologue = Prologue.of(norm)
        self._norms.append(prologue)
        call = CNormCall(type=self._type, norm=prologue.kind, eps=prologue.eps)
        call.weight = prologue.weight.data_ptr()
        call.bias = None if prologue.bias is None else prologue.bias.data_ptr()
        return call

    def _write(self, spec: AttentionSpec, layer: int, width: int) -> tuple[CKvWriteCall, CPages]:
        heads, first, size = spec.heads, self._qkv.data_ptr(), self._qkv.element_size()
        k_pages, v_pages = self._cache.pages(layer)
        slots = self._slots[self._cache.group_of(layer)]
        call = CKvWriteCall(type=ELEMENTS[self._dtype], slots=slots.data_ptr())
        call.k, call.num_kv_heads = first + heads.num_heads * heads.head_dim * size, heads.num_kv_heads
        call.head_dim, call.v_head_dim = heads.head_dim, heads.v_head_dim
        call.v = call.k + heads.num_kv_heads * heads.head_dim * size
        call.k_row_stride = call.v_row_stride = width
        call.k_head_stride, call.v_head_stride = heads.head_dim, heads.v_head_dim
        call.block_size, call.page_type = self._cache.block_size, ELEMENTS[k_pages.dtype]
        call.k_pages, call.v_pages = k_pages.data_ptr(), v_pages.data_ptr()
        call.k_block_stride, call.k_page_head_stride, call.k_key_stride, _ = k_pages.stride()
        call.v_block_stride, call.v_page_head_stride, call.v_key_stride, _ = v_pages.stride()
        pages = CPages(call.k_pages, call.v_pages)
        scales = self._cache.scales(layer)
        if scales is not None:
            call.k_scale, call.v_scale = (part.data_ptr() for part in scales)
            pages.k_scale, pages.v_scale = call.k_scale, call.v_scale
        if isinstance(spec.position, Rope | MRope):
            rows = self._rows_of(spec.position)
            call.cos, call.sin = rows.cos.data_ptr(), rows.sin.data_ptr()
            call.half = call.table_stride = rows.cos.shape[1]
            call.is_interleaved = int(isinstance(spec.position, Rope) and spec.position.is_interleaved)
            call.q, call.num_heads = first, heads.num_heads
            call.q_row_stride, call.q_head_stride = width, heads.head_dim
        return call, pages

    def _rows_of(self, position: Rope | MRope) -> RotaryRows:
        if position not in self._rotary:
            self._rotary[position] = RotaryRows(position, self._dtype, self.capacity)
        return self._rotary[position]

    def _shared(self, spec: AttentionSpec, layer: int) -> Attention:
        if spec not in self._attentions:
            q = torch.empty(0, spec.heads.num_heads, spec.heads.head_dim, dtype=self._dtype)
            source = paged_source(self._cache, layer, self._dtype)
            group = self._cache.group_of(layer)
            self._attentions[spec] = Attention(spec, group, q, source, CAttentionCall())
        return self._attentions[spec]

    def _buffer(self, width: int) -> Tensor:
        return torch.empty(self.capacity, width, dtype=self._dtype)

    def _add(self, part: str, step: Step) -> None:
        self._parts.append(part)
        self._steps.append(step)


def _qkv_width(spec: AttentionSpec) -> int:
    heads = spec.heads
    return heads.num_heads * heads.head_dim + heads.num_kv_heads * (heads.head_dim + heads.v_head_dim)


def _inner_width(mlp: NativeMlp | NativeMoe) -> int:
    """Outputs of the first product of a layer that all rows take."""
    if isinstance(mlp, NativeMlp):
        return mlp.inner.out_features
    return 0 if mlp.shared is None else mlp.shared.inner.out_features
