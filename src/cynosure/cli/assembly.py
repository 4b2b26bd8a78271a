"""Put the rooms together into the services that answer requests. Knows nothing of HTTP or terminals.

Models compute in the engine's process; here are their tokenizers, templates and the index, and no torch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.insight_options import InsightOptions, check_profiles, policy_of
from cynosure.cli.library import FilesOptions, open_library
from cynosure.cli.own_docs import open_own_docs, own_index_path
from cynosure.cli.python_docs import ThreadedDocs, index_path, open_python_docs
from cynosure.core.errors import CheckpointNotFound, InputError
from cynosure.engine.pool.card import MINILM, ModelCard, ModelRole, ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.wire.messages import STREAM_DELAY_S, Setup
from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.template import ChatTemplate, read_templates
from cynosure.models.chat.tool_calls import ToolFormat
from cynosure.models.fingerprint import digests_of, fingerprint, model_id
from cynosure.models.gguf import SUFFIX
from cynosure.models.hub import resolve_checkpoint
from cynosure.models.minilm_package import NAME, minilm_folder
from cynosure.models.sentence_folder import read_sentence_folder
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.models.text.tokenizer_files import has_tokenizer
from cynosure.pack import CORE_LM, RANKER, is_demonstration, pack_folder
from cynosure.server.remote.adapters import NamedAdapter, RemoteAdapters, load_call
from cynosure.server.remote.embedder import BlockingEmbedder, RemoteEmbedder
from cynosure.server.remote.engine import RemoteEngine
from cynosure.server.remote.ranker import BlockingRanker, RemoteRanker
from cynosure.server.remote.supervisor import Supervisor, SupervisorSettings
from cynosure.server.runtime import Report
from cynosure.server.services import ScoreKind, Services

#: What requests call the packaged embedder.
EMBEDDER = NAME.rpartition("/")[2]

#: The same once more, for the index alone: all its vectors are made here, so that it takes the fastest dtype.
#: Callers keep vectors and compare them with another runner's: theirs are exact, in float32.
_INDEX_EMBEDDER = f"{EMBEDDER} (index)"


@dataclass(frozen=True)
class ServeOptions:
    """What to serve: models by name, and the documentation unless it is not wanted.

    - `adapters`: of these models, by names of their own; `adapter_roots`: below which more may be loaded.
    - `reference`: the reference documentation of this Python; None takes the one that is installed, if any.
    - `with_pack`: whether the decoder that comes with the package is served too.
    - `with_own_docs`: whether what `cynosure index PATH` read is served too, to whoever may ask this server.
    - `files`: where uploaded files are kept; None where none are taken.
    - `insight`: what is watched, and by which profiles of heads.
    - `is_lazy`: whether a model is loaded by its first request, and not before the server is ready.
    - `log_level`, `logs_content`: of the engine's process.
    - `stream_delay_s`: how long a token may wait for the next ones, so that they leave together.
    - `step_timeout_s`, `load_timeout_s`: a process whose models are in one step, or on their way into memory,
      for longer is ended, and started again.
    """

    index_folder: Path
    models: tuple[ServedModel, ...] = ()
    adapters: tuple[NamedAdapter, ...] = ()
    adapter_roots: tuple[Path, ...] = ()
    with_docs: bool = True
    reference: Path | None = None
    with_pack: bool = False
    with_own_docs: bool = False
    files: FilesOptions | None = None
    num_threads: int | None = None
    tool_format: ToolFormat | None = None
    pool: PoolSettings = field(default_factory=PoolSettings)
    insight: InsightOptions = field(default_factory=InsightOptions)
    is_lazy: bool = False
    log_level: int = logging.WARNING
    logs_content: bool = False
    stream_delay_s: float = STREAM_DELAY_S
    step_timeout_s: float = SupervisorSettings.step_s
    load_timeout_s: float = SupervisorSettings.load_s

    @property
    def setup(self) -> Setup:
        """What the engine's process is told."""
        own = (
            ServedModel(EMBEDDER, MINILM, dtype="float32", is_pinned=True),
            ServedModel(_INDEX_EMBEDDER, MINILM, is_pinned=True),
            ServedModel(RANKER, str(pack_folder(RANKER)), is_pinned=True),
        )
        packed = (ServedModel(CORE_LM, str(pack_folder(CORE_LM))),) if self.with_pack else ()
        models = (*(own if self.with_docs else ()), *packed, *self.models)
        return Setup(
            models, self.pool, self.num_threads, self.log_level, self.logs_content, self.stream_delay_s
        )


def named_models(sources: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read `NAME=FOLDER`, or `FOLDER`, which is called by its last part; `.gguf` is no part of a file's name.

    Raises:
        InputError: two models have one name.
    """
    named: dict[str, str] = {}
    for source in sources:
        name, equals, folder = source.partition("=")
        if not equals or "/" in name:
            folder = source
            name = Path(source).expanduser().resolve().name.removesuffix(SUFFIX)
        if name in named or not name:
            raise InputError(f"two models are called {name!r}. Name one of them: OTHER={folder}.")
        named[name] = folder
    return tuple(named.items())


def assemble(options: ServeOptions, report: Report) -> Services:
    """Start the engine's process, and put what answers requests before it; `report` is told of each stage."""
    setup = options.setup
    lazy = {model.name for model in setup.models if options.is_lazy and not model.is_pinned}
    eager = [model.name for model in setup.models if model.name not in lazy]
    patience = SupervisorSettings(step_s=options.step_timeout_s, load_s=options.load_timeout_s)
    supervisor = Supervisor(setup, eager, patience)
    for adapter in options.adapters:
        supervisor.keep(adapter.name, load_call(adapter))
    # Read while the engine's process imports torch.
    with ThreadPoolExecutor(2, thread_name_prefix="tokenizer") as threads:
        tokenizers = {model.name: threads.submit(_tokenizer_of, model) for model in setup.models}
        prints = {
            model.name: threads.submit(_fingerprint_of, model)
            for model in setup.models
            if model.name in options.insight.profiles
        }
        digests = threads.submit(lambda: digests_of(minilm_folder())) if options.with_docs else None
        # Again and again: a report also lets whoever listens stop what is under way.
        cards = supervisor.start(lambda stage: report(stage, 0, 0))
        try:
            services = _services(options, supervisor, cards, tokenizers, prints)
            if digests is None:
                return services
            named = partial(model_id, NAME, minilm_folder(), digests.result())
            card = cards[_INDEX_EMBEDDER]
            tokenizer = tokenizers[_INDEX_EMBEDDER].result()
            embedder = BlockingEmbedder(named(card.dtype), card, tokenizer, supervisor)
            ranker = BlockingRanker(RANKER, cards[RANKER], supervisor)
            python = index_path(options.index_folder)
            docs = ThreadedDocs(open_python_docs(python, embedder, report, options.reference, ranker))
            stores = {docs.name: docs}
            if options.with_own_docs:
                own = ThreadedDocs(open_own_docs(own_index_path(options.index_folder), embedder, ranker))
                stores[own.name] = own
            library = open_library(options.files, embedder)
        except BaseException:
            supervisor.close()
            raise
    return replace(services, stores=stores, library=library)


def _services(
    options: ServeOptions,
    supervisor: Supervisor,
    cards: Mapping[str, ModelCard],
    tokenizers: Mapping[str, Future[Tokenizer]],
    prints: Mapping[str, Future[str]],
) -> Services:
    coded = {model.name for model in options.models if model.quantize is not None}
    embedders: dict[str, RemoteEmbedder] = {}
    rankers: dict[str, RemoteRanker] = {}
    completers: dict[str, EngineCompleter] = {}
    for name, card in cards.items():
        if name == _INDEX_EMBEDDER:
            continue
        if card.role.generates:
            tokenizer = tokenizers[name].result()
            # What an encoder-decoder reads is its input alone, and no conversation that it goes on with.
            converses = card.role is ModelRole.DECODER
            template = _template_of(Path(card.folder), tokenizer) if converses else None
            chat = ChatFormat.of(template, tokenizer, options.tool_format if converses else None)
            engine = RemoteEngine(card, supervisor)
            watching = policy_of(options.insight, card, prints, is_coded=name in coded)
            completers[name] = EngineCompleter(name, card, tokenizer, chat, engine, watching)
        elif card.role.scores:
            assert card.activation is not None, "a card of a ranker says what its logits mean"
            rankers[name] = RemoteRanker(card, ScoreKind(card.activation), supervisor)
        else:
            embedders[name] = RemoteEmbedder(card, tokenizers[name].result(), supervisor)
    check_profiles(options.insight, completers)
    services = Services(
        embedders,
        {},
        completers,
        int(time.time()),
        rankers=rankers,
        engine=supervisor,
        demonstrations=frozenset(name for name in completers if is_demonstration(Path(cards[name].folder))),
    )
    return services if options.pool.adapters is None else _adapted(services, options, supervisor, cards)


def _adapted(
    services: Services, options: ServeOptions, supervisor: Supervisor, cards: Mapping[str, ModelCard]
) -> Services:
    """The same services, with adapters among what completes; each speaks as its model does."""
    models = services.completers

    def make(model: str, name: str) -> EngineCompleter:
        parent, card = models[model], cards[model]
        engine = RemoteEngine(card, supervisor, name)
        # What a profile says is of the weights as they are: an adapter may have heads do something else.
        watching = replace(parent.watching, choice=None, profile=None)
        return EngineCompleter(name, card, parent.tokenizer, parent.chat, engine, watching)

    decoders = [name for name in models if cards[name].role is ModelRole.DECODER]
    taken = [*services.embedders, *services.rankers]
    adapters = RemoteAdapters(supervisor, models, decoders, options.adapter_roots, make, taken)
    for adapter in options.adapters:
        adapters.serve(adapter)
    return replace(services, completers=adapters.completers, adapters=adapters)


def _fingerprint_of(model: ServedModel) -> str:
    folder = resolve_checkpoint(model.source)
    return fingerprint(folder, digests_of(folder))


def _tokenizer_of(model: ServedModel) -> Tokenizer:
    folder = minilm_folder() if model.source == MINILM else resolve_checkpoint(model.source)
    if (folder / "modules.json").is_file():
        folder = read_sentence_folder(folder).encoder_folder
    if not has_tokenizer(folder):
        raise CheckpointNotFound(
            f"{folder} has no tokenizer.json; a server needs it. Copy it from where the weights came from."
        )
    return Tokenizer.from_folder(folder)


def _template_of(folder: Path, tokenizer: Tokenizer) -> ChatTemplate | None:
    sources = read_templates(folder)
    return ChatTemplate(sources, tokenizer.named_tokens, tokenizer.control_tokens) if sources else None
