"""Read the UNets of Stable Diffusion 1 and 2 (arXiv 2112.10752). Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.denoise.inputs import DenoiserInputs
from cynosure.models.denoise.resnet import GroupNormSpec
from cynosure.models.denoise.text_blocks import TextBlockSpec
from cynosure.models.denoise.unet import UNet
from cynosure.models.denoise.unet_spec import LevelSpec, UNetSpec
from cynosure.models.families import diffusers_form as form
from cynosure.models.families.diffusers_form import Place
from cynosure.models.families.vit import as_rows

_LAYER = {
    "norm1": "attention_norm",
    "norm2": "cross_norm",
    "norm3": "mlp_norm",
    **form.attention("attn1.", "attention"),
    **form.attention("attn2.", "cross"),
    **form.GATED,
}
_BLOCK = {"norm": "norm", "proj_in": {"project_in": as_rows}, "proj_out": {"project_out": as_rows}}
_ROOT = {
    "conv_in": "first",
    "time_embedding.linear_1": "time.up",
    "time_embedding.linear_2": "time.down",
    "conv_norm_out": "last_norm",
    "conv_out": "last",
}
_SAMPLERS = {"downsamplers.0.conv": "resample.mix", "upsamplers.0.conv": "resample.mix"}
_LEVEL, _AT = r"(down|up)_blocks\.(\d+)\.", r"attentions\.(\d+)\."
_PLACES = (
    Place(_LEVEL + r"resnets\.(\d+)\.", r"\1.\2.level.resnets.\3.", form.RESNET),
    Place(r"mid_block\.resnets\.(\d+)\.", r"middle.resnets.\1.", form.RESNET),
    Place(_LEVEL + _AT + r"transformer_blocks\.(\d+)\.", r"\1.\2.level.blocks.\3.layers.\4.", _LAYER),
    Place(r"mid_block\.attentions\.0\.transformer_blocks\.(\d+)\.", r"middle.block.layers.\1.", _LAYER),
    Place(_LEVEL + _AT, r"\1.\2.level.blocks.\3.", _BLOCK),
    Place(r"mid_block\.attentions\.0\.", "middle.block.", _BLOCK),
    Place(_LEVEL, r"\1.\2.", _SAMPLERS),
    Place("", "", _ROOT),
)

#: The kinds of levels, and whether their resnets have blocks that read a text.
_DOWN = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}

#: What else a config may ask for, each with the one value that is built here.
_NEUTRAL: dict[str, object] = {
    "act_fn": "silu",
    "attention_type": "default",
    "center_input_sample": False,
    "class_embeddings_concat": False,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
}


def parse(reader: ConfigReader) -> UNetSpec:
    """Return the spec of `config.json`.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    form.refuse_null(reader, "mid_block_type", "norm_num_groups", "cross_attention_dim")
    for key, value in _NEUTRAL.items():
        reader.expect(key, [value], value)
    channels = reader.take_list("block_out_channels", int, (320, 640, 1280, 1280)) or ()
    default = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    down = _kinds(reader, "down_block_types", _DOWN, default, len(channels))
    up = _kinds(reader, "up_block_types", _UP, ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, len(channels))
    # The published key counts heads, whatever it is called.
    heads = _per_level(reader, "attention_head_dim", 8, len(channels))
    depths = _per_level(reader, "transformer_layers_per_block", 1, len(channels))
    width = reader.take("cross_attention_dim", int, 1280, positive=True)
    blocks = [TextBlockSpec(*pair, width) for pair in zip(depths, heads, strict=True)]
    num_resnets = reader.take("layers_per_block", int, 2, positive=True)
    last = len(channels) - 1
    in_channels = reader.take("in_channels", int, 4, positive=True)
    spec = UNetSpec(
        inputs=DenoiserInputs(
            in_channels, reader.take("out_channels", int, 4, positive=True), text_width=width
        ),
        first_channels=next(iter(channels)),
        down=tuple(
            LevelSpec(wide, num_resnets, blocks[at] if down[at] else None, at < last)
            for at, wide in enumerate(channels)
        ),
        middle=blocks[-1],
        up=tuple(
            LevelSpec(wide, num_resnets + 1, blocks[last - at] if up[at] else None, at < last)
            for at, wide in enumerate(reversed(channels))
        ),
        norm=GroupNormSpec(
            reader.take("norm_num_groups", int, 32, positive=True), reader.take("norm_eps", float, 1e-5)
        ),
    )
    # Sizes are free; both forms of a projection are one product; scores are summed in float32 here.
    reader.ignore("sample_size", "use_linear_projection", "upcast_attention", "addition_embed_type_num_heads")
    reader.finish()
    return spec


def _kinds(
    reader: ConfigReader, key: str, known: Mapping[str, bool], default: tuple[str, ...], num_levels: int
) -> list[bool]:
    """Return which levels have blocks that read a text."""
    names = reader.take_list(key, str, default) or ()
    unknown = sorted(set(names) - known.keys())
    if unknown or len(names) != num_levels or not num_levels:
        raise UnsupportedConfig(
            f"{reader.where} has {key} = {list(names)} for {num_levels} resolutions; one of "
            f"{', '.join(known)} is needed for each. Serve it with another engine, or correct the file."
        )
    return [known[name] for name in names]


def _per_level(reader: ConfigReader, key: str, default: int, num_levels: int) -> list[int]:
    """Return a number a level, which the config may give once for all."""
    if not reader.holds(key, list):
        return [reader.take(key, int, default, positive=True)] * num_levels
    values = list(reader.take_list(key, int) or ())
    if len(values) != num_levels or min(values) < 1:
        raise UnsupportedConfig(
            f"{reader.where} has {key} = {values}; {num_levels} numbers above 0 are needed. Correct the file."
        )
    return values


def rename(spec: UNetSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors."""
    return form.renamed(weights, _PLACES)


BRANDS = (Brand("UNet2DConditionModel", ModelKind.DENOISER, parse, UNet, rename),)
