"""Run steps in which every sequence gets one token, with nothing made anew. Knows nothing of requests.

Beside `NativePasses`, which takes any batch: what a step of decoding reads differs from the last step's by a
few numbers a sequence. Those are written into buffers that live as long as the program, by one call; a second
one runs all layers and the head. Both paths hand the same numbers to the same kernels, so their logits are
equal bit for bit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionPlan, AttentionSpec, PagedSource
from cynosure.attention.attend import NO_WEIGHTS
from cynosure.attention.backends.call import AttentionCall
from cynosure.attention.backends.choice import choose
from cynosure.attention.backends.native import NativeBackend
from cynosure.attention.backends.native_lowering import Lowered, lowered_for
from cynosure.attention.masks import And, Causal, Chunk, Mask, Window
from cynosure.cache import PagedCache
from cynosure.core.errors import InputTooLong
from cynosure.kernels.attention import MAX_APART
from cynosure.kernels.decode import CAngles, CBound, CDecodeStep, CGroup, begin_decode
from cynosure.kernels.linear import Way
from cynosure.kernels.program import Program, Step
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.forward_pass import paged_source
from cynosure.models.native.layer import NativeLayer
from cynosure.models.native.page_choosing import Choosing, Recall
from cynosure.models.native.passes import PartTime, part_times
from cynosure.models.native.program import LayerProgram
from cynosure.models.native.watching import NativeObserver
from cynosure.models.native_linear import FLOAT_TYPES, NativeEmbedding, NativeLinear, Prologue
from cynosure.models.watching import LayerSeen, PassWatch

FIRST_CAPACITY = 8
FIRST_WIDTH = 64  # pages of a sequence that the first block table has room for
MAX_ROUNDS = 4  # of steps whose logits are kept side by side


def refusal_of_steps(graph: Decoder, cache: PagedCache, backend: str) -> str:
    """Say why decoding needs the general path; empty where it does not. The layers are a program."""
    plan = _plan_of_one()
    for index, layer in enumerate(graph.layers):
        assert isinstance(layer, NativeLayer)
        assert layer.attention is not None
        spec = layer.attention.spec.attention
        if _bound_of(spec.mask) is None:
            return f"layer {index} has the mask {spec.mask!r}, which is no window before a token"
        q = torch.empty(0, spec.heads.num_heads, spec.heads.head_dim, dtype=graph.dtype)
        name = choose(_call(spec, q, paged_source(cache, index, graph.dtype), plan), backend).name
        if name != NativeBackend.name:
            return f"layer {index} attends on {name}"
    return ""


@final
class DecodeSteps:
    """A decoder and its pages, for steps of at most `capacity` sequences; `refusal_of_steps` was empty."""

    def __init__(self, graph: Decoder, cache: PagedCache, capacity: int = FIRST_CAPACITY) -> None:
        """Make every call and every buffer that steps use."""
        assert isinstance(graph.head, NativeLinear)
        self.capacity = capacity
        #: Which of `MAX_ROUNDS` places the logits of the next step go to.
        self.number = 0
        self._observer: NativeObserver | None = None
        self.recalled: tuple[Recall | None, ...] = ()
        self._graph, self._cache = graph, cache
        self._layers = LayerProgram(graph, cache, capacity)
        # Of rounds that nobody runs nothing is touched.
        self._logits = torch.empty(MAX_ROUNDS, capacity, graph.head.out_features)
        # Kept alive: the structs hold addresses.
        self._norm = Prologue.of(graph.norm)
        self._head_call = graph.head.call(self._norm)
        self._program = self._whole_program(graph.head)
        self._lowered: list[Lowered] = []
        self._tables = self._layers.rotary
        self._blocks: list[tuple[int, ...]] = [()] * capacity
        counts = [(ctypes.c_int64 * (capacity + 1))() for _ in range(5)]
        self._token_ids, self._past_lens, self._positions, self._cu_q, self._cu_k = counts
        self._cu_q[:] = range(capacity + 1)
        self._are_consecutive = (ctypes.c_uint8 * capacity)(*([1] * capacity))
        self._lows = [(ctypes.c_int64 * capacity)() for _ in self._layers.attentions]
        self._step = self._new_step()
        self._point_attention()
        self._widen(FIRST_WIDTH)

    def run(
        self,
        token_ids: Sequence[int],
        past_lens: Sequence[int],
        block_tables: Sequence[tuple[int, ...]],
        way: Way = Way.AUTO,
        *,
        is_timed: bool = False,
        watch: PassWatch | None = None,
        choosing: Choosing | None = None,
    ) -> Float[Tensor, "rows vocab"] | None:
        """Return the logits of each sequence's next token in float32, valid until a step of its `number`.

        `None`, and nothing is written, where a token sits too far out for the kernels. What `watch` asks for
        is then `seen`, and what `choosing` tells is `recalled`.

        Raises:
            InputTooLong: a sequence's pages, or a table of positions, do not hold its new token.
            IndexError: a token is not in the vocabulary.
        """
        num_seqs, last = len(token_ids), max(past_lens)
        assert 0 < num_seqs <= self.capacity
        if last + 1 >= MAX_APART:
            return None
        self._check_ids(token_ids)
        for row, (blocks, past) in enumerate(zip(block_tables, past_lens, strict=True)):
            # A tuple that is the same object holds the same pages.
            if blocks is not self._blocks[row]:
                self._take_blocks(row, blocks)
            if past >= len(blocks) * self._cache.block_size:
                raise InputTooLong(
                    f"sequence {row} would hold {past + 1} tokens; its pages hold "
                    f"{len(blocks) * self._cache.block_size}. Reserve more pages."
                )
            newest = blocks[past // self._cache.block_size]
            assert all(window.is_held(newest) for window in self._cache.windows), "hold comes before the pass"
        self._token_ids[:num_seqs] = token_ids
        self._past_lens[:num_seqs] = past_lens
        self._reach(last)
        self._set(num_seqs, way)
        self._head_call.out = self._logits[self.number].data_ptr()
        begin_decode(self._step)
        if not self._step.packed and not self._step.rows:
            self._embed(num_seqs)
        if choosing is not None:
            choosing.begin(self._layers.pages)
        self._watch(watch, num_seqs)
        self._program.run(is_timed=is_timed)
        self.recalled = () if choosing is None else choosing.end(self._layers.pages)
        return self._graph.bounded(self._logits[self.number, :num_seqs])

    def _watch(self, watch: PassWatch | None, num_seqs: int) -> None:
        """Have the step write what is watched; the calls stay as they are while that is what it was."""
        observer = self._observer
        if observer is not None:
            if watch is not None and observer.goes_on(watch, num_seqs):
                return
            observer.end(self._layers.pages)
        self._observer = None if watch is None else NativeObserver(watch, num_seqs, num_seqs)
        if self._observer is not None:
            self._observer.begin([alike.struct for alike in self._layers.attentions], self._layers.pages)

    @property
    def seen(self) -> Mapping[int, LayerSeen]:
        """What the watched rows of the last step attended to, until the next."""
        return {} if self._observer is None else self._observer.seen

    def seen_apart(self) -> Mapping[int, LayerSeen]:
        """The same, to be kept."""
        return {} if self._observer is None else self._observer.seen_apart()

    def rounds(self, count: int) -> Float[Tensor, "rounds capacity vocab"]:
        """Return what the steps of numbers below `count` gave, before anything was bounded."""
        return self._logits[:count]

    @property
    def times(self) -> tuple[PartTime, ...]:
        """What the parts of the last step that was timed took."""
        return part_times((*self._layers.parts, "head"), self._program.nanoseconds)

    def _whole_program(self, head: NativeLinear) -> Program:
        call, graph = self._head_call, self._graph
        call.x, call.x_type = self._layers.x.data_ptr(), FLOAT_TYPES[graph.dtype]
        call.x_stride = graph.spec.hidden_size
        call.out, call.out_type = self._logits.data_ptr(), FLOAT_TYPES[torch.float32]
        call.out_stride = head.out_features
        self._head_has_one_way = head.has_one_way
        return Program([*self._layers.program.steps, Step(call, head.packed)])

    def _new_step(self) -> CDecodeStep:
        step, layers, graph = CDecodeStep(), self._layers, self._graph
        step.token_ids = ctypes.addressof(self._token_ids)
        step.past_lens = ctypes.addressof(self._past_lens)
        step.block_size = self._cache.block_size
        step.positions, step.cu_k = ctypes.addressof(self._positions), ctypes.addressof(self._cu_k)
        step.slots = layers.slots[0].data_ptr()
        self._groups = (CGroup * len(self._cache.windows))()
        for struct, window, slots in zip(self._groups, self._cache.windows, layers.slots[1:], strict=True):
            struct.page_of, struct.slots = window.page_of.ctypes.data, slots.data_ptr()
        step.num_groups, step.groups = len(self._groups), self._groups
        bounds = [_bound_of(alike.spec.mask) or (0, 0) for alike in layers.attentions]
        lows = zip(bounds, self._lows, strict=True)
        self._bounds = (CBound * len(bounds))(*(CBound(*b, ctypes.addressof(low)) for b, low in lows))
        step.num_bounds, step.bounds = len(bounds), self._bounds
        self._angles = (CAngles * len(self._tables))()
        step.num_angles, step.angles = len(self._tables), self._angles
        self._point_angles()
        step.hidden_size, step.x_type = graph.spec.hidden_size, FLOAT_TYPES[graph.dtype]
        step.multiplier = float(torch.tensor(graph.spec.embedding_multiplier, dtype=graph.dtype))
        step.x = layers.x.data_ptr()
        is_plain = graph.positions is None and isinstance(graph.embed_norm, nn.Identity)
        if is_plain and isinstance(graph.embed, NativeEmbedding):
            self._unpacked = torch.empty(self.capacity, graph.spec.hidden_size)
            step.packed, step.unpacked = ctypes.pointer(graph.embed.packed.struct), self._unpacked.data_ptr()
        elif is_plain and isinstance(graph.embed, nn.Embedding):
            assert graph.embed.weight.is_contiguous()
            step.rows = graph.embed.weight.data_ptr()
        return step

    def _point_attention(self) -> None:
        """Have layers attend by our buffers; what else a struct says is the same in every step."""
        layers, plan = self._layers, _plan_of_one()
        for alike, bound in zip(layers.attentions, self._bounds, strict=True):
            lowered = lowered_for(_call(alike.spec, alike.q, alike.source, plan))
            self._lowered.append(lowered)
            layers.take(alike, lowered.struct)
            struct = alike.struct
            struct.cu_q, struct.cu_k = ctypes.addressof(self._cu_q), ctypes.addressof(self._cu_k)
            struct.q_positions = struct.high = ctypes.addressof(self._positions)
            struct.low = bound.low if bound.window or bound.chunk else None
            struct.k_positions = None
            struct.is_consecutive = ctypes.addressof(self._are_consecutive)

    def _check_ids(self, token_ids: Sequence[int]) -> None:
        if not 0 <= min(token_ids) <= max(token_ids) < self._graph.spec.vocab_size:
            raise IndexError(
                f"token ids reach {max(token_ids)}; the table has {self._graph.spec.vocab_size} rows"
            )

    def _take_blocks(self, row: int, blocks: tuple[int, ...]) -> None:
        width = self._step.table_stride
        if len(blocks) > width:
            self._widen(1 << (len(blocks) - 1).bit_length())
            width = self._step.table_stride
        assert not blocks or 0 <= min(blocks) <= max(blocks) < self._cache.num_blocks, "a page is outside"
        self._block_tables[0][row * width : row * width + len(blocks)] = blocks
        self._blocks[row] = blocks

    def _widen(self, width: int) -> None:
        self._block_tables = [
            (ctypes.c_int64 * (self.capacity * width))() for _ in range(1 + len(self._groups))
        ]
        self._blocks = [()] * self.capacity
        addresses = [ctypes.addressof(table) for table in self._block_tables]
        self._step.table_stride, self._step.block_table = width, addresses[0]
        for group, address in zip(self._groups, addresses[1:], strict=True):
            group.block_table = address
        for alike in self._layers.attentions:
            alike.struct.block_table, alike.struct.table_stride = addresses[alike.group], width

    def _reach(self, position: int) -> None:
        """Have cosines and sines up to `position`."""
        if any(position >= table.num_positions for table in self._tables):
            for table in self._tables:
                table.reach(position)
            self._point_angles()

    def _point_angles(self) -> None:
        for struct, table in zip(self._angles, self._tables, strict=True):
            all_cos, all_sin = table.whole
            struct.cos, struct.sin = all_cos.data_ptr(), all_sin.data_ptr()
            struct.row_bytes = all_cos.shape[1] * all_cos.element_size()
            struct.cos_rows, struct.sin_rows = table.cos.data_ptr(), table.sin.data_ptr()

    def _set(self, num_seqs: int, way: Way) -> None:
        self._layers.set(num_seqs, way)
        self._step.num_seqs = self._head_call.num_rows = num_seqs
        self._head_call.way = Way.AUTO if self._head_has_one_way else way
        for alike in self._layers.attentions:
            alike.struct.num_seqs = num_seqs

    def _embed(self, num_seqs: int) -> None:
        """Have torch make the vectors: of tables with learned positions, or a norm behind them."""
        ids = torch.tensor(self._token_ids[:num_seqs])
        positions = torch.tensor(self._positions[:num_seqs])
        self._layers.x[:num_seqs] = self._graph.vectors(ids, positions)


def _plan_of_one() -> AttentionPlan:
    """A plan of one token: what a call over it is lowered to holds all that does not change."""
    return Batch.pack([[0]], block_tables=[(0,)]).plan


def _call(
    spec: AttentionSpec, q: Float[Tensor, "0 h d"], source: PagedSource, plan: AttentionPlan
) -> AttentionCall:
    return AttentionCall(spec, q, source, plan, 0, NO_WEIGHTS, None, (0,))


def _bound_of(mask: Mask) -> tuple[int, int] | None:
    """Return the window and the chunk (0: none) of a causal mask; `None` of any other."""
    parts = mask.masks if isinstance(mask, And) else (mask,)
    windows = [part.size for part in parts if isinstance(part, Window)]
    chunks = [part.size for part in parts if isinstance(part, Chunk)]
    is_causal = any(isinstance(part, Causal) for part in parts)
    is_known = all(isinstance(part, Causal | Window | Chunk) for part in parts)
    if not is_causal or not is_known or len(chunks) > 1:
        return None
    return min(windows, default=0), max(chunks, default=0)
