"""Run a decoder's layer in five native calls around its attention. Knows nothing of weights on disk.

    q, k, v = qkv(norm(x));  x = o(attend(q, k, v)) + x;  x = down(act(gate(norm(x))) * up(norm(x))) + x

Each half is replaced where the kernels know all of it, and stays as it was where they do not.
"""

from __future__ import annotations

from typing import final

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionWeights
from cynosure.attention.positions import Rotary
from cynosure.kernels.memory import Arena
from cynosure.models.decoder import DecoderLayer
from cynosure.models.decoder_spec import LayerSpec
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.mlp import Mlp, MlpSpec
from cynosure.models.moe import Moe
from cynosure.models.native.experts import NativeMoe, refusal_of_moe
from cynosure.models.native.mlp import NativeMlp, mlp_refusal, packable
from cynosure.models.native_linear import NativeLinear, refusal_of_parts
from cynosure.models.norm import Norm
from cynosure.models.self_attention import SelfAttention


@final
class NativeAttention(nn.Module):
    """The attention half of a layer: `x + post_norm(o(attend(qkv(norm(x)))))`."""

    def __init__(self, attention: SelfAttention, norm: Norm, post_norm: nn.Module, arena: Arena) -> None:
        """Pack the projections; norms of heads and sinks are kept."""
        super().__init__()
        self.spec = attention.spec
        self.layer = attention.layer
        self.qkv = NativeLinear(packable(attention.q, attention.k, attention.v), arena=arena, norm=norm)
        self.o = NativeLinear(packable(attention.o), arena=arena)
        self.q_norm, self.k_norm, self.sinks = attention.q_norm, attention.k_norm, attention.sinks
        self.post_norm = None if isinstance(post_norm, nn.Identity) else post_norm

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return the tokens after this half."""
        spec = self.spec.attention
        heads, position = spec.heads, spec.position
        widths = (
            heads.num_heads * heads.head_dim,
            heads.num_kv_heads * heads.head_dim,
            heads.num_kv_heads * heads.v_head_dim,
        )
        q, k, v = self.qkv(x).split(widths, dim=-1)
        q = self.q_norm(q.unflatten(-1, (heads.num_heads, heads.head_dim)))
        k = self.k_norm(k.unflatten(-1, (heads.num_kv_heads, heads.head_dim)))
        v = v.unflatten(-1, (heads.num_kv_heads, heads.v_head_dim))
        if isinstance(position, Rotary):
            q, k = forward_pass.rotate(position, q), forward_pass.rotate(position, k)
        source = forward_pass.extend(self.layer, k, v)
        out = forward_pass.attend(self.layer, spec, q, source, AttentionWeights(sinks=self.sinks)).flatten(1)
        return self.o(out, x) if self.post_norm is None else x + self.post_norm(self.o(out))


@final
class NativeLayer(nn.Module):
    """A layer whose halves are native where `attention` and `mlp` are given, and `plain` elsewhere."""

    def __init__(
        self, plain: DecoderLayer, attention: NativeAttention | None, mlp: NativeMlp | NativeMoe | None
    ) -> None:
        """Hold the native halves, and of the plain layer what they leave over."""
        super().__init__()
        self.attention, self.mlp = attention, mlp
        self.plain = plain
        # What was packed is not needed a second time.
        for half, native in (("attention", attention), ("mlp", mlp)):
            if native is not None:
                for name in (half, f"{half}_norm", f"{half}_post_norm"):
                    plain.set_submodule(name, nn.Identity())

    def forward(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n hidden"]:
        """Return the tokens after this layer."""
        plain = self.plain
        if self.attention is not None:
            x = self.attention(x, forward_pass)
        else:
            x = x + plain.attention_post_norm(plain.attention(plain.attention_norm(x), forward_pass))
        if self.mlp is not None:
            return self.mlp(x)
        return x + plain.mlp_post_norm(plain.mlp(plain.mlp_norm(x)))


def native_layer(
    layer: DecoderLayer, activation: str | None, arena: Arena
) -> tuple[nn.Module, dict[str, str]]:
    """Return the layer with its halves replaced, and why a half was not, by its name.

    `activation` is that of a plain feed-forward half; `None` where the layer has none.
    """
    attention, mlp = layer.attention, layer.mlp
    reasons: dict[str, str] = {}
    native_attention = native_mlp = None
    if reason := _layer_refusal(layer.spec):
        return layer, {"attention": reason, "mlp": reason}
    if reason := _attention_refusal(attention):
        reasons["attention"] = reason
    else:
        assert isinstance(attention, SelfAttention)
        assert isinstance(layer.attention_norm, Norm)
        native_attention = NativeAttention(attention, layer.attention_norm, layer.attention_post_norm, arena)
    if isinstance(mlp, Moe):
        reason = refusal_of_moe(mlp, layer.mlp_post_norm)
    else:
        reason = mlp_refusal(mlp, activation)
    if reason:
        reasons["mlp"] = reason
    else:
        native_mlp = _native_mlp(layer, activation, arena)
    if native_attention is None and native_mlp is None:
        return layer, reasons
    return NativeLayer(layer, native_attention, native_mlp), reasons


def _native_mlp(layer: DecoderLayer, activation: str | None, arena: Arena) -> NativeMlp | NativeMoe:
    mlp, norm = layer.mlp, layer.mlp_norm
    assert isinstance(norm, Norm)
    if isinstance(mlp, Moe):
        return NativeMoe(mlp, norm, arena)
    assert isinstance(mlp, Mlp)
    assert activation is not None
    return NativeMlp(mlp, activation, norm, layer.mlp_post_norm, arena)


def _layer_refusal(spec: LayerSpec) -> str:
    """Say what of a layer's own arithmetic the halves do not have; empty where they have it all."""
    if isinstance(spec.mlp, MlpSpec) and spec.mlp.sparsity:
        return "its gates are cut; it is run as it is, on native projections"
    if spec.is_parallel:
        return "its halves are parallel; they are run as they are, on native projections"
    if not spec.has_pre_norms:
        return "its halves have no norm before them; they are run as they are, on native projections"
    if spec.residual_multiplier != 1.0:
        return "its halves are scaled before they are added; they are run as they are, on native projections"
    return ""


def _attention_refusal(attention: nn.Module) -> str:
    if not isinstance(attention, SelfAttention):
        return f"{type(attention).__name__} is run as it is, on native projections"
    if attention.spec.is_qk_norm_whole:
        return "its norms span all heads of q and of k; it is run as it is, on native projections"
    if attention.spec.qkv_clip is not None:
        return "its queries, keys and values are clipped; it is run as it is, on native projections"
    if attention.spec.is_qk_norm_last:
        return "its norms of q and k come behind the rotation; it is run as it is, on native projections"
    if attention.spec.v_norm is not None:
        return "its values are normalised; it is run as it is, on native projections"
    if attention.gate is not None:
        return "what it attends to is gated; it is run as it is, on native projections"
    if attention.spec.query_growth is not None:
        return "its queries grow with their positions; it is run as it is, on native projections"
    return refusal_of_parts([attention.q, attention.k, attention.v]) or refusal_of_parts([attention.o])
