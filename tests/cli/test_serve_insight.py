"""A profile that was made here, of this model, chooses the heads that its server watches."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cynosure.cli.assembly import ServeOptions, assemble
from cynosure.cli.insight_options import InsightOptions
from cynosure.cli.profile_key import PROFILE_KEY, profile_key_path
from cynosure.cli.serve_insight import add_insight_arguments, with_insight
from cynosure.core.errors import InputError, NotFound, ProfileError
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.insight import HeadProfile, write_profile
from cynosure.models.adapters.limits import AdapterLimits
from cynosure.models.fingerprint import digests_of, fingerprint
from cynosure.pack import CORE_LM
from tests.models.tiny_embedders import write_encoder
from tests.server.fakes import serving
from tests.server.served_tiny import write_decoder

KINDS = {"kinds": {"induction": {"heads": [[1, 3], [1, 0]], "confirmed": True}}}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module")
def profile(decoder: Path) -> HeadProfile:
    return HeadProfile(fingerprint(decoder, digests_of(decoder)), "tiny", (4, 4), {}, KINDS)


def options_of(folder: Path, decoder: Path, profiles: dict[str, HeadProfile], **more: object) -> ServeOptions:
    return ServeOptions(
        folder,
        (ServedModel("tiny", str(decoder), dtype="float32"),),
        with_docs=False,
        num_threads=1,
        pool=PoolSettings(kv_cache_bytes=8 << 20, adapters=AdapterLimits()),
        insight=InsightOptions(profiles),
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, decoder: Path, profile: HeadProfile) -> Iterator[str]:
    options = options_of(tmp_path_factory.mktemp("served"), decoder, {"tiny": profile})
    with serving(lambda report: assemble(options, report), wait_s=60) as url:
        yield url


def test_an_answer_names_the_profile_that_chose(url: str, profile: HeadProfile) -> None:
    asked = {"model": "tiny", "prompt": "a star", "max_tokens": 3, "attention": {"level": "summary"}}
    answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=60).json()
    coverage = answer["choices"][0]["attention"]["coverage"]
    assert coverage["reason"] == (f"head profile tiny ({profile.digest[:12]}) chose 2 heads: induction 2")
    assert coverage["heads"] == 0.25
    # A request that names heads has the last word.
    asked["attention"] = {"level": "summary", "heads": [[0, 0]]}
    answer = httpx.post(f"{url}/v1/completions", json=asked, timeout=60).json()
    assert answer["choices"][0]["attention"]["coverage"]["reason"] == "the request names 1 heads"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": "ab" * 32}, "with fingerprint abababababab; that of 'tiny' is"),
        ({"num_heads": (4, 4, 4)}, "has 2 x 4"),
    ],
)
def test_a_profile_of_another_model_is_refused(
    tmp_path: Path, decoder: Path, profile: HeadProfile, changed: dict[str, object], words: str
) -> None:
    options = options_of(tmp_path, decoder, {"tiny": replace(profile, **changed)})  # type: ignore[arg-type]
    with pytest.raises(ProfileError, match=words):
        assemble(options, lambda stage, done, total: None)


def test_weights_that_are_quantised_here_are_told(
    tmp_path: Path, decoder: Path, profile: HeadProfile
) -> None:
    coded = (ServedModel("tiny", str(decoder), quantize="int8"),)
    options = replace(options_of(tmp_path, decoder, {"tiny": profile}), models=coded)
    services = assemble(options, lambda stage, done, total: None)
    try:
        choice = services.completer("tiny").watching.choice
        assert choice is not None
        assert choice.reason.endswith("it was made before the weights were quantised")
    finally:
        services.close()


def test_what_writes_no_answer_has_no_profile(tmp_path: Path, profile: HeadProfile) -> None:
    write_encoder(tmp_path / "labels", "BertForSequenceClassification", num_labels=1)
    models = (ServedModel("tiny", str(tmp_path / "labels"), dtype="float32"),)
    options = replace(options_of(tmp_path, tmp_path, {"tiny": profile}), models=models)
    with pytest.raises(ProfileError, match="tiny has a head profile and writes no answers"):
        assemble(options, lambda stage, done, total: None)


def read(tmp_path: Path, *given: str, models: tuple[str, ...] = ("a", "b")) -> dict[str, HeadProfile]:
    parser = argparse.ArgumentParser()
    add_insight_arguments(parser)
    options = ServeOptions(tmp_path, tuple(ServedModel(name, name) for name in models), with_pack=not models)
    found = with_insight(options, parser.parse_args(given), {"CYNOSURE_HOME": str(tmp_path)})
    return dict(found.insight.profiles)


def test_profiles_are_read_by_the_names_of_models(tmp_path: Path, profile: HeadProfile) -> None:
    assert read(tmp_path) == {}
    file = tmp_path / "a=b.json"
    write_profile(file, profile, b"k" * 32)
    # Nothing was ever signed here: it is not asked who did.
    with pytest.raises(NotFound, match="no profile key"):
        read(tmp_path, "--head-profile", f"a={file}")
    key = PROFILE_KEY.read_or_create({}, profile_key_path({"CYNOSURE_HOME": str(tmp_path)}))
    with pytest.raises(ProfileError, match="another key"):
        read(tmp_path, "--head-profile", f"a={file}")
    write_profile(file, profile, key)
    assert read(tmp_path, "--head-profile", f"a={file}", "--head-profile", f"b={file}") == {
        "a": profile,
        "b": profile,
    }
    assert read(tmp_path, "--head-profile", str(file), models=("a",)) == {"a": profile}
    assert read(tmp_path, "--head-profile", str(file), models=()) == {CORE_LM: profile}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["x/heads.json"], "there are 2 models. Write NAME=FILE"),
        (["c=heads.json"], "is of 'c'; the models are: a, b"),
        (["a=none.json"], "there is no head profile none.json"),
    ],
)
def test_bad_profiles(tmp_path: Path, given: list[str], words: str) -> None:
    PROFILE_KEY.read_or_create({}, profile_key_path({"CYNOSURE_HOME": str(tmp_path)}))
    with pytest.raises(InputError, match=words):
        read(tmp_path, *(word for one in given for word in ("--head-profile", one)))


def test_a_model_has_one_profile(tmp_path: Path, profile: HeadProfile) -> None:
    key = PROFILE_KEY.read_or_create({}, profile_key_path({"CYNOSURE_HOME": str(tmp_path)}))
    write_profile(tmp_path / "x.json", profile, key)
    named = f"a={tmp_path / 'x.json'}"
    with pytest.raises(InputError, match="two profiles of 'a'"):
        read(tmp_path, "--head-profile", named, "--head-profile", named)
