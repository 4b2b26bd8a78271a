"""Read autoencoders of images, Stable Diffusion's among them. Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.denoise.autoencoder import Autoencoder
from cynosure.models.denoise.autoencoder_spec import AutoencoderSpec
from cynosure.models.denoise.resnet import GroupNormSpec
from cynosure.models.families import diffusers_form as form
from cynosure.models.families.diffusers_form import Place

_MIDDLE = {"group_norm": "norm", **form.attention("", "attention"), **form.old_attention("attention")}
_ENDS = {"conv_in": "first", "conv_norm_out": "last_norm", "conv_out": "last"}
_SAMPLERS = {"downsamplers.0.conv": "resample.mix", "upsamplers.0.conv": "resample.mix"}
_LEVEL = r"(encoder|decoder)\.(?:down|up)_blocks\.(\d+)\."
_PLACES = (
    Place(_LEVEL + r"resnets\.(\d+)\.", r"\1.levels.\2.resnets.\3.", form.RESNET),
    Place(_LEVEL, r"\1.levels.\2.", _SAMPLERS),
    Place(r"(encoder|decoder)\.mid_block\.resnets\.0\.", r"\1.middle.first.", form.RESNET),
    Place(r"(encoder|decoder)\.mid_block\.resnets\.1\.", r"\1.middle.second.", form.RESNET),
    Place(r"(encoder|decoder)\.mid_block\.attentions\.0\.", r"\1.middle.", _MIDDLE),
    Place(r"(encoder|decoder)\.", r"\1.", _ENDS),
    Place("", "", {"quant_conv": "encoder.mix", "post_quant_conv": "decoder.mix"}),
)

#: Of norms; no config says otherwise.
_EPS = 1e-6


def parse(reader: ConfigReader) -> AutoencoderSpec:
    """Return the spec of `config.json`.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    form.refuse_null(reader, "norm_num_groups")
    reader.expect("act_fn", ["silu"], "silu")
    channels = reader.take_list("block_out_channels", int, (64,)) or ()
    _check_levels(reader, "down_block_types", "DownEncoderBlock2D", len(channels))
    _check_levels(reader, "up_block_types", "UpDecoderBlock2D", len(channels))
    spec = AutoencoderSpec(
        image_channels=reader.take("in_channels", int, 3, positive=True),
        decoded_channels=reader.take("out_channels", int, 3, positive=True),
        latent_channels=reader.take("latent_channels", int, 4, positive=True),
        channels=channels,
        num_resnets=reader.take("layers_per_block", int, 1, positive=True),
        norm=GroupNormSpec(reader.take("norm_num_groups", int, 32, positive=True), _EPS),
        scaling_factor=reader.take("scaling_factor", float, 0.18215, positive=True),
        shift_factor=reader.take("shift_factor", float, 0.0),
        has_attention=reader.take("mid_block_add_attention", bool, True),
        has_latent_mix=reader.take("use_quant_conv", bool, True),
        has_decoder_mix=reader.take("use_post_quant_conv", bool, True),
    )
    # How large images were in training, and what their pipeline computes in.
    reader.ignore("sample_size", "force_upcast")
    reader.finish()
    return spec


def _check_levels(reader: ConfigReader, key: str, kind: str, num_levels: int) -> None:
    names = reader.take_list(key, str, (kind,)) or ()
    if set(names) != {kind} or len(names) != num_levels:
        raise UnsupportedConfig(
            f"{reader.where} has {key} = {list(names)} for {num_levels} resolutions; {kind} is needed for "
            "each. Serve it with another engine, or correct the file."
        )


def rename(spec: AutoencoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors."""
    return form.renamed(weights, _PLACES)


BRANDS = (Brand("AutoencoderKL", ModelKind.AUTOENCODER, parse, Autoencoder, rename),)
