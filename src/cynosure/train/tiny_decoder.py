"""A small decoder to be trained, with the names of a Llama checkpoint. Knows nothing of text or of steps.

A twin of what `models` builds from its files (arXiv 2307.09288), in plain torch that can be differentiated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-5
THETA = 10_000.0


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder; the head is tied to the embeddings.

    All widths are multiples of 128, so that every code of weights fits.
    """

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 768
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    max_model_len: int = 512

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden_size // self.num_heads

    def config(self) -> dict[str, object]:
        """Return what `config.json` says of a checkpoint of this shape."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "max_position_embeddings": self.max_model_len,
            "rms_norm_eps": EPS,
            "rope_theta": THETA,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "dtype": "float32",
        }


class TinyDecoder(nn.Module):
    """Token ids in, logits of each next token out."""

    def __init__(self, shape: Shape) -> None:
        """Draw the weights; the deeper a model, the less each layer adds at first."""
        super().__init__()
        self.shape = shape
        self.model = _Stack(shape)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                is_added = name.endswith(("o_proj.weight", "down_proj.weight"))
                spread = 0.02 / (2 * shape.num_layers) ** 0.5 if is_added else 0.02
                nn.init.normal_(parameter, std=spread)

    def forward(self, token_ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n vocab"]:
        """Return the logits of the token after each."""
        return functional.linear(self.model(token_ids), self.model.embed_tokens.weight)


class _Stack(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.num_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, EPS)
        self.head_dim = shape.head_dim

    def forward(self, token_ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n hidden"]:
        x = self.embed_tokens(token_ids)
        rotation = _rotation(token_ids.shape[1], self.head_dim, token_ids.device)
        for layer in self.layers:
            x = layer(x, rotation)
        return self.norm(x)


class _Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden_size, EPS)
        self.self_attn = _Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden_size, EPS)
        self.mlp = _Mlp(shape)

    def forward(
        self, x: Float[Tensor, "b n hidden"], rotation: Float[Tensor, "2 n d"]
    ) -> Float[Tensor, "b n hidden"]:
        x = x + self.self_attn(self.input_layernorm(x), rotation)
        return x + self.mlp(self.post_attention_layernorm(x))


class _Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, kv_width = shape.hidden_size, shape.num_kv_heads * shape.head_dim
        self.head_dim = shape.head_dim
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, kv_width, bias=False)
        self.v_proj = nn.Linear(width, kv_width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Float[Tensor, "b n hidden"], rotation: Float[Tensor, "2 n d"]
    ) -> Float[Tensor, "b n hidden"]:
        q, k, v = (
            project(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = _rotate(q, rotation), _rotate(k, rotation)
        group_size = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group_size, 1), v.repeat_interleave(group_size, 1)
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(out.transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Float[Tensor, "b n hidden"]) -> Float[Tensor, "b n hidden"]:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


def _rotation(length: int, head_dim: int, device: torch.device) -> Float[Tensor, "2 n d"]:
    """Return cosines and sines of each position's angles; the two halves of a head turn together."""
    steps = torch.arange(0, head_dim, 2, device=device) / head_dim
    angles = torch.arange(length, device=device)[:, None] * THETA**-steps
    both = torch.cat([angles, angles], -1)
    return torch.stack([both.cos(), both.sin()])


def _rotate(x: Float[Tensor, "b h n d"], rotation: Float[Tensor, "2 n d"]) -> Float[Tensor, "b h n d"]:
    low, high = x.chunk(2, -1)
    return (x * rotation[0] + torch.cat([-high, low], -1) * rotation[1]).to(x.dtype)
