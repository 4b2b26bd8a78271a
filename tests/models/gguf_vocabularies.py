"""Say the small tokenizers in the words of a GGUF file. Knows nothing of our reader.

Of a byte-level one, its words and merges; of SentencePiece's kind, pieces with scores.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from tests.models.tiny_tokenizers import byte_fallback, byte_level

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
Metadata = dict[str, Any]

#: How published `tokenizer.json` files cut text, by the name that llama.cpp gives the way.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PATTERNS = {
    "llama-bpe": _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|"),
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "tekken": _TEKKEN,
}


def cut_like(pre: str) -> Tokenizer:
    """The small byte-level tokenizer, cutting text as one family does."""
    tokenizer = byte_level()
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre not in _PATTERNS)
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if pre == "smollm" else []
    if pre in _PATTERNS:
        steps.append(pre_tokenizers.Split(Regex(_PATTERNS[pre]), "isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, byte])
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def byte_level_metadata(tokenizer: Tokenizer, pre: str, **more: object) -> Metadata:
    """Keys of a file with a byte-level vocabulary; `more` are keys after `tokenizer.ggml.`."""
    words = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    added = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    kinds = [
        NORMAL if word not in added else CONTROL if added[word].special else USER_DEFINED for word, _ in words
    ]
    return _named(
        model="gpt2",
        pre=pre,
        tokens=[word for word, _ in words],
        token_type=kinds,
        merges=[" ".join(merge) for merge in merges],
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
        **more,
    )


def piece_metadata(**more: object) -> Metadata:
    """Keys of a file with the pieces of `byte_fallback`, whose merges come in the order of their scores."""
    words = sorted(byte_fallback().get_vocab().items(), key=lambda pair: pair[1])
    order = {"th": -1.0, "the": -2.0, "▁the": -3.0}
    kinds = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    return _named(
        model="llama",
        tokens=[word for word, _ in words],
        scores=[order.get(word, -9.0) for word, _ in words],
        token_type=[BYTE if word.startswith("<0x") else kinds.get(word, NORMAL) for word, _ in words],
        bos_token_id=1,
        eos_token_id=2,
        unknown_token_id=0,
        **more,
    )


def _named(**values: object) -> Metadata:
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}
