"""Serve a decoder from a folder. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cynosure.core.errors import CheckpointNotFound, UnsupportedArchitecture
from cynosure.models.brand import ModelKind
from cynosure.models.generate import FinishReason, SamplingOptions, Step, stream
from cynosure.models.load import LanguageModel, load
from cynosure.models.stream_decoder import StreamDecoder
from cynosure.models.tokenizer import Tokenizer
from cynosure.server.services import Sampling, Token

_FINISH = {FinishReason.EOS: "stop", FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}


class LocalCompleter:
    """What `/v1/completions` asks, answered by a decoder in this process."""

    def __init__(self, name: str, model: LanguageModel) -> None:
        """Check that the model continues text.

        Raises:
            UnsupportedArchitecture: it does something else.
            CheckpointNotFound: its folder has no tokenizer.
        """
        if model.kind is not ModelKind.DECODER:
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
        self._model = model
        self._tokenizer: Tokenizer = model.tokenizer

    def encode(self, text: str) -> Sequence[int]:
        """Token ids of a prompt, with what the checkpoint puts before it."""
        return self._tokenizer.encode(text).ids

    def complete(self, token_ids: Sequence[int], sampling: Sampling) -> Iterator[Token]:
        """Check the prompt at once; then give tokens as they are chosen."""
        options = SamplingOptions(
            max_new_tokens=sampling.max_tokens, temperature=sampling.temperature, seed=sampling.seed
        )
        return _tokens(stream(self._model, [token_ids], options), self._tokenizer.stream())


def load_completer(
    name: str, source: str | Path, dtype: str = "auto", backend: str = "auto"
) -> LocalCompleter:
    """Load a decoder and its tokenizer from a folder, or by a hub id."""
    return LocalCompleter(name, load(source, dtype=dtype, backend=backend))


def _tokens(steps: Iterator[Step], decoder: StreamDecoder) -> Iterator[Token]:
    for step in steps:
        # The end token is no text, whatever the tokenizer makes of it.
        text = "" if step.finish_reason is FinishReason.EOS else decoder.push(step.token_id)
        if step.finish_reason is None:
            yield Token(text)
        else:
            yield Token(text + decoder.finish(), _FINISH[step.finish_reason])
