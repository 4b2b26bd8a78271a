"""Find which heads of a model are of which kind, and confirm it without them. Knows nothing of files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cynosure.core.errors import InputError
from cynosure.insight.heads.head_ablation import MIN_DROP, Ablation, Ablator
from cynosure.insight.heads.head_probes import HeadScores, all_heads, attention_scores, copy_scores
from cynosure.insight.heads.kind_finding import KindFinding, Status
from cynosure.insight.heads.probe_tasks import (
    ProbeCase,
    Vocabulary,
    local_cases,
    needle_cases,
    repeated_cases,
    sink_cases,
)
from cynosure.insight.probing import Head, ProbedModel

#: Told a stage, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

SINK, LOCAL, INDUCTION, RETRIEVAL, ALIGNMENT = "sink", "local", "induction", "retrieval", "alignment"

#: Below this share nobody calls a head by the kind, whatever chance is; retrieval's is from arXiv 2404.15574.
FLOORS: Mapping[str, float] = {SINK: 0.4, LOCAL: 0.5, INDUCTION: 0.2, RETRIEVAL: 0.1}


@dataclass(frozen=True)
class ProbeRecipe:
    """How thoroughly a model is probed.

    - `num_cases`: sequences a kind; `num_draws`: of moved targets, for chance.
    - `num_random`: other groups of heads that are left out; `max_heads`: of a kind, the best.
    """

    seed: int = 0
    num_cases: int = 24
    num_draws: int = 200
    num_random: int = 12
    max_heads: int = 16

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a count below what tells anything.
        """
        for name, least in {"num_cases": 4, "num_draws": 20, "num_random": 3, "max_heads": 1}.items():
            if vars(self)[name] < least:
                raise InputError(f"{name} is {vars(self)[name]}; the limit is {least}. Raise it.")


#: In a quarter of the time, with wider margins.
QUICK = ProbeRecipe(num_cases=8, num_draws=100, num_random=5, max_heads=8)


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def find_kinds(
    model: ProbedModel,
    vocabulary: Vocabulary,
    recipe: ProbeRecipe,
    report: Report = silent,
    needles: Sequence[ProbeCase] = (),
) -> dict[str, KindFinding]:
    """Probe a model for each kind.

    Sinks and local heads look at places; they are left out where a stretch is said again, since in random
    text there is nothing to foretell. Induction and retrieval are looked for in layers that see the whole
    sequence.

    Args:
        model: The model.
        vocabulary: What sequences are made of.
        recipe: How thoroughly it is probed.
        report: Told each stage.
        needles: Prompts with answers that copy from them, in place of those of random tokens.
    """
    count, seed = recipe.num_cases, recipe.seed
    repeated = repeated_cases(vocabulary, count, seed)
    needles = needles or needle_cases(vocabulary, count, seed)
    probes = (
        _Probe(SINK, sink_cases(vocabulary, count, seed), repeated, sees_all=False),
        _Probe(LOCAL, local_cases(vocabulary, count, seed), repeated, sees_all=False),
        _Probe(INDUCTION, repeated, repeated),
        _Probe(RETRIEVAL, needles, needles, by_copy=True),
    )
    found: dict[str, KindFinding] = {}
    for place, probe in enumerate(probes):
        report(f"Looking for {probe.kind} heads", place, len(probes))
        found[probe.kind] = _found(model, probe, recipe)
    reason = "a decoder has no attention between two sequences, which is what would be aligned"
    return found | {ALIGNMENT: KindFinding("not probed", reason)}


@dataclass(frozen=True)
class _Probe:
    """`cases` show the kind; without its heads, `foretold` become less likely."""

    kind: str
    cases: Sequence[ProbeCase]
    foretold: Sequence[ProbeCase]
    by_copy: bool = False
    sees_all: bool = True

    def scores(self, model: ProbedModel, recipe: ProbeRecipe) -> HeadScores | None:
        layers = model.full_layers if self.sees_all else range(len(model.num_heads))
        heads = [head for head in all_heads(model.num_heads) if head[0] in layers]
        if not heads:
            return None
        score = copy_scores if self.by_copy else attention_scores
        return score(model, self.cases, heads, recipe.num_draws, recipe.seed)


def _found(model: ProbedModel, probe: _Probe, recipe: ProbeRecipe) -> KindFinding:
    scores = probe.scores(model, recipe)
    if scores is None:
        return KindFinding("not probed", "no layer sees the whole sequence")
    floor = FLOORS[probe.kind]
    threshold = max(floor, scores.chance)
    above = scores.above(threshold, recipe.max_heads)
    ablator = Ablator(model, probe.foretold)
    best, best_score = scores.best
    heads = tuple(head for head, _ in above)
    ablation = drops = None
    if heads:
        # All of the kind are spared, not only those that are listed: the others are of no such kind.
        spared = [head for head, _ in scores.above(threshold, len(scores.heads))]
        ablation = ablator.compare(heads, spared, recipe.num_random, recipe.seed)
        drops = tuple(float(ablator.drops([head]).mean()) for head in heads)
    status, reason = _told(ablation, best, best_score, threshold)
    return KindFinding(
        status=status,
        reason=reason,
        heads=heads,
        scores=tuple(score for _, score in above),
        drops=drops or (),
        best=best,
        best_score=best_score,
        floor=floor,
        chance=scores.chance,
        num_cases=len(probe.cases),
        accuracy=ablator.accuracy,
        ablation=ablation,
    )


def _told(ablation: Ablation | None, best: Head, best_score: float, threshold: float) -> tuple[Status, str]:
    """The status, and why."""
    if ablation is None:
        layer, head = best
        return "not found", (
            f"the highest score, of head {layer}.{head}, is {best_score:.2f}; the threshold is "
            f"{threshold:.2f}"
        )
    cost = f"leaving them out costs {ablation.drop:.2f} nats a token"
    if ablation.num_random == 0:
        return "found", f"{cost}; there are no other heads to compare with"
    others = f"as many others {ablation.random_mean:.2f}"
    if ablation.num_random > 1:
        others += f" on average over {ablation.num_random} groups, at most {ablation.random_max:.2f}"
    if ablation.is_confirmed:
        return "confirmed", f"{cost}, {others}"
    return "found", f"{cost}, {others}: too little, or no more than others (the least is {MIN_DROP:g})"
