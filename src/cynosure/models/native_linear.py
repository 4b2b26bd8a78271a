"""Run linear layers on the native kernels, with what stands around them. Knows nothing of graphs.

A call computes `activation(norm(x) @ weight.T + bias) + residual`. Weights are packed once, from `nn.Linear`
in float32 or bfloat16 or from the codes of `QuantLinear`; what was packed from is not needed any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cynosure.kernels.linear import (
    BLOCK_ROWS,
    Activation,
    CLinearCall,
    LinearShape,
    PackedLinear,
    RowNorm,
    Rows,
    Type,
    Way,
)
from cynosure.kernels.memory import Arena
from cynosure.models.mlp import ACTIVATIONS
from cynosure.models.norm import Norm, NormKind
from cynosure.models.quantize import QuantLinear

Packable: TypeAlias = nn.Linear | QuantLinear

FLOAT_TYPES = {torch.float32: Type.FLOAT32, torch.bfloat16: Type.BFLOAT16}
KERNEL_ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
}
_NORMS = {
    NormKind.RMS: RowNorm.RMS,
    NormKind.RMS_OFFSET: RowNorm.RMS,
    NormKind.LAYER: RowNorm.LAYER,
    NormKind.LAYER_OFFSET: RowNorm.LAYER,
}


@dataclass(frozen=True, eq=False)
class Prologue:
    """A norm in the words of the kernels; holds its weights in float32."""

    kind: RowNorm
    eps: float
    weight: Float[Tensor, " width"]
    bias: Float[Tensor, " width"] | None

    @classmethod
    def of(cls, norm: Norm) -> Prologue:
        """Read a norm's weights."""
        offset = 1.0 if norm.spec.kind in (NormKind.RMS_OFFSET, NormKind.LAYER_OFFSET) else 0.0
        bias = None if norm.bias is None else norm.bias.detach().float()
        return cls(_NORMS[norm.spec.kind], norm.spec.eps, norm.weight.detach().float() + offset, bias)

    def __call__(self, x: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """Return the rows after the norm, in float32: what a kernel takes the products of."""
        x, bias = x.float(), self.bias
        if self.kind is RowNorm.LAYER:
            return functional.layer_norm(x, (x.shape[-1],), self.weight, bias, self.eps)
        out = functional.rms_norm(x, (x.shape[-1],), self.weight, self.eps)
        return out if bias is None else out + bias


def refusal(linear: nn.Module) -> str:
    """Say why the kernels cannot take a layer; empty where they can."""
    if isinstance(linear, QuantLinear):
        return ""
    if not isinstance(linear, nn.Linear):
        return f"{type(linear).__name__} is not a linear layer"
    dtype = linear.weight.dtype
    return "" if dtype in FLOAT_TYPES else f"its weights are {dtype}; the kernels take float32 and bfloat16"


def refusal_of_parts(parts: Sequence[nn.Module]) -> str:
    """Say why layers that read the same input cannot be packed into one; empty where they can."""
    reasons = [reason for part in parts if (reason := refusal(part))]
    if reasons:
        return reasons[0]
    kinds = {_type_of(part) for part in parts if isinstance(part, nn.Linear | QuantLinear)}
    return "" if len(kinds) == 1 else "its parts are kept in different formats"


def _type_of(linear: Packable) -> tuple[Type, int]:
    """Return how a layer's weights are packed, and the columns that share a scale."""
    if isinstance(linear, nn.Linear):
        return FLOAT_TYPES[linear.weight.dtype], 0
    return (Type.INT8, 0) if linear.form.bits == 8 else (Type.INT4, linear.form.group_size or 0)


@final
class NativeLinear(nn.Module):
    """One or more layers of the same input, packed into one matrix."""

    def __init__(
        self,
        parts: Sequence[Packable],
        *,
        arena: Arena | None = None,
        norm: Norm | None = None,
        activation: str | None = None,
        is_gated: bool = False,
    ) -> None:
        """Pack `parts`, whose outputs stand side by side, or are gate and up where `is_gated`."""
        super().__init__()
        kind, group = _type_of(parts[0])
        num_rows = sum(part.out_features for part in parts)
        has_bias = any(part.bias is not None for part in parts)
        self.in_features = parts[0].in_features
        shape = LinearShape(kind, num_rows, self.in_features, group, is_gated, has_bias)
        self.out_features = shape.num_outputs
        self.packed = PackedLinear(shape, arena)
        first_row = 0
        for index, part in enumerate(parts):
            _put(self.packed, part, first_row, is_up=is_gated and index == 1)
            first_row += 0 if is_gated else part.out_features
        self._prologue = None if norm is None else Prologue.of(norm)
        self._template = _template(self._prologue, activation)
        self._act = None if activation is None else ACTIVATIONS[activation]
        self.way = Way.AUTO

    def forward(
        self, x: Float[Tensor, "*lead width"], residual: Float[Tensor, "*lead out"] | None = None
    ) -> Float[Tensor, "*lead out"]:
        """Return the outputs in the dtype of `x`, added to `residual` where there is one."""
        rows = x if x.dim() == 2 else x.reshape(-1, self.in_features)
        row_stride, stride = rows.stride()
        if stride != 1:
            rows, row_stride = rows.contiguous(), self.in_features
        out = torch.empty((*x.shape[:-1], self.out_features), dtype=x.dtype)
        kind = FLOAT_TYPES[x.dtype]
        call = CLinearCall.from_buffer_copy(self._template)
        call.num_rows = rows.shape[0]
        call.way = self.way
        call.x, call.x_type, call.x_stride = rows.data_ptr(), kind, row_stride
        call.out, call.out_type, call.out_stride = out.data_ptr(), kind, self.out_features
        if residual is not None:
            assert residual.dtype == x.dtype
            residual = residual.contiguous()
            call.residual, call.residual_stride = residual.data_ptr(), self.out_features
        self.packed.run(call)
        return out

    @property
    def is_gated(self) -> bool:
        """Whether it computes gate and up, and multiplies them."""
        return self.packed.shape.is_gated

    @property
    def has_activation(self) -> bool:
        """Whether what it gives is more than products, a bias and a residual."""
        return self._act is not None

    def normed(self, x: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """Return what the products are taken of, in float32."""
        return x.float() if self._prologue is None else self._prologue(x)

    def products(self, x: Float[Tensor, "rows width"]) -> Float[Tensor, "rows products"]:
        """Return the products with their biases in float32, side by side: the activation is still to come."""
        blocks = self.packed.ungated.num_blocks if self.is_gated else 0
        out = torch.empty(len(x), BLOCK_ROWS * blocks or self.out_features)
        rows, call = x.contiguous(), self.call()
        call.num_rows, call.way, call.activation = len(rows), self.way, Activation.IDENTITY
        call.x, call.x_type, call.x_stride = rows.data_ptr(), FLOAT_TYPES[x.dtype], self.in_features
        call.out, call.out_type, call.out_stride = out.data_ptr(), FLOAT_TYPES[out.dtype], out.shape[1]
        if not self.is_gated:
            self.packed.run(call)
            return out
        self.packed.run_ungated(call)
        halves = out.view(len(x), blocks // 2, 2, BLOCK_ROWS).transpose(1, 2).flatten(2)
        return halves[..., : self.out_features].flatten(1)

    def activated(self, products: Float[Tensor, "rows products"]) -> Float[Tensor, "rows out"]:
        """Return what the layer makes of its products."""
        assert self._act is not None
        if not self.is_gated:
            return self._act(products)
        gate, up = products.chunk(2, dim=-1)
        return self._act(gate) * up

    @property
    def has_one_way(self) -> bool:
        """Whether all ways of computing give the same bits: sums of int8 codes are whole numbers."""
        return self.packed.shape.type in (Type.INT8, Type.FLOAT32)

    def call(self, norm: Prologue | None = None) -> CLinearCall:
        """Return a call that lacks rows and addresses; `norm` takes the place of the layer's own."""
        if norm is None:
            return CLinearCall.from_buffer_copy(self._template)
        call = _template(norm, None)
        call.activation = self._template.activation
        return call

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        return f"{self.in_features}, {self.out_features}, {self.packed.shape.type.name.lower()}"


@final
class NativeEmbedding(nn.Module):
    """A table of embeddings that shares the head's packed matrix."""

    def __init__(self, head: NativeLinear, dtype: torch.dtype) -> None:
        """Read from `head`; vectors are given in `dtype`."""
        super().__init__()
        self.dtype = dtype
        self.packed = head.packed

    def forward(self, token_ids: Int[Tensor, " n"]) -> Float[Tensor, "n width"]:
        """Return each token's vector.

        Raises:
            IndexError: a token is not in the table, as from `nn.Embedding`.
        """
        shape = self.packed.shape
        ids = token_ids.to(torch.int64).contiguous()
        lowest, highest = map(int, ids.aminmax()) if ids.numel() else (0, 0)
        if not 0 <= lowest <= highest < shape.num_rows:
            raise IndexError(f"token ids reach {highest}; the table has {shape.num_rows} rows")
        out = torch.empty(ids.shape[0], shape.num_columns)
        self.packed.look_up(ids.data_ptr(), ids.shape[0], out.data_ptr())
        return out.to(self.dtype)


def _template(norm: Prologue | None, activation: str | None) -> CLinearCall:
    """Return the fields of a call that do not change."""
    call = CLinearCall()
    if norm is not None:
        call.norm, call.norm_eps = norm.kind, norm.eps
        call.norm_weight = norm.weight.data_ptr()
        call.norm_bias = None if norm.bias is None else norm.bias.data_ptr()
    if activation is not None:
        call.activation = KERNEL_ACTIVATIONS[activation]
    return call


def _put(packed: PackedLinear, part: Packable, first_row: int, *, is_up: bool) -> None:
    """Copy one layer into its rows; the tensors that are read live until the copy is done."""
    if packed.arena.is_filled:
        return
    bias = None if part.bias is None else part.bias.detach().float().contiguous()
    scale = None
    if isinstance(part, QuantLinear):
        values, scale = part.codes.contiguous(), part.scale.contiguous()
        kind = packed.shape.type
    else:
        values = part.weight.detach().contiguous()
        kind = FLOAT_TYPES[values.dtype]
    rows = Rows(
        kind,
        values.data_ptr(),
        part.out_features,
        0 if scale is None else scale.data_ptr(),
        0 if bias is None else bias.data_ptr(),
    )
    packed.put(rows, first_row, is_up=is_up)
