"""A cross-encoder to be trained, with the names of a BERT checkpoint. Knows nothing of text or of steps.

A twin of what `models` builds from its files (arXiv 1810.04805), in plain torch that can be differentiated;
it has no dropout, so that a run is a function of its seed. Padding is on the right, and masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-12


@dataclass(frozen=True)
class PairShape:
    """The sizes of a cross-encoder."""

    vocab_size: int = 30522
    hidden_size: int = 384
    intermediate_size: int = 1536
    num_layers: int = 6
    num_heads: int = 12
    max_model_len: int = 512
    num_labels: int = 3


class PairEncoder(nn.Module):
    """Token ids of pairs in, logits of each label out. The vectors of words stay as they are."""

    def __init__(self, shape: PairShape) -> None:
        """Draw the weights; `start_from` replaces those that a checkpoint has."""
        super().__init__()
        self.shape = shape
        self.bert = _Bert(shape)
        self.classifier = nn.Linear(shape.hidden_size, shape.num_labels)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        self.bert.embeddings.word_embeddings.weight.requires_grad_(False)

    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a bare encoder, by its checkpoint's names."""
        wanted = self.bert.state_dict()
        self.bert.load_state_dict({name: weights[name] for name in wanted})

    def forward(
        self, token_ids: Int[Tensor, "b n"], type_ids: Int[Tensor, "b n"], is_text: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b labels"]:
        """Return logits; `is_text` is false on padding."""
        return self.classifier(self.bert(token_ids, type_ids, is_text))


class _Bert(nn.Module):
    def __init__(self, shape: PairShape) -> None:
        super().__init__()
        self.embeddings = _Embeddings(shape)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Layer(shape) for _ in range(shape.num_layers))})
        self.pooler = nn.ModuleDict({"dense": nn.Linear(shape.hidden_size, shape.hidden_size)})

    def forward(
        self, token_ids: Int[Tensor, "b n"], type_ids: Int[Tensor, "b n"], is_text: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b hidden"]:
        x = self.embeddings(token_ids, type_ids)
        mask = torch.zeros(is_text.shape, dtype=x.dtype).masked_fill(~is_text, float("-inf"))
        mask = mask.to(x.device)[:, None, None, :].expand(-1, 1, is_text.shape[1], -1)
        layers = self.encoder["layer"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            x = layer(x, mask)
        return torch.tanh(self.pooler["dense"](x[:, 0]))


class _Embeddings(nn.Module):
    def __init__(self, shape: PairShape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.position_embeddings = nn.Embedding(shape.max_model_len, shape.hidden_size)
        self.token_type_embeddings = nn.Embedding(2, shape.hidden_size)
        self.LayerNorm = nn.LayerNorm(shape.hidden_size, EPS)

    def forward(
        self, token_ids: Int[Tensor, "b n"], type_ids: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b n hidden"]:
        places = self.position_embeddings.weight[: token_ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(token_ids) + self.token_type_embeddings(type_ids) + places)


class _Layer(nn.Module):
    def __init__(self, shape: PairShape) -> None:
        super().__init__()
        width = shape.hidden_size
        self.num_heads = shape.num_heads
        own = nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"self": own, "output": _Added(width, width)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, shape.intermediate_size)})
        self.output = _Added(shape.intermediate_size, width)

    def forward(
        self, x: Float[Tensor, "b n hidden"], mask: Float[Tensor, "b 1 n n"]
    ) -> Float[Tensor, "b n hidden"]:
        own = self.attention["self"]
        assert isinstance(own, nn.ModuleDict)
        q, k, v = (
            own[name](x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        # Written out: on a CPU, the gradient of torch's fused attention takes longer than all the rest.
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + mask.to(q.dtype)
        out = scores.softmax(-1).to(v.dtype) @ v
        x = self.attention["output"](out.transpose(1, 2).flatten(2), x)
        return self.output(functional.gelu(self.intermediate["dense"](x)), x)


class _Added(nn.Module):
    """A projection, added to the residual stream and normalised."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(num_in, num_out)
        self.LayerNorm = nn.LayerNorm(num_out, EPS)

    def forward(
        self, x: Float[Tensor, "b n wide"], residual: Float[Tensor, "b n hidden"]
    ) -> Float[Tensor, "b n hidden"]:
        return self.LayerNorm(self.dense(x) + residual)
