"""Make small random encoders beside a plain float64 twin of what the kernels compute. Asserts nothing."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cynosure.kernels.encoder import CEncoder, CEncoderLayer, CEncoderPass, CLayerNorm, PooledRows, encode
from cynosure.kernels.linear import Activation, PackedLinear, Type
from tests.kernels.packed import Floats, Matrix, Wide, from_bf16, quantised, to_bf16

VOCAB, LONGEST = 50, 608
BFLOAT16_ROUNDING = 0.012  # what two layers cost a text's states, as a share of their size


@dataclass(frozen=True)
class Shape:
    """What differs between encoders."""

    hidden: int = 64
    num_heads: int = 2
    head_dim: int = 32
    inner: int = 96
    type: Type = Type.BFLOAT16
    activation: Activation = Activation.GELU
    is_pre_norm: bool = False
    is_gated: bool = False
    has_rotation: bool = False
    has_distances: bool = False
    windows: tuple[int, ...] = (0, 0)


@dataclass
class Norm:
    weight: Floats
    bias: Floats

    @classmethod
    def of(cls, width: int) -> Norm:
        return cls(
            np.random.normal(1, 0.2, width).astype(np.float32), np.random.randn(width).astype(np.float32) / 4
        )

    @property
    def struct(self) -> CLayerNorm:
        return CLayerNorm(self.weight.ctypes.data, self.bias.ctypes.data, 1e-6)

    def __call__(self, x: Wide) -> Wide:
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * self.weight + self.bias


class Linear:
    """A matrix whose numbers are small enough that layers neither grow nor vanish."""

    def __init__(self, shape: Shape, rows: int, columns: int, *, is_gated: bool = False) -> None:
        matrix = Matrix(shape.type, rows, columns)
        if shape.type is Type.BFLOAT16:
            matrix.values = to_bf16(from_bf16(matrix.values) / np.sqrt(columns) * 1.5)
            matrix.weights = from_bf16(matrix.values).astype(np.float64)
        else:
            assert matrix.scales is not None
            matrix.scales[:] = matrix.scales / np.sqrt(columns) * 4
            matrix.weights = matrix.values * matrix.scales[:, None].astype(np.float64)
        self.bias = np.random.randn(rows).astype(np.float32) / 4
        self.matrix = matrix
        self.is_coded = False
        self.packed: PackedLinear = matrix.packed(self.bias, is_gated=is_gated)

    @property
    def pointer(self) -> ctypes._Pointer:
        return ctypes.pointer(self.packed.struct)

    def __call__(self, x: Wide) -> Wide:
        """Return the product; where `is_coded` is set, of the codes of rows."""
        if self.is_coded:
            x = quantised(x.astype(np.float32))
        return x @ self.matrix.weights.T + self.bias


@dataclass
class Layer:
    shape: Shape
    window: int
    qkv: Linear = field(init=False)

    def __post_init__(self) -> None:
        shape, width = self.shape, self.shape.num_heads * self.shape.head_dim
        self.qkv, self.out = Linear(shape, 3 * width, shape.hidden), Linear(shape, shape.hidden, width)
        self.up = Linear(shape, shape.inner * (1 + shape.is_gated), shape.hidden, is_gated=shape.is_gated)
        self.down = Linear(shape, shape.hidden, shape.inner)
        self.attention_norm, self.mlp_norm = Norm.of(shape.hidden), Norm.of(shape.hidden)


class TinyEncoder:
    """The structs, and the same in float64."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.layers = [Layer(shape, window) for window in shape.windows]
        tables = (to_bf16(np.random.randn(rows, shape.hidden)) for rows in (VOCAB, LONGEST + 2, 2))
        self.tokens, self.positions, self.types = tables
        self.first, self.last = Norm.of(shape.hidden), Norm.of(shape.hidden)
        angles = np.arange(LONGEST)[:, None] / 40 ** (np.arange(shape.head_dim // 2) / shape.head_dim * 2)
        self.cos, self.sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        self.distances = np.random.randn(shape.num_heads, 2 * LONGEST + 1).astype(np.float32) * 2
        self.structs = (CEncoderLayer * len(self.layers))(*map(self._layer, self.layers))
        self.struct = CEncoder(shape.hidden, shape.num_heads, shape.head_dim, shape.inner)
        self.struct.scale, self.struct.activation = shape.head_dim**-0.5, shape.activation
        self.struct.is_pre_norm, self.struct.position_offset = shape.is_pre_norm, 2
        self.struct.tokens, self.struct.positions = self.tokens.ctypes.data, self.positions.ctypes.data
        self.struct.types = self.types.ctypes.data
        self.struct.embedding_norm, self.struct.final_norm = self.first.struct, self.last.struct
        if shape.has_distances:
            self.struct.distance_bias, self.struct.max_distance = self.distances.ctypes.data, LONGEST
        self.struct.num_layers, self.struct.layers = len(self.layers), self.structs

    def run(
        self, texts: list[NDArray[np.int64]], pooled: PooledRows = PooledRows.ALL, *, has_types: bool = True
    ) -> Floats:
        """Return what the kernels give; a row that they leave out would be NaN."""
        ids = np.concatenate([np.empty(0, np.int64), *texts])
        cu_seqlens = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        types = types_of(texts)
        num_rows = len(ids) if pooled is PooledRows.ALL else len(texts)
        out = np.full((num_rows + 1, self.shape.hidden), np.nan, np.float32)
        call = CEncoderPass(len(texts), cu_seqlens.ctypes.data, ids.ctypes.data, None, pooled)
        if has_types:
            call.type_ids = types.ctypes.data
        call.out = out.ctypes.data
        encode(self.struct, call)
        assert np.isnan(out[-1]).all()
        return out[:-1]

    def exact(self, text: NDArray[np.int64], *, has_types: bool = True) -> Wide:
        """Return one text's hidden states in float64, one head after the other."""
        types = types_of([text]) if has_types else np.zeros_like(text)
        tables = (self.tokens[text], self.types[types], self.positions[2 : 2 + len(text)])
        x = self.first(sum(from_bf16(table).astype(np.float64) for table in tables))
        for layer in self.layers:
            if self.shape.is_pre_norm:
                x = x + layer.out(self._attended(layer, layer.qkv(layer.attention_norm(x))))
                x = x + self._inner(layer, layer.mlp_norm(x))
            else:
                x = layer.attention_norm(x + layer.out(self._attended(layer, layer.qkv(x))))
                x = layer.mlp_norm(x + self._inner(layer, x))
        return self.last(x) if self.shape.is_pre_norm else x

    def rounding(self, text: NDArray[np.int64]) -> float:
        """Return how far a text's states may be off, by their size: twice what codes of rows cost."""
        if self.shape.type is Type.BFLOAT16:
            return BFLOAT16_ROUNDING
        exact = self.exact(text)
        linears = [one for layer in self.layers for one in (layer.qkv, layer.out, layer.up, layer.down)]
        for linear in linears:
            linear.is_coded = True
        coded = self.exact(text)
        for linear in linears:
            linear.is_coded = False
        return BFLOAT16_ROUNDING + 2 * float(np.linalg.norm(coded - exact) / np.linalg.norm(exact))

    def _attended(self, layer: Layer, qkv: Wide) -> Wide:
        shape, length = self.shape, len(qkv)
        q, k, v = qkv.reshape(length, 3, shape.num_heads, shape.head_dim).transpose(1, 2, 0, 3)
        if shape.has_rotation:
            q, k = self._rotated(q), self._rotated(k)
        scores = q @ k.transpose(0, 2, 1) * shape.head_dim**-0.5
        apart = np.arange(length) - np.arange(length)[:, None]
        if shape.has_distances:
            scores += self.distances[:, apart + LONGEST]
        if layer.window:
            scores[:, abs(apart) >= layer.window] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return (weights / weights.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(length, -1)

    def _rotated(self, x: Wide) -> Wide:
        a, b = np.split(x, 2, axis=-1)
        cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def _inner(self, layer: Layer, x: Wide) -> Wide:
        up = layer.up(x)
        if not self.shape.is_gated:
            return layer.down(activated(self.shape.activation, up))
        gate, up = np.split(up, 2, axis=-1)
        return layer.down(activated(self.shape.activation, gate) * up)

    def _layer(self, layer: Layer) -> CEncoderLayer:
        struct = CEncoderLayer(layer.qkv.pointer, layer.out.pointer, layer.up.pointer, layer.down.pointer)
        struct.attention_norm, struct.mlp_norm = layer.attention_norm.struct, layer.mlp_norm.struct
        struct.window = layer.window
        if self.shape.has_rotation:
            struct.cos, struct.sin = self.cos.ctypes.data, self.sin.ctypes.data
        return struct


def texts_of(lengths: list[int]) -> list[NDArray[np.int64]]:
    """Random texts of these lengths."""
    return [np.random.randint(0, VOCAB, length) for length in lengths]


def types_of(texts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The second half of each text is a second text."""
    halves = [(np.arange(len(text)) >= len(text) / 2).astype(np.int64) for text in texts]
    return np.concatenate([np.empty(0, np.int64), *halves])


def activated(kind: Activation, x: Wide) -> Wide:
    if kind is Activation.GELU:
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))
    if kind is Activation.GELU_TANH:
        return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return np.maximum(x, 0) if kind is Activation.RELU else x / (1 + np.exp(-x))
