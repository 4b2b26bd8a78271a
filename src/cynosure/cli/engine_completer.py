"""Answer completions with an engine: text in, text out, many at once. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import CheckpointNotFound, EngineFault, UnsupportedArchitecture
from cynosure.engine import (
    Cancelled,
    Event,
    Failed,
    Finished,
    FinishReason,
    Refused,
    Request,
    SamplingParams,
    TokenEvent,
)
from cynosure.engine.core import EngineCore
from cynosure.engine.engine import Engine
from cynosure.engine.grammar_cache import GrammarCache
from cynosure.engine.grammar_process import TokenizerDefinition
from cynosure.engine.settings import EngineSettings
from cynosure.models.chat_format import ChatFormat
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel, load
from cynosure.models.tokenizer import Tokenizer
from cynosure.models.tool_calls import ToolFormat
from cynosure.observe.load import EngineLoad
from cynosure.server.services import Token

_FINISH = {
    FinishReason.EOS: "stop",
    FinishReason.STOP: "stop",
    FinishReason.COMPLETE: "stop",
    FinishReason.LENGTH: "length",
}


@dataclass(frozen=True)
class _Pending:
    """A request's events, handed from the engine's thread to an event loop."""

    request_id: str
    mailbox: asyncio.Queue[Event]


class EngineCompleter:
    """What `/v1/completions` and chat ask, answered by an engine in this process."""

    def __init__(
        self,
        name: str,
        model: LanguageModel,
        settings: EngineSettings | None = None,
        tool_format: ToolFormat | None = None,
    ) -> None:
        """Check that the model continues text, and start its engine.

        Raises:
            UnsupportedArchitecture: it does something else.
            CheckpointNotFound: its folder has no tokenizer.
        """
        if not isinstance(model.graph, Decoder):
            raise UnsupportedArchitecture(
                f"{model.architecture} in {model.folder} is of kind {model.kind.value}; completions need a "
                "decoder. Name another folder."
            )
        if model.tokenizer is None:
            raise CheckpointNotFound(
                f"{model.folder} has no tokenizer.json; completions need it. Copy it from where the weights "
                "came from."
            )
        self.name = name
        self.max_model_len: int | None = model.spec.max_model_len
        self.model = model
        self.tokenizer: Tokenizer = model.tokenizer
        self.chat = ChatFormat.of(model.chat_template, model.tokenizer, tool_format)
        self._core = EngineCore(
            model.graph,
            model.generation_defaults.eos_token_ids,
            settings or EngineSettings(),
            model_id=f"{name}@{model.folder}",
            backend=model.backend,
        )
        definition = TokenizerDefinition(
            model.tokenizer.definition,
            max(model.spec.vocab_size, model.tokenizer.vocab_size),
            model.generation_defaults.eos_token_ids,
        )
        self.engine = Engine(self._core, GrammarCache(definition))

    @property
    def load(self) -> EngineLoad:
        """How busy the engine is; a moment old."""
        now, prefixes = self.engine.snapshot, self._core.tree.statistics
        num_idle = now.num_free_blocks + now.num_cached_blocks
        block_size = self._core.settings.block_size
        return EngineLoad(
            num_running=now.num_running,
            num_waiting=now.num_waiting,
            kv_cache_usage=1 - num_idle / now.num_blocks,
            num_prefix_queries=(prefixes.num_hits + prefixes.num_misses) * block_size,
            num_prefix_hits=prefixes.num_hits * block_size,
        )

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of a prompt, with what the checkpoint puts before it."""
        return self.tokenizer.encode(text).ids

    async def prepare(self, sampling: SamplingParams, tenant: str = "") -> None:
        """Have the constraint ready, so that one which is not usable shows before the first token.

        Raises:
            InputError: it does not compile, or not within the limits.
            MissingPackage, EngineFault: nobody can compile it, now or at all.
        """
        if sampling.constraint is not None:
            grammar = self.engine.grammar(sampling.constraint, tenant)
            # Others may wait for the same one: whoever leaves must not take it along.
            await asyncio.shield(asyncio.wrap_future(grammar))

    def complete(
        self, token_ids: Sequence[int], sampling: SamplingParams, tenant: str = ""
    ) -> AsyncGenerator[Token]:
        """Check the prompt at once; then give tokens as they are chosen. Closing it takes the request back.

        Needs a running event loop.

        Raises:
            EmptyInput, InputError, InputTooLong: the prompt or the sampling is not of this model.
        """
        loop = asyncio.get_running_loop()
        pending = _Pending(uuid.uuid4().hex, asyncio.Queue())

        def notify(event: Event) -> None:
            loop.call_soon_threadsafe(pending.mailbox.put_nowait, event)

        request = Request(pending.request_id, tuple(token_ids), sampling, tenant)
        self.engine.submit(request, notify)
        tokens = self._tokens(pending)
        # A generator that is dropped before its first token never runs, nor its `finally`.
        weakref.finalize(tokens, self.engine.cancel, pending.request_id)
        return tokens

    def close(self) -> None:
        """Stop the engine; what is under way fails."""
        self.engine.close()

    async def _tokens(self, pending: _Pending) -> AsyncGenerator[Token]:
        decoder = self.tokenizer.stream(shown=() if self.chat is None else self.chat.shown_tokens)
        held: TokenEvent | None = None
        try:
            # One token is held back, because what ended the text is told after it.
            while True:
                event = await pending.mailbox.get()
                if isinstance(event, TokenEvent):
                    if held is not None:
                        yield Token(decoder.push(held.token_id))
                    held = event
                elif isinstance(event, Finished):
                    assert held is not None
                    # The end token is no text, whatever the tokenizer makes of it.
                    text = decoder.push(held.token_id) if event.reason.last_is_text else ""
                    yield Token(text + decoder.finish(), _FINISH[event.reason], event.usage.cached_tokens)
                    return
                elif isinstance(event, Failed | Refused | Cancelled):
                    raise _error_of(event)
        finally:
            self.engine.cancel(pending.request_id)


def load_completer(
    name: str,
    source: str | Path,
    dtype: str = "auto",
    backend: str = "auto",
    tool_format: ToolFormat | None = None,
) -> EngineCompleter:
    """Load a decoder and its tokenizer from a folder, or by a hub id."""
    return EngineCompleter(name, load(source, dtype=dtype, backend=backend), tool_format=tool_format)


def _error_of(event: Failed | Refused | Cancelled) -> Exception:
    if isinstance(event, Failed):
        return event.error
    if isinstance(event, Refused):
        return EngineFault(event.message)
    return EngineFault("the request was cancelled before its answer was complete. Send it again.")
