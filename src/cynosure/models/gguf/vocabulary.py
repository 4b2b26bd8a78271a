"""Build the tokenizer that a GGUF file's vocabulary describes. Knows nothing of weights.

Two kinds: `gpt2`, byte-level BPE with its merges, whose way to cut text into words has a name in
`tokenizer.ggml.pre`; and `llama`, SentencePiece's BPE, whose merges follow from the pieces' scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RawTokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import PreTokenizer

from cynosure.core.errors import CheckpointCorrupt, UnsupportedConfig
from cynosure.models.gguf.advice import (
    BYTE,
    CONTROL,
    NAMED,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    kinds_of,
    token_id,
    tokens_of,
)
from cynosure.models.gguf.header import GgufFile
from cynosure.models.json_file import JsonValue

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = rf"{_LETTERS}|\p{{N}}|{_REST}"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class _Cut:
    """How text is cut into words before merges.

    - `words`: as a pattern; None is the one of GPT-2.
    - `has_single_digits`: each digit is a word, before all else.
    - `is_composed`: characters are composed first (NFC).
    - `takes_whole_words`: a word in the vocabulary is one token, whatever its merges.
    - `adds_bos`: a text begins with the begin token where the file does not say.
    """

    words: str | None = None
    has_single_digits: bool = False
    is_composed: bool = False
    takes_whole_words: bool = False
    adds_bos: bool = False


_LLAMA3 = _Cut(rf"{_LETTERS}|\p{{N}}{{1,3}}|{_REST}", takes_whole_words=True, adds_bos=True)

#: By `tokenizer.ggml.pre`.
_CUTS: Mapping[str, _Cut] = MappingProxyType(
    {
        "gpt-2": _Cut(),
        "smollm": _Cut(has_single_digits=True),
        "llama-bpe": _LLAMA3,
        "llama3": _LLAMA3,
        "llama-v3": _LLAMA3,
        "qwen2": _Cut(_QWEN2, is_composed=True),
        "deepseek-r1-qwen": _Cut(_QWEN2),
        "tekken": _Cut(_TEKKEN, takes_whole_words=True, adds_bos=True),
    }
)

_SPACE = "▁"


def has_vocabulary(file: GgufFile) -> bool:
    """Whether the file holds a vocabulary; without one, a model speaks ids only."""
    return file.metadata.get("tokenizer.ggml.model", "none") != "none"


def gguf_tokenizer(file: GgufFile) -> tuple[RawTokenizer, dict[str, JsonValue]]:
    """Return the tokenizer, and what `tokenizer_config.json` would say beside it.

    Raises:
        UnsupportedConfig: a kind of vocabulary that is not read here, or that the file does not name.
        CheckpointCorrupt: a vocabulary that does not fit together.
    """
    kind = file.metadata.get("tokenizer.ggml.model")
    if kind == "gpt2":
        raw, adds_bos = _byte_level(file)
    elif kind == "llama":
        raw, adds_bos = _sentence_piece(file), True
    else:
        raise UnsupportedConfig(
            f"{file.path} has tokenizer.ggml.model = {kind!r}; 'gpt2' and 'llama' are read here. Take the "
            "model's own folder."
        )
    _add_tokens(raw, file)
    texts = tokens_of(file)
    named = {
        ours: texts[found] for name, ours in NAMED.items() if (found := token_id(file, name)) is not None
    }
    return raw, {
        **named,
        "add_bos_token": _truth(file, "add_bos_token", adds_bos),
        "add_eos_token": _truth(file, "add_eos_token", False),
    }


def _byte_level(file: GgufFile) -> tuple[RawTokenizer, bool]:
    pre = file.metadata.get("tokenizer.ggml.pre")
    if not isinstance(pre, str) or pre not in _CUTS:
        raise UnsupportedConfig(
            f"{file.path} has tokenizer.ggml.pre = {pre!r}, which says how text is cut into words; "
            f"{', '.join(_CUTS)} are read here. Take the model's own folder, or a file that names it."
        )
    cut = _CUTS[pre]
    merges = file.metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, tuple):
        raise CheckpointCorrupt(f"{file.path} has no tokenizer.ggml.merges. Fetch the file again.")
    raw = _bpe(file, (_pair(file, merge) for merge in merges), ignore_merges=cut.takes_whole_words)
    steps: list[PreTokenizer] = []
    if cut.has_single_digits:
        steps.append(pre_tokenizers.Digits(individual_digits=True))
    if cut.words is not None:
        steps.append(pre_tokenizers.Split(Regex(cut.words), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut.words is None))
    raw.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if cut.is_composed:
        raw.normalizer = normalizers.NFC()
    raw.decoder = decoders.ByteLevel()
    return raw, cut.adds_bos


def _pair(file: GgufFile, merge: object) -> tuple[str, str]:
    left, space, right = merge.partition(" ") if isinstance(merge, str) else ("", "", "")
    if not (left and space and right):
        raise CheckpointCorrupt(f"{file.path} has the merge {merge!r}; two texts are needed. Fetch it again.")
    return left, right


def _sentence_piece(file: GgufFile) -> RawTokenizer:
    charsmap = file.metadata.get("tokenizer.ggml.precompiled_charsmap")
    if charsmap or _truth(file, "remove_extra_whitespaces", False):
        raise UnsupportedConfig(
            f"{file.path} rewrites text before it is cut into pieces, which is not read here. Take the "
            "model's "
            "own folder."
        )
    unknown = token_id(file, "unknown")
    raw = _bpe(
        file,
        _merges_by_score(file),
        unk_token=None if unknown is None else tokens_of(file)[unknown],
        fuse_unk=True,
        byte_fallback=BYTE in kinds_of(file),
    )
    has_prefix = _truth(file, "add_space_prefix", True)
    space = normalizers.Replace(" ", _SPACE)
    raw.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), space] if has_prefix else [space])
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    raw.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if has_prefix else steps)
    return raw


def _merges_by_score(file: GgufFile) -> list[tuple[str, str]]:
    """Return all ways to make a piece of two, the best piece first: SentencePiece's choice, as a list."""
    texts, kinds = tokens_of(file), kinds_of(file)
    scores = file.metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, tuple) or len(scores) != len(texts):
        raise CheckpointCorrupt(f"{file.path} does not give each piece its score. Fetch the file again.")
    pieces = {
        text: float(score)
        for text, score, kind in zip(texts, scores, kinds, strict=True)
        if kind in (NORMAL, USER_DEFINED)
    }
    merges = [
        (score, cut, len(text) - cut, text)
        for text, score in pieces.items()
        for cut in range(1, len(text))
        if text[:cut] in pieces and text[cut:] in pieces
    ]
    merges.sort(key=lambda one: one[:3], reverse=True)
    return [(text[:cut], text[cut:]) for _, cut, _, text in merges]


def _bpe(
    file: GgufFile,
    merges: Iterable[tuple[str, str]],
    *,
    unk_token: str | None = None,
    fuse_unk: bool = False,
    byte_fallback: bool = False,
    ignore_merges: bool = False,
) -> RawTokenizer:
    texts = tokens_of(file)
    ids = {text: index for index, text in enumerate(texts)}
    if len(ids) != len(texts):
        twice = next(text for index, text in enumerate(texts) if ids[text] != index)
        raise CheckpointCorrupt(f"{file.path} has the token {twice!r} twice. Fetch the file again.")
    try:
        model = BPE(
            ids,
            list(merges),
            unk_token=unk_token,
            fuse_unk=fuse_unk,
            byte_fallback=byte_fallback,
            ignore_merges=ignore_merges,
        )
    # The library raises plain Exception.
    except Exception as error:
        raise CheckpointCorrupt(
            f"{file.path} has a vocabulary that does not fit together: {error}. Fetch the file again."
        ) from error
    return RawTokenizer(model)


def _add_tokens(raw: RawTokenizer, file: GgufFile) -> None:
    """Let tokens that are no plain text be found before text is cut."""
    pairs = [(text, kind) for text, kind in zip(tokens_of(file), kinds_of(file), strict=True) if text]
    special = [text for text, kind in pairs if kind in (CONTROL, UNKNOWN)]
    plain = [text for text, kind in pairs if kind == USER_DEFINED]
    raw.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    raw.add_tokens([AddedToken(text, normalized=False) for text in plain])


def _truth(file: GgufFile, name: str, default: bool) -> bool:
    value = file.metadata.get(f"tokenizer.ggml.{name}", default)
    if not isinstance(value, bool):
        raise CheckpointCorrupt(
            f"{file.path} has tokenizer.ggml.{name} = {value!r}; it is yes or no. Fetch it again."
        )
    return value
