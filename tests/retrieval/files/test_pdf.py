"""Test that a PDF's text is read by page, and that a hostile or broken one is refused and harms nobody."""

from __future__ import annotations

import time

import pytest

from cynosure.core.errors import InputError, MissingPackage
from cynosure.retrieval.files import pdf as module
from cynosure.retrieval.files.bounded_reader import ReadingLimits
from cynosure.retrieval.files.formats import read_text
from cynosure.retrieval.files.marks import entries_of
from cynosure.retrieval.files.pdf import read_pdf
from tests.retrieval.files.made_documents import pdf, written

BOOK = pdf(written("Bread is (baked)", "at “230” degrees."), b"", written("Café"), packed=True)


def test_each_page_is_a_place_and_offsets_count_in_the_text() -> None:
    extract = read_text("notes/a.PDF", BOOK)
    assert extract.text == "Bread is (baked)\nat “230” degrees.\n\nCafé\n\n"
    entries = entries_of("notes/a.pdf", extract)
    # The second page is blank, and counts.
    assert [one.name for one in entries] == ["notes/a.pdf: page 1", "notes/a.pdf: page 3"]
    assert {one.kind for one in entries} == {"page"}
    for one in entries:
        assert extract.text[one.start : one.start + len(one.doc)] == one.doc


@pytest.mark.parametrize(
    "trailer",
    [
        b"/Encrypt << /Filter /Standard /V 5 /R 6 /Length 256 /O (x) /U (y) /P -4 >>",
        b"/Encrypt << /Filter /Standard /V 1 /R 2 /O (%s) /U (%s) /P -4 >>" % (b"o" * 32, b"u" * 32),
    ],
)
def test_an_encrypted_one_is_refused(trailer: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.pdf is encrypted.*qpdf --decrypt"):
        read_pdf("a.pdf", pdf(written("secret"), trailer=trailer))


def test_one_without_text_is_refused() -> None:
    with pytest.raises(InputError, match=r"no text in its 2 pages.*ocrmypdf"):
        read_pdf("a.pdf", pdf(b"0 0 100 100 re f", b""))


def test_what_is_lost_is_no_text_less_but_a_refusal() -> None:
    middle = BOOK.index(b"stream\n") + 20
    spoilt = {
        "cut": BOOK[: len(BOOK) // 2],
        "stream": BOOK[:middle] + b"\xff" * 12 + BOOK[middle + 12 :],
        "page": BOOK.replace(b"/Count 3", b"/Count 4"),
        "content": BOOK.replace(b"/Contents 8 0 R", b"/Contents 0 0 R"),
        "nothing": b"%PDF-1.7\n",
    }
    for content in spoilt.values():
        with pytest.raises(InputError, match=r"a\.pdf is damaged: .*(Repair|qpdf)"):
            read_pdf("a.pdf", content)


def test_what_can_be_mended_without_loss_is_read() -> None:
    moved = BOOK.replace(b"startxref\n", b"startxref\n9")
    assert read_pdf("a.pdf", moved) == read_pdf("a.pdf", BOOK)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"<html>text</html>"])
def test_another_format_under_its_name_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.pdf is no PDF"):
        read_text("a.pdf", content)


@pytest.mark.parametrize("name", ["a.md", "a.txt", "a.py", "a.html"])
def test_a_pdf_under_the_name_of_a_text_is_refused(name: str) -> None:
    assert pdf(written("plain")).isascii(), "nothing else tells it from text"
    with pytest.raises(InputError, match=f"{name} is a PDF, not text"):
        read_text(name, pdf(written("plain")))


def test_a_bomb_of_zeros_is_refused() -> None:
    bomb = pdf(b" " * (200 << 20), packed=True)
    assert len(bomb) < 1 << 20
    with pytest.raises(InputError, match=r"a\.pdf runs over a limit of its reader"):
        read_pdf("a.pdf", bomb)


def test_one_that_would_take_hours_is_ended() -> None:
    # Every form draws the next one many times over.
    forms = [b" ".join([b"/X%d Do" % (place + 1)] * 40) for place in range(7)]
    begun = time.monotonic()
    with pytest.raises(InputError, match="not read within 1 s"):
        read_pdf("a.pdf", pdf(b"/X0 Do", forms=[*forms, written("deep")]), ReadingLimits(max_seconds=1.0))
    assert time.monotonic() - begun < 60


def test_memory_is_bounded() -> None:
    large = pdf(*[written("word " * 20_000)] * 2)
    assert read_pdf("a.pdf", large).marks[1].place == "page 2"
    with pytest.raises(InputError, match=r"a\.pdf (needs more memory|made its reader die|is damaged)"):
        read_pdf("a.pdf", large, ReadingLimits(max_bytes=1 << 20))


def test_characters_are_bounded() -> None:
    fits = ReadingLimits(max_chars=8)
    assert read_pdf("a.pdf", pdf(written("four"), written("more")), fits).text == "four\n\nmore\n\n"
    with pytest.raises(InputError, match="over 8 characters"):
        read_pdf("a.pdf", pdf(written("four"), written("more."), packed=True), fits)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pypdf.*cynosure\[retrieval\]"):
        read_pdf("a.pdf", BOOK)


def test_characters_that_no_text_holds_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_bounded", lambda *_: {"pages": ["a\0b\ud800c"]})
    assert read_pdf("a.pdf", BOOK).text == "a\ufffdb\ufffdc\n\n"
