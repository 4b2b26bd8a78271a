"""Hold what all layers of one pass share: the condition, plans, the backend. Knows nothing of layers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention import AttentionPlan, AttentionSpec, AttentionState, DenseSource, Watch, attend
from cynosure.models.denoise.inputs import NOTHING, Condition


@dataclass(frozen=True, eq=False)
class DenoisingPass:
    """One pass; layers of one size share a plan.

    - `text`: what images attend to besides themselves; the condition's, or what a projection made of it.
    - `seen`: where it is a list, each layer that reads the text leaves there what it attended to.
    """

    condition: Condition = NOTHING
    backend: str = "auto"
    text: Float[Tensor, "n tokens width"] | None = None
    seen: list[Tensor] | None = None
    _plans: dict[tuple[int, int], tuple[AttentionPlan, AttentionPlan]] = field(default_factory=dict)

    @classmethod
    def of(cls, condition: Condition, dtype: torch.dtype, backend: str, *, is_watched: bool) -> DenoisingPass:
        """Return the pass of a condition, whose text is read in `dtype`."""
        text = None if condition.text is None else condition.text.to(dtype)
        return cls(condition, backend, text, [] if is_watched else None)

    def attend(
        self,
        spec: AttentionSpec,
        q: Float[Tensor, "n q h d"],
        k: Float[Tensor, "n k h d"],
        v: Float[Tensor, "n k h d"],
        *,
        is_text: bool,
    ) -> Float[Tensor, "n q c"]:
        """Return what each image's tokens took from its own, or from its text's, heads side by side."""
        plan = self._plans_for(q.shape[0], q.shape[1])[is_text]
        source = DenseSource(k.flatten(0, 1), v.flatten(0, 1))
        # All logits, not shares by segment: these would be planned, and then watching would change the plan.
        is_watched = is_text and self.seen is not None
        watch = Watch(mass=False, top_k=k.shape[1]) if is_watched else None
        state = attend(spec, q.flatten(0, 1), [source], plan, watch=watch, backend=self.backend)
        if is_watched and self.seen is not None:
            self.seen.append(_shares(state).unflatten(0, q.shape[:2]))
        return state.out.to(q.dtype).flatten(1).unflatten(0, q.shape[:2])

    def _plans_for(self, num_images: int, num_tokens: int) -> tuple[AttentionPlan, AttentionPlan]:
        """Return who attends among an image's tokens, and from these to its text's."""
        found = self._plans.get((num_images, num_tokens))
        if found is None:
            own = AttentionPlan.of_lengths([num_tokens] * num_images)
            found = self._plans[num_images, num_tokens] = (own, self._of_text(own))
        return found

    def _of_text(self, own: AttentionPlan) -> AttentionPlan:
        if self.text is None:
            return own
        num_images, num_tokens, _ = self.text.shape
        keys = AttentionPlan.of_lengths([num_tokens] * num_images).keys[0]
        mask = self.condition.text_mask
        return own.with_keys(replace(keys, is_pad=None if mask is None else ~mask.flatten()))


def _shares(state: AttentionState) -> Float[Tensor, "n tokens"]:
    """Return the share of attention that each key got, the mean over heads."""
    stats = state.stats
    assert stats is not None
    logits, keys = stats.top_logits, stats.top_keys
    assert logits is not None
    assert keys is not None
    shares = torch.exp(logits - state.lse[..., None])
    # Added, not put: places without a key name the first one, and hold nothing.
    return torch.zeros_like(shares).scatter_add(-1, keys, shares).mean(1)
