"""Compute a decoder of state-space layers, from states to states. Knows nothing of checkpoints or engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cynosure.attention.mixers import MixerInputs, MixerState, mix
from cynosure.core.errors import EmptyInput, InputError
from cynosure.models.norm import Norm, NormKind, NormSpec
from cynosure.models.state_space_spec import StateSpaceSpec


@dataclass(frozen=True)
class LayerState:
    """What one layer remembers: the last inputs of its convolution, and the mixer's state."""

    conv_tail: Float[Tensor, "batch tail channels"]
    mixer: MixerState


class GatedGroupNorm(nn.Module):
    """Normalise what a gate let through, each group by itself, in float32."""

    def __init__(self, width: int, num_groups: int, eps: float) -> None:
        """Hold one weight a channel."""
        super().__init__()
        self.num_groups, self.eps = num_groups, eps
        self.weight = nn.Parameter(torch.empty(width), requires_grad=False)

    def forward(
        self, x: Float[Tensor, "*lead width"], gate: Float[Tensor, "*lead width"]
    ) -> Float[Tensor, "*lead width"]:
        """Return `x` gated and normalised, in the gate's dtype."""
        wide = x.float() * nn.functional.silu(gate.float())
        groups = wide.unflatten(-1, (self.num_groups, -1))
        groups = groups * torch.rsqrt(groups.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * groups.flatten(-2).to(gate.dtype)


class StateSpaceMixer(nn.Module):
    """Project, convolve over the last few tokens, run the recurrence, gate, project back."""

    def __init__(self, spec: StateSpaceSpec) -> None:
        """Hold the projections, and one rate, skip and step offset a head."""
        super().__init__()
        self.spec = spec
        inner, conv = spec.inner_size, spec.conv_size
        self.project = nn.Linear(spec.hidden_size, inner + conv + spec.num_heads, spec.has_bias)
        self.conv = nn.Conv1d(conv, conv, spec.conv_width, groups=conv, bias=spec.has_conv_bias)
        self.log_rate = nn.Parameter(torch.empty(spec.num_heads), requires_grad=False)
        self.skip = nn.Parameter(torch.empty(spec.num_heads), requires_grad=False)
        self.step_offset = nn.Parameter(torch.empty(spec.num_heads), requires_grad=False)
        self.norm = GatedGroupNorm(inner, spec.num_groups, spec.eps)
        self.out = nn.Linear(inner, spec.hidden_size, spec.has_bias)

    def forward(
        self, x: Float[Tensor, "batch tokens hidden"], state: LayerState | None
    ) -> tuple[Float[Tensor, "batch tokens hidden"], LayerState]:
        """Return what the tokens make of the state, and the state after them."""
        spec = self.spec
        gate, mixed, steps = self.project(x).split((spec.inner_size, spec.conv_size, spec.num_heads), dim=-1)
        tail = mixed.new_zeros(len(x), spec.conv_width - 1, spec.conv_size)
        row = torch.cat((tail if state is None else state.conv_tail, mixed), dim=1)
        mixed = nn.functional.silu(self.conv(row.mT).mT)
        width = spec.num_groups * spec.state_size
        values, keys, queries = mixed.split((spec.inner_size, width, width), dim=-1)
        values = values.unflatten(-1, (spec.num_heads, spec.head_dim))
        # Steps are rates of change: rounded to 16 bits, their sums would drift over a long text.
        steps = nn.functional.softplus(steps + self.step_offset).float().clamp(spec.min_step, spec.max_step)
        inputs = MixerInputs(
            values.float(),
            queries.unflatten(-1, (spec.num_groups, spec.state_size)),
            keys.unflatten(-1, (spec.num_groups, spec.state_size)),
            -self.log_rate.float().exp() * steps,
            steps,
        )
        read, after = mix(spec.mixer, inputs, None if state is None else state.mixer)
        read = read + self.skip.float().unsqueeze(-1) * values.float()
        kept = row[:, row.shape[1] - (spec.conv_width - 1) :]
        return self.out(self.norm(read.flatten(-2), gate)), LayerState(kept, after)


class StateSpaceLayer(nn.Module):
    """A mixer behind a norm, added to what came in."""

    def __init__(self, spec: StateSpaceSpec) -> None:
        """Hold the two."""
        super().__init__()
        self.norm = Norm(NormSpec(NormKind.RMS, spec.eps), spec.hidden_size)
        self.mixer = StateSpaceMixer(spec)

    def forward(
        self, x: Float[Tensor, "batch tokens hidden"], state: LayerState | None
    ) -> tuple[Float[Tensor, "batch tokens hidden"], LayerState]:
        """Return the sum, in the dtype of `x`, and the state after it."""
        added, after = self.mixer(self.norm(x.to(self.norm.weight.dtype)), state)
        return x + added.to(x.dtype), after


class StateSpaceDecoder(nn.Module):
    """Embed tokens, run the layers, give logits. A batch has rows of as many tokens; nothing is padded."""

    def __init__(self, spec: StateSpaceSpec) -> None:
        """Hold the layers; a tied head shares the embedding's weight."""
        super().__init__()
        self.spec = spec
        self.embed = nn.Embedding(spec.vocab_size, spec.hidden_size)
        self.layers = nn.ModuleList(StateSpaceLayer(spec) for _ in range(spec.num_layers))
        self.norm = Norm(NormSpec(NormKind.RMS, spec.eps), spec.hidden_size)
        self.head = nn.Linear(spec.hidden_size, spec.vocab_size, bias=False)
        if spec.is_head_tied:
            self.head.weight = self.embed.weight

    def forward(
        self, token_ids: Int[Tensor, "batch tokens"], states: Sequence[LayerState] | None = None
    ) -> tuple[Float[Tensor, "batch tokens vocab"], tuple[LayerState, ...]]:
        """Return the logits behind each token, and the states after the last, with which the text goes on.

        Raises:
            EmptyInput: no token.
            InputError: a token that is not in the vocabulary, or states of another number of layers.
        """
        if token_ids.numel() == 0:
            raise EmptyInput("there is no token; at least one is needed. Pass the begin token.")
        if not 0 <= int(token_ids.min()) <= int(token_ids.max()) < self.spec.vocab_size:
            raise InputError(
                f"a token id is outside 0..{self.spec.vocab_size - 1}. Use the checkpoint's tokenizer."
            )
        before = [None] * len(self.layers) if states is None else list(states)
        if len(before) != len(self.layers):
            raise InputError(
                f"got states of {len(before)} layers; the model has {len(self.layers)}. Pass its own states."
            )
        x = self.embed(token_ids)
        x = x.float() if self.spec.is_residual_float32 else x
        after: list[LayerState] = []
        for layer, state in zip(self.layers, before, strict=True):
            x, state_after = layer(x, state)
            after.append(state_after)
        return self.head(self.norm(x.to(self.norm.weight.dtype))), tuple(after)
