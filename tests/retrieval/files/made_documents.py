"""Tiny PDF and DOCX files, written by hand: what a reader of them is tested on."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence

_FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def written(*lines: str) -> bytes:
    """Instructions that write lines, one below the other."""
    shown = [line.encode("cp1252").replace(b"(", rb"\(").replace(b")", rb"\)") for line in lines]
    return b"BT /F1 12 Tf 72 720 Td 14 TL " + b" T* ".join(b"(%s) Tj" % line for line in shown) + b" ET"


def pdf(*pages: bytes, trailer: bytes = b"", forms: Sequence[bytes] = (), packed: bool = False) -> bytes:
    """A PDF of pages by their instructions; each form, named /X0 and on, may draw the others."""
    count = len(pages)
    names = b" ".join(b"/X%d %d 0 R" % (place, 4 + 2 * count + place) for place in range(len(forms)))
    resources = b"/Resources << /Font << /F1 3 0 R >> /XObject << %s >> >>" % names
    kids = b" ".join(b"%d 0 R" % (5 + 2 * place) for place in range(count))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, kids),
        _FONT,
    ]
    for place, page in enumerate(pages):
        data, how = (zlib.compress(page), b"/Filter /FlateDecode") if packed else (page, b"")
        objects.append(b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), how, data))
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] %s /Contents %d 0 R >>"
            % (resources, 4 + 2 * place)
        )
    objects += [
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 612 792] %s /Length %d >>\nstream\n%s\nendstream"
        % (resources, len(form), form)
        for form in forms
    ]
    out, places = b"%PDF-1.7\n", []
    for number, one in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return out + b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (
        size,
        trailer,
        out.rindex(b"xref\n0 "),
    )


def paragraph(text: str, style: str = "") -> str:
    """A paragraph of one run."""
    of = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f'<w:p>{of}<w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def docx(
    body: str, styles: str = "", notes: str = "", space: str = _WORD, more: Mapping[str, bytes] | None = None
) -> bytes:
    """A DOCX by the XML of its body, its styles and its footnotes."""
    parts = {
        "_rels/.rels": _relations(officeDocument="word/document.xml"),
        "word/document.xml": f"<w:document {_spaces(space)}><w:body>{body}</w:body></w:document>".encode(),
        "word/_rels/document.xml.rels": _relations(styles="styles.xml", footnotes="/word/footnotes.xml"),
        "word/styles.xml": f"<w:styles {_spaces(space)}>{styles}</w:styles>".encode(),
        "word/footnotes.xml": f"<w:footnotes {_spaces(space)}>{notes}</w:footnotes>".encode(),
    }
    return zipped(parts | dict(more or {}))


def zipped(parts: Mapping[str, bytes]) -> bytes:
    """A ZIP of parts."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return file.getvalue()


def _spaces(space: str) -> str:
    maths = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    compatible = "http://schemas.openxmlformats.org/markup-compatibility/2006"
    return f'xmlns:w="{space}" xmlns:m="{maths}" xmlns:mc="{compatible}"'


def _relations(**targets: str) -> bytes:
    lines = [
        f'<Relationship Id="{kind}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for kind, target in targets.items()
    ]
    space = "http://schemas.openxmlformats.org/package/2006/relationships"
    return f'<Relationships xmlns="{space}">{"".join(lines)}</Relationships>'.encode()
