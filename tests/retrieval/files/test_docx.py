"""Test that a DOCX is read as its reader sees it, and that a hostile or broken one is refused."""

from __future__ import annotations

import pytest

from cynosure.core.errors import InputError
from cynosure.retrieval.files.bounded_reader import ReadingLimits
from cynosure.retrieval.files.docx import read_docx
from cynosure.retrieval.files.formats import read_text
from cynosure.retrieval.files.marks import entries_of
from tests.retrieval.files.made_documents import docx, paragraph, zipped

STYLES = (
    '<w:style w:type="paragraph" w:styleId="T"><w:name w:val="Title"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="H1"><w:name w:val="heading 1"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Ours"><w:name w:val="Ours"/><w:basedOn w:val="H1"/>'
    '<w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>'
    '<w:style w:type="paragraph" w:styleId="Body"><w:name w:val="Body"/><w:basedOn w:val="Loop"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Loop"><w:name w:val="Loop"/><w:basedOn w:val="Body"/></w:style>'
)
BREAD = (
    paragraph("Baker’s book", "T")
    + paragraph("Bread", "H1")
    + paragraph("Feed the starter &amp; wait.", "Body")
    + paragraph("Baking", "Ours")
    + paragraph("Bake at 230 degrees.")
    + paragraph("Cake", "H1")
    + paragraph("Bake at 180.")
)


def _text(body: str) -> str:
    return read_docx("a.docx", docx(body, STYLES)).text


def test_each_heading_is_a_place_and_offsets_count_in_the_text() -> None:
    extract = read_text("notes/a.DOCX", docx(BREAD, STYLES, paragraph("A note.")))
    assert extract.text == (
        "Baker’s book\nBread\nFeed the starter & wait.\n\nBaking\nBake at 230 degrees.\n\nCake\n"
        "Bake at 180.\n\nA note."
    )
    entries = entries_of("a.docx", extract)
    assert [one.name for one in entries] == [
        "a.docx: Baker’s book",
        "a.docx: Baker’s book > Bread",
        "a.docx: Baker’s book > Bread > Baking",
        "a.docx: Baker’s book > Cake",
    ]
    for one in entries:
        assert extract.text[one.start : one.start + len(one.doc)] == one.doc
    assert entries[2].doc == "Baking\nBake at 230 degrees."


def test_the_strict_namespace_is_the_same() -> None:
    strict = docx(BREAD, STYLES, space="http://purl.oclc.org/ooxml/wordprocessingml/main")
    assert read_docx("a.docx", strict) == read_docx("a.docx", docx(BREAD, STYLES))


@pytest.mark.parametrize(
    ("run", "seen"),
    [
        ("<w:r><w:t>one</w:t><w:tab/><w:t>two</w:t><w:br/><w:t>three</w:t></w:r>", "one\ttwo\nthree"),
        ("<w:r><w:t>well</w:t><w:noBreakHyphen/><w:t>fed</w:t></w:r>", "well-fed"),
        ("<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:t>seen</w:t></w:r>", "seen"),
        ('<w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>seen</w:t></w:r>', "seen"),
        (
            "<w:del><w:r><w:delText>no</w:delText></w:r></w:del><w:ins><w:r><w:t>new</w:t></w:r></w:ins>",
            "new",
        ),
        ("<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:r><w:t>stays</w:t></w:r>", "stays"),
        ("<w:r><w:instrText>PAGE</w:instrText></w:r><w:r><w:t>7</w:t></w:r>", "7"),
        ("<m:oMath><m:r><m:t>x+1</m:t></m:r></m:oMath>", "x+1"),
        ('<w:r><w:sym w:font="Symbol" w:char="03B1"/></w:r>', "α"),
        (
            "<w:r><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p>"
            "</w:txbxContent></mc:Choice><mc:Fallback><w:p><w:r><w:t>box</w:t></w:r></w:p></mc:Fallback>"
            "</mc:AlternateContent><w:t>outside</w:t></w:r>",
            "box\n\noutside",
        ),
        (
            '<w:pPr><w:tabs><w:tab w:val="left"/></w:tabs><w:pPrChange><w:pPr><w:pStyle w:val="H1"/></w:pPr>'
            "</w:pPrChange></w:pPr><w:r><w:t>plain</w:t></w:r>",
            "plain",
        ),
    ],
)
def test_what_a_reader_sees_is_read(run: str, seen: str) -> None:
    extract = read_docx("a.docx", docx(f"<w:p>{run}</w:p>", STYLES))
    assert extract.text == seen
    assert len(extract.marks) == 1


def test_rows_of_a_table_stay_together() -> None:
    cell = "<w:tc>{}</w:tc>"
    flour = cell.format(paragraph("flour") + paragraph("white"))
    row = f"<w:tr>{flour}{cell.format(paragraph('500 g'))}</w:tr>"
    inner = f"<w:tr>{cell.format(f'<w:tbl>{row}</w:tbl>')}</w:tr>"
    body = f"{paragraph('For one')}<w:tbl>{row}{inner}</w:tbl>{paragraph('loaf')}"
    assert _text(body) == "For one\n\nflour white\t500 g\nflour white\t500 g\n\nloaf"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no DOCX"),
        (b"%PDF-1.7 text", "is no DOCX"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "is an encrypted DOCX, or an old DOC"),
        (zipped({"a.txt": b"text"}), "is a ZIP without a Word document"),
        (docx("", more={"word/document.xml": b"<workbook/>"}), "holds no Word document"),
        (docx(""), "holds no text"),
        (docx(BREAD)[:-60], "is damaged"),
        (docx(BREAD, more={"word/document.xml": b"<w:document>"}), "is damaged"),
        (docx(BREAD).replace(b"PK\x01\x02\x14\x03\x14\0\0", b"PK\x01\x02\x14\x03\x14\0\1"), "is encrypted"),
    ],
)
def test_what_is_no_readable_document_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(InputError, match=rf"a\.docx {words}"):
        read_text("a.docx", content)


def test_a_changed_byte_of_the_text_is_damage() -> None:
    whole = docx("".join(paragraph(f"paragraph {number} of many") for number in range(50)))
    place = whole.index(b"word/document.xml") + 120
    assert read_docx("a.docx", whole)
    with pytest.raises(InputError, match="is damaged"):
        read_docx("a.docx", whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])


def test_a_bomb_of_zeros_is_refused_while_it_is_unpacked() -> None:
    fits = b"<w:p>" + b" " * (1 << 20) + b"</w:p>"
    limits = ReadingLimits(max_expanded_bytes=2 << 20, max_bytes=64 << 20)
    assert read_docx("a.docx", docx(paragraph("text") + fits.decode()), limits).text == "text"
    bomb = docx(paragraph("text") + " " * (100 << 20))
    assert len(bomb) < 1 << 20
    with pytest.raises(InputError, match=r"unpacks to over 2 MiB"):
        read_docx("a.docx", bomb, limits)


def test_entities_are_refused() -> None:
    laughs = b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    with pytest.raises(InputError, match="declares a document type"):
        read_docx("a.docx", docx("", more={"word/document.xml": laughs}))


def test_time_memory_and_characters_are_bounded() -> None:
    many = docx("".join(paragraph(f"{number}") for number in range(100_000)))
    with pytest.raises(InputError, match=r"not read within 0\.05 s"):
        read_docx("a.docx", many, ReadingLimits(max_seconds=0.05))
    with pytest.raises(InputError, match=r"needs more memory|made its reader die"):
        read_docx("a.docx", many, ReadingLimits(max_bytes=1 << 20))
    assert read_docx("a.docx", docx(paragraph("four")), ReadingLimits(max_chars=4)).text == "four"
    with pytest.raises(InputError, match="over 4 characters"):
        read_docx("a.docx", docx(paragraph("fours")), ReadingLimits(max_chars=4))
