"""Run an encoder-decoder over pages. Knows nothing of requests, policy or sampling.

Pages hold what cross-attention reads of an input, written once, and what self-attention reads of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention import DenseSource, KeyPlan
from cynosure.attention.plan import cumulative
from cynosure.cache import PagedCache
from cynosure.core.errors import EngineFault
from cynosure.engine.features import Features
from cynosure.models.batch import Batch
from cynosure.models.encoder_decoder import Encoded, EncoderDecoder, Memory
from cynosure.models.forward_pass import paged_source


@dataclass(frozen=True)
class InputWork:
    """Tokens to encode, or features, and the pages that take what comes of them."""

    content: tuple[int, ...] | Features
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class LineWork:
    """The next tokens of a sequence: they follow `past_len` others in `blocks`, and read an input's pages."""

    token_ids: tuple[int, ...]
    past_len: int
    blocks: tuple[int, ...]
    input_len: int
    input_blocks: tuple[int, ...]


class Seq2SeqRunner:
    """An encoder-decoder and the pages that it writes."""

    def __init__(self, graph: EncoderDecoder, cache: PagedCache, backend: str = "auto") -> None:
        """Hold both."""
        self.graph = graph
        self.cache = cache
        self.backend = backend

    @torch.inference_mode()
    def encode(self, work: Sequence[InputWork]) -> None:
        """Encode inputs in one pass, without padding, and write them to their pages."""
        encoded = self._encoded([item.content for item in work])
        table = _rectangle([item.blocks for item in work])
        lens = [stop - start for start, stop in pairwise(encoded.keys.offsets)]
        slots = self.cache.slots(table, [0] * len(work), lens)
        for layer, source in enumerate(encoded.sources):
            assert isinstance(source, DenseSource), "what was just encoded is in no pages yet"
            # Kept for whoever sends the same input: what is broken must not get there.
            if not (source.k.isfinite().all() and source.v.isfinite().all()):
                raise EngineFault("the encoder's output is not finite. Send the request again.")
            self.cache.write(layer, source.k, source.v, slots)

    @torch.inference_mode()
    def decode(self, work: Sequence[LineWork]) -> Float[Tensor, "lines vocab"]:
        """Compute tokens of each sequence in one pass; return the scores of the next, in float32."""
        batch = Batch.pack(
            [item.token_ids for item in work],
            past_lens=[item.past_len for item in work],
            block_tables=[item.blocks for item in work],
        )
        layers = range(len(self.graph.cache_shapes))
        sources = tuple(paged_source(self.cache, layer, self.graph.dtype) for layer in layers)
        memory = Memory(sources, _keys_of(work), num_segments=0)
        hidden = self.graph.decode(batch, self.cache, memory, backend=self.backend).hidden
        return self.graph.logits(hidden[batch.last_rows]).float()

    def _encoded(self, contents: Sequence[tuple[int, ...] | Features]) -> Encoded:
        """Encode inputs; of one model all are tokens, or all are features."""
        features = [one.array for one in contents if isinstance(one, Features)]
        if features:
            return self.graph.encode_features(torch.from_numpy(np.stack(features)), backend=self.backend)
        tokens = [one for one in contents if not isinstance(one, Features)]
        return self.graph.encode(Batch.pack(tokens), backend=self.backend)


def _keys_of(work: Sequence[LineWork]) -> KeyPlan:
    """Where cross-attention finds each sequence's input; all of it is visible."""
    lens = [item.input_len for item in work]
    return KeyPlan(
        cumulative(lens),
        torch.cat([torch.arange(length) for length in lens]),
        block_table=_rectangle([item.input_blocks for item in work]),
        is_always_visible=True,
    )


def _rectangle(rows: Sequence[Sequence[int]]) -> Int[Tensor, "num_rows longest"]:
    """Fill shorter rows up with -1: no page, so that going past a sequence's own pages is noticed."""
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=-1)
