"""Hold the tokens of a vocabulary that are text, by their bytes. Knows nothing of what a text must be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer as RawTokenizer

from cynosure.core.errors import InputError
from cynosure.engine.grammar.byte_trie import ByteTrie
from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.models.text.token_bytes import TokenBytes

#: Decoders behind which a text is the bytes of its tokens, save perhaps a space before the first.
_PLAIN_DECODERS = frozenset({"ByteLevel", "ByteFallback", "Fuse", "Replace", "Strip", "Metaspace"})


class TokenTrie:
    """A vocabulary, prepared for constraints that read bytes; read-only, and safe to share between threads.

    - `size`: of the vocabulary; `eos_token_ids`: what ends an answer.
    - `ids`: the tokens that are text, none of those that control; `nodes`: where each stands in `trie`.
    - `first_nodes`: the same of the first token of an answer, whose space some decoders drop.
    """

    def __init__(self, tokenizer: TokenizerDefinition) -> None:
        """Spell every token; of 150,000 tokens this takes about a second.

        Raises:
            InputError: the text of an answer is not what its tokens spell one by one.
        """
        described = json.loads(tokenizer.text)
        _check_decoder(described.get("decoder"))
        raw = RawTokenizer.from_str(tokenizer.text)
        spelled = TokenBytes(raw)
        left_out = {*tokenizer.eos_token_ids, *_controlling(described)}
        known = range(tokenizer.vocab_size)
        strings = {
            token_id: text
            for token_id in known
            if token_id not in left_out and (text := spelled.of(token_id))
        }
        self.size = tokenizer.vocab_size
        self.eos_token_ids = tuple(tokenizer.eos_token_ids)
        self.ids = np.fromiter(strings, np.int64, len(strings))
        self._strings = strings
        spaced = next((token_id for token_id, text in strings.items() if text[:1] == b" " != text), None)
        self._drops_space = spaced is not None and not raw.decode([spaced]).startswith(" ")
        firsts = list(map(self.first_bytes_of, strings)) if self._drops_space else []
        self.trie = ByteTrie([*strings.values(), *firsts])
        self.nodes = self.trie.node_of[: len(strings)]
        self.first_nodes = self.trie.node_of[len(strings) :] if self._drops_space else self.nodes
        self._spelled = frozenset(strings.values())

    def __contains__(self, text: bytes) -> bool:
        """Whether a token spells this."""
        return text in self._spelled

    @property
    def strings(self) -> Iterator[bytes]:
        """What each of `ids` spells."""
        return iter(self._strings.values())

    def bytes_of(self, token_id: int) -> bytes:
        """What a token spells.

        Raises:
            InputError: it is none that is text.
        """
        text = self._strings.get(token_id)
        if text is None:
            raise InputError(
                f"the constraint can't be followed any further: token {token_id} is no text. Leave out what "
                "has it chosen."
            )
        return text

    def first_bytes_of(self, token_id: int) -> bytes:
        """What a token spells that begins an answer.

        Raises:
            InputError: it is none that is text.
        """
        text = self.bytes_of(token_id)
        return text.removeprefix(b" ") if self._drops_space else text

    def mask(self, is_allowed: Bool[np.ndarray, " tokens"], *, may_end: bool) -> Bool[np.ndarray, " vocab"]:
        """Which of the vocabulary is allowed, given that of `ids`."""
        mask = np.zeros(self.size, np.bool_)
        mask[self.ids] = is_allowed
        if may_end:
            mask[list(self.eos_token_ids)] = True
        return mask

    def spells(self, text: str) -> bool:
        """Whether tokens of one character, or of one byte, spell a text: whoever is in it can go on."""
        return all(
            letter.encode() in self or all(bytes([byte]) in self for byte in letter.encode())
            for letter in set(text)
        )

    def nodes_before(self, node: int) -> list[int]:
        """The nodes on the way to one, the root first, without itself."""
        path: list[int] = []
        while node:
            node = int(self.trie.parents[node])
            path.append(node)
        return path[::-1]


def firsts_of(owners: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " owners"]:
    """Where the run of each of `count` owners begins in a sorted list of them, and where the last ends."""
    return np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=count))])


def _controlling(described: dict[str, Any]) -> Iterator[int]:
    """Tokens that are no text: special ones, tags that templates are read by, and what stands for unknown."""
    for token in described.get("added_tokens") or ():
        # Runs of spaces are added too, and are text.
        if token["special"] or token["content"].strip():
            yield token["id"]
    model = described["model"]
    unknown = model.get("unk_token")
    if model.get("unk_id") is not None:
        yield model["unk_id"]
    elif unknown is not None and unknown in model["vocab"]:
        yield model["vocab"][unknown]


def _check_decoder(decoder: dict[str, Any] | None) -> None:
    parts = [] if decoder is None else decoder.get("decoders", [decoder])
    for part in parts:
        if part["type"] not in _PLAIN_DECODERS or part.get("stop"):
            raise InputError(
                f"answers of this model can't be held to given texts or names: its tokenizer decodes by "
                f"{part['type']}, which changes what tokens spell. Leave the constraint out, or take a model "
                "with another tokenizer."
            )
