"""Attend with FlexAttention, mask and scores lowered to closures. Knows nothing of kernels of ours.

On the CPU the compiled FlexAttention returns no log-sum-exp and takes most of a minute to compile, so
there it runs uncompiled and only where it is asked for by name: as a second witness of the lowering.
"""

from __future__ import annotations

import warnings
from typing import cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxOutput, AuxRequest, create_block_mask, flex_attention

from cynosure.attention.backends.call import AttentionCall, Backend
from cynosure.attention.backends.tiled import TiledBackend
from cynosure.attention.positions import Disentangled
from cynosure.attention.state import AttentionState
from cynosure.attention.stats import Stats


class FlexBackend(Backend):
    """`torch.nn.attention.flex_attention` with a mask looked up from its materialised form."""

    name = "flex"

    def refusals(self, call: AttentionCall) -> tuple[str, ...]:
        """Refuse what FlexAttention lacks; see the messages."""
        reasons = []
        if call.selection is not None:
            reasons.append("a selection needs the scores before the softmax")
        if isinstance(call.spec.position, Disentangled):
            reasons.append("its scores are changed by what they are, not by what they compare")
        if call.q.dtype == torch.float64:
            reasons.append("FlexAttention has no float64")
        if call.num_segments:
            reasons.append("FlexAttention returns one log-sum-exp for all segments")
        return tuple(reasons)

    def run(self, call: AttentionCall) -> AttentionState:
        """Return the state, sequence by sequence."""
        heads = call.spec.heads
        state = AttentionState.identity(call.q.shape[0], heads.num_heads, heads.v_head_dim, call.q)
        for seq, grid in enumerate(call.grids):
            if grid.shape[0] and grid.shape[1]:
                _fill(call, seq, state)
        if call.watch is None:
            return state
        seen = TiledBackend().run(call).stats if call.watch.needs_scores else Stats()
        return AttentionState(state.out, state.lse, seen, call.watch.heads)


def _fill(call: AttentionCall, seq: int, state: AttentionState) -> None:
    grid, rows, cap = call.grids[seq], call.rows(seq), call.spec.score.softcap
    num_heads, is_cuda = call.spec.heads.num_heads, call.q.device.type == "cuda"
    allowed = call.mask.allowed(grid)
    scale = call.scale_of(grid, state.out.dtype).expand(grid.shape[0], 1)
    bias = call.bias_of(grid)
    added = scale.new_zeros(1, 1, 1) if bias is None else bias.to(scale.dtype)
    added = added.expand(num_heads, *grid.shape)
    k, v = call.source.read(call.keys, seq, 0, grid.num_keys)
    # Lambdas, because a checker of shapes that wraps named functions would be traced along with them.
    block_mask = (
        create_block_mask(lambda b, h, row, column: allowed[row, column], 1, 1, *grid.shape, device="cuda")
        if is_cuda
        else None
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        out, aux = (torch.compile(flex_attention) if is_cuda else flex_attention)(
            call.q[rows].transpose(0, 1)[None],
            k[None],
            v[None],
            score_mod=lambda value, b, h, row, column: torch.where(
                allowed[row, column],
                (value * scale[row, 0] if cap is None else cap * torch.tanh(value * scale[row, 0] / cap))
                + added[h, row, column],
                float("-inf"),
            ),
            block_mask=block_mask,
            scale=1.0,
            enable_gqa=call.spec.heads.group_size > 1,
            return_aux=AuxRequest(lse=True),
        )
    lse = cast(AuxOutput, aux).lse
    assert lse is not None
    lse = lse[0].transpose(0, 1).to(state.lse.dtype)
    sees = ~torch.isneginf(lse)
    state.lse[rows] = lse
    state.out[rows] = (
        cast(Tensor, out)[0].transpose(0, 1).to(state.out.dtype).where(sees[..., None], state.out[rows])
    )
