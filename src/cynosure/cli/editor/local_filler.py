"""Fill gaps with a model in this process. Knows nothing of files, editors or HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from cynosure.cli.editor.filling import Filling, Piece, Question, written
from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.local_completer import load_completer
from cynosure.core.errors import CheckpointNotFound, UnknownOption
from cynosure.engine import constraints
from cynosure.engine.sampling import SamplingParams
from cynosure.models.fill_in import form_of
from cynosure.models.fill_window import fill_window
from cynosure.pack import CORE_LM, pack_folder
from cynosure.server.services import Generation

#: A window of more tokens costs more time than it is worth while somebody types.
MAX_WINDOW = 2048


class LocalFiller:
    """A decoder that was trained to fill in, and its engine."""

    def __init__(self, model: EngineCompleter, name: str | None = None) -> None:
        """Check that it knows gaps.

        Args:
            model: The model, under its engine.
            name: What to call it, if not as the engine does.

        Raises:
            UnknownOption: its vocabulary has no tokens for one.
        """
        if form_of(model.tokenizer) is None:
            model.close()
            raise UnknownOption(
                f"{model.name} can't fill in: its vocabulary has no token for a gap. Name a model that was "
                "trained to, or leave --model out."
            )
        self.name = name or model.name
        self.model = model

    async def fill(self, question: Question) -> Filling:
        """Propose, by the likeliest tokens.

        Raises:
            CynosureError: the question is not usable, or the engine failed.
        """
        begun = time.perf_counter()
        gap, limit = question.gap, question.token_limit
        room = min(self.model.max_model_len or MAX_WINDOW, MAX_WINDOW) - limit
        seen = await asyncio.to_thread(fill_window, self.model.tokenizer, gap.prefix, gap.suffix, room)
        constraint = None
        if question.names is not None:
            constraint = await asyncio.to_thread(constraints.names, question.names, before=gap.prefix)
        sampling = SamplingParams(
            max_tokens=limit, temperature=0.0, stop_token_ids=seen.prompt.end_ids, constraint=constraint
        )
        await self.model.prepare(sampling)
        told = await written(self._pieces(Generation(seen.prompt.token_ids, sampling)), question, begun)
        return Filling(
            text=told.text,
            end=told.end,
            window=gap.window(seen.start, seen.end),
            num_prompt_tokens=len(seen.prompt.token_ids),
            num_tokens=told.num_tokens,
            first_ms=told.first_ms,
            total_ms=1e3 * (time.perf_counter() - begun),
        )

    def close(self) -> None:
        """Stop the engine."""
        self.model.close()

    async def _pieces(self, asked: Generation) -> AsyncGenerator[Piece]:
        async with aclosing(self.model.complete(asked)) as tokens:
            async for together in tokens:
                reasons = [token.finish_reason for token in together if token.finish_reason]
                num_tokens = sum(token.token_id is not None for token in together)
                text = "".join(token.text for token in together)
                yield Piece(text, reasons[-1] if reasons else None, num_tokens)


def model_source(named: str | None) -> tuple[str, str]:
    """What a model is called, and where it comes from; the pack's where nothing is named.

    Raises:
        CheckpointNotFound: this copy of the package has no pack.
    """
    if named is not None:
        return named, named
    try:
        return CORE_LM, str(pack_folder(CORE_LM))
    except CheckpointNotFound as fault:
        raise CheckpointNotFound(f"{fault} Or name a model of your own: --model FOLDER.") from fault


def load_filler(named: str | None, dtype: str = "auto") -> LocalFiller:
    """Load a model from a folder, a GGUF file or by a hub id; the pack's where nothing is named.

    Raises:
        CheckpointError: there is none, or it is no decoder.
        UnknownOption: it can't fill in.
    """
    name, source = model_source(named)
    return LocalFiller(load_completer(name, source, dtype))
