from __future__ import annotations

import numpy as np
import pytest

from cynosure.cli.local_embedder import LocalEmbedder
from cynosure.core.errors import InputError, InputTooLong
from cynosure.models.embedder import Embedder

TEXT = "how do I merge sorted iterables?"


def test_it_goes_by_a_short_name_and_counts_what_was_read(embedder: Embedder) -> None:
    local = LocalEmbedder(embedder)
    assert (local.name, local.dim, local.max_tokens) == ("all-MiniLM-L6-v2", 384, 256)
    found = local.embed([TEXT, "merge"])
    assert found.token_counts == (embedder.count_tokens(TEXT), 3)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("with_special", [True, False])
def test_ids_of_a_text_are_that_text(embedder: Embedder, with_special: bool) -> None:
    local = LocalEmbedder(embedder)
    ids = embedder.tokenizer.encode(TEXT, add_special_tokens=with_special).ids
    vectors = local.embed([local.text_of(ids), TEXT]).vectors
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


@pytest.mark.parametrize("ids", [[10**9], [101, 102, 101], [100, 100], [2**40]])
def test_ids_that_no_text_gives_are_refused(embedder: Embedder, ids: list[int]) -> None:
    with pytest.raises(InputError, match="Send the text"):
        LocalEmbedder(embedder).text_of(ids)


def test_a_text_over_the_limit_is_refused(embedder: Embedder) -> None:
    with pytest.raises(InputTooLong, match="256"):
        LocalEmbedder(embedder).embed(["word " * 300])
