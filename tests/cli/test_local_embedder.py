from __future__ import annotations

import numpy as np
import pytest
import torch

from cynosure.cli.local_embedder import LocalEmbedder
from cynosure.core.errors import EmptyInput
from cynosure.models.embedder import Embedder

TEXT = "how do I merge sorted iterables?"


def test_it_is_the_embedder_that_it_stands_before(embedder: Embedder) -> None:
    local = LocalEmbedder(embedder)
    assert (local.model_id, local.dim, local.max_tokens) == (embedder.model_id, 384, 256)
    assert local.count_tokens(TEXT) == embedder.count_tokens(TEXT)
    np.testing.assert_array_equal(local.embed([TEXT, "merge"]), embedder.embed([TEXT, "merge"]))
    assert local.attended(TEXT).offsets == embedder.attended(TEXT).offsets


def test_a_question_is_embedded_on_one_thread_and_leaves_their_number_alone(embedder: Embedder) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []

    class Watched(Embedder):
        def __init__(self) -> None:
            self.__dict__ |= vars(embedder)

        def embed_counted(self, *texts: object, **options: object) -> object:  # type: ignore[override]
            seen.append(torch.get_num_threads())
            return embedder.embed_counted(*texts, **options)  # type: ignore[arg-type]

    local = LocalEmbedder(Watched())
    local.embed([TEXT])
    local.embed([TEXT, TEXT])
    with pytest.raises(EmptyInput):
        local.embed([""])
    assert seen == [1, before, 1]
    assert torch.get_num_threads() == before
