"""Run a decoder in this process for a command on the terminal. Knows nothing of HTTP.

Importing this imports torch; the server, whose engine has a process of its own, leaves it alone.
"""

from __future__ import annotations

from pathlib import Path

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.core.errors import CheckpointNotFound, UnsupportedArchitecture
from cynosure.engine.core import EngineCore
from cynosure.engine.engine import Engine
from cynosure.engine.grammar.cache import GrammarCache
from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.engine.pool.card import ModelCard, ModelRole
from cynosure.engine.settings import EngineSettings
from cynosure.engine.watch import Watchable
from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.tool_calls import ToolFormat
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel, load


def load_completer(
    name: str,
    source: str | Path,
    dtype: str = "auto",
    backend: str = "auto",
    tool_format: ToolFormat | None = None,
    *,
    quantize: str | None = None,
    settings: EngineSettings | None = None,
) -> EngineCompleter:
    """Load a decoder and its tokenizer from a folder, a GGUF file, or by a hub id, and start its engine."""
    model = load(source, dtype=dtype, backend=backend, quantize=quantize)
    return local_completer(name, model, settings, tool_format)


def local_completer(
    name: str,
    model: LanguageModel,
    settings: EngineSettings | None = None,
    tool_format: ToolFormat | None = None,
) -> EngineCompleter:
    """Check that a model continues text, and start its engine.

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
    eos_token_ids = tuple(model.generation_defaults.eos_token_ids)
    core = EngineCore(
        model.graph,
        eos_token_ids,
        settings or EngineSettings(),
        model_id=f"{name}@{model.folder}",
        backend=model.backend,
    )
    vocab_size = max(model.spec.vocab_size, model.tokenizer.vocab_size)
    grammars = GrammarCache(TokenizerDefinition(model.tokenizer.definition, vocab_size, eos_token_ids))
    card = ModelCard(
        name=name,
        role=ModelRole.DECODER,
        architecture=model.architecture,
        folder=str(model.folder),
        dtype=str(model.dtype).removeprefix("torch."),
        vocab_size=model.spec.vocab_size,
        max_model_len=model.spec.max_model_len,
        eos_token_ids=eos_token_ids,
        is_loaded=True,
        # What a state carries past a token is not watched, so nothing is told of such a model.
        watchable=None
        if any(model.graph.state_shapes)
        else Watchable(model.spec.num_heads, model.spec.full_layers),
    )
    chat = ChatFormat.of(model.chat_template, model.tokenizer, tool_format)
    return EngineCompleter(name, card, model.tokenizer, chat, Engine(core, grammars))
