"""Read PixArt's transformers (arXiv 2310.00426, 2403.04692). Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.denoise.inputs import DenoiserInputs
from cynosure.models.denoise.label_transformer import LabelTransformer
from cynosure.models.denoise.text_transformer import TextTransformer
from cynosure.models.denoise.transformer_spec import TransformerSpec
from cynosure.models.families import dit, naming
from cynosure.models.families.vit import as_rows

_LAYERS = {"linear_1": "up", "linear_2": "down"}
_OUTER: dict[str, naming.Target] = {
    "pos_embed.proj": {"patch": as_rows},
    "adaln_single.linear": "modulation",
    **{f"adaln_single.emb.timestep_embedder.{theirs}": f"time.{ours}" for theirs, ours in _LAYERS.items()},
    **{
        f"adaln_single.emb.resolution_embedder.{theirs}": f"size.side.{ours}"
        for theirs, ours in _LAYERS.items()
    },
    **{
        f"adaln_single.emb.aspect_ratio_embedder.{theirs}": f"size.ratio.{ours}"
        for theirs, ours in _LAYERS.items()
    },
    **{f"caption_projection.{theirs}": f"caption.{ours}" for theirs, ours in _LAYERS.items()},
    "scale_shift_table": "output_table",
    "proj_out": "output",
}
_INNER: dict[str, naming.Target] = {
    **dit.HALVES,
    "scale_shift_table": "modulation.table",
    "attn2.to_q": "cross.q",
    "attn2.to_k": "cross.k",
    "attn2.to_v": "cross.v",
    "attn2.to_out.0": "cross.out",
}

#: Models of this size of latents read the sizes of images, unless their config says otherwise.
_SIZED = 128


def parse(reader: ConfigReader) -> TransformerSpec:
    """Return the spec of `config.json`.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    heads = dit.read_heads(reader)
    reader.expect("norm_type", ["ada_norm_single"], "ada_norm_single")
    in_channels = reader.take("in_channels", int, 4, positive=True)
    patch_size = reader.take("patch_size", int, 2, positive=True)
    sample_size = reader.take("sample_size", int, 128, positive=True)
    eps = reader.take("norm_eps", float, 1e-6)
    caption_width = reader.take("caption_channels", int, None, positive=True)
    text_width = _or_null(reader, "cross_attention_dim", 1152)
    scale = reader.take("interpolation_scale", float, max(sample_size // 64, 1), positive=True)
    spec = TransformerSpec(
        inputs=DenoiserInputs(
            in_channels,
            _or_null(reader, "out_channels", 8) or in_channels,
            patch_size,
            text_width=caption_width or text_width,
            has_sizes=reader.take("use_additional_conditions", bool, sample_size == _SIZED),
        ),
        patch_size=patch_size,
        position_base=sample_size // patch_size / scale,
        heads=heads,
        num_layers=reader.take("num_layers", int, 28, positive=True),
        mlp=dit.read_mlp(reader, heads),
        has_attention_bias=reader.take("attention_bias", bool, True),
        attention_norm_eps=eps,
        mlp_norm_eps=eps,
        text_width=text_width,
        caption_width=caption_width,
    )
    _check_widths(spec, reader.where)
    # Timesteps are embedded by waves; no table has as many rows.
    reader.ignore("num_embeds_ada_norm")
    dit.ignore_unread(reader)
    reader.finish()
    return spec


def _or_null(reader: ConfigReader, key: str, default: int) -> int | None:
    """Return what `key` says, where null is not the same as absent."""
    return reader.take(key, int, None if key in reader else default, positive=True)


def _check_widths(spec: TransformerSpec, where: str) -> None:
    width = spec.hidden_size
    if spec.text_width is None:
        raise UnsupportedConfig(
            f"{where} has no cross_attention_dim, so that no text is read. Use a DiT, or correct the file."
        )
    if spec.caption_width is not None and spec.text_width != width:
        raise UnsupportedConfig(
            f"{where} projects texts to the width of a token, {width}, and attends to {spec.text_width} "
            "channels. Set cross_attention_dim to the former."
        )
    if spec.inputs.has_sizes and width % 3:
        raise UnsupportedConfig(
            f"{where} has {width} channels, which an image's height, width and ratio don't share evenly. "
            "Correct the heads, or set use_additional_conditions to false."
        )


def rename(spec: TransformerSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors."""
    return naming.rename(weights, _OUTER, _INNER, stack="transformer_blocks.")


def _is_labelled(spec: TransformerSpec) -> bool:
    return spec.inputs.num_labels is not None


def parse_any(reader: ConfigReader) -> TransformerSpec:
    """Return the spec of a config from before either had a class of its own; the norm tells which it is."""
    norm = reader.expect("norm_type", ["ada_norm_zero", "ada_norm_single"])
    return dit.parse(reader) if norm == "ada_norm_zero" else parse(reader)


def _build_any(spec: TransformerSpec) -> nn.Module:
    return LabelTransformer(spec) if _is_labelled(spec) else TextTransformer(spec)


def _rename_any(spec: TransformerSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return dit.rename(spec, weights) if _is_labelled(spec) else rename(spec, weights)


BRANDS = (
    Brand(
        "PixArtTransformer2DModel", ModelKind.DENOISER, parse, TextTransformer, rename, dit.STORED_POSITIONS
    ),
    Brand("Transformer2DModel", ModelKind.DENOISER, parse_any, _build_any, _rename_any, dit.STORED_POSITIONS),
)
