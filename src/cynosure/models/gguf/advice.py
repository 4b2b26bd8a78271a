"""Read a GGUF file's named tokens, end tokens, templates and advice for sampling. Knows nothing of graphs."""

from __future__ import annotations

from cynosure.core.errors import CheckpointCorrupt
from cynosure.models.gguf.header import GgufFile
from cynosure.models.json_file import JsonValue

_PREFIX = "tokenizer.ggml."
_TEMPLATE = "tokenizer.chat_template"

#: Kinds of tokens: text, for what has no token, never in text, matched before all else, unused, a byte.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)

#: What files call each token that has a name, and what `tokenizer_config.json` calls it.
NAMED = {
    "bos": "bos_token",
    "eos": "eos_token",
    "unknown": "unk_token",
    "seperator": "sep_token",  # the format's own spelling
    "padding": "pad_token",
    "mask": "mask_token",
}

#: End a turn though old files do not say so; llama.cpp ends there too.
_TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>")

_SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}


def tokens_of(file: GgufFile) -> tuple[str, ...]:
    """Return the texts of all ids; none where the file has no vocabulary."""
    return _strings(file, f"{_PREFIX}tokens")


def kinds_of(file: GgufFile) -> tuple[int, ...]:
    """Return each token's kind; all are plain where the file does not say."""
    tokens = tokens_of(file)
    kinds = file.metadata.get(f"{_PREFIX}token_type", (NORMAL,) * len(tokens))
    if not isinstance(kinds, tuple) or len(kinds) != len(tokens):
        raise CheckpointCorrupt(f"{file.path} does not give each token its kind. Fetch the file again.")
    known = range(NORMAL, BYTE + 1)
    found = tuple(
        kind for kind in kinds if isinstance(kind, int) and not isinstance(kind, bool) and kind in known
    )
    if len(found) != len(kinds):
        raise CheckpointCorrupt(
            f"{file.path} gives tokens kinds other than 1 to {BYTE}. Fetch the file again."
        )
    return found


def token_id(file: GgufFile, name: str) -> int | None:
    """Return the id of a token with a name, such as `bos`.

    Raises:
        CheckpointCorrupt: it is no id of the vocabulary.
    """
    value = file.metadata.get(f"{_PREFIX}{name}_token_id")
    # Some converters write the largest number for "none".
    if value is None or value == 2**32 - 1:
        return None
    num_tokens = len(tokens_of(file))
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < num_tokens:
        raise CheckpointCorrupt(
            f"{file.path} has the {name} token {value!r}; ids are below {num_tokens}. Fetch the file again."
        )
    return value


def end_ids(file: GgufFile) -> tuple[int, ...]:
    """Return the tokens that end an answer: what the file names, and what its template ends turns with."""
    named = [token_id(file, name) for name in ("eos", "eot", "eom")]
    templates = "\n".join(templates_of(file).values())
    turns = {text for text in _TURN_ENDS if text in templates}
    pairs = zip(tokens_of(file), kinds_of(file), strict=True) if turns else ()
    found = [index for index, (text, kind) in enumerate(pairs) if kind == CONTROL and text in turns]
    return tuple(dict.fromkeys(one for one in [*named, *found] if one is not None))


def templates_of(file: GgufFile) -> dict[str, str]:
    """Return the chat templates by name.

    Raises:
        CheckpointCorrupt: a template that is no text.
    """
    found = {"default": _TEMPLATE} if _TEMPLATE in file.metadata else {}
    found |= {name: f"{_TEMPLATE}.{name}" for name in _strings(file, "tokenizer.chat_templates")}
    templates = {name: text for name, key in found.items() if isinstance(text := file.metadata.get(key), str)}
    if len(templates) != len(found):
        raise CheckpointCorrupt(f"{file.path} holds a chat template that is no text. Fetch the file again.")
    return templates


def sampling_of(file: GgufFile) -> dict[str, JsonValue]:
    """Return what the authors advise for sampling, in the words of `generation_config.json`."""
    return {
        ours: value
        for theirs, ours in _SAMPLING.items()
        if (value := file.metadata.get(theirs)) is not None and not isinstance(value, tuple)
    }


def _strings(file: GgufFile, key: str) -> tuple[str, ...]:
    values = file.metadata.get(key, ())
    listed = values if isinstance(values, tuple) else (None,)
    texts = tuple(value for value in listed if isinstance(value, str))
    if len(texts) != len(listed):
        raise CheckpointCorrupt(f"{file.path} has {key} that is no list of texts. Fetch the file again.")
    return texts
