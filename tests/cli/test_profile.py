"""A model is profiled, its profile is shown, and what can't be profiled is refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cynosure.cli.main import main
from cynosure.cli.profile import findings_of, vocabulary_of
from cynosure.cli.profile_key import PROFILE_KEY, profile_key_path
from cynosure.insight import read_profile, write_profile
from cynosure.insight.heads.head_kinds import ALIGNMENT, INDUCTION, LOCAL, RETRIEVAL, SINK
from cynosure.models.fingerprint import digests_of, fingerprint
from cynosure.models.load import load
from tests.models.tiny_embedders import write_encoder
from tests.server.served_tiny import write_decoder


@pytest.fixture(scope="module")
def profile(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("profiles") / "tiny.json"
    assert main(["profile", str(checkpoint), "--out", str(out), "--quick", "--name", "tiny"]) == 0
    return out


def test_a_profile_is_of_the_model_and_repeats(
    profile: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_profile(profile)
    assert found.model == fingerprint(checkpoint, digests_of(checkpoint))
    assert (found.name, found.num_heads) == ("tiny", (4, 4))
    assert (found.made["num_cases"], found.made["seed"], found.made["dtype"]) == (8, 0, "float32")
    assert set(findings_of(found)) == {SINK, LOCAL, INDUCTION, RETRIEVAL, ALIGNMENT}
    again = tmp_path / "again.json"
    assert main(["profile", str(checkpoint), "--out", str(again), "--quick", "--name", "tiny"]) == 0
    assert json.loads(again.read_text())["sections"] == json.loads(profile.read_text())["sections"]
    told = capsys.readouterr()
    assert "Heads of tiny" in told.out
    coarse = tmp_path / "coarse.json"
    given = ["--out", str(coarse), "--quick", "--name", "tiny", "--dtype", "bfloat16"]
    assert main(["profile", str(checkpoint), *given]) == 0
    assert read_profile(coarse).made["dtype"] == "bfloat16"
    assert read_profile(coarse).section("kinds") != found.section("kinds")
    assert "Looking for induction heads" in told.err


def test_random_weights_confirm_nothing(profile: Path) -> None:
    kinds = findings_of(read_profile(profile))
    assert all(finding.status in ("not found", "found", "not probed") for finding in kinds.values())
    assert kinds[INDUCTION].accuracy == 0.0


def test_a_profile_is_verified_and_shown(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["profile", "--show", str(profile)]) == 0
    told = capsys.readouterr().out
    assert "Heads of tiny" in told
    assert "it confirms no head to watch" in told
    assert "signed with this machine's key" in told
    # Elsewhere nobody knows the key, and with another one it is refused.
    monkeypatch.setenv("CYNOSURE_HOME", str(tmp_path))
    assert main(["profile", "--show", str(profile)]) == 0
    assert "no key here tells who signed it" in capsys.readouterr().out
    monkeypatch.setenv("CYNOSURE_PROFILE_KEY", "ab" * 32)
    assert main(["profile", "--show", str(profile)]) == 1
    assert "signed with another key" in capsys.readouterr().err
    altered = tmp_path / "altered.json"
    altered.write_text(profile.read_text().replace('"tiny"', '"tony"'))
    assert main(["profile", "--show", str(altered)]) == 1
    assert "its digest differs" in capsys.readouterr().err


def test_what_was_fitted_stays(
    profile: Path, checkpoint: Path, gap_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(model: Path, *more: str) -> tuple[int, str]:
        status = main(["profile", str(model), "--out", str(out), "--quick", *more])
        return status, capsys.readouterr().err

    out = tmp_path / "fitted.json"
    fitted = read_profile(profile).with_section("risk", {"heads": [[0, 1]], "weights": [0.5], "more": 1})
    write_profile(out, fitted, PROFILE_KEY.read(os.environ, profile_key_path(os.environ)))
    assert run(checkpoint)[0] == 0
    assert read_profile(out).section("risk") == fitted.section("risk")
    # Other sequences find something else, beside which nothing was fitted.
    assert "holds risk, fitted beside other findings" in run(checkpoint, "--seed", "1")[1]
    assert "is a profile of another model, 'tiny-llama0'" in run(gap_model)[1]
    assert read_profile(out).section("risk") == fitted.section("risk")
    out.write_text("mine")
    assert "is no JSON" in run(checkpoint)[1]
    assert out.read_text() == "mine"


def test_control_tokens_are_no_text(checkpoint: Path) -> None:
    model = load(checkpoint, dtype="float32")
    assert model.tokenizer is not None
    vocabulary = vocabulary_of(model)
    tokenizer = model.tokenizer
    control = {one for one in range(tokenizer.vocab_size) if tokenizer.is_control(one)}
    assert len(control) == 4
    # The table of the weights is longer than the tokenizer.
    assert set(vocabulary.ordinary) == set(range(tokenizer.vocab_size)) - control
    assert tokenizer.vocab_size < model.spec.vocab_size
    assert vocabulary.leading == ()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "name a model to profile, or a profile to --show"),
        (["x", "--show", "y"], "one of both"),
        (["x", "--seed", "-1"], "--seed is -1"),
        (["--show", "y", "--quick"], "takes no other option"),
        (["--show", "none.json"], "there is no head profile none.json"),
    ],
)
def test_bad_options(given: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", *given]) == 1
    assert words in capsys.readouterr().err


def test_what_can_not_be_profiled(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(model: Path, out: Path) -> str:
        assert main(["profile", str(model), "--out", str(out)]) == 1
        assert not out.exists()
        return capsys.readouterr().err

    # There it would be one of the files by which the model is known.
    assert "it would change the fingerprint" in refused(checkpoint, checkpoint / "heads.json")
    assert "a folder that does not exist" in refused(checkpoint, tmp_path / "none" / "heads.json")
    write_encoder(tmp_path / "encoder", "BertForSequenceClassification", num_labels=1)
    assert "heads of decoders alone are probed" in refused(tmp_path / "encoder", tmp_path / "x.json")
    short = write_decoder(tmp_path / "short", max_model_len=63)
    assert "takes 63 tokens at a time; probes need 64" in refused(short, tmp_path / "x.json")
    coded = tmp_path / "coded"
    assert main(["quantize", str(checkpoint), "--to", "int8", "--out", str(coded)]) == 0
    capsys.readouterr()
    assert "serve that with --quantization" in refused(coded, tmp_path / "x.json")
