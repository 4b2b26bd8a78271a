"""Read what to watch of the models that are served, from options and files. Watches nothing itself."""

from __future__ import annotations

import argparse
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path

from cynosure.cli.assembly import ServeOptions
from cynosure.cli.profile_key import PROFILE_KEY, profile_key_path
from cynosure.core.errors import InputError
from cynosure.insight import HeadProfile, read_profile
from cynosure.pack import CORE_LM


def add_insight_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare profiles of heads."""
    add = parser.add_argument_group("what is attended to").add_argument
    add(
        "--head-profile",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="what `cynosure profile` found of a model's heads; chooses those that are watched; repeatable",
    )


def with_insight(
    options: ServeOptions, arguments: argparse.Namespace, environ: MutableMapping[str, str]
) -> ServeOptions:
    """Return options that watch as the arguments say. The key is no longer in the environment afterwards.

    Raises:
        InputError: a profile is of no model that is served, or a model has two.
        NotFound: a profile, or the key that it was signed with, is not there.
        ProfileError: a profile is not as it was written here.
    """
    models = [model.name for model in options.models] or ([CORE_LM] if options.with_pack else [])
    profiles = _profiles(arguments.head_profile, models, environ)
    return replace(options, insight=replace(options.insight, profiles=profiles))


def _profiles(
    written: Sequence[str], models: Sequence[str], environ: MutableMapping[str, str]
) -> dict[str, HeadProfile]:
    if not written:
        return {}
    key = PROFILE_KEY.read(environ, profile_key_path(environ))
    environ.pop(PROFILE_KEY.variable, None)
    profiles: dict[str, HeadProfile] = {}
    for text in written:
        model, file = _named(text, models)
        if model in profiles:
            raise InputError(f"--head-profile names two profiles of {model!r}. Leave one out.")
        profiles[model] = read_profile(file, key)
    return profiles


def _named(text: str, models: Sequence[str]) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals or "/" in name:
        if len(models) != 1:
            raise InputError(
                f"--head-profile is {text[:200]!r}, and there are {len(models)} models. Write NAME=FILE."
            )
        name, file = models[0], text
    if name not in models:
        known = ", ".join(models) or "none"
        raise InputError(f"--head-profile is of {name!r}; the models are: {known}. Correct it.")
    return name, Path(file).expanduser()
