"""Every encoder and head equals transformers' on the same files, and a broken one does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from cynosure.attention import Watch
from cynosure.core.errors import InputError, UnsupportedConfig
from cynosure.engine.pool import ServedModel
from cynosure.engine.pool.read_card import describe
from cynosure.models.batch import Batch
from cynosure.models.brand import ModelKind
from cynosure.models.config_reader import ConfigReader, read_config
from cynosure.models.encoder import Encoder
from cynosure.models.families.table import BRANDS
from cynosure.models.load import brand_of, load
from cynosure.models.native.graph import use_kernels
from tests.models.encoder_cases import CASES
from tests.models.encoder_mutants import FAULTS, SPEC_CHANGES, WEIGHT_CHANGES, mutant
from tests.models.encoder_oracle import (
    ENCODER_CASES,
    LENGTHS,
    TOLERANCE,
    answers,
    errors_of,
    gap,
    padded_batch,
    pair_of,
    peakedness,
)
from tests.models.tiny_tokenizers import word_piece, write

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CASES)
def test_equals_transformers(name: str) -> None:
    errors = errors_of(pair_of(name))
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("name", CASES)
def test_attention_is_peaked_so_that_wrong_scores_show(name: str) -> None:
    assert 0.05 < peakedness(pair_of(name)) < 0.75


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name in FAULTS for fault in FAULTS[name]])
def test_a_fault_is_noticed(name: str, fault: str) -> None:
    pair = pair_of(name)
    broken = mutant(pair.graph, fault)
    batch = Batch.pack([pair.texts[0]], type_ids=[pair.types[0]])
    assert gap(answers(broken, batch)[0], pair.expected[0]) > 2 * TOLERANCE


@pytest.mark.parametrize("name", ["bert", "modernbert", "modernbert-sequence-mean"])
def test_padding_that_is_seen_is_noticed(name: str) -> None:
    pair = pair_of(name)
    batch = padded_batch(pair)
    keys = replace(batch.plan.keys[0], is_pad=None)
    seen = replace(batch, plan=batch.plan.with_keys(keys))
    worst = max(map(gap, answers(pair.graph, seen, LENGTHS), pair.expected))
    assert worst > 10 * TOLERANCE


def test_every_fault_is_used() -> None:
    assert FAULTS.keys() <= CASES.keys()
    assert set().union(*FAULTS.values()) == {*SPEC_CHANGES, *WEIGHT_CHANGES}


def test_every_encoder_in_the_table_is_measured() -> None:
    """T5's line is measured with its decoders, ColBERT by what it compares, CLIP's tower by its images."""
    encoders = {name for name, brand in BRANDS.items() if brand.kind is ModelKind.ENCODER}
    elsewhere = {name for name in encoders if name.endswith("T5EncoderModel")} | {
        "HF_ColBERT",
        "CLIPTextModelWithProjection",
    }
    assert encoders - elsewhere == ENCODER_CASES.keys()


@pytest.mark.parametrize(
    "name",
    [
        "bert-sequence",
        "big-bird-sequence",
        "roberta-sequence",
        "deberta-cross-encoder",
        "distilbert-sequence",
        "longformer-cross-encoder",
        "mpnet-sequence",
    ],
)
def test_the_pool_and_codes_take_every_brand(name: str) -> None:
    """A card before any weight is read, and weights in eight bits."""
    pair = pair_of(name)
    write(pair.folder, word_piece())
    card = describe(ServedModel("tiny", str(pair.folder), dtype="float32")).card
    assert card.weight_bytes == sum(p.numel() * 4 for p in pair.graph.parameters())
    coded = load(pair.folder, dtype="float32", quantize="int8").graph
    assert isinstance(coded, Encoder)
    batch = Batch.pack([pair.texts[0]], type_ids=[pair.types[0]])
    assert 1e-4 < gap(answers(coded, batch)[0], pair.expected[0]) < 0.2


@pytest.mark.parametrize("name", ["bert", "big-bird", "deberta", "deberta-convolved", "longformer"])
def test_kernels_take_the_layers(name: str) -> None:
    pair = pair_of(name)
    graph = load(pair.folder, dtype="float32").graph
    assert isinstance(graph, Encoder)
    assert use_kernels(graph, torch.float32, "native").num_native
    found = answers(graph, Batch.pack(pair.texts, type_ids=pair.types))
    assert max(map(gap, found, pair.expected)) <= TOLERANCE


def test_padding_that_would_be_counted_is_refused() -> None:
    pair = pair_of("big-bird")
    with pytest.raises(InputError, match="Pack the texts"):
        pair.graph(padded_batch(pair))


def test_tokens_that_attend_by_themselves_are_not_watched() -> None:
    pair = pair_of("longformer-sequence")
    with pytest.raises(InputError, match="watched"):
        pair.graph(Batch.pack([pair.texts[0]]), watch=Watch(mass=False, entropy=True))


@pytest.mark.parametrize("backend", ["reference", "tiled", "sdpa"])
def test_backends_agree_on_disentangled_attention(backend: str) -> None:
    pair = pair_of("deberta")
    hidden = pair.graph(Batch.pack(pair.texts), backend=backend).hidden
    assert max(map(gap, hidden.split(LENGTHS), pair.expected)) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "changed", "named"),
    [
        ("roberta", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("roberta", {"max_position_embeddings": 2}, "max_position_embeddings"),
        ("roberta", {"twist": 1}, "twist"),
        ("big-bird", {"attention_type": "random"}, "attention_type"),
        ("big-bird", {"rescale_embeddings": True}, "rescale_embeddings"),
        ("big-bird", {"use_bias": False}, "use_bias"),
        ("deberta", {"conv_kernel_size": 4}, "conv_kernel_size"),
        ("deberta-convolved", {"conv_groups": 2}, "conv_groups"),
        ("deberta", {"relative_attention": False}, "relative_attention"),
        ("deberta", {"pos_att_type": ["p2p"]}, "pos_att_type"),
        ("deberta", {"pooler_hidden_size": 32}, "pooler_hidden_size"),
        ("deberta", {"embedding_size": 32}, "embedding_size"),
        ("deberta", {"norm_rel_ebd": "batch_norm"}, "norm_rel_ebd"),
        ("deberta", {"twist": 1}, "twist"),
        ("deberta-masked-lm", {"legacy": False}, "legacy"),
        ("distilbert", {"n_heads": 5}, "heads"),
        ("distilbert", {"twist": 1}, "twist"),
        ("mpnet", {"relative_attention_num_buckets": 64}, "relative_attention_num_buckets"),
        ("longformer", {"attention_window": [4]}, "attention_window"),
        ("longformer", {"attention_window": 5}, "attention_window"),
        ("longformer", {"twist": 1}, "twist"),
        ("mpnet", {"twist": 1}, "twist"),
    ],
)
def test_a_key_that_changes_the_maths_is_refused_by_name(
    name: str, changed: dict[str, object], named: str
) -> None:
    config = {**read_config(pair_of(name).folder), **changed}
    with pytest.raises(UnsupportedConfig, match=named):
        brand_of(CASES[name].architecture).parse(ConfigReader(config))
