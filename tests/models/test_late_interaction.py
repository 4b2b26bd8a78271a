"""Late interaction scores pairs as its published steps do, in both forms of folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cynosure.core.errors import (
    CheckpointCorrupt,
    EmptyInput,
    InputError,
    InputTooLong,
    UnsupportedConfig,
)
from cynosure.engine.pool import ModelRole, PoolSettings, ServedModel
from cynosure.engine.pool.pool import ModelPool
from cynosure.engine.pool.read_card import describe
from cynosure.models.late_interaction import load_late_interaction
from cynosure.models.native.graph import use_kernels
from tests.models.late_oracle import (
    DOCUMENT_LENGTH,
    PAIRS,
    QUERY_LENGTH,
    difference,
    expected,
    write_colbert,
    write_modules,
)

TOLERANCE = 1e-5


@pytest.mark.parametrize(
    ("metadata", "options"),
    [
        ({}, {}),
        ({"attend_to_mask_tokens": True}, {"attends": True}),
        ({"mask_punctuation": False}, {"skips": False}),
    ],
    ids=["plain", "attends", "keeps punctuation"],
)
def test_its_own_form_is_scored_as_published(
    tmp_path: Path, metadata: dict[str, object], options: dict[str, bool]
) -> None:
    written = write_colbert(tmp_path / "model", **metadata)
    assert difference(written, **options) < TOLERANCE


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {}),
        ({"do_query_expansion": False}, {"expands": False}),
        ({"skiplist_words": []}, {"skips": False}),
        ({"attend_to_expansion_tokens": True}, {"attends": True}),
    ],
    ids=["plain", "not expanded", "nothing skipped", "attends"],
)
def test_a_sentence_folder_is_scored_as_published(
    tmp_path: Path, settings: dict[str, object], options: dict[str, bool]
) -> None:
    assert difference(write_modules(tmp_path / "model", **settings), **options) < TOLERANCE


def test_each_setting_changes_the_scores(tmp_path: Path) -> None:
    """What the tests above compare would differ if a setting were not read."""
    written = write_colbert(tmp_path / "model")
    plain = expected(written)
    for options in ({"attends": True}, {"expands": False}, {"skips": False}):
        assert max(abs(a - b) for a, b in zip(expected(written, **options), plain, strict=True)) > 1e-3


def test_a_document_of_marks_alone_has_something_to_compare(tmp_path: Path) -> None:
    model = load_late_interaction(write_colbert(tmp_path / "model").folder)
    assert np.isfinite(model.score([("café", ",,,")])).all()


def test_a_query_of_many_pairs_is_computed_once(tmp_path: Path) -> None:
    model = load_late_interaction(write_colbert(tmp_path / "model").folder)
    read = [model.encode(pair) for pair in PAIRS]
    seen = []
    model.graph.register_forward_pre_hook(lambda _, given: seen.append(given[0].new_lens))
    model.run(read)
    num_queries = len({pair[0] for pair in PAIRS})
    assert len(seen[0]) == num_queries + len(PAIRS)


@pytest.mark.parametrize("count", [QUERY_LENGTH - 4, QUERY_LENGTH - 3])
def test_queries_fill_up_to_the_declared_length(tmp_path: Path, count: int) -> None:
    """A query that is as long as it may be has no token to fill up with."""
    model = load_late_interaction(write_colbert(tmp_path / "model").folder)
    read = model.encode((" ".join(["the"] * count), "the star"))
    mask = model.tokenizer.token_to_id("[MASK]")
    assert read.ids.count(mask) == QUERY_LENGTH - 3 - count
    assert read.type_ids.count(0) == QUERY_LENGTH


def test_what_is_too_long_is_refused(tmp_path: Path) -> None:
    model = load_late_interaction(write_colbert(tmp_path / "model").folder)
    with pytest.raises(InputTooLong, match=f"a query has {QUERY_LENGTH + 1} tokens.*declares {QUERY_LENGTH}"):
        model.encode((" ".join(["the"] * (QUERY_LENGTH - 2)), "the star"))
    with pytest.raises(InputTooLong, match=f"a document has {DOCUMENT_LENGTH + 1} tokens"):
        model.encode(("the star", " ".join(["the"] * (DOCUMENT_LENGTH - 2))))


def test_texts_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    model = load_late_interaction(write_colbert(tmp_path / "model").folder)
    with pytest.raises(EmptyInput):
        model.encode(("the", "  "))
    with pytest.raises(InputError, match="Send both"):
        model.encode(("the",))


@pytest.mark.parametrize("form", [write_colbert, write_modules])
@pytest.mark.parametrize("options", [{}, {"quantize": "int8"}, {"dtype": "bfloat16"}], ids=str)
def test_the_pool_ranks_with_it(tmp_path: Path, form: object, options: dict[str, str]) -> None:
    assert callable(form)
    written = form(tmp_path / "model")
    served = ServedModel("tiny", str(written.folder), **{"dtype": "float32", **options})
    card = describe(served).card
    assert (card.role, card.labels, card.activation) == (ModelRole.RANKER, ("relevance",), "identity")
    assert card.max_tokens == QUERY_LENGTH + DOCUMENT_LENGTH
    pool = ModelPool([served], PoolSettings())
    try:
        rows = pool.score("tiny", PAIRS).result(timeout=60)
    finally:
        pool.close()
    bar = TOLERANCE if not options else 0.6
    np.testing.assert_allclose(rows.values[:, 0], expected(written), atol=bar)
    assert rows.token_counts[0] > QUERY_LENGTH


def test_kernels_take_the_layers(tmp_path: Path) -> None:
    written = write_colbert(tmp_path / "model")
    model = load_late_interaction(written.folder)
    assert use_kernels(model.graph, torch.float32, "native").num_native
    np.testing.assert_allclose(model.score(PAIRS)[:, 0], expected(written), atol=TOLERANCE)


def test_another_role_is_refused(tmp_path: Path) -> None:
    served = ServedModel("tiny", str(write_colbert(tmp_path / "m").folder), role=ModelRole.EMBEDDER)
    with pytest.raises(InputError, match="late interaction"):
        describe(served)


def test_settings_shape_the_name(tmp_path: Path) -> None:
    """Scores of other settings may not be compared, so the fingerprint tells them apart."""
    plain = load_late_interaction(write_colbert(tmp_path / "a").folder, name="m").model_id
    other = load_late_interaction(write_colbert(tmp_path / "b", query_maxlen=8).folder, name="m").model_id
    assert plain != other


@pytest.mark.parametrize(
    ("metadata", "named"),
    [
        ({"query_token_id": "[nowhere]"}, "nowhere"),
        ({"similarity": "l2"}, "similarity"),
        ({"doc_maxlen": 1000}, "1000"),
    ],
)
def test_settings_that_cannot_be_served_are_named(
    tmp_path: Path, metadata: dict[str, object], named: str
) -> None:
    with pytest.raises(UnsupportedConfig, match=named):
        load_late_interaction(write_colbert(tmp_path / "model", **metadata).folder)


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"similarity_fn_name": "cosine"}, "similarity_fn_name"), ({"twist": 1}, "twist")],
)
def test_settings_of_a_sentence_folder_are_read_strictly(
    tmp_path: Path, settings: dict[str, object], named: str
) -> None:
    with pytest.raises(UnsupportedConfig, match=named):
        load_late_interaction(write_modules(tmp_path / "model", **settings).folder)


def test_a_module_behind_the_projection_is_named(tmp_path: Path) -> None:
    folder = write_modules(tmp_path / "model").folder
    rows = (folder / "modules.json").read_text()
    extra = '{"path": "2", "type": "pylate.models.Twist.Twist"}'
    (folder / "modules.json").write_text(rows[:-1] + f", {extra}]")
    with pytest.raises(UnsupportedConfig, match="Twist"):
        load_late_interaction(folder)


def test_a_checkpoint_without_projection_is_damaged(tmp_path: Path) -> None:
    folder = write_colbert(tmp_path / "model").folder
    weights = load_file(folder / "model.safetensors")
    weights.pop("linear.weight")
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointCorrupt, match=r"linear\.weight"):
        load_late_interaction(folder)
