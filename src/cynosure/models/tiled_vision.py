"""Run two stacks of layers over the tiles of an image. Knows nothing of brands, files or texts.

Llama 3.2 Vision's encoder (arXiv 2407.21783, section 7.1), as it was trained: a tile that an image lacks, and
what fills a tile up, takes part like any other, except that those two kinds do not attend to themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cynosure.attention import AttentionPlan, DenseSource, attend
from cynosure.attention.attend import NO_WEIGHTS
from cynosure.attention.plan import KeyPlan, QueryPlan, cumulative
from cynosure.models.embedding import embedding
from cynosure.models.mlp import Mlp
from cynosure.models.norm import Norm
from cynosure.models.tiled_vision_spec import TiledVisionSpec
from cynosure.models.vision import patches_of


@dataclass(frozen=True, eq=False)
class TileView:
    """The tokens of one image in the order of a pass: those that are read first, then those that fill up."""

    order: Int[Tensor, " n"]
    num_real: int
    plan: AttentionPlan
    backend: str

    @classmethod
    def of(cls, is_real: Bool[Tensor, " n"], backend: str) -> TileView:
        """Plan for what is read to see all, and for what fills up to see what is read."""
        num_all, num_real = is_real.numel(), int(is_real.sum())
        order = torch.cat([is_real.nonzero(), (~is_real).nonzero()]).squeeze(1)
        queries, keys = (num_real, num_all - num_real), (num_all, num_real)
        plan = AttentionPlan(
            QueryPlan(cumulative(queries), torch.arange(num_all)),
            (KeyPlan(cumulative(keys), torch.arange(num_all + num_real)),),
        )
        return cls(order, num_real, plan, backend)


class TileLayer(nn.Module):
    """Attention and a feed-forward layer, each added to what came in, as far as its gate lets it."""

    def __init__(self, spec: TiledVisionSpec, *, is_gated: bool) -> None:
        """Hold both halves, their norms and their gates."""
        super().__init__()
        width = spec.hidden_size
        self.spec = spec.attention
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.attention_norm, self.mlp_norm = Norm(spec.norm, width), Norm(spec.norm, width)
        self.mlp = Mlp(spec.mlp, width)
        self.attention_gate = gate() if is_gated else None
        self.mlp_gate = gate() if is_gated else None

    def forward(self, x: Float[Tensor, "n hidden"], view: TileView) -> Float[Tensor, "n hidden"]:
        """Return the tokens after this layer."""
        x = x + gated(self._attended(self.attention_norm(x), view), self.attention_gate)
        return x + gated(self.mlp(self.mlp_norm(x)), self.mlp_gate)

    def _attended(self, x: Float[Tensor, "n hidden"], view: TileView) -> Float[Tensor, "n hidden"]:
        shape = (self.spec.heads.num_heads, self.spec.heads.head_dim)
        q, k, v = (part(x).unflatten(-1, shape) for part in (self.q, self.k, self.v))
        # Keys twice: all for those that are read, and what is read for those that fill up.
        source = DenseSource(torch.cat([k, k[: view.num_real]]), torch.cat([v, v[: view.num_real]]))
        state = attend(self.spec, q, [source], view.plan, weights=NO_WEIGHTS, backend=view.backend)
        return self.out(state.out.to(x.dtype).flatten(1))


class TileEmbeddings(nn.Module):
    """Project patches, put a class token before those of each tile, add what tells places and tiles apart."""

    def __init__(self, spec: TiledVisionSpec) -> None:
        """Hold the projection, the class token and the tables, each with its gate."""
        super().__init__()
        width, num_grids = spec.hidden_size, len(spec.grids) + 1
        self.spec = spec
        self.patch = nn.Linear(spec.num_channels * spec.patch_size**2, width, bias=False)
        self.class_token = nn.Parameter(torch.empty(width), requires_grad=False)
        self.tile = embedding(num_grids, spec.max_tiles * width)
        self.tile_gate = gate()
        self.position = nn.Parameter(torch.empty(spec.num_tokens, width), requires_grad=False)
        self.tile_position = embedding(num_grids, spec.max_tiles * spec.num_tokens * width)
        self.position_gate = gate()
        self.norm = Norm(spec.outer_norm, width)

    def forward(self, tiles: Float[Tensor, "t c h w"], number: int) -> Float[Tensor, "t tokens hidden"]:
        """Return the first hidden states of all tiles of an image of the grid `number`."""
        spec, width = self.spec, self.spec.hidden_size
        x = self.patch(patches_of(tiles.to(self.class_token.dtype), spec.patch_size))
        x = x + gated(self.tile.weight[number].view(-1, 1, width), self.tile_gate)
        x = torch.cat([self.class_token.expand(x.shape[0], 1, -1), x], dim=1)
        share = self.position_gate.tanh()
        x = x + (1 - share) * self.position
        x = x + share * self.tile_position.weight[number].view(-1, spec.num_tokens, width)
        return self.norm(x)


class TiledVisionEncoder(nn.Module):
    """The whole graph; build it on the meta device and let `fill` assign its weights."""

    def __init__(self, spec: TiledVisionSpec) -> None:
        """Hold embeddings and both stacks."""
        super().__init__()
        self.spec = spec
        self.embeddings = TileEmbeddings(spec)
        self.layers = nn.ModuleList(TileLayer(spec, is_gated=False) for _ in range(spec.num_layers))
        self.middle_norm = Norm(spec.outer_norm, spec.hidden_size)
        self.tile = embedding(len(spec.grids) + 1, spec.max_tiles * spec.hidden_size)
        self.tile_gate = gate()
        self.gated_layers = nn.ModuleList(
            TileLayer(spec, is_gated=True) for _ in range(spec.num_gated_layers)
        )

    def forward(
        self, tiles: Float[Tensor, "t c h w"], grid: tuple[int, int], backend: str = "auto"
    ) -> Float[Tensor, "tokens out"]:
        """Return the states of all tokens of an image's tiles, tile by tile.

        Args:
            tiles: of one image, row by row.
            grid: how many there are down and across, one of `spec.grids`.
            backend: of attention, by name.
        """
        spec, number = self.spec, self.spec.grids.index(grid) + 1
        num_tiles = tiles.shape[0]
        absent = tiles.new_zeros(spec.max_tiles - num_tiles, *tiles.shape[1:])
        x = self.embeddings(torch.cat([tiles, absent]), number)
        x = nn.functional.pad(x, (0, 0, 0, spec.num_filled - spec.num_tokens)).flatten(0, 1)
        is_real = torch.zeros(spec.max_tiles, spec.num_filled, dtype=torch.bool)
        is_real[:num_tiles, : spec.num_tokens] = True
        view = TileView.of(is_real.flatten(), backend)
        x, read = x[view.order], list[Tensor]()
        for place, layer in enumerate(self.layers):
            x = layer(x, view)
            if place in spec.read_layers:
                read.append(x[: view.num_real])
        tile_of = torch.arange(spec.max_tiles).repeat_interleave(spec.num_filled)[view.order]
        x = self.middle_norm(x)
        x = x + gated(self.tile.weight[number].view(-1, spec.hidden_size)[tile_of], self.tile_gate)
        for layer in self.gated_layers:
            x = layer(x, view)
        # Channel by channel, not layer by layer: so the projection behind was trained.
        beside = torch.stack(read, -1).flatten(1) if read else x[: view.num_real, :0]
        return torch.cat([x[: view.num_real], beside], -1)


def gate() -> nn.Parameter:
    """Return a gate to be filled: one number, whose hyperbolic tangent scales what is added."""
    return nn.Parameter(torch.empty(1), requires_grad=False)


def gated(x: Float[Tensor, "*lead hidden"], by: Tensor | None) -> Float[Tensor, "*lead hidden"]:
    """Return `x` as a gate lets it through, or as it is where there is none."""
    return x if by is None else by.tanh() * x
