"""T5 answers as transformers does, however its tokens arrive, and no longer where its maths is changed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from transformers import T5ForConditionalGeneration

from cynosure.attention import AttentionSpec, Score, Watch
from cynosure.attention.masks import Full, Window
from cynosure.attention.positions import T5Bias
from cynosure.core.errors import CheckpointCorrupt, EmptyInput, InputError, InputTooLong, UnsupportedConfig
from cynosure.models.batch import Batch
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec, StackSpec
from cynosure.models.encoder_decoder_stack import add
from cynosure.models.families.table import BRANDS
from cynosure.models.load import load
from cynosure.models.seq2seq import generate_seq2seq
from tests.models import t5_oracle as oracle

TOLERANCE = 1e-4
Mutation = Callable[[EncoderDecoderSpec], EncoderDecoderSpec]


@dataclass(frozen=True)
class Pair:
    folder: Path
    theirs: T5ForConditionalGeneration
    ours: EncoderDecoder


@pytest.fixture(scope="module", params=oracle.VARIANTS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("t5")
    model = oracle.build(oracle.VARIANTS[request.param])
    oracle.save(model, folder)
    return Pair(folder, model, oracle.loaded(folder))


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("t5")
    model = oracle.build(oracle.VARIANTS["v1.1"])
    oracle.save(model, folder)
    return Pair(folder, model, oracle.loaded(folder))


def test_attention_is_peaked_so_that_errors_show(pair: Pair) -> None:
    with torch.inference_mode():
        prompt, answer = torch.tensor([oracle.PROMPT]), torch.tensor([oracle.ANSWER])
        out = pair.theirs(input_ids=prompt, decoder_input_ids=answer, output_attentions=True)
    for weights in (*out.encoder_attentions, *out.decoder_attentions, *out.cross_attentions):
        entropy = -(weights.clamp_min(1e-30).log() * weights).sum(-1).mean()
        assert entropy < 0.7 * math.log(min(len(oracle.PROMPT), len(oracle.ANSWER)))


@pytest.mark.parametrize("backend", ["auto", "reference", "tiled"])
def test_prefill(pair: Pair, backend: str) -> None:
    assert oracle.error(oracle.prefill(pair.ours, backend), oracle.oracle_logits(pair.theirs)) <= TOLERANCE


@pytest.mark.parametrize("lengths", [[1] * 40, [1, 7, 32], [40]], ids=["tokens", "chunks", "whole"])
def test_decode_through_a_cache(pair: Pair, lengths: list[int]) -> None:
    assert oracle.error(oracle.chunked(pair.ours, lengths), oracle.oracle_logits(pair.theirs)) <= TOLERANCE


def test_the_same_greedy_tokens(pair: Pair) -> None:
    short = oracle.ids(5, 9)
    answers = [oracle.oracle_answers(pair.theirs, prompt) for prompt in (oracle.PROMPT, short)]
    assert all(margin > 1e-4 for _, margin in answers)
    assert all(len(set(tokens)) > 4 for tokens, _ in answers), "an answer that repeats one token shows little"
    ours = generate_seq2seq(pair.ours, [oracle.PROMPT, short], start_id=0, max_new_tokens=oracle.NUM_TOKENS)
    assert ours == [tokens for tokens, _ in answers]


def test_an_answer_ends_at_its_end_token_and_the_others_go_on(gated: Pair) -> None:
    whole = generate_seq2seq(gated.ours, [oracle.PROMPT, oracle.ids(5, 9)], start_id=0, max_new_tokens=12)
    end = next(token for token in whole[0] if token not in whole[1])
    cut = generate_seq2seq(
        gated.ours, [oracle.PROMPT, oracle.ids(5, 9)], start_id=0, max_new_tokens=12, eos_ids={end}
    )
    assert cut == [whole[0][: whole[0].index(end) + 1], whole[1]]


@pytest.mark.parametrize("name", oracle.BATCHES)
def test_a_batch_gives_each_request_what_it_gets_alone(gated: Pair, name: str) -> None:
    theirs, prompts = oracle.single_runs(gated.theirs), oracle.BATCHES[name]
    assert oracle.error(oracle.batched(gated.ours, prompts, oracle.ANSWERS), theirs) <= TOLERANCE
    if prompts.plan.keys[0].is_pad is not None:
        seen = prompts.plan.with_keys(replace(prompts.plan.keys[0], is_pad=None))
        wrong = oracle.batched(gated.ours, replace(prompts, plan=seen), oracle.ANSWERS)
        assert oracle.error(wrong, theirs) > 1e-2


@torch.inference_mode()
def test_padding_changes_the_oracle_as_little(gated: Pair) -> None:
    longest = max(map(len, oracle.PROMPTS))
    padded = [[0] * (longest - len(prompt)) + prompt for prompt in oracle.PROMPTS]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in oracle.PROMPTS]
    ends = [answer + [0] * (41 - len(answer)) for answer in oracle.ANSWERS]
    out = gated.theirs(torch.tensor(padded), torch.tensor(mask), decoder_input_ids=torch.tensor(ends)).logits
    rows = torch.cat([row[: len(answer)] for row, answer in zip(out, oracle.ANSWERS, strict=True)])
    ours = oracle.batched(gated.ours, oracle.BATCHES["padded-left"], oracle.ANSWERS)
    assert oracle.error(ours, rows) <= TOLERANCE


def test_the_encoder_alone() -> None:
    assert oracle.measure_encoder() <= TOLERANCE


def _in_decoder(**changes: object) -> Mutation:
    def change(spec: EncoderDecoderSpec) -> EncoderDecoderSpec:
        assert spec.decoder is not None
        return replace(spec, decoder=_changed(spec.decoder, **changes))

    return change


def _in_encoder(**changes: object) -> Mutation:
    return lambda spec: replace(spec, encoder=_changed(spec.encoder, **changes))


def _changed(stack: StackSpec, **changes: object) -> StackSpec:
    return replace(stack, layers=tuple(replace(layer, **changes) for layer in stack.layers))


def _unscaled_cross(spec: EncoderDecoderSpec) -> EncoderDecoderSpec:
    assert spec.decoder is not None
    assert spec.decoder.cross_attention is not None
    cross: AttentionSpec = replace(spec.decoder.cross_attention, score=Score())
    return replace(spec, decoder=replace(spec.decoder, cross_attention=cross))


def _exact_gelu(spec: EncoderDecoderSpec) -> EncoderDecoderSpec:
    return replace(spec, encoder=replace(spec.encoder, mlp=replace(spec.encoder.mlp, activation="gelu")))


MUTATIONS: dict[str, Mutation] = {
    "encoder bias by the past alone": _in_encoder(position=T5Bias(12, 20, is_bidirectional=False)),
    "decoder bias to both sides": _in_decoder(position=T5Bias(12, 20, is_bidirectional=True)),
    "largest distance off by one": _in_decoder(position=T5Bias(12, 21, is_bidirectional=False)),
    "scores divided by sqrt(head_dim)": _in_encoder(score=Score()),
    "cross scores divided by sqrt(head_dim)": _unscaled_cross,
    "causal mask dropped": _in_decoder(mask=Full()),
    "encoder with a window": _in_encoder(mask=Window(60)),
    "gelu instead of its approximation": _exact_gelu,
    "logits scaled": lambda spec: replace(spec, logit_scale=0.9),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_changed_model_is_noticed(gated: Pair, name: str) -> None:
    changed = EncoderDecoder(MUTATIONS[name](gated.ours.spec))
    changed.load_state_dict(gated.ours.state_dict())
    assert oracle.error(oracle.prefill(changed), oracle.oracle_logits(gated.theirs)) > TOLERANCE


@pytest.mark.parametrize("parameter", ["encoder.layers.1.attention.q", "decoder.layers.0.cross.q"])
def test_swapped_heads_are_noticed(gated: Pair, parameter: str) -> None:
    changed = EncoderDecoder(gated.ours.spec)
    changed.load_state_dict(gated.ours.state_dict())
    weight = changed.get_parameter(f"{parameter}.weight")
    with torch.no_grad():
        weight.copy_(weight.unflatten(0, (4, 12))[[1, 0, 2, 3]].flatten(0, 1))
    assert oracle.error(oracle.prefill(changed), oracle.oracle_logits(gated.theirs)) > TOLERANCE


@torch.inference_mode()
def test_watching_counts_shares_and_changes_nothing(gated: Pair) -> None:
    segments = [[0] * 30 + [1] * 60]
    plain = gated.ours.encode(Batch.pack([oracle.PROMPT], segments=segments))
    watched = gated.ours.encode(
        Batch.pack([oracle.PROMPT], segments=segments), watch=Watch(mass=True), watched_layers=(1,)
    )
    assert plain.output.hidden.equal(watched.output.hidden)
    assert list(watched.output.states) == [1]
    answer = Batch.pack([oracle.ANSWER])
    decoded = gated.ours.decode(answer, None, watched, cross_watch=Watch(mass=True))
    assert decoded.hidden.equal(gated.ours.decode(answer, None, plain).hidden)
    assert list(decoded.cross_states) == [0, 1]
    for state in decoded.cross_states.values():
        torch.testing.assert_close(state.shares.sum(-1), torch.ones(40, 4))
    assert not decoded.states


@torch.inference_mode()
def test_denied_keys_interfere_with_no_answer(gated: Pair) -> None:
    """What the encoder may not attend to, the decoder may not either."""

    def logits(prompt: list[int], is_denied: bool) -> torch.Tensor:
        batch = Batch.pack([prompt])
        bias = torch.zeros(90)
        bias[20:50] = -math.inf if is_denied else 0.0
        plan = batch.plan.with_keys(replace(batch.plan.keys[0], bias=bias))
        return oracle.batched(gated.ours, replace(batch, plan=plan), [oracle.ANSWER])

    other = [*oracle.PROMPT[:20], *oracle.ids(30, 77), *oracle.PROMPT[50:]]
    assert (logits(oracle.PROMPT, True) - logits(other, True)).abs().max() <= 1e-6
    assert (logits(oracle.PROMPT, False) - logits(other, False)).abs().max() > 1e-2


def test_bad_requests_are_refused(gated: Pair) -> None:
    with pytest.raises(EmptyInput):
        generate_seq2seq(gated.ours, [[]], start_id=0, max_new_tokens=3)
    with pytest.raises(InputError, match="199"):
        generate_seq2seq(gated.ours, [[3, 200]], start_id=0, max_new_tokens=3)
    with pytest.raises(InputError, match="at least 1"):
        generate_seq2seq(gated.ours, [[3]], start_id=0, max_new_tokens=0)
    short = load(gated.folder, max_model_len=8).graph
    assert isinstance(short, EncoderDecoder)
    with pytest.raises(InputTooLong, match="9 tokens"):
        generate_seq2seq(short, [oracle.ids(9, 1)], start_id=0, max_new_tokens=3)
    with pytest.raises(InputTooLong, match="max_new_tokens is 9"):
        generate_seq2seq(short, [oracle.ids(3, 1)], start_id=0, max_new_tokens=9)


HUB = {
    "architectures": ["T5ForConditionalGeneration"],
    "d_ff": 2816,
    "d_kv": 64,
    "d_model": 1024,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "n_positions": 512,
    "num_decoder_layers": 24,
    "num_heads": 16,
    "num_layers": 24,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_num_buckets": 32,
    "tie_word_embeddings": False,
    "use_cache": True,
    "vocab_size": 32128,
}


def test_configs_from_before_scaling_had_a_key() -> None:
    spec = BRANDS["T5ForConditionalGeneration"].parse(ConfigReader(HUB))
    assert spec.logit_scale == 1.0
    assert spec.encoder.layers[0].position == T5Bias(32, 128, is_bidirectional=True)
    first = {
        key: value for key, value in HUB.items() if key not in ("feed_forward_proj", "tie_word_embeddings")
    }
    spec = BRANDS["T5ForConditionalGeneration"].parse(ConfigReader(first))
    assert spec.logit_scale == 1024**-0.5
    assert (spec.encoder.mlp.activation, spec.encoder.mlp.is_gated) == ("relu", False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feed_forward_proj", "gated-swish7"),
        ("is_gated_act", False),
        ("dense_act_fn", "relu"),
        ("encoder_has_relative_bias_in_every_layer", True),
        ("is_encoder_decoder", False),
    ],
)
def test_unknown_maths_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(UnsupportedConfig, match=key):
        BRANDS["T5ForConditionalGeneration"].parse(ConfigReader({**HUB, key: value}))


def _rewrite(folder: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors.torch.save_file(tensors, target / "model.safetensors")
    (target / "config.json").write_text((folder / "config.json").read_text())


def test_an_embedding_may_be_stored_under_any_of_its_names(pair: Pair, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        embedding = tensors.pop("shared.weight")
        tensors["encoder.embed_tokens.weight"], tensors["decoder.embed_tokens.weight"] = (
            embedding,
            embedding.clone(),
        )

    _rewrite(pair.folder, tmp_path, change)
    assert oracle.prefill(oracle.loaded(tmp_path)).equal(oracle.prefill(pair.ours))


def test_two_embeddings_are_refused(gated: Pair, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["decoder.embed_tokens.weight"] = tensors["shared.weight"] + 1

    _rewrite(gated.folder, tmp_path, change)
    with pytest.raises(CheckpointCorrupt, match=r"decoder\.input\.embed"):
        oracle.loaded(tmp_path)


def test_a_table_in_a_later_layer_is_noticed(gated: Pair, tmp_path: Path) -> None:
    name = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
    _rewrite(gated.folder, tmp_path, lambda tensors: tensors.update({name: torch.ones(12, 4)}))
    with pytest.raises(CheckpointCorrupt, match="in vain"):
        oracle.loaded(tmp_path)


def test_untied_logits_survive_a_config_that_ties_them(gated: Pair) -> None:
    assert json.loads((gated.folder / "config.json").read_text())["tie_word_embeddings"] is True
    assert not gated.ours.head.weight.equal(gated.ours.embed.weight)


def test_sums_stay_finite_in_float16() -> None:
    large = torch.full((1, 2), 6e4, dtype=torch.float16)
    assert add(large, large).tolist() == [[65504.0, 65504.0]]
    assert add(large.float(), large.float()).tolist() == [[120000.0, 120000.0]]
