"""Write a small decoder over whole words as a checkpoint that converses. Knows nothing of what it was taught.

Words stand apart: every mark is a word with spaces around it, so that tokens and words are the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from cynosure.core.errors import InputError
from cynosure.models.safetensor_writer import write_safetensors
from cynosure.train.tiny_decoder import TinyDecoder

UNKNOWN_WORD, SYSTEM, USER, ASSISTANT, TOOL, END = CONTROL = (
    "<|unk|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|end|>",
)  # fmt: skip

#: Documents come before the last message: as lines of it, where a caller writes them himself.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|{{ message.role }}|>
{% if loop.last and documents %}{% for document in documents %}{{ document.text }}
{% endfor %}{% endif %}{{ message.content }}
{% if message.role == "assistant" %}<|end|>
{% endif %}
{%- endfor -%}
{% if add_generation_prompt %}<|assistant|>
{% endif %}"""


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """A tokenizer whose ids are the control tokens, then the words in their order.

    Raises:
        InputError: a word is there twice.
    """
    vocabulary = {word: number for number, word in enumerate([*CONTROL, *words])}
    if len(vocabulary) != len(CONTROL) + len(words):
        raise InputError(f"of {len(words)} words some are the same, or control tokens. Give each once.")
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN_WORD))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    return tokenizer


def write_planted(folder: Path, decoder: TinyDecoder, tokenizer: Tokenizer, card: str) -> None:
    """Write a folder that `load` and the server read; `card` is its README.

    Raises:
        InputError: the folder is there.
    """
    if folder.exists():
        raise InputError(f"{folder} exists; nothing is overwritten. Name a folder that does not exist.")
    folder.mkdir(parents=True)
    config = {**decoder.shape.config(), "bos_token_id": None, "eos_token_id": tokenizer.token_to_id(END)}
    named = {"eos_token": END, "unk_token": UNKNOWN_WORD}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(named, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (folder / "README.md").write_text(card)
    tokenizer.save(str(folder / "tokenizer.json"))
    tensors = {name: parameter.detach() for name, parameter in decoder.state_dict().items()}
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
