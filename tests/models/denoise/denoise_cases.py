"""List the tiny denoisers and autoencoders that diffusers checks. Knows nothing of the comparison."""

from __future__ import annotations

from tests.models.vision_cases import Case

_DIT = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "sample_size": 8,
    "num_embeds_ada_norm": 10,
}
_PIXART = {
    "num_attention_heads": 3,
    "attention_head_dim": 16,
    "num_layers": 2,
    "sample_size": 16,
    "cross_attention_dim": 48,
    "caption_channels": 24,
    "use_additional_conditions": False,
}
_UNET = {
    "block_out_channels": [16, 32, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": 2,
    "cross_attention_dim": 24,
    "norm_num_groups": 4,
}
# As in Stable Diffusion 2: heads and layers a level, linear projections; and no text in the middle levels.
_UNET_2 = {
    **_UNET,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"],
    "attention_head_dim": [2, 4, 8],
    "transformer_layers_per_block": [1, 1, 2],
    "use_linear_projection": True,
    "layers_per_block": 1,
    "in_channels": 5,
    "norm_eps": 1e-3,
}
_AUTOENCODER = {
    "block_out_channels": [8, 16, 16],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "norm_num_groups": 4,
    "layers_per_block": 2,
}
_BARE = {
    **_AUTOENCODER,
    "layers_per_block": 1,
    "latent_channels": 6,
    "mid_block_add_attention": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
_LEGACY = "Transformer2DModel"

CASES: dict[str, Case] = {
    "dit": Case("DiTTransformer2DModel", {**_DIT, "out_channels": 8}),
    "dit-plain": Case(
        "DiTTransformer2DModel",
        {**_DIT, "attention_bias": False, "patch_size": 1, "norm_eps": 1e-2, "activation_fn": "gelu"},
    ),
    "dit-legacy": Case(_LEGACY, {**_DIT, "norm_type": "ada_norm_zero"}),
    "pixart": Case("PixArtTransformer2DModel", _PIXART),
    "pixart-sized": Case("PixArtTransformer2DModel", {**_PIXART, "use_additional_conditions": True}),
    "pixart-scaled": Case(
        "PixArtTransformer2DModel",
        {**_PIXART, "caption_channels": None, "cross_attention_dim": 20, "interpolation_scale": 2},
    ),
    "pixart-legacy": Case(_LEGACY, {**_PIXART, "norm_type": "ada_norm_single", "out_channels": 4}),
    "unet": Case("UNet2DConditionModel", _UNET),
    "unet-2": Case("UNet2DConditionModel", _UNET_2),
    "autoencoder": Case("AutoencoderKL", _AUTOENCODER),
    "autoencoder-bare": Case("AutoencoderKL", _BARE),
}

#: Classes that wrote a config before each had its own.
WRITTEN_BY = {"dit-legacy": "DiTTransformer2DModel", "pixart-legacy": "PixArtTransformer2DModel"}
