"""Retrieve a passkey with a two-layer model whose every logit is known beforehand; prints a table.

    python evals/needles.py [--write] [--length 131072]

The model is built by hand (an induction circuit, Olsson et al., arXiv 2209.11895):

- layer 1, a previous-token head: queries and keys are constant vectors under a rotation, queries turned
  by one position more. Its logit at distance d from the previous token is `c * sum_f cos(f d)`.
- layer 2, a matching head: the query is the marker at the end, the keys are what layer 1 copied. The token
  behind the marker's first occurrence has logit M, every other token 0.

So the share of the passkey is `e^M / (e^M + n - 1)` over the n tokens that the mask shows to the last
query, and it wins over the most frequent filler, seen m times, exactly if it is visible and `e^M > m`.
Each row below says what the arithmetic demands and what came out; they must agree in every row, and the
measured share must equal the predicted one. Rows marked int8 keep the keys and values of both layers in pages
of codes, as a cache does. There one-hot vectors, which any code holds, are turned by a random rotation, which
changes no product; the share may be off by what rounding a channel to 1 in 254 does to scores.

Rows with pages let layer 2 attend to so many pages of 32 keys alone, chosen by bounds of their keys. The page
of the passkey has the largest bound by far, so the share of the attention that the chosen pages recall is
`(e^M + s - 1) / (e^M + n - 1)` over their s tokens: above 0.99 where M is `log(200 n)`, and far below at the
margins of the other rows, whose attention is spread over all tokens. Layer 1 has a window there.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    DenseSource,
    Heads,
    PagedSource,
    PageScales,
    Score,
    Source,
    Watch,
    attend,
)
from cynosure.attention.masks.parse import parse_mask
from cynosure.attention.native_pages import attend_natively
from cynosure.attention.page_choice import PageChoice, attend_to_pages, bounds_of
from cynosure.attention.positions import Rope
from cynosure.cache import BLOCK_SIZE, LayerShape, PagedCache
from cynosure.evaluate.results import write_result
from cynosure.kernels import why_none

LENGTH = 131_072
NUM_FILLERS, NUM_PASSKEYS = 32, 10
MARKER = NUM_FILLERS + NUM_PASSKEYS
WIDTH = 48
ROPE = Rope(WIDTH, 50.0)
LEAK = 1e-7
PATTERNS = (
    "Causal()",
    "Causal() & (Window(4096) | Global(64))",
    "Causal() & (Blocks(64, 1) | Random(64, 3, 7) | Global(64))",
)
# Places from the start and, below 0, from the end: inside and just outside of windows, sinks and blocks.
PLACES = (10, 63, 64, -30, -100, -4096, -4097, -60_000)
CODED_PLACES = (-100,)
SELECTED_PLACES = (10, -100, -60_000)
NUM_PAGES = 64
NEAR = "Causal() & Window(1024)"
NUMBERS, CODES = "float32", "int8"
TOLERANCES = {NUMBERS: 2e-3, CODES: 2e-2}


@dataclass(frozen=True)
class Trial:
    """One needle under one pattern: what must come out, and what did."""

    pattern: str
    place: int
    margin: float
    is_visible: bool
    predicted_share: float
    must_retrieve: bool
    share: float
    retrieved: bool
    kept_in: str = NUMBERS

    @property
    def is_right(self) -> bool:
        """Whether measurement and arithmetic agree."""
        close = math.isclose(self.share, self.predicted_share, rel_tol=TOLERANCES[self.kept_in], abs_tol=1e-6)
        return close and self.retrieved == self.must_retrieve


def previous_token_scale(length: int) -> float:
    """Return the `c` for which all but `LEAK` of layer 1's attention is on the previous token."""
    distances = torch.arange(1, length, dtype=torch.float64)
    frequencies = ROPE.inverse_frequencies(torch.float64)
    total = torch.zeros_like(distances)
    for frequency in frequencies:
        total += torch.cos(distances * frequency)
    margin = float(len(frequencies) - total.max())
    return math.log(length / LEAK) / margin


def haystack(length: int, place: int, passkey: int, seed: int) -> tuple[Tensor, int]:
    """Return fillers, marker and passkey at `place`, the marker at the end; and the passkey's index."""
    filler = torch.randint(0, NUM_FILLERS, (length,), generator=torch.Generator().manual_seed(seed))
    at = place if place >= 0 else length + place
    filler[at - 1], filler[at], filler[-1] = MARKER, NUM_FILLERS + passkey, MARKER
    return filler, at


def stored(k: Tensor, v: Tensor, plan: AttentionPlan, kept_in: str) -> tuple[Source, AttentionPlan]:
    """Return keys and values as they are, or in pages of codes; and the plan that finds them there."""
    return (DenseSource(k, v), plan) if kept_in == NUMBERS else in_pages(k, v, plan, kept_in)


def in_pages(k: Tensor, v: Tensor, plan: AttentionPlan, kept_in: str) -> tuple[PagedSource, AttentionPlan]:
    """Return keys and values in pages of numbers or codes, and the plan that finds them there."""
    num_tokens = k.shape[0]
    num_blocks = -(-num_tokens // BLOCK_SIZE)
    dtype = k.dtype if kept_in == NUMBERS else torch.int8
    cache = PagedCache([LayerShape(*k.shape[1:], v.shape[-1])], num_blocks, dtype)
    table = torch.arange(num_blocks)[None]
    cache.write(0, k, v, cache.slots(table, [0], [num_tokens]))
    scales = cache.scales(0)
    source = PagedSource(*cache.pages(0), None if scales is None else PageScales(*scales), k.dtype)
    return source, plan.with_keys(replace(plan.keys[0], block_table=table))


def basis(kept_in: str) -> Tensor:
    """Return the orthogonal axes along which tokens are written."""
    if kept_in == NUMBERS:
        return torch.eye(WIDTH)
    noise = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(3))
    return torch.linalg.qr(noise).Q


def copy_previous(tokens: Tensor, pattern: str, kept_in: str = NUMBERS) -> Tensor:
    """Run layer 1 over all tokens; return what each token knows of the one before it."""
    length = tokens.numel()
    content = torch.zeros(length, 1, WIDTH)
    content[..., : WIDTH // 2] = 1.0
    positions = torch.arange(length)
    # The query of token i stands where token i - 1 stands, so that a distance of 0 means the previous token.
    q, k = ROPE.rotate(content, (positions - 1).clamp(min=0)), ROPE.rotate(content, positions)
    v = basis(kept_in)[tokens][:, None]
    spec = AttentionSpec(
        Heads.of(1, WIDTH), parse_mask(pattern), ROPE, Score(scale=previous_token_scale(length))
    )
    source, plan = stored(k, v, AttentionPlan.of_lengths([length]), kept_in)
    return attend(spec, q, [source], plan).out


def match(
    tokens: Tensor, known: Tensor, pattern: str, margin: float, at: int, kept_in: str = NUMBERS
) -> tuple[Tensor, float]:
    """Run layer 2 for the last token; return its output and the share of the passkey's position."""
    length = tokens.numel()
    axes = basis(kept_in)
    q = margin * axes[MARKER][None, None]
    v = axes[tokens][:, None]
    segments = (torch.arange(length) >= at).long() + (torch.arange(length) > at).long()
    plan = AttentionPlan.of_lengths([1], [length], segments=[segments.tolist()])
    spec = AttentionSpec(Heads.of(1, WIDTH), parse_mask(pattern), ROPE, Score(scale=1.0))
    source, plan = stored(known, v, plan, kept_in)
    state = attend(spec, q, [source], plan, watch=Watch())
    return axes @ state.out[0, 0], float(state.shares[0, 0, 1])


def run(
    pattern: str,
    length: int,
    place: int,
    margin: float,
    known: dict[tuple[str, int, str], Tensor],
    kept_in: str = NUMBERS,
) -> Trial:
    """Return one trial; `known` keeps layer 1's output, which does not depend on the margin."""
    passkey = abs(place) % NUM_PASSKEYS
    tokens, at = haystack(length, place, passkey, seed=place % 1000)
    key = (pattern, place, kept_in)
    if key not in known:
        known.clear()
        known[key] = copy_previous(tokens, pattern, kept_in)
    out, share = match(tokens, known[key], pattern, margin, at, kept_in)
    last = AttentionPlan.of_lengths([1], [length]).grids[0][0]
    visible = parse_mask(pattern).allowed(last)[0]
    counts = torch.bincount(tokens[visible & (tokens < NUM_FILLERS)], minlength=1)
    is_visible = bool(visible[at])
    weight = math.exp(margin)
    predicted = weight / (weight + int(visible.sum()) - 1) if is_visible else 0.0
    return Trial(
        pattern=pattern,
        place=place,
        margin=margin,
        is_visible=is_visible,
        predicted_share=predicted,
        must_retrieve=is_visible and weight > int(counts.max()),
        share=share,
        retrieved=int(out.argmax()) == NUM_FILLERS + passkey,
        kept_in=kept_in,
    )


def trials(
    length: int,
    patterns: Sequence[str] = PATTERNS,
    places: Sequence[int] = PLACES,
    kept_in: str = NUMBERS,
) -> list[Trial]:
    """Run every pattern and place that fits, with a margin below and one above what is needed."""
    results, known = [], {}
    edge = math.log(length / NUM_FILLERS)
    for pattern in patterns:
        fitting = [place for place in places if abs(place) < length - 1]
        # Full attention sees every place alike: two of them tell as much as all.
        for place in fitting if pattern != "Causal()" else fitting[-2:]:
            results += [
                run(pattern, length, place, margin, known, kept_in) for margin in (edge - 3, edge + 3)
            ]
    return results


@dataclass(frozen=True)
class SelectedTrial:
    """One needle that is looked for in chosen pages: what they must recall, and what they did."""

    place: int
    margin: float
    num_pages: int
    kept_in: str
    predicted: float
    recalled: float
    retrieved: bool

    @property
    def is_right(self) -> bool:
        """Whether measurement and arithmetic agree."""
        close = math.isclose(self.recalled, self.predicted, rel_tol=TOLERANCES[self.kept_in], abs_tol=1e-6)
        return close and self.retrieved


def choose(
    tokens: Tensor, known: Tensor, margin: float, num_pages: int, kept_in: str
) -> tuple[Tensor, float]:
    """Run layer 2 for the last token over chosen pages; return its output, and what they recall."""
    length, axes = tokens.numel(), basis(kept_in)
    q = margin * axes[MARKER][None, None]
    source, plan = in_pages(known, axes[tokens][:, None], AttentionPlan.of_lengths([1], [length]), kept_in)
    spec = AttentionSpec(Heads.of(1, WIDTH), parse_mask("Causal()"), ROPE, Score(scale=1.0))
    bounds, counts = bounds_of(source), torch.tensor([num_pages])
    attend_to = attend_to_pages if why_none() else attend_natively
    chosen = attend_to(spec, q, source, plan, PageChoice(bounds, counts, torch.tensor([0])))
    checked = attend_to(spec, q, source, plan, PageChoice(bounds, counts, torch.tensor([1])))
    return axes @ chosen.out[0, 0], float(checked.shares[0, 0])


def selected_trials(
    length: int, places: Sequence[int] = SELECTED_PLACES, num_pages: int = NUM_PAGES
) -> list[SelectedTrial]:
    """Run every place that fits, in numbers and in codes, at a margin that 0.99 asks for and at one below."""
    results = []
    num_kept = num_pages * BLOCK_SIZE - -length % BLOCK_SIZE
    for kept_in in (NUMBERS, CODES):
        for place in [place for place in places if abs(place) < length - 1]:
            passkey = abs(place) % NUM_PASSKEYS
            tokens, _ = haystack(length, place, passkey, seed=place % 1000)
            known = copy_previous(tokens, NEAR, kept_in)
            for margin in (math.log(length / NUM_FILLERS) + 3, math.log(200 * length)):
                out, recalled = choose(tokens, known, margin, num_pages, kept_in)
                weight = math.exp(margin)
                predicted = (weight + num_kept - 1) / (weight + length - 1)
                retrieved = int(out.argmax()) == NUM_FILLERS + passkey
                results.append(
                    SelectedTrial(place, margin, num_pages, kept_in, predicted, recalled, retrieved)
                )
    return results


def selection_summary(results: Sequence[SelectedTrial]) -> dict[str, object]:
    """Return the figures of trials over chosen pages."""
    strong = [trial.recalled for trial in results if trial.predicted >= 0.99]
    return {
        "pages": NUM_PAGES,
        "trials": len(results),
        "as_predicted": sum(trial.is_right for trial in results),
        "least_recalled": min(strong),
        "least_recalled_of_spread_attention": min(trial.recalled for trial in results),
    }


def summary(results: Sequence[Trial]) -> dict[str, object]:
    """Return the figures of some trials."""
    return {
        "trials": len(results),
        "as_predicted": sum(trial.is_right for trial in results),
        "must_retrieve": sum(trial.must_retrieve for trial in results),
        "max_share_error": max(abs(trial.share - trial.predicted_share) for trial in results),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/needles.json")
    parser.add_argument("--length", type=int, default=LENGTH)
    arguments = parser.parse_args()
    start = time.perf_counter()
    plain = trials(arguments.length)
    coded = trials(arguments.length, places=CODED_PLACES, kept_in=CODES)
    results = plain + coded
    print(f"{'pattern':<62}{'kept in':>8}{'place':>8}{'margin':>8}{'predicted':>11}{'share':>9}  must  did")
    for trial in results:
        print(
            f"{trial.pattern:<62}{trial.kept_in:>8}{trial.place:>8}{trial.margin:>8.2f}{trial.predicted_share:>11.5f}"
            f"{trial.share:>9.5f}  {'yes ' if trial.must_retrieve else 'no  '}  "
            f"{'yes' if trial.retrieved else 'no'}{'' if trial.is_right else '  WRONG'}"
        )
    selected = selected_trials(arguments.length)
    print(f"{'pages':>6}{'kept in':>9}{'place':>8}{'margin':>8}{'predicted':>11}{'recalled':>10}  found")
    for one in selected:
        print(
            f"{one.num_pages:>6}{one.kept_in:>9}{one.place:>8}{one.margin:>8.2f}{one.predicted:>11.5f}"
            f"{one.recalled:>10.5f}  {'yes' if one.retrieved else 'no '}{'' if one.is_right else '  WRONG'}"
        )
    num_right = sum(trial.is_right for trial in results)
    print(f"{num_right} of {len(results)} as the arithmetic says, in {time.perf_counter() - start:.0f} s")
    if arguments.write:
        metrics = {
            "length": arguments.length,
            **summary(plain),
            "int8": summary(coded),
            "selection": selection_summary(selected),
        }
        write_result("needles", metrics, "python evals/needles.py --write")


if __name__ == "__main__":
    main()
