"""Read DiT checkpoints (arXiv 2212.09748) as diffusers writes them. Knows nothing of the graph."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import Heads
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.denoise.inputs import DenoiserInputs
from cynosure.models.denoise.label_transformer import LabelTransformer
from cynosure.models.denoise.transformer_spec import TransformerSpec
from cynosure.models.families import naming
from cynosure.models.families.vit import as_rows
from cynosure.models.mlp import MlpSpec

#: Feed-forward layers by the names that diffusers has for them.
ACTIVATIONS = {"gelu-approximate": "gelu_pytorch_tanh", "gelu": "gelu"}

#: Modules of a layer that all transformers of this form have.
HALVES: dict[str, naming.Target] = {
    "attn1.to_q": "attention.q",
    "attn1.to_k": "attention.k",
    "attn1.to_v": "attention.v",
    "attn1.to_out.0": "attention.out",
    "ff.net.0.proj": "mlp.up",
    "ff.net.2": "mlp.down",
}
_OUTER: dict[str, naming.Target] = {
    "pos_embed.proj": {"patch": as_rows},
    "proj_out_1": "output_modulation",
    "proj_out_2": "output",
}
_INNER: dict[str, naming.Target] = {
    **HALVES,
    "norm1.emb.timestep_embedder.linear_1": "modulation.time.up",
    "norm1.emb.timestep_embedder.linear_2": "modulation.time.down",
    "norm1.emb.class_embedder.embedding_table": "modulation.label",
    "norm1.linear": "modulation.linear",
}

#: Positions are computed; older files hold them all the same.
STORED_POSITIONS = ("pos_embed.pos_embed",)


def read_heads(reader: ConfigReader) -> Heads:
    """Return the heads of a transformer's layers, which together are as wide as a token."""
    return Heads.of(
        reader.take("num_attention_heads", int, 16, positive=True),
        reader.take("attention_head_dim", int, 72, positive=True),
    )


def read_mlp(reader: ConfigReader, heads: Heads) -> MlpSpec:
    """Return the feed-forward layers, four times as wide as a token."""
    name = reader.expect("activation_fn", sorted(ACTIVATIONS), "gelu-approximate")
    width = 4 * heads.num_heads * heads.head_dim
    return MlpSpec(width, ACTIVATIONS[name], is_gated=False, has_bias=True)


def ignore_unread(reader: ConfigReader) -> None:
    """Let pass what no transformer of patches reads, and check what all of them have alike."""
    reader.ignore("norm_num_groups", "upcast_attention", "use_linear_projection")
    reader.expect("num_vector_embeds", [None, False], None)
    reader.expect("norm_elementwise_affine", [False], False)
    reader.expect("only_cross_attention", [False], False)
    reader.expect("double_self_attention", [False], False)
    reader.expect("attention_type", ["default"], "default")


def parse(reader: ConfigReader) -> TransformerSpec:
    """Return the spec of `config.json`.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    heads = read_heads(reader)
    reader.expect("norm_type", ["ada_norm_zero"], "ada_norm_zero")
    # Where this is set, a layer has a cross-attention.
    reader.expect("cross_attention_dim", [None], None)
    in_channels = reader.take("in_channels", int, 4, positive=True)
    patch_size = reader.take("patch_size", int, 2, positive=True)
    spec = TransformerSpec(
        inputs=DenoiserInputs(
            in_channels,
            reader.take("out_channels", int, in_channels, positive=True),
            patch_size,
            # One class more stands for none.
            num_labels=reader.take("num_embeds_ada_norm", int, 1000, positive=True) + 1,
        ),
        patch_size=patch_size,
        position_base=float(reader.take("sample_size", int, 32, positive=True) // patch_size),
        heads=heads,
        num_layers=reader.take("num_layers", int, 28, positive=True),
        mlp=read_mlp(reader, heads),
        has_attention_bias=reader.take("attention_bias", bool, True),
        mlp_norm_eps=reader.take("norm_eps", float, 1e-5),
    )
    ignore_unread(reader)
    reader.finish()
    return spec


def rename(spec: TransformerSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors."""
    return naming.rename(weights, _OUTER, _INNER, stack="transformer_blocks.")


BRANDS = (
    Brand("DiTTransformer2DModel", ModelKind.DENOISER, parse, LabelTransformer, rename, STORED_POSITIONS),
)
