"""Choose the heads to watch by a profile. Knows nothing of how the profile came to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cynosure.core.errors import ProfileError
from cynosure.insight.head_choice import HeadChoice, HeadGroup
from cynosure.insight.probing import Head
from cynosure.insight.profile import HeadProfile

#: The section that says which heads are of which kind.
KINDS = "kinds"
#: Kinds that are watched where they are confirmed: they look at content. Others look at places.
WATCHED_KINDS = ("retrieval", "induction")
#: What watching them costs is measured up to here.
MAX_CHOSEN = 64

#: What the group of a section is called, where it is not called as the section is.
_GROUP_OF = {"citations": "citation"}

#: A weight for some heads.
_Weights = Mapping[Head, float]


def choice_of(profile: HeadProfile) -> HeadChoice | None:
    """The heads that any section gives a weight to, and a group for each section and confirmed kind.

    A section's group folds with its weights; that of a kind is the mean of its heads. Where there are more
    than `MAX_CHOSEN` heads, the last heads of kinds are left out; what was fitted stays whole.

    Returns:
        None where the profile confirms no kind and has no weights: then it says nothing about what to watch.

    Raises:
        ProfileError: the fitted sections alone have more heads.
    """
    fitted = dict(_fitted(profile))
    chosen = {head for weights in fitted.values() for head in weights}
    if len(chosen) > MAX_CHOSEN:
        raise ProfileError(
            f"head profile {profile.name!r}: its sections {', '.join(fitted)} give weights to {len(chosen)} "
            f"heads; the limit is {MAX_CHOSEN}. Fit them on fewer."
        )
    groups: dict[str, _Weights] = {}
    for kind, heads in _confirmed(profile):
        taken = [head for head in heads if head in chosen]
        taken += [head for head in heads if head not in chosen][: MAX_CHOSEN - len(chosen)]
        chosen.update(taken)
        if taken:
            groups[kind] = dict.fromkeys(taken, 1 / len(taken))
    groups |= fitted
    if not groups:
        return None
    heads = tuple(sorted(chosen))
    told = ", ".join(f"{name} {len(weights)}" for name, weights in groups.items())
    reason = f"head profile {profile.name} ({profile.digest[:12]}) chose {len(heads)} heads: {told}"
    named = (
        HeadGroup(name, tuple(weights.get(head, 0.0) for head in heads)) for name, weights in groups.items()
    )
    return HeadChoice(heads, reason, tuple(named))


def _confirmed(profile: HeadProfile) -> Iterator[tuple[str, list[Head]]]:
    """Kinds that ablation confirmed, and their heads, best first."""
    kinds: Mapping[str, Any] = profile.section(KINDS) or {}
    for kind in WATCHED_KINDS:
        found = kinds.get(kind)
        if isinstance(found, Mapping) and found.get("confirmed") is True:
            yield kind, _heads(found.get("heads", ()))


def _fitted(profile: HeadProfile) -> Iterator[tuple[str, _Weights]]:
    """Sections with weights, by the name of their group."""
    for name in profile.sections:
        section = profile.section(name)
        if name == KINDS or section is None or "heads" not in section or "weights" not in section:
            continue
        pairs = zip(_heads(section["heads"]), section["weights"], strict=True)
        weights = {head: float(weight) for head, weight in pairs if weight}
        if weights:
            yield _GROUP_OF.get(name, name), weights


def _heads(written: Sequence[Sequence[int]]) -> list[Head]:
    return [(layer, head) for layer, head in written]
