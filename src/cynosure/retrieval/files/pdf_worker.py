"""Take the text out of the pages of a PDF. Knows nothing of limits of time: it runs as a script.

pypdf mends what it can, and says in its log what it could not. A stream that does not unpack loses text, so
that the file is refused; a table of objects that had to be made anew loses none.
"""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Iterator, Mapping

from pypdf import PageObject, PdfReader
from pypdf.errors import DependencyError, LimitReachedError
from pypdf.generic import ArrayObject, DictionaryObject, StreamObject

from cynosure.core.json_worker import Refused, serve

_ENCRYPTED = "is encrypted. Save it without encryption: `qpdf --decrypt IN.pdf OUT.pdf`."
_HELP = "Repair it, such as by `qpdf IN.pdf OUT.pdf`, or leave it out."


class Losses(logging.Handler):
    """Keeps what pypdf's decoders complain of: each complaint is of data that is lost."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message."""
        self.told.append(record.getMessage())


def main() -> None:
    """Answer each file with the text of its pages."""
    losses = Losses()
    logging.getLogger("pypdf").setLevel(logging.WARNING)
    logging.getLogger("pypdf").propagate = False
    logging.getLogger("pypdf").addHandler(logging.NullHandler())
    logging.getLogger("pypdf.filters").addHandler(losses)
    serve(lambda asked: _read(asked, losses))


def _read(asked: Mapping[str, object], losses: Losses) -> dict[str, object]:
    losses.told.clear()
    try:
        pages = list(
            _pages(io.BytesIO(base64.b64decode(str(asked["content"]))), int(str(asked["max_chars"])))
        )
    except (Refused, MemoryError):
        raise
    except DependencyError as fault:
        # The only package that text may need, and that is not of the extra, undoes encryption.
        raise Refused(_ENCRYPTED) from fault
    except LimitReachedError as fault:
        raise Refused(
            f"runs over a limit of its reader: {_reason(fault)}. Split it, or leave it out."
        ) from fault
    except Exception as fault:
        # What a parser raises on bytes of strangers has no common parent.
        raise Refused(f"is damaged: {_reason(fault)}. {_HELP}") from fault
    if losses.told:
        raise Refused(f"is damaged: {losses.told[0].rstrip(' .')[:200]}. {_HELP}")
    return {"pages": pages}


def _reason(fault: Exception) -> str:
    return " ".join(str(fault).split())[:200].rstrip(" .") or type(fault).__name__


def _pages(stream: io.BytesIO, max_chars: int) -> Iterator[str]:
    reader = PdfReader(stream)
    if reader.is_encrypted:
        raise Refused(_ENCRYPTED)
    tree = reader.root_object["/Pages"].get_object()
    declared = tree.get("/Count") if isinstance(tree, DictionaryObject) else None
    found = len(reader.pages)
    if not found or (isinstance(declared, int) and found < declared):
        raise Refused(f"is damaged: it declares {declared} pages, and {found} were found. {_HELP}")
    length = 0
    for number, page in enumerate(reader.pages, 1):
        _check_content(page, number)
        text = page.extract_text()
        length += len(text)
        if length > max_chars:
            raise Refused(f"holds over {max_chars} characters, which is the limit. Split it.")
        yield text


def _check_content(page: PageObject, number: int) -> None:
    # A page without the key is blank; one whose streams are not there has lost them.
    if "/Contents" not in page:
        return
    content = page["/Contents"].get_object()
    streams = [one.get_object() for one in content] if isinstance(content, ArrayObject) else [content]
    if not all(isinstance(one, StreamObject) for one in streams):
        raise Refused(f"is damaged: content of page {number} is not there. {_HELP}")


if __name__ == "__main__":
    main()
