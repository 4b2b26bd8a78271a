"""Attend on the native CPU kernels: one call a source, all sequences together. Knows nothing of their code.

One path serves decode and prefill, pages and rows, with or without statistics; shares of segments are summed
beside the whole, and where keys are split depends on each sequence's own lengths and mask. So watching
changes no bit, and neither does company in the batch or the number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.backends.call import AttentionCall, Backend
from cynosure.attention.backends.native_lowering import (
    ELEMENTS,
    layout_of,
    lowered_for,
    point_to_source,
    runs_of,
)
from cynosure.attention.backends.tiled import TiledBackend
from cynosure.attention.positions import Alibi, T5Bias
from cynosure.attention.sources import DenseSource, PagedSource
from cynosure.attention.state import AttentionState
from cynosure.attention.stats import Stats
from cynosure.kernels import why_none
from cynosure.kernels.attention import MAX_APART, CAttentionCall, attend


class NativeBackend(Backend):
    """The kernels of `kernels/cpu`: AMX for bfloat16 where there is AMX, vectors of float32 elsewhere."""

    name = "native"

    def refusals(self, call: AttentionCall) -> tuple[str, ...]:
        """Refuse what the kernels lack; see the messages."""
        hindrance = why_none()
        if hindrance:
            return (hindrance,)
        if call.q.device.type != "cpu":
            return (f"the kernels are for the CPU; q is on {call.q.device.type}",)
        spec, source, reasons = call.spec, call.source, []
        if call.q.dtype not in ELEMENTS:
            reasons.append(f"the kernels read float32, bfloat16 and float16; q is {call.q.dtype}")
        if call.selection is not None:
            reasons.append("a selection ranks the keys of a whole row, and tiles see a part of it")
        if spec.position.adds_bias and not isinstance(spec.position, Alibi | T5Bias):
            reasons.append(f"the kernels don't know the bias of {spec.position!r}")
        if not isinstance(source, DenseSource | PagedSource):
            reasons.append(f"keys of a {type(source).__name__} are made when they are read, and lie nowhere")
        elif not source.lies_well or _stored(source).dtype not in ELEMENTS:
            reasons.append("a key's channels must lie side by side, in float32, bfloat16, float16 or codes")
        if reasons:
            return tuple(reasons)
        if layout_of(call).max_apart >= MAX_APART:
            return (f"positions of a sequence lie {MAX_APART} or farther apart",)
        refusal = lowered_for(call).refusal
        return (refusal,) if refusal else ()

    def run(self, call: AttentionCall) -> AttentionState:
        """Return the state of all sequences."""
        assert isinstance(call.source, DenseSource | PagedSource)
        heads, num_rows = call.spec.heads, call.q.shape[0]
        out = torch.empty(num_rows, heads.num_heads, heads.v_head_dim)
        lse = torch.empty(num_rows, heads.num_heads)
        q = call.q if call.q.stride(-1) == 1 else call.q.contiguous()
        struct = CAttentionCall.from_buffer_copy(lowered_for(call).struct)
        struct.q, struct.q_type = q.data_ptr(), ELEMENTS[q.dtype]
        struct.q_row_stride, struct.q_head_stride, _ = q.stride()
        struct.out, struct.lse = out.data_ptr(), lse.data_ptr()
        point_to_source(struct, call.source)
        if call.watch is None:
            attend(struct)
            return AttentionState(out, lse)
        seen = _Seen.of(call, struct)
        attend(struct)
        return AttentionState(out, lse, seen.stats(call), call.watch.heads)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the kernels fill in, for the watched heads."""

    heads: Int[Tensor, " w"]
    mass: Float[Tensor, "n w s"] | None
    mean_score: Float[Tensor, "n w"] | None
    max_logit: Float[Tensor, "n w"] | None

    @classmethod
    def of(cls, call: AttentionCall, struct: CAttentionCall) -> _Seen:
        """Reserve it, and let `struct` point to it."""
        watch = call.watch
        assert watch is not None
        heads = torch.tensor(call.watched_heads, dtype=torch.int64)
        shape = (call.q.shape[0], heads.numel())
        mass = torch.empty(*shape, call.num_segments) if watch.mass else None
        mean_score = torch.empty(shape) if watch.entropy else None
        max_logit = torch.empty(shape) if watch.max_logit else None
        struct.num_watched, struct.watched_heads = heads.numel(), heads.data_ptr()
        if mass is not None:
            runs = runs_of(call)
            struct.runs, struct.run_offsets = runs.runs.data_ptr(), runs.offsets.data_ptr()
            struct.num_segments, struct.mass = call.num_segments, mass.data_ptr()
        struct.mean_score = None if mean_score is None else mean_score.data_ptr()
        struct.max_logit = None if max_logit is None else max_logit.data_ptr()
        return cls(heads, mass, mean_score, max_logit)

    def stats(self, call: AttentionCall) -> Stats:
        """Return it; the largest keys, which are rarely asked for, come from plain tiles."""
        watch = call.watch
        assert watch is not None
        sink = None if self.mass is None else self.mass.new_full(self.mass.shape[:2], float("-inf"))
        if not watch.top_k:
            return Stats(self.mass, sink, self.mean_score, self.max_logit)
        top = TiledBackend().run(call).stats
        assert top is not None
        return Stats(self.mass, sink, self.mean_score, self.max_logit, top.top_logits, top.top_keys)


def _stored(source: DenseSource | PagedSource) -> Tensor:
    return source.k if isinstance(source, DenseSource) else source.k_pages
