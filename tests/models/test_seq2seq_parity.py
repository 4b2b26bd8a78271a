"""Encoder-decoders answer as transformers does, and no longer where their maths is changed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cynosure.attention import Watch
from cynosure.core.errors import (
    CheckpointCorrupt,
    InputError,
    InputTooLong,
    UnsupportedConfig,
)
from cynosure.kernels import why_none
from cynosure.models.batch import Batch
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.families.table import BRANDS
from cynosure.models.load import load
from cynosure.models.native.graph import use_kernels
from cynosure.models.quantize import scheme_of
from cynosure.models.quantized_folder import quantise_folder
from tests.models import seq2seq_oracle as oracle
from tests.models.seq2seq_cases import ANSWER_LEN, CASES, MAX_LEN, PROMPT_LEN, frames, ids
from tests.models.seq2seq_mutants import FAULTS, mutant

TOLERANCE = 1e-4
#: The first case of each architecture; the others show their maths alone.
FIRST = {case.architecture: name for name, case in reversed(CASES.items())}.values()
Settings = dict[str, object]


@pytest.mark.parametrize("name", CASES)
def test_it_is_as_transformers_computes_it(name: str) -> None:
    names = tuple(oracle.CHECKS) if name in FIRST else ("states", "prefill", "batched")
    errors = oracle.errors_of(oracle.pair_of(name), names)
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("architecture", oracle.ENCODERS)
def test_an_encoder_alone(architecture: str) -> None:
    assert oracle.SEQ2SEQ_CASES[architecture]() <= TOLERANCE


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@torch.inference_mode()
def test_every_backend_agrees(backend: str) -> None:
    for name in ("whisper", "bart", "longt5-global", "led", "pegasus-x"):
        assert oracle.prefill(oracle.pair_of(name), backend=backend) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_attention_is_peaked_so_that_errors_show(name: str) -> None:
    pair = oracle.pair_of(name)
    prompt, answer = pair.prompt(PROMPT_LEN, 1), torch.tensor([pair.answer(ANSWER_LEN, 2)])
    out = pair.oracle(**oracle.given(pair, prompt), decoder_input_ids=answer, output_attentions=True)
    # Pegasus-X tells those of learned tokens and of others apart.
    encoder = [one["local"] if isinstance(one, dict) else one for one in out.encoder_attentions]
    for weights in (*encoder, *out.decoder_attentions, *out.cross_attentions):
        entropy = -(weights.clamp_min(1e-30).log() * weights).sum(-1).mean()
        assert entropy < 0.8 * math.log(weights.shape[-1])


@pytest.mark.parametrize(("name", "fault"), [(name, fault) for name in FAULTS for fault in FAULTS[name]])
@torch.inference_mode()
def test_a_fault_is_noticed(name: str, fault: str) -> None:
    pair = oracle.pair_of(name)
    assert oracle.prefill(pair, mutant(pair.graph, fault)) > TOLERANCE


LONG = ("longt5-local", "longt5-global", "led", "pegasus-x", "pegasus-x-aligned")


@pytest.mark.parametrize("name", LONG)
@torch.inference_mode()
def test_inputs_end_anywhere_in_a_block_or_a_window(name: str) -> None:
    pair = oracle.pair_of(name)
    for length in (1, 7, 8, 9, 16, 17, MAX_LEN):
        prompt = ids(length, length)
        expected = pair.oracle.get_encoder()(**oracle.given(pair, prompt)).last_hidden_state[0]
        found = oracle.encoded(pair.graph, [prompt]).output.hidden
        assert oracle.error(found, expected) <= TOLERANCE, length


def _denied(prompt: list[int]) -> Batch:
    batch = Batch.pack([prompt])
    bias = torch.zeros(len(prompt))
    bias[20:50] = -math.inf
    return replace(batch, plan=batch.plan.with_keys(replace(batch.plan.keys[0], bias=bias)))


@pytest.mark.parametrize("name", ["bart", "led", "pegasus-x", "longt5-local"])
@torch.inference_mode()
def test_denied_tokens_interfere_with_no_answer(name: str) -> None:
    """Not by way of what attends to all, either."""
    pair = oracle.pair_of(name)
    prompt, answer = ids(PROMPT_LEN, 1), Batch.pack([pair.answer(9, 2)])
    other = [*prompt[:20], *ids(30, 77), *prompt[50:]]

    def hidden(batch: Batch) -> torch.Tensor:
        return pair.graph.decode(answer, None, pair.graph.encode(batch)).hidden

    assert (hidden(_denied(prompt)) - hidden(_denied(other))).abs().max() <= 1e-6
    assert (hidden(Batch.pack([prompt])) - hidden(Batch.pack([other]))).abs().max() > 1e-2


def test_sums_over_all_that_is_read_leave_nothing_out() -> None:
    with pytest.raises(InputError, match="sums"):
        oracle.pair_of("longt5-global").graph.encode(_denied(ids(PROMPT_LEN, 1)))


@pytest.mark.parametrize("name", ["longt5-global", "led", "pegasus-x"])
def test_attention_that_is_computed_in_parts_is_not_watched(name: str) -> None:
    with pytest.raises(InputError, match="can't be watched"):
        oracle.pair_of(name).graph.encode(Batch.pack([ids(9, 1)]), watch=Watch())


def test_every_case_has_faults() -> None:
    assert FAULTS.keys() == CASES.keys()


@pytest.mark.parametrize("name", ["whisper", "bart", "pegasus", "umt5", "led"])
@torch.inference_mode()
def test_in_eight_bits_it_is_nearly_the_same(name: str) -> None:
    pair = oracle.pair_of(name)
    coded = load(pair.folder, dtype="float32", quantize="int8").graph
    assert isinstance(coded, EncoderDecoder)
    assert 0 < oracle.prefill(pair, coded) < 0.3


@pytest.mark.parametrize("name", ["whisper", "marian", "longt5-global", "pegasus-x"])
@torch.inference_mode()
def test_a_folder_of_codes_gives_what_quantising_at_load_gives(name: str, tmp_path: Path) -> None:
    pair = oracle.pair_of(name)
    quantise_folder(pair.folder, scheme_of("int8"), tmp_path / "coded")
    written = oracle.loaded(tmp_path / "coded")
    made = load(pair.folder, dtype="float32", quantize="int8").graph
    assert isinstance(made, EncoderDecoder)
    assert oracle.prefill(pair, written) == oracle.prefill(pair, made) > 0


@pytest.mark.skipif(bool(why_none()), reason="no native kernels here")
@pytest.mark.parametrize("name", ["whisper", "bart", "umt5", "longt5-global", "led", "pegasus-x"])
@torch.inference_mode()
def test_native_layers_agree(name: str) -> None:
    pair = oracle.pair_of(name)
    graph = oracle.loaded(pair.folder)
    report = use_kernels(graph, torch.float32, "native")
    assert report.num_native > 20
    assert not report.refused
    assert oracle.prefill(pair, graph) <= TOLERANCE


def _rewritten(name: str, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> EncoderDecoder:
    folder = oracle.pair_of(name).folder
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, target / "model.safetensors")
    (target / "config.json").write_text((folder / "config.json").read_text())
    return oracle.loaded(target)


@pytest.mark.parametrize("name", ["marian", "pegasus"])
@torch.inference_mode()
def test_sines_that_were_left_out_are_computed(name: str, tmp_path: Path) -> None:
    def strip(tensors: dict[str, torch.Tensor]) -> None:
        for side in ("encoder", "decoder"):
            tensors.pop(f"model.{side}.embed_positions.weight", None)

    graph = _rewritten(name, tmp_path, strip)
    theirs = oracle.pair_of(name).oracle.model
    for ours, stored in ((graph.encoder, theirs.encoder), (graph.decoder, theirs.decoder)):
        assert ours.input.get_parameter("positions.weight").equal(stored.embed_positions.weight)


def test_a_bias_of_logits_that_was_left_out_is_zero(tmp_path: Path) -> None:
    graph = _rewritten("bart", tmp_path, lambda tensors: tensors.pop("final_logits_bias"))
    assert not graph.head.bias.any()


def test_a_tensor_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointCorrupt, match=r"encoder\.gate"):
        _rewritten("bart", tmp_path, lambda tensors: tensors.update({"model.encoder.gate": torch.ones(3)}))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("bart", "normalize_before", True),
        ("bart", "activation_function", "mish"),
        ("bart", "is_encoder_decoder", False),
        ("bart", "tie_word_embeddings", False),
        ("bart", "new_idea", 3),
        ("mbart", "encoder_attention_heads", 7),
        ("marian", "share_encoder_decoder_embeddings", False),
        ("marian", "decoder_vocab_size", 7),
        ("pegasus", "static_position_embeddings", False),
        ("whisper", "scale_embedding", True),
        ("whisper", "new_idea", 3),
        ("umt5", "new_idea", 3),
        ("umt5", "feed_forward_proj", "gated-swish7"),
        ("longt5-global", "encoder_attention_type", "global"),
        ("led", "attention_window", [8, 16]),
        ("led", "attention_window", 7),
        ("led", "max_model_len", MAX_LEN + 1),
        ("pegasus-x", "block_size", 7),
        ("pegasus-x", "normalize_before", False),
    ],
)
def test_other_maths_is_refused_by_name(name: str, key: str, value: object) -> None:
    pair = oracle.pair_of(name)
    config = json.loads((pair.folder / "config.json").read_text())
    with pytest.raises(UnsupportedConfig, match=key):
        BRANDS[pair.case.architecture].parse(ConfigReader({**config, key: value}))


def test_lengths_that_positions_do_not_reach_are_refused() -> None:
    graph = oracle.pair_of("bart").graph
    with pytest.raises(InputTooLong, match=f"{MAX_LEN + 1} tokens"):
        graph.encode(Batch.pack([ids(MAX_LEN + 1, 1)]))
    memory = graph.encode(Batch.pack([ids(3, 1)]))
    with pytest.raises(InputTooLong, match=f"{MAX_LEN + 1} tokens"):
        graph.decode(Batch.pack([ids(MAX_LEN + 1, 1)]), None, memory)
    with pytest.raises(UnsupportedConfig, match="max_model_len"):
        load(oracle.pair_of("bart").folder, max_model_len=MAX_LEN + 1)


def test_tokens_and_features_are_not_taken_for_each_other() -> None:
    listens, reads = oracle.pair_of("whisper").graph, oracle.pair_of("bart").graph
    with pytest.raises(InputError, match="reads features"):
        listens.encode(Batch.pack([[3]]))
    with pytest.raises(InputError, match="reads tokens"):
        reads.encode_features(frames(1)[None])
    with pytest.raises(InputError, match="exactly 60 frames"):
        listens.encode_features(frames(1)[None, :, :40])
