"""The stock clients against a tiny random-weight checkpoint in the real engine: all routes say one thing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
import torch
import transformers
from openai.types.chat import ChatCompletionUserMessageParam

from cynosure.cli.local_completer import load_completer
from cynosure.server.runtime import Report
from cynosure.server.services import Services
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import SOURCE
from tests.server.fakes import serving

NUM_TOKENS, MAX_MODEL_LEN = 8, 160


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("tiny-chat")
    config = transformers.LlamaConfig(
        vocab_size=325, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=MAX_MODEL_LEN, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    model.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(SOURCE)
    return write(folder, byte_level())


@pytest.fixture(scope="module")
def url(checkpoint: Path) -> Iterator[str]:
    """A server that closes its model when it ends."""

    def load(_: Report) -> Services:
        completer = load_completer("tiny", checkpoint, dtype="float32")
        return Services({}, {}, {"tiny": completer}, int(time.time()))

    with serving(load, wait_s=60) as address:
        yield address


def test_every_route_continues_the_same_tokens(url: str) -> None:
    said = "Where is the star?"
    tokens = httpx.post(
        f"{url}/tokenize", json={"model": "tiny", "messages": [{"role": "user", "content": said}]}
    ).json()["tokens"]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        plain = client.completions.create(model="tiny", prompt=tokens, max_tokens=NUM_TOKENS, temperature=0)
        whole = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": said}], max_tokens=NUM_TOKENS, temperature=0
        )
        chunks = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": said}],
            max_tokens=NUM_TOKENS,
            temperature=0,
            stream=True,
        )
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as other:
        message = other.messages.create(
            model="tiny",
            messages=[{"role": "user", "content": said}],
            max_tokens=NUM_TOKENS,
            extra_body={"temperature": 0},
        )
    text = plain.choices[0].text
    assert text
    assert whole.choices[0].message.content == streamed == text
    assert "".join(block.text for block in message.content if block.type == "text") == text
    assert whole.usage is not None
    assert whole.usage.prompt_tokens == len(tokens)


def test_a_conversation_over_the_limit_is_refused_with_it(url: str) -> None:
    def message(count: int) -> ChatCompletionUserMessageParam:
        return {"role": "user", "content": "7" * count}

    spent = httpx.post(f"{url}/tokenize", json={"model": "tiny", "messages": [message(1)]}).json()["count"]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match=str(MAX_MODEL_LEN)):
            client.chat.completions.create(model="tiny", messages=[message(MAX_MODEL_LEN)])
        # Without a limit of its own, an answer may fill the rest.
        nearly = [message(MAX_MODEL_LEN - spent - 4)]
        answer = client.chat.completions.create(
            model="tiny", messages=nearly, temperature=0, extra_body={"ignore_eos": True}
        )
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.usage.total_tokens) == (5, MAX_MODEL_LEN)
    assert answer.choices[0].finish_reason == "length"
