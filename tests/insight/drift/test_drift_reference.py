from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cynosure.core.errors import InputError, NotFound
from cynosure.insight.drift.drift_reference import (
    MIN_REFERENCE,
    DriftReference,
    check_identity,
    freeze,
    read_reference,
    write_reference,
)
from tests.insight.drift.test_drift_scale import arrays
from tests.insight.drift_world import answers, frozen


@pytest.fixture
def reference() -> DriftReference:
    return frozen()


def test_too_few_answers_are_no_reference() -> None:
    with pytest.raises(
        InputError, match=f"{MIN_REFERENCE - 1} watched answers of m .* needs {MIN_REFERENCE}"
    ):
        freeze("m", "h", answers(1, MIN_REFERENCE - 1), 0.0)


def test_a_file_is_the_reference(reference: DriftReference, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "m.json"
    write_reference(reference, path)
    read = read_reference(path)
    assert read.digest == reference.digest
    assert (read.model, read.heads, read.made_s, read.num_answers) == ("org/model", "cafe", 5.0, 1000)
    rows, lengths = arrays(answers(9, 300))
    np.testing.assert_allclose(
        read.scale.scores(rows, lengths), reference.scale.scores(rows, lengths), atol=1e-6
    )
    assert [one.name for one in path.parent.iterdir()] == ["m.json"]
    assert path.stat().st_size < 120_000


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"limit": 1e9}, "altered"),
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "no drift reference"),
    ],
)
def test_what_was_changed_is_refused(
    reference: DriftReference, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    path = tmp_path / "m.json"
    write_reference(reference, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=told):
        read_reference(path)


def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_reference(tmp_path / "none.json")
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(InputError, match="can't be read"):
        read_reference(tmp_path / "m.json")
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(InputError, match="no drift reference"):
        read_reference(tmp_path / "m.json")


def test_another_model_or_other_heads_are_refused(reference: DriftReference) -> None:
    check_identity(reference, "org/model", "cafe")
    with pytest.raises(InputError, match="of model 'org/model'; this server has 'other'"):
        check_identity(reference, "other", "cafe")
    with pytest.raises(InputError, match="of heads 'cafe'; this server has 'beef'"):
        check_identity(reference, "org/model", "beef")
