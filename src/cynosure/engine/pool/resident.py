"""Hold one loaded model and the thread that computes with it. Knows nothing of budgets or other models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

from torch import nn

from cynosure.cache import PageNames, PageStore
from cynosure.engine.adapters import FindAdapter, no_adapters
from cynosure.engine.answer_rules import AnswerRules
from cynosure.engine.core import EngineCore
from cynosure.engine.encoding import EncodingEngine, EncodingLimits
from cynosure.engine.engine import Engine
from cynosure.engine.grammar.cache import GrammarCache
from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.engine.pool.build import identity_of
from cynosure.engine.pool.card import MINILM, ModelCard, ModelRole, ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.seq2seq.core import Seq2SeqCore
from cynosure.engine.session_pages import Disk
from cynosure.engine.settings import EngineSettings
from cynosure.engine.turnstile import Turnstile
from cynosure.models.checkpoint import DTYPES
from cynosure.models.cross_encoder import CrossEncoder, load_cross_encoder
from cynosure.models.decoder import Decoder
from cynosure.models.embedder import Embedder, load_embedder
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.image_reader import ImageReader
from cynosure.models.late_folder import is_late_folder
from cynosure.models.late_interaction import LateInteraction, load_late_interaction
from cynosure.models.load import LanguageModel, load
from cynosure.models.minilm import WEIGHTS_SHA256
from cynosure.models.native.graph import use_kernels
from cynosure.models.native.packed_load import load_packed
from cynosure.observe.load import EngineLoad


class Resident(ABC):
    """A model in memory."""

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """What its weights and its cache take."""

    @property
    @abstractmethod
    def load(self) -> EngineLoad:
        """How busy it is; a moment old."""

    @abstractmethod
    def close(self) -> None:
        """End what is under way and stop its threads."""


class GeneratorResident(Resident):
    """A model that answers token ids with token ids."""

    def __init__(
        self,
        model: LanguageModel,
        card: ModelCard,
        settings: EngineSettings,
        turns: Turnstile,
        disk: Disk | None = None,
        adapters: FindAdapter = no_adapters,
    ) -> None:
        """Reserve its pages and start its engine; `adapters` finds those that requests name."""
        core = _core_of(model, card, settings, disk)
        if isinstance(core, EngineCore):
            core.adapters = adapters
        self._num_bytes = _bytes_of(model.graph) + core.native.packed_bytes + settings.kv_cache_bytes
        if isinstance(core, EngineCore) and core.images is not None:
            self._num_bytes += settings.image_cache_bytes
        self.engine = Engine(core, _grammars(model), turns.step)

    @property
    def num_bytes(self) -> int:
        """What its weights and its pages take."""
        return self._num_bytes

    @property
    def load(self) -> EngineLoad:
        """How busy its engine is; a moment old."""
        return self.engine.load

    def close(self) -> None:
        """Stop the engine; what is under way fails."""
        self.engine.close()


class EmbedderResident(Resident):
    """A model that answers texts with vectors."""

    def __init__(
        self, embedder: Embedder, packed_bytes: int, turns: Turnstile, limits: EncodingLimits
    ) -> None:
        """Start its thread; `packed_bytes` are those of weights that native kernels hold."""
        self.model = embedder
        self._packed_bytes = packed_bytes
        self.engine: EncodingEngine[str] = EncodingEngine(embedder, turns, limits)

    @property
    def num_bytes(self) -> int:
        """What its weights take."""
        return sum(map(_bytes_of, self.model.modules)) + self._packed_bytes

    @property
    def load(self) -> EngineLoad:
        """How many texts wait."""
        return EngineLoad(num_waiting=self.engine.num_waiting)

    def close(self) -> None:
        """Stop the thread; texts that wait fail."""
        self.engine.close()


class ScorerResident(Resident):
    """A model that answers pairs of texts with logits."""

    def __init__(
        self,
        model: CrossEncoder | LateInteraction,
        packed_bytes: int,
        turns: Turnstile,
        limits: EncodingLimits,
    ) -> None:
        """Start its thread; `packed_bytes` are those of weights that native kernels hold."""
        self.model = model
        self._packed_bytes = packed_bytes
        self.engine: EncodingEngine[tuple[str, ...]] = EncodingEngine(model, turns, limits)

    @property
    def num_bytes(self) -> int:
        """What its weights take."""
        return sum(map(_bytes_of, self.model.modules)) + self._packed_bytes

    @property
    def load(self) -> EngineLoad:
        """How many pairs wait."""
        return EngineLoad(num_waiting=self.engine.num_waiting)

    def close(self) -> None:
        """Stop the thread; pairs that wait fail."""
        self.engine.close()


def load_resident(
    served: ServedModel,
    card: ModelCard,
    settings: PoolSettings,
    kv_cache_bytes: int,
    turns: Turnstile,
    store: PageStore | None = None,
    adapters: FindAdapter = no_adapters,
) -> Resident:
    """Read a model's weights and make it ready; raises what `models` raises. Sessions go to the `store`."""
    if card.role.generates:
        model = _read(served, card, settings)
        engine = replace(settings.engine, kv_cache_bytes=kv_cache_bytes)
        disk = _disk_of(served, card, settings, store)
        return GeneratorResident(model, card, engine, turns, disk, adapters)
    limits = EncodingLimits(
        settings.max_encoding_tokens, settings.max_shared_encoding_tokens, settings.max_waiting_texts
    )
    dtype = DTYPES[card.dtype]
    if card.role.scores:
        is_late = is_late_folder(Path(card.folder))
        scorer = (load_late_interaction if is_late else load_cross_encoder)(
            Path(card.folder),
            name=card.name,
            dtype=served.dtype,
            backend=served.backend,
            quantize=served.quantize,
        )
        native = use_kernels(scorer.graph, dtype, settings.engine.kernels)
        return ScorerResident(scorer, native.packed_bytes, turns, limits)
    assert card.role is ModelRole.EMBEDDER
    embedder = load_embedder(
        Path(card.folder),
        name=card.name,
        dtype=served.dtype,
        weights_sha256=WEIGHTS_SHA256 if served.source == MINILM else None,
        backend=served.backend,
        quantize=served.quantize,
    )
    native = use_kernels(embedder.graph, dtype, settings.engine.kernels)
    return EmbedderResident(embedder, native.packed_bytes, turns, limits)


def _read(served: ServedModel, card: ModelCard, settings: PoolSettings) -> LanguageModel:
    """Read a model that generates; where packed weights are kept, those of an earlier start."""
    dtype, backend, quantize = served.dtype, served.backend, served.quantize
    if settings.packed_folder is None:
        return load(
            card.folder, dtype=dtype, backend=backend, max_model_len=served.max_model_len, quantize=quantize
        )
    return load_packed(
        card.folder,
        settings.packed_folder,
        dtype=dtype,
        backend=backend,
        max_model_len=served.max_model_len,
        quantize=quantize,
        choice=settings.engine.kernels,
    )


def _disk_of(
    served: ServedModel, card: ModelCard, settings: PoolSettings, store: PageStore | None
) -> Disk | None:
    """Where a model's sessions are kept; `None` where none are."""
    if store is None or settings.disk is None or card.role is not ModelRole.DECODER:
        return None
    identity = identity_of(served, card, settings.engine)
    return Disk(store, PageNames(settings.disk.secret, identity, settings.engine.block_size))


def _core_of(
    model: LanguageModel, card: ModelCard, settings: EngineSettings, disk: Disk | None
) -> EngineCore | Seq2SeqCore:
    model_id, eos_token_ids = f"{card.name}@{card.folder}", card.eos_token_ids
    if isinstance(model.graph, Decoder | ImageReader):
        return EngineCore(
            model.graph, eos_token_ids, settings, model_id=model_id, backend=model.backend, disk=disk
        )
    assert isinstance(model.graph, EncoderDecoder)
    advice = model.generation_defaults
    assert advice.decoder_start_token_id is not None, "the card would not have been made"
    rules = AnswerRules(
        advice.decoder_start_token_id,
        advice.forced_bos_token_id,
        frozenset(advice.suppressed_ids),
        frozenset(advice.begin_suppressed_ids),
    )
    return Seq2SeqCore(
        model.graph,
        eos_token_ids,
        settings,
        rules=rules,
        model_id=model_id,
        backend=model.backend,
    )


def _grammars(model: LanguageModel) -> GrammarCache | None:
    """What compiles constraints; `None` where the model has no tokenizer."""
    if model.tokenizer is None:
        return None
    definition = TokenizerDefinition(
        model.tokenizer.definition,
        max(model.spec.vocab_size, model.tokenizer.vocab_size),
        model.generation_defaults.eos_token_ids,
    )
    return GrammarCache(definition)


def _bytes_of(module: nn.Module) -> int:
    """What the parameters and buffers of a module take, each once."""
    tensors = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    return sum(tensor.nbytes for tensor in tensors.values())
