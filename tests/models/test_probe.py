"""Probing a decoder head by head equals transformers' attention maps, and a head left out is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cynosure.insight.probing import ProbedModel
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.probe import DecoderProbe
from tests.models.decoder_oracle import pair_of

IDS = [1, 5, 7, 9, 11, 13, 17, 19, 23, 29, 31]
SEGMENTS = [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def probe() -> DecoderProbe:
    graph = load(pair_of("llama").folder, dtype="float32").graph
    assert isinstance(graph, Decoder)
    return DecoderProbe(graph)


def test_is_what_insight_asks_for() -> None:
    assert isinstance(probe(), ProbedModel)


def test_shares_are_sums_of_the_dense_maps() -> None:
    told = probe().shares(IDS, rows=[3, 10], segments=SEGMENTS)
    with torch.inference_mode():
        maps = pair_of("llama").oracle(torch.tensor([IDS]), output_attentions=True).attentions
    dense = torch.cat([one[0] for one in maps])[:, [3, 10]].transpose(0, 1)
    wanted = np.stack([dense[..., [s == n for s in SEGMENTS]].sum(-1).numpy() for n in range(3)], axis=-1)
    np.testing.assert_allclose(told, wanted, atol=1e-5)
    # The control: an edge that lies elsewhere.
    moved = probe().shares(IDS, rows=[3, 10], segments=[0, 0, *SEGMENTS[:-2]])
    assert np.abs(moved - wanted).max() > 1e-3


def test_log_probs_are_the_models() -> None:
    with torch.inference_mode():
        logits = pair_of("llama").oracle(torch.tensor([IDS])).logits[0].float().log_softmax(-1)
    wanted = [float(logits[place - 1, IDS[place]]) for place in range(4, len(IDS))]
    np.testing.assert_allclose(probe().log_probs(IDS, 4), wanted, atol=1e-4)


def test_a_head_left_out_comes_back() -> None:
    probed = probe()
    whole = probed.log_probs(IDS, 4)
    without = probed.log_probs(IDS, 4, without=[(0, 1), (1, 0)])
    assert np.abs(without - whole).max() > 1e-3
    np.testing.assert_array_equal(probed.log_probs(IDS, 4), whole)


def test_what_is_denied_tells_nothing() -> None:
    probed = probe()
    other = [*IDS[:3], 40, 41, *IDS[5:]]
    denied = [(3, 5)]
    np.testing.assert_allclose(
        probed.log_probs(IDS, 6, denied=denied), probed.log_probs(other, 6, denied=denied), atol=1e-6
    )
    assert np.abs(probed.log_probs(IDS, 6) - probed.log_probs(other, 6)).max() > 1e-3


def test_nothing_is_before_the_first_token() -> None:
    with pytest.raises(AssertionError, match="first"):
        probe().log_probs(IDS, 0)


def test_hidden_states_are_the_models() -> None:
    with torch.inference_mode():
        states = pair_of("llama").oracle.model(torch.tensor([IDS])).last_hidden_state[0].float().numpy()
    np.testing.assert_allclose(probe().hidden(IDS), states, atol=1e-4)
