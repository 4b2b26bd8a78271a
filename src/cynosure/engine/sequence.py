"""Follow one request through the engine: its tokens, its pages, its events. Decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from dataclasses import replace

from cynosure.cache import SequencePages
from cynosure.engine.grammar.matching import Matcher
from cynosure.engine.image_store import HeldImages
from cynosure.engine.largest import Likeliest
from cynosure.engine.page_key import biased_ids
from cynosure.engine.recorder import Recorder
from cynosure.engine.request import Event, FinishReason, Request, TerminalEvent, Usage, finish_reason
from cynosure.engine.sampler import Row, new_dice
from cynosure.engine.schedule import SequenceView
from cynosure.engine.speculation import Drafter
from cynosure.engine.watch import AttendedTo, BiasRun
from cynosure.models.adapters.adapter import Adapter

Notify = Callable[[Event], None]


class Sequence:
    """A request that has not ended.

    `token_ids` are the prompt and what was generated; the first `num_computed` of them are in `pages`.
    `num_cached` tokens were found and not computed; how likely the first `num_scored` are has been told.
    `attended` is what the next tokens attended to, and `likeliest` what stands highest in their logits, where
    that is known already.
    """

    def __init__(
        self,
        request: Request,
        notify: Notify,
        pages: SequencePages,
        matcher: Matcher | None = None,
        drafter: Drafter | None = None,
        images: HeldImages | None = None,
    ) -> None:
        """Hold the prompt; nothing is computed and no page is taken."""
        assert (matcher is None) == (request.params.constraint is None), "a constraint goes with its matcher"
        self.request = request
        self.token_ids = list(request.token_ids)
        self._generated: list[int] = []
        self.pages = pages
        self.images = images
        self.num_cached = 0
        self.was_admitted = False
        self.is_abandoned = False
        self.num_scored = 0
        self.attended: Iterator[AttendedTo | None] = iter(())
        self.likeliest: Iterator[Likeliest] = iter(())
        self.adapter: Adapter | None = None
        self.notes = Recorder(request)
        self._prompt_ids = biased_ids(request) if images is None else images.page_ids
        self._dice = new_dice(request.params.seed)
        self._matcher = matcher
        self._drafter = drafter
        self._notify = notify

    @property
    def page_ids(self) -> Items[int]:
        """What pages are found by: the tokens, and what tells images and biased tokens apart."""
        return self.token_ids if self._prompt_ids is None else [*self._prompt_ids, *self._generated]

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens that came with the request."""
        return len(self.request.token_ids)

    @property
    def account(self) -> str | None:
        """Whose service is counted: the tenant's, save in the background, for which no tenant asked."""
        return None if self.request.is_background else self.request.tenant

    @property
    def bias(self) -> tuple[BiasRun, ...]:
        """What is added to scores in the next pass."""
        return self.request.bias if self.num_computed >= self.request.bias_from else ()

    def piece(self, num_tokens: int) -> int:
        """How many of so many pending tokens the next pass takes: none across the place a bias holds from."""
        ahead = self.request.bias_from - self.num_computed
        return min(num_tokens, ahead) if ahead > 0 else num_tokens

    def piece_alone(self, block_size: int) -> int:
        """How many tokens come next where passes are cut by its own length: up to a page's end, then one."""
        done = self.num_computed
        num_left = self.num_prompt_tokens - done
        return 1 if num_left <= 0 else min(block_size - done % block_size, num_left)

    @property
    def generated(self) -> Items[int]:
        """Tokens that were chosen; it grows: a copy a step would cost as much as the answer is long."""
        return self._generated

    @property
    def num_computed(self) -> int:
        """Tokens whose keys and values are in the pages."""
        return self.pages.num_tokens

    @property
    def num_shareable(self) -> int:
        """Those of the computed tokens whose keys and values are what any request would compute.

        Tokens that attended to chosen pages alone have keys and values of their own from the second layer on.
        """
        if self.request.page_selection is None:
            return self.num_computed
        return min(self.num_computed, self.num_prompt_tokens)

    @property
    def usage(self) -> Usage:
        """What the request cost so far."""
        return Usage(self.num_prompt_tokens, self.num_cached, len(self.token_ids) - self.num_prompt_tokens)

    def sampler_row(self, eos_token_ids: frozenset[int], vocab_size: int) -> Row:
        """Return what the sampler needs; the dice are the request's own, whatever its neighbours.

        Raises:
            InputError: the constraint takes too much.
        """
        request = self.request
        allowed = None if self._matcher is None else self._matcher.allowed(vocab_size)
        if allowed is not None:
            self.notes.constrained(int(allowed.sum()))
        return Row(
            request.params,
            request.visible_ids,
            self.generated,
            self._dice,
            eos_token_ids,
            allowed,
            likeliest=next(self.likeliest, None),
        )

    def draft(self, max_tokens: int) -> tuple[int, ...]:
        """Return what may come after the next token, at most so many; never past the answer's last place."""
        if self._drafter is None:
            return ()
        # The step chooses one token more than it drafts.
        room = self.request.max_num_tokens - len(self.token_ids) - 1
        return self._drafter.draft(self.token_ids, min(max_tokens, room))

    def learn(self, num_drafted: int, num_accepted: int) -> None:
        """Note how far a draft was right."""
        assert self._drafter is not None, "nothing was drafted"
        self._drafter.learn(num_drafted, num_accepted)

    def accept(self, token_id: int, eos_token_ids: frozenset[int]) -> FinishReason | None:
        """Append a token that was chosen, and return why it is the last, if it is.

        Raises:
            InputError: the constraint can't be followed any further.
        """
        params = self.request.params
        self.token_ids.append(token_id)
        self._generated.append(token_id)
        self.notes.chose()
        is_complete = False
        if self._matcher is not None and token_id not in params.ends(eos_token_ids):
            self._matcher.accept(token_id)
            is_complete = self._matcher.is_complete
        return finish_reason(params, eos_token_ids, self.generated, is_complete)

    def view(self, served_tokens: float, num_shared: int) -> SequenceView:
        """Return what the scheduler sees."""
        request = self.request
        return SequenceView(
            request_id=request.request_id,
            num_tokens=len(self.token_ids),
            num_computed=self.num_computed,
            # Pages are planned with room for a next token, also where none will be chosen.
            max_num_tokens=max(request.max_num_tokens, self.num_prompt_tokens + 1),
            num_blocks_held=len(self.pages.blocks),
            num_blocks_shared=num_shared,
            priority=request.priority,
            arrival_s=request.arrival_s,
            deadline_s=request.deadline_s,
            tenant=request.tenant,
            is_background=request.is_background,
            served_tokens=served_tokens,
            was_admitted=self.was_admitted,
        )

    def tell(self, event: Event) -> None:
        """Hand an event to the caller; one whose ear is broken is abandoned, and hurts nobody else."""
        try:
            self._notify(event)
        except Exception:
            self.is_abandoned = True

    def release(self) -> None:
        """Give pages and images back: at the end, or to be computed again later."""
        self.pages.release()
        if self.images is not None:
            self.images.release()

    def end(self, event: TerminalEvent) -> None:
        """Give everything back, then say how it ended, and how it went."""
        self.release()
        self.tell(replace(event, report=self.notes.report()))
