"""Watch a model of the transformers library while it generates. Knows nothing of our own models.

The model attends through its attention interface; for a while it gets one that computes the same and keeps,
for the query that chooses the next token, the share of each part of the prompt. No map of all queries is
made.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from cynosure.borrowed.attention import RowShares, last_row_shares, plain_attention, scores_of, sinks_of
from cynosure.borrowed.prompt import Prompt
from cynosure.core.errors import InputError, UnknownOption
from cynosure.insight import (
    AttentionReport,
    HeadChoice,
    Reading,
    ReadToken,
    TokenShares,
    default_heads,
    shares_by_part,
)

FULL = "full_attention"


@dataclass(eq=False)
class Seen:
    """What was seen of each pass, by layer; one row a sequence."""

    prompts: tuple[Prompt, ...]
    choice: HeadChoice
    num_heads: tuple[int, ...]
    name: str
    _shares: dict[int, list[RowShares]] = field(default_factory=dict)
    _lengths: dict[int, int] = field(default_factory=dict)
    _last_keys: Tensor | None = None
    _placed: tuple[tuple[int, int, int], Tensor] = field(default=((0, 0, 0), torch.zeros(0)))

    def report(
        self, token_ids: Tensor | Sequence[int], tokenizer: PreTrainedTokenizerBase, row: int = 0
    ) -> AttentionReport:
        """Say what one answer attended to.

        Args:
            token_ids: What the model generated for this row, without the prompt; may end in padding.
            tokenizer: What turns it to text.
            row: Which sequence of the batch.

        Raises:
            InputError: more tokens were generated than passes seen, or there is no such row.
        """
        answer = [int(token) for token in token_ids]
        passes = min((len(kept) for kept in self._shares.values()), default=0)
        if len(answer) > passes:
            raise InputError(
                f"{len(answer)} tokens are to be told of, and {passes} were seen. Give the generated tokens "
                "alone, of one call."
            )
        rows = passes and next(iter(self._shares.values()))[0].mass.shape[0]
        if not 0 <= row < rows:
            raise InputError(f"row {row} of {rows} is asked for. Name one that was generated.")
        prompt = self.prompts[row * len(self.prompts) // rows]
        reading = Reading(prompt.segments, self.choice, self.num_heads)
        tokens, text = [], ""
        for place, token_id in enumerate(answer):
            whole = tokenizer.decode(answer[: place + 1], skip_special_tokens=True)
            assert isinstance(whole, str)
            # A character in several tokens comes with the last of them.
            is_half = whole.endswith("�") and place + 1 < len(answer)
            whole = text if is_half else whole
            shares, folds = self._told(place, row, prompt)
            tokens.append(ReadToken(token_id, whole[len(text) :], len(text), shares=shares, folds=folds))
            text = whole
        return AttentionReport(
            request_id=f"req-{uuid.uuid4().hex}",
            index=row,
            tenant="",
            model=self.name,
            route="",
            created_s=time.time(),
            reading=reading,
            prompt_ids=prompt.token_ids,
            tokens=tuple(tokens),
            finish=None,
        )

    def _told(
        self, place: int, row: int, prompt: Prompt
    ) -> tuple[TokenShares, tuple[tuple[float, ...], ...]]:
        layers = sorted(self._shares)
        num_parts = len(prompt.segments.parts)
        mass = torch.cat([self._shares[layer][place].mass[row] for layer in layers]).cpu()
        # Prompts of one batch have parts of their own; what was generated lies behind the most that one has.
        mass = torch.cat([mass[:, :num_parts], mass[:, -1:]], dim=1)
        sink = torch.cat([self._shares[layer][place].sink[row] for layer in layers]).mean()
        entropy = torch.cat([self._shares[layer][place].entropy[row] for layer in layers]).mean()
        shares = shares_by_part(
            prompt.segments, mass.mean(0).tolist(), float(sink), float(entropy) / math.log(2.0)
        )
        weights = [torch.tensor(group.weights) for group in self.choice.groups]
        return shares, tuple(tuple((own @ mass).tolist()) for own in weights)

    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        *,
        scaling: float | None = None,
        softcap: float | None = None,
        **options: object,
    ) -> tuple[Tensor, None]:
        """What transformers calls in each layer: its own attention, and a look at the last query."""
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        given = options.get("s_aux")
        sinks = sinks_of(module, given if isinstance(given, Tensor) else None)
        layer = int(vars(module)["layer_idx"])
        heads = [head for of, head in self.choice.heads if of == layer]
        if heads:
            self._check_order(layer, query.shape[2], key)
            mask = None if attention_mask is None else attention_mask[:, :, -1:]
            scores = scores_of(query[:, :, -1:], key, mask, scale, softcap)
            self._keep(
                layer,
                last_row_shares(scores, sinks, heads, self._segments(layer, query, key), self._num_segments),
                query,
            )
        if softcap is None and sinks is None:
            return sdpa_attention_forward(
                module,
                query,
                key,
                value,
                attention_mask,
                scaling=scaling,
                **options,  # pyright: ignore[reportArgumentType]
            )
        mask = attention_mask
        if mask is None and query.shape[2] > 1:
            num_new, num_keys = query.shape[2], key.shape[2]
            mask = torch.ones(num_new, num_keys, dtype=torch.bool, device=query.device)
            mask = mask.tril(num_keys - num_new)[None, None]
        return plain_attention(scores_of(query, key, mask, scale, softcap), value, sinks), None

    @property
    def _num_segments(self) -> int:
        return max(len(prompt.segments.parts) for prompt in self.prompts) + 1

    def _check_order(self, layer: int, num_new: int, key: Tensor) -> None:
        """See that rows are the sequences that they were: the last key of the pass before is where it was."""
        if layer != self.choice.heads[0][0]:
            return
        total = self._lengths.get(layer, 0) + num_new
        end = min(total, key.shape[2])
        if self._last_keys is not None and end > num_new:
            there = key[:, :, end - num_new - 1]
            if there.shape != self._last_keys.shape or not torch.equal(there, self._last_keys):
                raise UnknownOption(
                    "sequences of the batch changed places, as in beam search, or a second generation began; "
                    "what they attended to can't be followed. Use greedy search or sampling, a block a call."
                )
        self._last_keys = key[:, :, end - 1].clone()

    def _keep(self, layer: int, shares: RowShares, query: Tensor) -> None:
        known = self._lengths.get(layer, 0)
        num_new = query.shape[2]
        longest = max(len(prompt.token_ids) for prompt in self.prompts)
        if known >= longest and num_new > 1:
            raise UnknownOption(
                f"{num_new} tokens came in one pass behind the prompt; guessing ahead is not watched. Leave "
                "assisted generation out."
            )
        self._lengths[layer] = known + num_new
        # A prompt in chunks chooses a token with its last one.
        if known + num_new >= longest:
            self._shares.setdefault(layer, []).append(shares)

    def _segments(self, layer: int, query: Tensor, key: Tensor) -> Tensor:
        """The segment of each key: of padding -1, of what was generated the last."""
        rows, num_keys = query.shape[0], key.shape[2]
        total = self._lengths.get(layer, 0) + query.shape[2]
        if self._placed[0] == (rows, total, num_keys):
            return self._placed[1]
        if rows % len(self.prompts):
            raise InputError(
                f"{rows} sequences are generated from {len(self.prompts)} prompts. Give watching() all "
                "prompts of the batch, in order."
            )
        longest = max(len(prompt.token_ids) for prompt in self.prompts)
        generated = self._num_segments - 1
        owners = []
        for prompt in self.prompts:
            padded = [-1] * (longest - len(prompt.token_ids)) + list(prompt.segments.owners)
            owners += [padded + [generated] * max(0, total - longest)] * (rows // len(self.prompts))
        # A window's cache has dropped what lies before; a static one has room behind, which nothing sees.
        first = max(0, total - num_keys)
        cut = [row[first:total] + [-1] * max(0, num_keys - total) for row in owners]
        # Layers of one pass have the same keys.
        self._placed = (rows, total, num_keys), torch.tensor(cut, device=query.device)
        return self._placed[1]


@contextmanager
def watching(
    model: PreTrainedModel,
    prompts: Prompt | Sequence[Prompt],
    heads: HeadChoice | Sequence[tuple[int, int]] | None = None,
) -> Iterator[Seen]:
    """Watch a decoder for a while; its answers stay what they are.

    Args:
        model: A causal language model of transformers that attends through the attention interface.
        prompts: What is sent to `generate`, in the order of the batch, padded on the left.
        heads: Which to watch, as `(layer, head)`; None takes up to 32 around two thirds of the depth.

    Raises:
        UnknownOption: the model attends in a way of its own, or in layers without heads.
        InputError: a head that the model lacks.
    """
    own = (prompts,) if isinstance(prompts, Prompt) else tuple(prompts)
    config = model.config.get_text_config()
    num_heads = (int(config.num_attention_heads),) * int(config.num_hidden_layers)
    seen = Seen(own, _choice(config, num_heads, heads), num_heads, str(config.model_type))
    before = str(model.config._attn_implementation)
    name = f"cynosure-{uuid.uuid4().hex}"
    AttentionInterface.register(name, seen.attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    try:
        model.set_attn_implementation(name)
        if model.config._attn_implementation != name:
            raise UnknownOption(
                f"{type(model).__name__} does not attend through transformers' attention interface, so it "
                "can't be watched here."
            )
        yield seen
    finally:
        model.set_attn_implementation(before)
        for registry in (AttentionInterface, AttentionMaskInterface):
            registry._global_mapping.pop(name, None)


def _choice(
    config: PreTrainedConfig,
    num_heads: tuple[int, ...],
    heads: HeadChoice | Sequence[tuple[int, int]] | None,
) -> HeadChoice:
    if heads is None:
        kinds = config.to_dict().get("layer_types") or [FULL] * len(num_heads)
        return default_heads(num_heads, [n for n, kind in enumerate(kinds) if kind == FULL])
    chosen = (
        heads
        if isinstance(heads, HeadChoice)
        else HeadChoice(tuple(sorted(set(heads))), "the caller named them")
    )
    for layer, head in chosen.heads:
        if not (0 <= layer < len(num_heads) and 0 <= head < num_heads[layer]):
            raise InputError(
                f"head {head} of layer {layer} is to be watched; the model has {len(num_heads)} layers of "
                f"{num_heads[0]} heads. Name one of them."
            )
    return chosen
