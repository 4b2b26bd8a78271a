"""Shape how a request is treated: when, how exactly, and whose pages it keeps. Computes nothing.

`priority` is vLLM's, the session OpenAI's; `deadline_ms`, `reproducible`, `speculation` and `page_selection`
are our own, and the same on every route that generates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from cynosure.engine.page_selection import DEFAULT_CHECK_EVERY, MIN_PAGES, PageSelection
from cynosure.engine.sampling import SamplingParams
from cynosure.server.schemas.session import SessionFields
from cynosure.server.schemas.wire import WireRequest
from cynosure.server.services import Generation

MAX_DEADLINE_MS = 24 * 60 * 60 * 1000
MAX_PRIORITY = 100
MAX_PAGES = 1 << 20
MAX_CHECK_EVERY = 1 << 20


class PageSelectionFields(WireRequest):
    """How many pages generated tokens attend to, and of how many tokens one is exact, to check them."""

    pages: Annotated[int, Field(ge=MIN_PAGES, le=MAX_PAGES)]
    check_every: Annotated[int, Field(ge=1, le=MAX_CHECK_EVERY)] = DEFAULT_CHECK_EVERY


class TreatmentFields(SessionFields):
    """Fields of a request that change no word of what is asked.

    A request may stand back behind others (`priority` above 0), never push ahead of them.
    """

    priority: Annotated[int, Field(ge=0, le=MAX_PRIORITY)] | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS)] | None = None
    reproducible: bool | None = None
    speculation: bool | None = None
    page_selection: PageSelectionFields | None = None

    @model_validator(mode="after")
    def _what_is_reproducible_shares_nothing(self) -> Self:
        if self.prompt_cache_key is not None and self.reproducible:
            raise ValueError("a reproducible request shares no pages; leave prompt_cache_key out")
        if self.speculation and self.reproducible:
            raise ValueError("a reproducible request computes each token alone; leave speculation out")
        if self.page_selection is not None and self.reproducible:
            raise ValueError("a reproducible request attends to every page; leave page_selection out")
        if self.page_selection is not None and self.speculation:
            raise ValueError("pages are selected for one token at a time; leave speculation out")
        return self

    @property
    def is_reproducible(self) -> bool:
        """Whether the answer depends on this request alone."""
        return self.reproducible is True

    def asked(self, token_ids: Sequence[int], sampling: SamplingParams) -> Generation:
        """What the model is asked."""
        return Generation(
            tuple(token_ids),
            sampling,
            priority=self.priority or 0,
            deadline_ms=self.deadline_ms,
            is_reproducible=self.is_reproducible,
            session=self.session,
            speculation=self.speculation,
            page_selection=self._selection,
        )

    @property
    def _selection(self) -> PageSelection | None:
        asked = self.page_selection
        return None if asked is None else PageSelection(asked.pages, asked.check_every)
