"""An encoder as one native call gives what its modules give, as near to float32 as bfloat16 in torch is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor

from cynosure.attention import Watch
from cynosure.core.errors import InputError, InputTooLong
from cynosure.kernels.encoder import why_no_encoders
from cynosure.models.batch import Batch
from cynosure.models.encoder import Encoder
from cynosure.models.load import load
from cynosure.models.minilm import load_minilm
from cynosure.models.native.encoder_program import refusal_of_spec
from cynosure.models.native.graph import use_kernels
from cynosure.models.pooling import pool
from cynosure.models.pooling_kind import Pooling
from evals.embedder_check import cosines, sentences
from tests.models import encoder_cases
from tests.models.encoder_cases import CASES, Case
from tests.models.encoder_oracle import Pair, answers, make_pair, pair_of

pytestmark = pytest.mark.skipif(bool(why_no_encoders()), reason=why_no_encoders() or "encoders run here")

#: Two heads of 32 channels in the place of four of 16.
WIDE = {"num_attention_heads": 2}
NAMES = [
    "bert",
    "bert-relu",
    "bert-masked-lm",
    "bert-cross-encoder",
    "bert-token",
    "roberta",
    "xlm-roberta",
    "longformer",
    "mpnet",
    "mpnet-sequence",
    "modernbert",
    "modernbert-biased",
    "modernbert-sequence-mean",
    "distilbert",
]


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


@lru_cache(maxsize=2)
def wide_pair(name: str) -> Pair:
    case = CASES[name]
    heads = {"n_heads": 2} if name.startswith("distilbert") else WIDE
    return make_pair(Case(case.architecture, {**case.settings, **heads}, case.seed, case.lowest_id))


def graph_of(pair: Pair, *, quantize: str | None = None, is_native: bool = True) -> Encoder:
    graph = load(pair.folder, dtype="bfloat16", quantize=quantize).graph
    assert isinstance(graph, Encoder)
    if is_native:
        assert "program" not in use_kernels(graph, torch.bfloat16, "native").refused
        assert graph.program is not None
    return graph


def batch_of(pair: Pair) -> Batch:
    return Batch.pack(pair.texts, type_ids=pair.types if pair.case.has_types else None)


def error(found: list[Tensor], exact: list[Tensor]) -> float:
    return float((torch.cat(found).float() - torch.cat(exact)).norm())


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_is_as_near_to_float32_as_torch_is(name: str) -> None:
    pair = wide_pair(name)
    batch = batch_of(pair)
    exact = answers(pair.graph, batch)
    ours, theirs = (answers(graph_of(pair, is_native=native), batch) for native in (True, False))
    assert 0 < error(ours, exact) < 1.05 * error(theirs, exact)


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_codes_cost_what_they_cost_the_modules(name: str) -> None:
    pair = wide_pair(name)
    batch, exact = batch_of(pair), answers(pair.graph, batch_of(pair))
    graph = graph_of(pair, quantize="int8")
    ours, graph.program = answers(graph, batch), None
    assert 0 < error(ours, exact) < 1.25 * error(answers(graph, batch), exact)


@pytest.mark.parametrize("kind", Pooling)
def test_vectors_are_those_of_the_rows(kind: Pooling) -> None:
    pair = wide_pair("bert")
    graph, batch = graph_of(pair), batch_of(pair)
    assert graph.program is not None
    expected = pool(kind, graph.program.run(batch), batch)
    torch.testing.assert_close(graph.pooled(batch, kind), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["bert-cross-encoder", "bert-masked-lm", "modernbert-sequence-mean"])
def test_answers_are_those_of_the_rows(name: str) -> None:
    pair = wide_pair(name)
    graph, batch = graph_of(pair), batch_of(pair)
    # Of rounded rows a mean is another one; the first row is the same.
    atol = 2e-2 if name.endswith("mean") else 0.0
    expected = graph.logits(graph(batch).hidden, batch)
    torch.testing.assert_close(graph.answers(batch), expected, atol=atol, rtol=0.0)


def test_what_the_program_does_not_know_runs_as_modules() -> None:
    """Padding, watching, another backend by name."""
    pair = wide_pair("bert")
    graph = graph_of(pair)
    assert graph.program is not None
    padded = Batch.pad(pair.texts, 0)
    assert not graph.program.takes(padded)
    assert graph.program.takes(batch_of(pair))
    rows = graph(padded).hidden.split(padded.new_lens)
    exact = pair.graph(Batch.pack(pair.texts)).hidden.split([len(text) for text in pair.texts])
    found = [row[: len(text)] for row, text in zip(rows, pair.texts, strict=True)]
    assert error(found, list(exact)) < 0.05 * float(torch.cat(exact).norm())
    watched = graph(Batch.pack([[3, 4]], segments=[[0, 1]]), watch=Watch(mass=True))
    assert watched.states
    graph.program = None
    modules = graph(batch_of(pair), backend="tiled").hidden
    again = graph_of(pair)
    assert torch.equal(again(batch_of(pair), backend="tiled").hidden, modules)
    assert not torch.equal(again(batch_of(pair)).hidden, modules)


def test_ids_and_lengths_are_checked_before() -> None:
    graph = graph_of(wide_pair("bert"))
    with pytest.raises(InputError, match="token ids"):
        graph.pooled(Batch.pack([[1, encoder_cases.VOCAB]]), Pooling.MEAN)
    with pytest.raises(InputError, match="type ids"):
        graph.answers(Batch.pack([[1, 2]], type_ids=[[0, 7]]))
    with pytest.raises(InputTooLong):
        graph(Batch.pack([[1] * (encoder_cases.MAX_LEN + 1)]))


@pytest.mark.parametrize("name", ["bert", "big-bird"])
def test_narrow_encoders_are_refused_by_name(name: str) -> None:
    graph = load(pair_of(name).folder, dtype="bfloat16").graph
    assert isinstance(graph, Encoder)
    assert "multiples of 32" in use_kernels(graph, torch.bfloat16, "native").refused["program"]
    assert graph.program is None


def test_float32_is_refused_by_name() -> None:
    graph = load(wide_pair("bert").folder, dtype="float32").graph
    assert isinstance(graph, Encoder)
    assert "float32" in use_kernels(graph, torch.float32, "native").refused["program"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("deberta", "tells positions by Disentangled"),
        ("longformer-sequence", "projections of their own"),
        ("big-bird", "it has the mask"),
    ],
)
def test_other_graphs_are_refused_by_name(name: str, reason: str) -> None:
    case = CASES[name]
    pair = make_pair(Case(case.architecture, {**case.settings, **WIDE}, lowest_id=case.lowest_id))
    assert reason in refusal_of_spec(pair.graph.spec)


def test_the_real_checkpoint_stays_near_float32() -> None:
    texts = [*sentences()[:30], "star", "a sailor steers by the pole star " * 30]
    exact = load_minilm("float32").embed(texts)
    embedder = load_minilm("bfloat16")
    use_kernels(embedder.graph, torch.bfloat16)
    assert embedder.graph.program is not None
    together = embedder.embed(texts)
    assert cosines(together, exact).min() >= 0.9999
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    assert np.array_equal(together, alone)


def test_a_wrong_weight_is_seen() -> None:
    """The positive control: one layer norm a tenth off."""
    folder_of = load_minilm("bfloat16")
    use_kernels(folder_of.graph, torch.bfloat16)
    texts = sentences()[:8]
    before = folder_of.embed(texts)
    other = load_minilm("bfloat16")
    other.graph.layers[3].mlp_norm.weight[::7] *= 1.1
    use_kernels(other.graph, torch.bfloat16)
    assert cosines(other.embed(texts), before).min() < 0.9999


def test_a_float32_embedder_stays_with_torch() -> None:
    graph = load_minilm("float32").graph
    assert use_kernels(graph, torch.float32).refused
    assert graph.program is None
