"""Read GPT-2 checkpoints (Radford et al. 2019). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cynosure.attention import AttentionSpec, Heads, Score
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.naming import Change, Target, rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length
from cynosure.models.self_attention import SelfAttentionSpec

_OUTER: Mapping[str, Target] = {"wte": "embed", "wpe": "positions", "ln_f": "norm", "lm_head": "head"}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a GPT-2."""
    hidden_size = reader.take("n_embd", int, 768, positive=True)
    num_heads = reader.take("n_head", int, 12, positive=True)
    if hidden_size % num_heads:
        raise UnsupportedConfig(
            f"{reader.where} has n_embd = {hidden_size}, no multiple of n_head = {num_heads}. Correct it."
        )
    heads = Heads.of(num_heads, hidden_size // num_heads)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_epsilon", float, 1e-5, positive=True), True)
    mlp = MlpSpec(
        reader.take("n_inner", int, 4 * hidden_size, positive=True),
        reader.expect("activation_function", ACTIVATIONS.keys(), "gelu_new"),
        is_gated=False,
        has_bias=True,
    )
    num_positions = reader.take("n_positions", int, 1024, positive=True)
    layers = tuple(
        LayerSpec(SelfAttentionSpec(AttentionSpec(heads, score=score), True, True), mlp, norm)
        for score in _scores(reader, heads)
    )
    # The upcast changes rounding only: our softmax is in float32 at least. The rest is a classifier's.
    reader.ignore("reorder_and_upcast_attn", "n_ctx", "summary_type", "summary_use_proj")
    reader.ignore("summary_activation", "summary_proj_to_labels")
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, 50257, positive=True),
        hidden_size=hidden_size,
        layers=layers,
        final_norm=norm,
        max_model_len=declared_length(reader, num_positions),
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
        num_positions=num_positions,
    )
    reader.finish()
    return spec


def _scores(reader: ConfigReader, heads: Heads) -> list[Score]:
    """Return each layer's scale; some checkpoints divide it by the layer's number."""
    scale = heads.head_dim**-0.5 if reader.take("scale_attn_weights", bool, True) else 1.0
    falls = reader.take("scale_attn_by_inverse_layer_idx", bool, False)
    num_layers = reader.take("n_layer", int, 12, positive=True)
    return [Score(scale / (layer + 1) if falls else scale) for layer in range(num_layers)]


def _columns(start: int, stop: int) -> Change:
    """Return a change that takes outputs `start:stop` of a weight kept as `[in, out]`, or of a bias."""

    def change(tensor: Tensor) -> Tensor:
        return tensor.t()[start:stop]

    return change


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Split the fused projection; GPT-2 keeps every layer's weights as `[in, out]`."""
    width = spec.hidden_size
    inner: dict[str, Target] = {
        "ln_1": "attention_norm",
        "ln_2": "mlp_norm",
        "attn.c_attn": {
            f"attention.{part}": _columns(i * width, (i + 1) * width) for i, part in enumerate("qkv")
        },
        "attn.c_proj": {"attention.o": Tensor.t},
        "mlp.c_fc": {"mlp.up": Tensor.t},
        "mlp.c_proj": {"mlp.down": Tensor.t},
    }
    return rename(weights, _OUTER, inner, stack="h.", prefix="transformer.")


BRANDS: tuple[Brand, ...] = (
    # Early files also hold the causal mask.
    Brand(
        "GPT2LMHeadModel", ModelKind.DECODER, parse, Decoder, _rename, ("*.attn.bias", "*.attn.masked_bias")
    ),
)
