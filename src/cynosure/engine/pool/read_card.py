"""Describe a model from its folder. Reads configs, tokenizers and headers, and no weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cynosure.attention.backends.choice import AUTO, BACKENDS
from cynosure.cache import bytes_per_block, bytes_per_slot, cache_dtype
from cynosure.core.errors import InputError, UnknownOption, UnsupportedArchitecture, UnsupportedConfig
from cynosure.engine.features import FeatureShape
from cynosure.engine.pool.card import MINILM, ModelCard, ModelRole, ServedModel
from cynosure.engine.watch import Watchable
from cynosure.models.brand import Brand, ModelKind
from cynosure.models.checkpoint import choose_dtype, open_weights
from cynosure.models.config_reader import architecture_of
from cynosure.models.decoder import Decoder
from cynosure.models.embedder import fastest_dtype
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.encoder_decoder_spec import EncoderDecoderSpec
from cynosure.models.encoder_spec import EncoderSpec, HeadKind
from cynosure.models.generation_config import GenerationDefaults, read_generation_defaults
from cynosure.models.heads import score_activation
from cynosure.models.hub import resolve_checkpoint
from cynosure.models.image_reader import ImageReader
from cynosure.models.late_folder import is_late_folder, read_late_folder
from cynosure.models.late_interaction import PROJECTION, LateInteraction
from cynosure.models.load import brand_of, empty_graph, read_spec
from cynosure.models.minilm_package import minilm_folder
from cynosure.models.quantize import read_scheme, scheme_of
from cynosure.models.sentence_folder import read_sentence_folder
from cynosure.models.stored_config import stored_config
from cynosure.models.text.tokenizer_files import load_tokenizer_files


@dataclass(frozen=True)
class Description:
    """A card, and what one token and one sequence's state take in the model's cache; 0 where it has none."""

    card: ModelCard
    cache_bytes_per_token: int = 0
    cache_bytes_per_state: int = 0


@dataclass(frozen=True)
class _Checkpoint:
    """What a folder says without its weights."""

    folder: Path
    brand: Brand
    spec: Any
    graph: nn.Module
    dtype: torch.dtype

    @property
    def weight_bytes(self) -> int:
        """What the weights take once they are loaded; parameters are converted, codes and buffers are not."""
        parameters = {id(one): self._size_of(one) for one in self.graph.parameters()}
        return sum(parameters.values()) + sum(buffer.nbytes for buffer in self.graph.buffers())

    def _size_of(self, parameter: nn.Parameter) -> int:
        dtype = self.dtype if parameter.is_floating_point() else parameter.dtype
        return parameter.numel() * dtype.itemsize


def describe(served: ServedModel, kv_cache_dtype: str = "auto") -> Description:
    """What a model is and takes, where decoders keep keys and values in `kv_cache_dtype`.

    Raises:
        CheckpointError: the folder can't be served; see the subclasses.
        MissingPackage: the packaged embedder is asked for and not installed.
        InputError: the model is asked to be what it is not.
        UnknownOption: no such dtype, backend or code for weights.
    """
    if served.backend not in (AUTO, *BACKENDS):
        raise UnknownOption(
            f"no attention backend is called {served.backend!r}; these are: {', '.join([AUTO, *BACKENDS])}. "
            "Choose one."
        )
    folder = minilm_folder() if served.source == MINILM else resolve_checkpoint(served.source)
    if is_late_folder(folder):
        _check_role(served, ModelRole.RANKER, "a model of late interaction")
        return Description(_late_card(served, folder))
    if served.source == MINILM or (folder / "modules.json").is_file():
        _check_role(served, ModelRole.EMBEDDER, "a sentence-transformers folder")
        return Description(_embedder_card(served, folder))
    found = _open(served, folder)
    if found.brand.kind is ModelKind.ENCODER:
        return Description(_scorer_card(served, found))
    if found.brand.kind.answers_with_vectors:
        raise UnsupportedArchitecture(
            f"{folder} holds a {found.brand.architecture}, which makes vectors of images; no request asks "
            "for those here. Use it in Python (cynosure.load), or serve another model."
        )
    if found.brand.kind.makes_images:
        raise UnsupportedArchitecture(
            f"{folder} holds a {found.brand.architecture}, a {found.brand.kind.value} of images: "
            "image generation is not served yet. Use it in Python (cynosure.load), or serve another model."
        )
    return _generator(served, found, kv_cache_dtype)


def _generator(served: ServedModel, found: _Checkpoint, kv_cache_dtype: str) -> Description:
    """A decoder or an encoder-decoder."""
    reader = found.graph if isinstance(found.graph, ImageReader) else None
    graph = found.graph if reader is None else reader.text
    assert isinstance(graph, Decoder | EncoderDecoder)
    is_decoder = isinstance(graph, Decoder)
    role = ModelRole.DECODER if is_decoder else ModelRole.SEQ2SEQ
    _check_role(served, role, found.brand.architecture)
    defaults = read_generation_defaults(found.folder)
    if not is_decoder:
        _check_rules(found, defaults)
    states = graph.state_shapes if isinstance(graph, Decoder) else ()
    has_state = any(states)
    card = ModelCard(
        name=served.name,
        role=role,
        architecture=found.brand.architecture,
        folder=str(found.folder),
        dtype=_name(found.dtype),
        vocab_size=found.spec.vocab_size,
        max_model_len=found.spec.max_model_len,
        eos_token_ids=defaults.eos_token_ids,
        max_tokens=None if is_decoder else found.spec.max_input_len,
        weight_bytes=found.weight_bytes,
        features=None if is_decoder else _features(found.spec),
        # What a state carries past a token is not watched, so nothing is told of such a model.
        watchable=_watchable(graph) if is_decoder and not has_state else None,
        image_token_id=None if reader is None else reader.image_token_id,
    )
    dtype = cache_dtype(kv_cache_dtype, found.dtype)
    per_token = bytes_per_block(graph.cache_shapes, dtype, block_size=1)
    return Description(card, per_token, bytes_per_slot(states, found.dtype))


def _check_rules(found: _Checkpoint, defaults: GenerationDefaults) -> None:
    """Refuse an encoder-decoder that does not say what answers begin with, or says what can't be held to."""
    if defaults.decoder_start_token_id is None:
        raise UnsupportedConfig(
            f"{found.folder} has no decoder_start_token_id, with which every answer begins. Add it to "
            "config.json."
        )
    if "bad_words_ids" in defaults.other:
        raise UnsupportedConfig(
            f"{found.folder} has bad_words_ids of several tokens; only single ones are held back here. Leave "
            "the others out."
        )
    named = [defaults.decoder_start_token_id, *defaults.suppressed_ids, *defaults.begin_suppressed_ids]
    if defaults.forced_bos_token_id is not None:
        named.append(defaults.forced_bos_token_id)
    unknown = [token for token in named if not 0 <= token < found.spec.vocab_size]
    if unknown:
        raise UnsupportedConfig(
            f"{found.folder} begins answers with, or holds back, the tokens {unknown[:8]}; the vocabulary is "
            f"0..{found.spec.vocab_size - 1}. Correct generation_config.json."
        )


def _watchable(graph: Decoder) -> Watchable:
    return Watchable(graph.spec.num_heads, graph.spec.full_layers)


def _features(spec: EncoderDecoderSpec) -> FeatureShape | None:
    read = spec.features
    return None if read is None else FeatureShape(read.num_bins, read.num_frames)


def _embedder_card(served: ServedModel, folder: Path) -> ModelCard:
    sentence = read_sentence_folder(folder)
    dtype = fastest_dtype() if served.dtype == "auto" else served.dtype
    found = _open(served, sentence.encoder_folder, dtype)
    _check_encoder(found)
    limits = (sentence.max_tokens, _tokenizer_limit(sentence.encoder_folder), found.spec.max_model_len)
    pooled = len(sentence.poolings) * found.spec.hidden_size
    return ModelCard(
        name=served.name,
        role=ModelRole.EMBEDDER,
        architecture=found.brand.architecture,
        folder=str(folder),
        dtype=_name(found.dtype),
        vocab_size=found.spec.embeddings.vocab_size,
        max_model_len=None,
        dim=sentence.dense[-1].out_features if sentence.dense else pooled,
        max_tokens=min(limit for limit in limits if limit is not None),
        weight_bytes=found.weight_bytes + _dense_bytes(sentence.dense),
    )


def _late_card(served: ServedModel, folder: Path) -> ModelCard:
    """A ranker that compares tokens."""
    late = read_late_folder(folder)
    found = _open(served, late.encoder_folder)
    _check_encoder(found)
    # Projections are kept in float32.
    stored = 0 if late.dense else 4 * math.prod(open_weights(folder).shape(PROJECTION))
    return ModelCard(
        name=served.name,
        role=ModelRole.RANKER,
        architecture=found.brand.architecture,
        folder=str(folder),
        dtype=_name(found.dtype),
        vocab_size=found.spec.embeddings.vocab_size,
        max_model_len=None,
        max_tokens=late.query_length + late.document_length,
        labels=LateInteraction.labels,
        activation="identity",
        weight_bytes=found.weight_bytes + stored + _dense_bytes(late.dense),
    )


def _scorer_card(served: ServedModel, found: _Checkpoint) -> ModelCard:
    """A classifier of sequences; with one output it ranks."""
    _check_encoder(found)
    head = found.spec.head
    if head is None or head.kind is not HeadKind.SEQUENCE:
        raise UnsupportedArchitecture(
            f"{found.folder} holds a {found.brand.architecture}, which answers no request here. Serve a "
            "...ForSequenceClassification, or an embedder with its modules.json."
        )
    role = ModelRole.RANKER if head.num_outputs == 1 else ModelRole.CLASSIFIER
    if served.role is not ModelRole.CLASSIFIER or head.num_outputs != 1:
        _check_role(served, role, f"{found.brand.architecture} with {head.num_outputs} outputs")
    limits = (_tokenizer_limit(found.folder), found.spec.max_model_len)
    return ModelCard(
        name=served.name,
        role=served.role or role,
        architecture=found.brand.architecture,
        folder=str(found.folder),
        dtype=_name(found.dtype),
        vocab_size=found.spec.embeddings.vocab_size,
        max_model_len=None,
        max_tokens=min(limit for limit in limits if limit is not None),
        labels=head.labels,
        activation=score_activation(head),
        weight_bytes=found.weight_bytes,
    )


def _open(served: ServedModel, folder: Path, dtype: str | None = None) -> _Checkpoint:
    config = stored_config(folder)
    kind = brand_of(architecture_of(config)).kind
    generates = kind in (ModelKind.DECODER, ModelKind.ENCODER_DECODER, ModelKind.IMAGE_DECODER)
    brand, spec = read_spec(folder, config, served.max_model_len if generates else None)
    chosen = choose_dtype(dtype or served.dtype, config, open_weights(folder))
    scheme = read_scheme(config) if served.quantize is None else scheme_of(served.quantize)
    graph = empty_graph(brand, spec, scheme, chosen)
    return _Checkpoint(folder, brand, spec, graph, chosen)


def _dense_bytes(dense: Sequence[Any]) -> int:
    return sum(4 * (spec.in_features + spec.has_bias) * spec.out_features for spec in dense)


def _tokenizer_limit(folder: Path) -> int | None:
    return load_tokenizer_files(folder).max_length


def _check_encoder(found: _Checkpoint) -> None:
    if not isinstance(found.spec, EncoderSpec):
        raise UnsupportedArchitecture(
            f"{found.folder} holds a {found.brand.architecture}, which neither embeds nor scores here. "
            "Choose another folder."
        )


def _check_role(served: ServedModel, role: ModelRole, what: str) -> None:
    if served.role not in (None, role):
        raise InputError(
            f"{served.name} is to be a {served.role.value}; {served.source} is {what}, a {role.value}. "
            "Leave the role out, or name another folder."
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
