"""Keep weights in codes of 8 or 4 bits. Knows nothing of any family."""

from cynosure.models.quantize.code_format import INT4, INT4_G128, INT8, Coded, CodeFormat
from cynosure.models.quantize.codes import dequantise, quantise
from cynosure.models.quantize.graph import coded_sources, quantise_graph
from cynosure.models.quantize.layers import QuantEmbedding, QuantLinear
from cynosure.models.quantize.scheme import SCHEMES, QuantScheme, read_scheme, scheme_of

__all__ = [
    "INT4",
    "INT4_G128",
    "INT8",
    "SCHEMES",
    "CodeFormat",
    "Coded",
    "QuantEmbedding",
    "QuantLinear",
    "QuantScheme",
    "coded_sources",
    "dequantise",
    "quantise",
    "quantise_graph",
    "read_scheme",
    "scheme_of",
]
