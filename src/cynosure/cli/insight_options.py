"""Hold what a server is told of attention, and say what it watches of each model. Reads no flags or files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from cynosure.core.errors import ProfileError
from cynosure.engine.pool.card import ModelCard
from cynosure.insight import HeadProfile, WatchPolicy, choice_of
from cynosure.insight.judging.focus import FOCUS, INJECTION, focus_model_of
from cynosure.insight.judging.risk import risk_model_of


@dataclass(frozen=True)
class InsightOptions:
    """What is watched.

    - `profiles`: what is known of the heads of models, by their names. They are as they were written; that
      each is of its model is for `policy_of` to see.
    - `is_always`: whether requests are watched that do not ask for it.
    """

    profiles: Mapping[str, HeadProfile] = field(default_factory=dict)
    is_always: bool = False


def policy_of(
    options: InsightOptions, card: ModelCard, fingerprints: Mapping[str, Future[str]], *, is_coded: bool
) -> WatchPolicy:
    """What is watched of a model; `is_coded` says whether its weights are quantised while they are loaded.

    Raises:
        ProfileError: its profile is of another model or not understood, or it can't be watched.
    """
    policy = WatchPolicy(is_always=options.is_always)
    profile = options.profiles.get(card.name)
    if profile is None:
        return policy
    if card.watchable is None:
        raise ProfileError(
            f"{card.name} has a head profile and can't be watched: it is no decoder, or it carries a state "
            "past its tokens. Leave --head-profile out."
        )
    profile.check_model(fingerprints[card.name].result(), card.watchable.num_heads, card.name)
    # What is not understood shows now, and not with the first request.
    risk_model_of(profile)
    for group in (FOCUS, INJECTION):
        focus_model_of(profile, group)
    choice = choice_of(profile)
    if choice is not None and is_coded:
        told = f"{choice.reason}; it was made before the weights were quantised"
        choice = replace(choice, reason=told)
    return replace(policy, choice=choice, profile=profile)


def check_profiles(options: InsightOptions, completers: Collection[str]) -> None:
    """Check that each profile is of a model that answers with tokens.

    Raises:
        ProfileError: one is not, and would be of no use.
    """
    for name in options.profiles.keys() - set(completers):
        raise ProfileError(f"{name} has a head profile and writes no answers. Leave --head-profile out.")
