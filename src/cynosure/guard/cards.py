"""Find payment card numbers by issuer, length, layout and check digit. Knows nothing of other numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from cynosure.guard.digits import Groups, chains, passes_luhn
from cynosure.guard.kinds import Kind, Span

#: First digits from, to (inclusive), and the lengths that the issuer hands out. Visa's 13 digits are left
#: out: none has been issued for decades, and article numbers look like them.
ISSUERS: tuple[tuple[str, int, int, tuple[int, ...]], ...] = (
    ("visa", 4, 4, (16, 19)),
    ("mastercard", 51, 55, (16,)),
    ("mastercard", 2221, 2720, (16,)),
    ("amex", 34, 34, (15,)),
    ("amex", 37, 37, (15,)),
    ("discover", 6011, 6011, (16, 19)),
    ("discover", 644, 649, (16, 19)),
    ("discover", 65, 65, (16, 19)),
    ("diners", 300, 305, (14, 16)),
    ("diners", 36, 36, (14, 16)),
    ("diners", 38, 39, (14, 16)),
    ("jcb", 3528, 3589, (16,)),
    ("unionpay", 62, 62, (16, 17, 18, 19)),
    ("mir", 2200, 2204, (16,)),
    ("maestro", 5018, 5018, (16, 18, 19)),
    ("maestro", 5020, 5020, (16, 18, 19)),
    ("maestro", 5038, 5038, (16, 18, 19)),
    ("maestro", 5893, 5893, (16, 18, 19)),
    ("maestro", 6304, 6304, (16, 18, 19)),
    ("maestro", 6759, 6763, (16, 18, 19)),
    ("rupay", 60, 60, (16,)),
    ("rupay", 81, 82, (16,)),
    ("troy", 9792, 9792, (16,)),
)
_PREFIXES = {
    str(prefix): (name, lengths) for name, low, high, lengths in ISSUERS for prefix in range(low, high + 1)
}
_LENGTHS = range(14, 20)
_PRINTED = ((4, 6, 5), (4, 6, 4), (8, 8), (6, 13))


def find_cards(text: str, begin: int) -> Iterator[Span]:
    """Yield the card numbers of a run, from `begin` on; what stands before is context."""
    for chain in chains(text, begin):
        yield from _in_chain(text, chain)


def issuer_of(digits: str) -> str | None:
    """The scheme that hands out a number of this beginning and length, or none."""
    for length in (4, 3, 2, 1):
        name, lengths = _PREFIXES.get(digits[:length], (None, ()))
        if len(digits) in lengths:
            return name
    return None


def _in_chain(text: str, chain: Groups) -> Iterator[Span]:
    sizes = [end - start for start, end in chain.spans]
    num_alike = Counter(sizes)
    first = 0
    while first < len(sizes):
        step = 1
        for count in _layouts(sizes, first, num_alike[sizes[first]]):
            spans = chain.spans[first : first + count]
            digits = "".join(text[start:end] for start, end in spans)
            issuer = issuer_of(digits)
            if issuer and passes_luhn(digits) and _stands_alone(text, spans[0][0], spans[-1][1], count):
                yield Span(Kind.CARD, spans[0][0], spans[-1][1], issuer)
                step = count
                break
        first += step


def _layouts(sizes: Sequence[int], first: int, num_alike: int) -> Iterator[int]:
    """How many groups from `first` on are laid out as a card number, in every way they can be.

    In one piece, as the issuer prints it, digit by digit, or in fours with a rest. Groups among many more
    of the same size are cells of a table.
    """
    size = sizes[first]
    if size in _LENGTHS:
        yield 1
    for printed in _PRINTED:
        if tuple(sizes[first : first + len(printed)]) == printed:
            yield len(printed)
    if size == 1:
        alike = next((n for n, other in enumerate(sizes[first : first + 20]) if other != 1), 20)
        yield from (count for count in _LENGTHS if num_alike - 2 <= count <= min(alike, len(sizes) - first))
    if size == 4:
        total = 0
        for count, other in enumerate(sizes[first : first + 5], 1):
            total += other
            if total in _LENGTHS and other <= 4 and num_alike <= count + 2:
                yield count
            if other != 4:
                return


def _stands_alone(text: str, start: int, end: int, count: int) -> bool:
    """Neither part of a word or hexadecimal number, nor the fraction of a decimal one."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    # ASCII words: in Chinese or Japanese a number stands right beside the words around it.
    if any(char.isascii() and char.isalnum() for char in (before[-1:], after[:1])):
        return False
    points = ",.-" if count == 1 else ",."
    is_fraction = before[:-1].isdigit() and before[-1] in points
    is_whole = after[1:].isdigit() and after[0] in points
    return not is_fraction and not is_whole
