"""Load a checkpoint's tokenizer files. Knows nothing of how text is encoded for a request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, processors
from tokenizers import Tokenizer as RawTokenizer

from cynosure.core.errors import CheckpointCorrupt, CheckpointNotFound
from cynosure.models.gguf.header import is_gguf, read_gguf
from cynosure.models.gguf.vocabulary import gguf_tokenizer, has_vocabulary
from cynosure.models.json_file import JsonValue, read_json_object

_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")

# What some authors (DeepSeek) add as plain tokens though it opens a speaker's turn.
_CONTROL_LIKE = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)

#: Tokenizers without a limit write one of about 1e30.
_NO_LIMIT = 10**9


@dataclass(frozen=True)
class TokenizerFiles:
    """What the files of one folder say.

    `raw` matches control tokens in text, `plain` encodes them as ordinary characters; `named` holds
    `bos_token` and its like; `control` every token text that must not come from a user.
    """

    raw: RawTokenizer
    plain: RawTokenizer
    named: Mapping[str, str]
    control: frozenset[str]
    special_ids: frozenset[int]
    max_length: int | None


def load_tokenizer_files(folder: Path) -> TokenizerFiles:
    """Read tokenizer.json, and the special and added tokens that the files beside it declare.

    Of a GGUF file, its vocabulary.

    Raises:
        CheckpointNotFound: No tokenizer.json.
        CheckpointCorrupt: A file that does not parse, or an added token at another id than declared.
        UnsupportedConfig: A GGUF file with a kind of vocabulary that is not read here.
    """
    if is_gguf(folder):
        raw, config = gguf_tokenizer(read_gguf(folder))
    else:
        raw, config = _read_raw(folder), _optional(folder / "tokenizer_config.json")
    raw.no_truncation()
    raw.no_padding()
    named, special = _named_tokens(_optional(folder / "special_tokens_map.json") | config)
    _add_declared(raw, folder, config)
    _make_special(raw, special)
    if raw.post_processor is None:
        _add_ends(raw, config, named)
    added = raw.get_added_tokens_decoder()
    control = {
        token.content for token in added.values() if token.special or _CONTROL_LIKE.fullmatch(token.content)
    }
    plain = RawTokenizer.from_str(raw.to_str())
    _make_special(plain, control)
    plain.encode_special_tokens = True
    limit = config.get("model_max_length")
    return TokenizerFiles(
        raw=raw,
        plain=plain,
        named=named,
        control=frozenset(control),
        special_ids=frozenset(token_id for token_id, token in added.items() if token.special),
        max_length=limit if isinstance(limit, int) and 0 < limit < _NO_LIMIT else None,
    )


def has_tokenizer(folder: Path) -> bool:
    """Whether a checkpoint has a tokenizer; without one, a model speaks ids only."""
    if is_gguf(folder):
        return has_vocabulary(read_gguf(folder))
    return (folder / "tokenizer.json").is_file()


def _read_raw(folder: Path) -> RawTokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        patterns = ("*.model", "vocab.*", "merges.txt", "tokenizer*", "tekken.json")
        found = sorted({file.name for pattern in patterns for file in folder.glob(pattern)})
        raise CheckpointNotFound(
            f"{folder} holds no tokenizer.json (found: {', '.join(found) or 'no tokenizer file at all'}). "
            'Convert it: python -c "from transformers import AutoTokenizer as T; '
            f"T.from_pretrained('{folder}').save_pretrained('{folder}')\""
        )
    try:
        return RawTokenizer.from_file(str(path))
    # The library raises plain Exception.
    except Exception as error:
        raise CheckpointCorrupt(f"{path} is no tokenizer: {error}. Fetch the file again.") from error


def _optional(path: Path) -> dict[str, JsonValue]:
    return read_json_object(path) if path.is_file() else {}


def _content(value: JsonValue) -> str | None:
    """The text of a token that is written as a string or as an object."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) and text else None


def _named_tokens(config: Mapping[str, JsonValue]) -> tuple[dict[str, str], set[str]]:
    """`bos_token` and its like by name, and all special token texts."""
    named = {name: text for name in _NAMES if (text := _content(config.get(name))) is not None}
    special = set(named.values())
    for key in _LISTS:
        values = config.get(key)
        if isinstance(values, dict):
            named |= {name: text for name, value in values.items() if (text := _content(value)) is not None}
            values = list(values.values())
        if isinstance(values, list):
            special |= {text for value in values if (text := _content(value)) is not None}
    return named, special


def _declared(folder: Path, config: Mapping[str, JsonValue]) -> Iterator[tuple[int, AddedToken]]:
    """Tokens with the id that tokenizer_config.json or added_tokens.json gives them."""
    decoder = config.get("added_tokens_decoder")
    for key, value in (decoder if isinstance(decoder, dict) else {}).items():
        text = _content(value)
        if text is not None and key.isdecimal() and isinstance(value, dict):
            flags = {
                name: flag
                for name in ("lstrip", "rstrip", "single_word", "normalized", "special")
                if isinstance(flag := value.get(name), bool)
            }
            yield int(key), AddedToken(text, **flags)
    for text, token_id in _optional(folder / "added_tokens.json").items():
        if isinstance(token_id, int):
            yield token_id, AddedToken(text, normalized=False)


def _add_declared(raw: RawTokenizer, folder: Path, config: Mapping[str, JsonValue]) -> None:
    for token_id, token in sorted(_declared(folder, config), key=lambda pair: pair[0]):
        if raw.token_to_id(token.content) is None:
            raw.add_tokens([token])
        got = raw.token_to_id(token.content)
        if got != token_id:
            raise CheckpointCorrupt(
                f"{folder} declares the added token {token.content!r} as id {token_id}; tokenizer.json "
                f"makes it {got}. The files are not of one checkpoint: fetch them again."
            )


def _make_special(raw: RawTokenizer, texts: set[str]) -> None:
    """Mark tokens as special and keep their other flags; a text without a token gets none."""
    added = {token.content: token for token in raw.get_added_tokens_decoder().values()}
    for text in sorted(texts):
        token = added.get(text)
        if token is None and raw.token_to_id(text) is not None:
            raw.add_special_tokens([AddedToken(text, normalized=False)])
        elif token is not None and not token.special:
            token.special = True
            raw.add_special_tokens([token])


def _add_ends(raw: RawTokenizer, config: Mapping[str, JsonValue], named: Mapping[str, str]) -> None:
    """Where tokenizer.json does not say, put the begin and end tokens that the config asks for."""
    begin = named.get("bos_token") if config.get("add_bos_token") is True else None
    end = named.get("eos_token") if config.get("add_eos_token") is True else None
    ends = {text: raw.token_to_id(text) for text in (begin, end) if text is not None}
    pieces = [f"{begin}:0"] * bool(begin) + ["$A:0"] + [f"{end}:0"] * bool(end)
    if ends:
        second = [piece.replace("$A", "$B").replace(":0", ":1") for piece in pieces]
        raw.post_processor = processors.TemplateProcessing(
            single=pieces, pair=pieces + second, special_tokens=list(ends.items())
        )
