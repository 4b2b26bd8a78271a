"""Project tokens of images, attend among them or to a text, project back. Knows nothing of layers."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.masks import Full
from cynosure.models.denoise.denoising_pass import DenoisingPass


class ImageAttention(nn.Module):
    """Multi-head attention in which every token sees all (arXiv 1706.03762).

    Where `text_width` is given, keys and values are those of the pass's text.
    """

    def __init__(self, width: int, heads: Heads, *, has_bias: bool, text_width: int | None = None) -> None:
        """Hold the projections; the last one always has a bias."""
        super().__init__()
        self.spec = AttentionSpec(heads, mask=Full())
        self.is_text = text_width is not None
        inner, source = heads.num_heads * heads.head_dim, text_width or width
        self.q = nn.Linear(width, inner, has_bias)
        self.k = nn.Linear(source, inner, has_bias)
        self.v = nn.Linear(source, inner, has_bias)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Float[Tensor, "n t c"], given: DenoisingPass) -> Float[Tensor, "n t c"]:
        """Return what each token took."""
        source = given.text if self.is_text else x
        assert source is not None, "a layer that reads a text is in a model that checks for one"
        q, k, v = self._by_head(self.q, x), self._by_head(self.k, source), self._by_head(self.v, source)
        taken = given.attend(self.spec, q, k, v, is_text=self.is_text)
        return self.out(taken.flatten(0, 1)).unflatten(0, x.shape[:2])

    def _by_head(self, linear: nn.Module, x: Float[Tensor, "n t c"]) -> Float[Tensor, "n t h d"]:
        # Rows of one matrix, as all that may stand in a linear layer's place reads them.
        return (
            linear(x.flatten(0, 1)).unflatten(-1, (self.spec.heads.num_heads, -1)).unflatten(0, x.shape[:2])
        )
