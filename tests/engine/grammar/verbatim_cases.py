"""Say plainly what an answer made of quotes may be, byte by byte. Knows nothing of how that is enforced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer, decoders, models

from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.engine.grammar.quotable import Crossings
from cynosure.engine.grammar.token_trie import TokenTrie
from cynosure.engine.grammar.verbatim import Verbatim

EOS = 0

#: A quote that is being read: which text, from where, to where.
Reading = tuple[int, int, int]
NEW: Reading = (-1, 0, 0)


class Plain:
    """All readings of what was written, each by itself."""

    def __init__(self, texts: Sequence[str], min_chars: int) -> None:
        self.texts = [text.encode() for text in texts]
        self.min_chars = min_chars
        self.readings = {NEW}

    def read(self, written: bytes) -> None:
        for byte in written:
            self.readings = {reading for one in self.readings for reading in self._after(one, byte)}

    def after(self, written: bytes) -> Plain:
        other = Plain([], self.min_chars)
        other.texts, other.readings = self.texts, set(self.readings)
        other.read(written)
        return other

    @property
    def may_end(self) -> bool:
        return any(map(self._ends, self.readings))

    @property
    def comes_to_end(self) -> bool:
        """Whether some reading can be gone on with, byte by byte, to where the answer may end."""
        begun = {one for one in self.readings if one != NEW}
        if NEW in self.readings:
            begun.update(self._starts())
        return any(self._ends((text, start, end)) for text, start, at in begun
                   for end in range(at, len(self.texts[text]) + 1))  # fmt: skip

    def _ends(self, reading: Reading) -> bool:
        text, start, end = reading
        if reading == NEW or end == start or self.texts[text][end - 1] == 10:
            return False
        try:
            return len(self.texts[text][start:end].decode()) >= self.min_chars
        except UnicodeDecodeError:
            return False

    def _starts(self) -> Iterator[Reading]:
        for number, text in enumerate(self.texts):
            for start, byte in enumerate(text):
                if byte & 0xC0 != 0x80 and byte != 10:
                    yield number, start, start

    def _after(self, reading: Reading, byte: int) -> Iterator[Reading]:
        if byte == 10 and self._ends(reading):
            yield NEW
        for text, start, at in self._starts() if reading == NEW else [reading]:
            if at < len(self.texts[text]) and self.texts[text][at] == byte:
                yield text, start, at + 1


def vocabulary(pieces: Sequence[str], *, has_bytes: bool) -> TokenizerDefinition:
    """Tokens that spell these pieces, whatever they are; id 0 ends an answer."""
    vocab = {"</s>": EOS}
    for token in [*(f"<0x{byte:02X}>" for byte in range(256) if has_bytes), *pieces]:
        vocab.setdefault(token, len(vocab))
    raw = Tokenizer(models.BPE(vocab, [], byte_fallback=has_bytes))
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    raw.add_special_tokens(["</s>"])
    return TokenizerDefinition(raw.to_str(), len(vocab) + 3, (EOS,))


def verbatim(definition: TokenizerDefinition, texts: Sequence[str], min_chars: int = 1) -> Verbatim:
    tokens = TokenTrie(definition)
    return Verbatim(tokens, Crossings(tokens), texts, min_chars)
