"""A model of transformers, watched where it is: shares equal its own eager maps, and its answers stay."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pytest
import torch
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from cynosure.borrowed import Prompt, chat_prompt, text_prompt, watching
from cynosure.core.errors import InputError, UnknownOption
from cynosure.insight import AttentionReport, HeadChoice, HeadGroup
from tests.models.tiny_tokenizers import byte_level

TEXT = "The pole star is Cynosure. Tides follow the moon 🦊. What is the pole star?"
NAMED = [("doc:1", 0, 26), ("doc:2", 27, 53)]
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "intermediate_size": 48, "vocab_size": 322, "max_position_embeddings": 256,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
KINDS = ("Llama", "Mistral", "Gemma2", "GptOss", "Qwen3")


@lru_cache
def model(kind: str) -> PreTrainedModel:
    own = {
        "Mistral": {"sliding_window": 16},
        "Gemma2": {"sliding_window": 16, "query_pre_attn_scalar": 8},
        "GptOss": {"sliding_window": 16, "num_local_experts": 2, "num_experts_per_tok": 1},
    }
    config = getattr(transformers, f"{kind}Config")(**SMALL | own.get(kind, {}))
    torch.manual_seed(0)
    made = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, weight in made.named_parameters():
            # Peaked attention, so that a wrong score shows; and sinks that are not all alike.
            weight.mul_(6.0 if "q_proj.weight" in name or "k_proj.weight" in name else 1.0)
            if "sinks" in name:
                weight.normal_()
    return made


@lru_cache
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=byte_level(), pad_token="<|pad|>")


def generated(kind: str, prompts: Sequence[Prompt], num_tokens: int = 6, **options: object) -> torch.Tensor:
    longest = max(len(prompt.token_ids) for prompt in prompts)
    ids = [[0] * (longest - len(prompt.token_ids)) + list(prompt.token_ids) for prompt in prompts]
    mask = [[int(n >= longest - len(p.token_ids)) for n in range(longest)] for p in prompts]
    out = model(kind).generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(mask),
        max_new_tokens=num_tokens,
        do_sample=False,
        **options,
    )
    assert isinstance(out, torch.Tensor)
    return out[:, longest:]


def dense(kind: str, prompt: Prompt, answer: Sequence[int], heads: Sequence[tuple[int, int]]) -> np.ndarray:
    """Masses of each part, of what was generated, and the sink's behind, by eager maps over the whole."""
    own = model(kind)
    before = own.config._attn_implementation
    own.set_attn_implementation("eager")
    try:
        with torch.inference_mode():
            ids = torch.tensor([[*prompt.token_ids, *answer[:-1]]])
            maps = own(ids, output_attentions=True, use_cache=False).attentions
    finally:
        own.set_attn_implementation(before)
    rows = torch.stack([maps[layer][0, head] for layer, head in heads]).mean(0)[len(prompt.token_ids) - 1 :]
    num_parts = len(prompt.segments.parts)
    owners = [*prompt.segments.owners, *[num_parts] * (len(answer) - 1)]
    told = np.zeros((len(answer), num_parts + 2))
    for key, owner in enumerate(owners):
        told[:, owner] += rows[:, key].numpy()
    told[:, -1] = 1 - told[:, :-1].sum(-1)
    return told


def said(report: AttentionReport) -> np.ndarray:
    """The same of a report; the learned sink is told with the template's first token."""
    rows = []
    for token in report.tokens:
        assert token.shares is not None
        one = token.shares
        rows.append([*one.masses, one.sink_mass, one.template_mass, one.generated_mass])
    return np.array(rows)


def wanted(prompt: Prompt, told: np.ndarray) -> np.ndarray:
    callers = [n for n, part in enumerate(prompt.segments.parts) if part.is_callers]
    sink, template = told[:, 0] + told[:, -1], told[:, 1]
    return np.column_stack([told[:, callers], sink, template, told[:, -2]])


@pytest.mark.parametrize("kind", KINDS)
def test_shares_are_those_of_eager_maps(kind: str) -> None:
    prompt = text_prompt(tokenizer(), TEXT, NAMED)
    plain = generated(kind, [prompt])
    with watching(model(kind), prompt) as seen:
        answer = generated(kind, [prompt])
    assert answer.tolist() == plain.tolist()
    report = seen.report(answer[0], tokenizer())
    told = dense(kind, prompt, answer[0].tolist(), seen.choice.heads)
    np.testing.assert_allclose(said(report), wanted(prompt, told), atol=1e-5)
    np.testing.assert_allclose(said(report).sum(-1), 1, atol=1e-5)
    # The control: other heads.
    other = [(layer, 3 - head) for layer, head in seen.choice.heads[:1]]
    assert np.abs(said(report) - wanted(prompt, dense(kind, prompt, answer[0].tolist(), other))).max() > 1e-3


def test_a_padded_batch_tells_each_its_own() -> None:
    prompts = [text_prompt(tokenizer(), TEXT, NAMED), text_prompt(tokenizer(), "Short one.")]
    choice = HeadChoice(((0, 1), (2, 3)), "by hand", (HeadGroup("first", (1.0, 0.0)),))
    with watching(model("Llama"), prompts, choice) as seen:
        answers = generated("Llama", prompts)
    for row, prompt in enumerate(prompts):
        report = seen.report(answers[row], tokenizer(), row)
        told = dense("Llama", prompt, answers[row].tolist(), choice.heads)
        np.testing.assert_allclose(said(report), wanted(prompt, told), atol=1e-5)
        alone = dense("Llama", prompt, answers[row].tolist(), [(0, 1)])
        np.testing.assert_allclose(np.array(report.fold("first")), alone[:, :-1], atol=1e-5)
        assert report.text == tokenizer().decode(answers[row].tolist(), skip_special_tokens=True)


def test_a_static_cache_and_chunks_of_a_prompt_change_nothing() -> None:
    prompt = text_prompt(tokenizer(), TEXT, NAMED)
    with watching(model("Llama"), prompt) as seen:
        answer = generated("Llama", [prompt])
    expected = said(seen.report(answer[0], tokenizer()))
    for options in ({"cache_implementation": "static"}, {"prefill_chunk_size": 16}):
        with watching(model("Llama"), prompt) as seen:
            answer = generated("Llama", [prompt], **options)
        np.testing.assert_allclose(said(seen.report(answer[0], tokenizer())), expected, atol=1e-5)


def test_a_conversation_by_its_messages() -> None:
    own = PreTrainedTokenizerFast(tokenizer_object=byte_level(), pad_token="<|pad|>")
    own.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}<assistant>"
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Tides follow the moon 🦊.", "name": "doc:1"},
        {"role": "user", "content": "Be brief."},
    ]
    prompt = chat_prompt(own, messages)
    parts = prompt.segments.parts
    assert [(part.id, part.role) for part in parts[2:]] == [
        ("system", "system"), ("doc:1", "document"), ("user:1", "user"),
    ]  # fmt: skip
    for owner, span, token in zip(
        prompt.segments.owners, prompt.segments.offsets, prompt.token_ids, strict=True
    ):
        if parts[owner].text is not None and span is not None:
            piece = own.decode([token])
            assert "�" in piece or parts[owner].text[slice(*span)] == piece
    with pytest.raises(InputError, match="message 1"):
        chat_prompt(
            own,
            [messages[2], {"role": "user", "content": "absent"}],
            chat_template="{{ messages[0].content }}",
        )


def test_the_model_is_as_before() -> None:
    before = model("Llama").config._attn_implementation
    with (
        pytest.raises(InputError, match="were seen"),
        watching(model("Llama"), text_prompt(tokenizer(), TEXT)) as seen,
    ):
        seen.report([1, 2, 3], tokenizer())
    assert model("Llama").config._attn_implementation == before


def test_what_is_refused() -> None:
    prompt = text_prompt(tokenizer(), TEXT)
    with pytest.raises(InputError, match="3 layers of 4 heads"), watching(model("Llama"), prompt, [(3, 0)]):
        pass
    with pytest.raises(InputError, match="doc:1"):
        text_prompt(tokenizer(), TEXT, [("doc:1", 5, 5)])
    with pytest.raises(UnknownOption, match="guessing ahead"), watching(model("Llama"), prompt):
        generated("Llama", [prompt], 60, prompt_lookup_num_tokens=3)
    with pytest.raises(UnknownOption, match="changed places"), watching(model("Llama"), prompt):
        generated("Llama", [prompt], num_tokens=12, num_beams=4)
    with pytest.raises(InputError, match="2 prompts"), watching(model("Llama"), [prompt, prompt]):
        generated("Llama", [prompt])
