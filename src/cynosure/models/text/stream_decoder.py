"""Turn ids that arrive one by one into text that is final. Knows nothing of how they were sampled.

Some tokenizers spread one character over several tokens. Text is handed out when no later id can change it,
and what is handed out is, joined, the decoding of the whole.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

from tokenizers import Tokenizer as RawTokenizer

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def has_byte_fallback(raw: RawTokenizer) -> bool:
    """Whether the decoder reads tokens such as `<0xE2>` as bytes (SentencePiece), and not every token."""
    return raw.decoder is not None and b'"ByteFallback"' in raw.decoder.__getstate__()


class StreamDecoder:
    """Decodes one sequence; `push` each id, then `finish` once.

    Args:
        raw: The tokenizer.
        skipped_ids: Ids that give no text.
    """

    def __init__(self, raw: RawTokenizer, skipped_ids: frozenset[int] = frozenset()) -> None:
        """Start before the first id."""
        self._raw = raw
        self._skipped_ids = skipped_ids
        # Decoders treat the first token differently (a leading space), so that later ones are decoded behind
        # some context, whose text is then cut off.
        self._context: list[int] = []
        self._pending: list[int] = []
        self._num_sent = 0
        self._anchor = raw.token_to_id("<0x41>") if has_byte_fallback(raw) else None
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """The text that is final now; it may be empty."""
        token = self._raw.id_to_token(token_id)
        if token_id in self._skipped_ids or token is None:
            return ""
        if self._anchor is not None:
            return self._push_fallback(token_id, token, self._anchor)
        self._pending.append(token_id)
        text = self._pending_text()
        if text.endswith(REPLACEMENT):
            # An incomplete character is at most one replacement, the last.
            return self._send(text[:-1])
        new = self._send(text)
        self._context, self._pending, self._num_sent = self._pending, [], 0
        return new

    def finish(self) -> str:
        """What was held back: a character that never became complete."""
        if self._anchor is not None:
            return self._bytes.decode(b"", final=True)
        return self._send(self._pending_text())

    def _pending_text(self) -> str:
        if not self._pending:
            return ""
        seen = self._decode(self._context)
        return self._decode(self._context + self._pending)[len(seen) :]

    def _send(self, text: str) -> str:
        new = text[self._num_sent :]
        self._num_sent = max(self._num_sent, len(text))
        return new

    def _push_fallback(self, token_id: int, token: str, anchor: int) -> str:
        byte = _BYTE_TOKEN.fullmatch(token)
        if byte is not None:
            new = self._bytes.decode(bytes.fromhex(byte.group(1)))
            if not self._context:
                # Only the tokenizer knows whether it drops a space at the very start.
                new = self._decode([token_id]) if new == " " else new
        else:
            new = self._bytes.decode(b"", final=True)
            self._bytes.reset()
            new += self._decode([*self._context, token_id])[len(self._decode(self._context)) :]
        self._context = [anchor]
        return new

    def _decode(self, token_ids: list[int]) -> str:
        return self._raw.decode(token_ids, skip_special_tokens=False)


def decode_whole(raw: RawTokenizer, token_ids: Iterable[int], skipped_ids: frozenset[int]) -> str:
    """The text of a complete sequence, equal to what a `StreamDecoder` hands out in all.

    Where bytes form no character, `tokenizers` replaces the valid ones beside them too; we do not.
    """
    kept = [token_id for token_id in token_ids if token_id not in skipped_ids]
    text = raw.decode(kept, skip_special_tokens=False)
    if REPLACEMENT not in text or not has_byte_fallback(raw):
        return text
    stream = StreamDecoder(raw)
    return "".join([stream.push(token_id) for token_id in kept]) + stream.finish()
