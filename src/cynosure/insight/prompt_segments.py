"""Say to which of a caller's strings each token of a prompt belongs. Knows nothing of templates or tensors.

Every token belongs to exactly one part: a string of the caller, or a stretch of one, a structure of his, the
template, or the sink, which is the template's first token: heads that have nothing to tell look there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from cynosure.insight.sentences import Span, sentence_starts

SINK, TEMPLATE, GENERATED, IMAGE = "sink", "template", "generated", "image"
DOCUMENT = "document"
#: A caller's name that begins so makes a part a document: text that nobody who is trusted wrote.
DOCUMENT_NAMES = ("doc", "document")

#: `(part, first token, end)`.
PartRun = tuple[int, int, int]


@dataclass(frozen=True)
class PromptPart:
    """What tokens belong to.

    - `id`: unique; `name`: what requests call it, which several parts may share.
    - `role`: who wrote it, `image`, `template` or `sink`.
    - `message`, `part`: where in the request it stands, counted from 0; None where it stands in no message.
    - `text`: the caller's whole string, `start:end` the stretch of it, in code points; None for what is no
      text.
    """

    id: str
    name: str
    role: str
    message: int | None = None
    part: int | None = None
    text: str | None = None
    start: int | None = None
    end: int | None = None

    @property
    def is_callers(self) -> bool:
        """Whether a caller wrote it."""
        return self.role not in (SINK, TEMPLATE)


@dataclass(frozen=True)
class PromptSegments:
    """The parts of a prompt, sink and template first, and for each token its part and place in the text."""

    parts: tuple[PromptPart, ...]
    owners: tuple[int, ...]
    offsets: tuple[Span | None, ...]

    @classmethod
    def of(
        cls, parts: Sequence[PromptPart], owners: Sequence[int | None], offsets: Sequence[Span | None]
    ) -> PromptSegments:
        """Put sink and template before the caller's parts; tokens without an owner are the template's."""
        known = (PromptPart(SINK, SINK, SINK), PromptPart(TEMPLATE, TEMPLATE, TEMPLATE), *parts)
        placed = [1 if owner is None else owner + 2 for owner in owners]
        if placed and placed[0] == 1:
            placed[0] = 0
        return cls(known, tuple(placed), tuple(offsets))

    def with_images(self, spans: Sequence[Span]) -> PromptSegments:
        """Give the places of each image, first token and end, to a part of its own: `image:0` and on."""
        parts, owners, offsets = list(self.parts), list(self.owners), list(self.offsets)
        for number, (start, end) in enumerate(spans):
            name = f"{IMAGE}:{number}"
            owners[start:end] = [len(parts)] * (end - start)
            offsets[start:end] = [None] * (end - start)
            parts.append(PromptPart(name, name, IMAGE))
        return replace(self, parts=tuple(parts), owners=tuple(owners), offsets=tuple(offsets))

    @property
    def runs(self) -> tuple[PartRun, ...]:
        """The tokens of the prompt as runs of one part each."""
        return tuple(_runs(self.owners))

    @property
    def names(self) -> tuple[str, ...]:
        """What a request may name: the caller's parts, in their order."""
        return tuple(dict.fromkeys(part.name for part in self.parts if part.is_callers))

    @property
    def num_tokens(self) -> tuple[int, ...]:
        """How many tokens belong to each part."""
        counts = Counter(self.owners)
        return tuple(counts[index] for index in range(len(self.parts)))

    def tokens_of(self, name: str) -> tuple[Span, ...]:
        """Runs of the tokens whose part has a name; none where the template dropped it."""
        wanted = {index for index, part in enumerate(self.parts) if part.is_callers and part.name == name}
        return tuple((start, end) for owner, start, end in self.runs if owner in wanted)

    def by_sentence(
        self, min_tokens: int, max_parts: int, roles: Collection[str] | None = None
    ) -> PromptSegments:
        """Cut strings of at least so many tokens into sentences, as long as there are not too many parts.

        Those of some `roles` alone, or all.
        """
        parts, first_of = list[PromptPart](), list[int]()
        starts_of: list[list[int]] = []
        room = max_parts - len(self.parts)
        for part, count in zip(self.parts, self.num_tokens, strict=True):
            is_meant = part.text is not None and (roles is None or part.role in roles)
            starts = _sentences(part) if is_meant and count >= min_tokens else []
            # All of a string or nothing: half of its sentences would look like the whole.
            if len(starts) < 2 or len(starts) - 1 > room:
                starts = []
            room -= max(0, len(starts) - 1)
            first_of.append(len(parts))
            starts_of.append(starts)
            parts += _cut(part, starts) if starts else [part]
        owners = [
            first_of[owner] + _sentence_of(starts_of[owner], span)
            for owner, span in zip(self.owners, self.offsets, strict=True)
        ]
        return replace(self, parts=tuple(parts), owners=tuple(owners))


def role_of(name: str, role: str) -> str:
    """The role of a part that its caller gave a name, and that `role` wrote."""
    return DOCUMENT if name.split(":")[0] in DOCUMENT_NAMES else role


def _runs(owners: Sequence[int]) -> Iterator[PartRun]:
    place = 0
    for owner, group in groupby(owners):
        length = len(list(group))
        yield owner, place, place + length
        place += length


def _sentences(part: PromptPart) -> list[int]:
    """Where the sentences of a part begin."""
    assert part.text is not None
    start, end = part.start or 0, len(part.text) if part.end is None else part.end
    return [start + cut for cut in sentence_starts(part.text[start:end])]


def _cut(part: PromptPart, starts: Sequence[int]) -> list[PromptPart]:
    assert part.text is not None
    ends = [*starts[1:], len(part.text) if part.end is None else part.end]
    return [
        replace(part, id=f"{part.id}#{number}", start=start, end=end)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _sentence_of(starts: Sequence[int], span: Span | None) -> int:
    """The sentence that a token begins in; the first where nobody knows."""
    if not starts or span is None:
        return 0
    return max(0, sum(start <= span[0] for start in starts) - 1)
