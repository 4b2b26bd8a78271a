"""What lies before the first denied or weighed token is shared with everybody; what lies behind it is not."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from torch import Tensor

from cynosure.cache import PageNames
from cynosure.engine import Finished, sequence
from cynosure.engine.core import EngineCore
from cynosure.engine.page_key import biased_ids, page_key
from cynosure.engine.watch import DENIED
from cynosure.models.image_input import ImageInput
from tests.engine.engine_cases import SMALL, Ear, ask, run_to_end
from tests.engine.test_deny import END, LENGTH, START, Logits, gap, with_other_content
from tests.engine.test_watch import KERNELS, core_of, prompt_of

Bias = tuple[tuple[int, int, float], ...]
SIZE = SMALL.block_size
#: From behind the first page on, and over more than one.
LATE = ((SIZE + 3, 2 * SIZE + 5, DENIED),)


def cached(core: EngineCore, name: str, prompt: Sequence[int], bias: Bias = ()) -> int:
    ear = Ear()
    core.add(ask(name, prompt, 1, bias=bias), ear)
    run_to_end(core)
    end = ear.end(name)
    assert isinstance(end, Finished)
    return end.usage.cached_tokens


def test_a_denial_begins_with_open_pages() -> None:
    core, prompt = core_of("llama", "torch"), prompt_of(LENGTH)
    assert cached(core, "open", prompt) == 0
    assert cached(core, "late", prompt, LATE) == SIZE
    assert cached(core, "again", prompt, LATE) == (LENGTH - 1) // SIZE * SIZE
    assert cached(core, "early", prompt, ((START, END, DENIED),)) == 0


def test_and_leaves_open_pages() -> None:
    core, prompt = core_of("llama", "torch"), prompt_of(LENGTH)
    cached(core, "late", prompt, LATE)
    assert cached(core, "open", prompt) == SIZE


@pytest.mark.parametrize(
    "other",
    [((SIZE + 3, 2 * SIZE + 6, DENIED),), ((SIZE + 3, 2 * SIZE + 5, -9.0),), (*LATE, (25, 26, 1.0))],
    ids=["longer", "weighed", "one-more"],
)
def test_two_of_them_share_until_they_differ(other: Bias) -> None:
    core, prompt = core_of("llama", "torch"), prompt_of(LENGTH)
    cached(core, "one", prompt, LATE)
    differs = 25 if len(other) > 1 else (SIZE + 3 if other[0][2] != DENIED else 2 * SIZE + 5)
    assert cached(core, "two", prompt, other) == differs // SIZE * SIZE


def logits_behind_open(core: EngineCore, prompt: Sequence[int], bias: Bias) -> list[Tensor]:
    """Of a denial whose prompt has been read openly, and by another denial."""
    cached(core, "open", [*prompt, 3])
    cached(core, "other", [*prompt, 4], ((bias[0][0], bias[0][1] + 2, DENIED),))
    seen, ear = Logits(core, prompt), Ear()
    core.add(ask("asked", prompt, bias=bias), ear)
    run_to_end(core)
    assert isinstance(ear.end("asked"), Finished)
    return seen.rows


@pytest.mark.parametrize("run", [(START, END), (SIZE, END), (SIZE - 1, END), (SIZE + 1, END)])
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_what_is_denied_changes_no_logit_behind_open_pages(
    name: str, kernels: str, run: tuple[int, int]
) -> None:
    prompt, bias = prompt_of(LENGTH), ((*run, DENIED),)
    other = [*prompt[: run[0]], *prompt_of(run[1] - run[0], seed=77), *prompt[run[1] :]]
    ours = logits_behind_open(core_of(name, kernels), prompt, bias)
    theirs = logits_behind_open(core_of(name, kernels), other, bias)
    assert gap(ours, theirs) <= 1e-6


def test_were_open_pages_taken_it_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: pages found by the tokens alone."""
    monkeypatch.setattr(sequence, "biased_ids", lambda request: None)
    prompt, bias = prompt_of(LENGTH), ((START, END, DENIED),)
    ours = logits_behind_open(core_of("llama", "torch"), prompt, bias)
    theirs = logits_behind_open(core_of("llama", "torch"), with_other_content(prompt), bias)
    assert gap(ours, theirs) > 1e-3


def test_no_two_tokens_are_the_same() -> None:
    """Neither under another bias, nor as another token, nor as a token or an image without one."""
    prompt = (5, 6, 7, 8)
    found = {
        number
        for nats in (DENIED, -1.0, 0.5, 0.0)
        for number in biased_ids(ask("a", prompt, bias=((0, 3, nats),))) or ()
    }
    assert len(found) == 4 * 3 + 1
    assert sum(number >= 0 for number in found) == 1
    digests = range(1 << 512)
    assert all(-1 - number not in digests for number in found if number < 0)


def test_without_a_bias_it_is_the_tokens() -> None:
    assert biased_ids(ask("a", (5, 6))) is None


def test_a_bias_near_an_image_is_shared_by_nobody_else() -> None:
    image = ImageInput((1,), struct.pack("<f", 7.0))
    bias = ((0, 1, DENIED),)
    keys = [
        page_key(ask("a", (5, 6), images=images, bias=bias), "m", "d", is_shared=True)
        for images in ((), (image,))
    ]
    assert [key.bias for key in keys if key is not None] == [(), bias]
    assert biased_ids(ask("a", (5, 6), images=(image,), bias=bias)) is None


def test_on_disk_they_are_apart_as_well() -> None:
    prompt = prompt_of(3 * SIZE)
    key = page_key(ask("a", prompt), "m", "d", is_shared=True)
    assert key is not None
    names = PageNames(b"secret" * 8, "build", SIZE)
    openly, late, weighed = (
        names.pages(key, biased_ids(ask("a", prompt, bias=bias)) or prompt)
        for bias in ((), LATE, ((*LATE[0][:2], 1.0),))
    )
    assert openly[0] == late[0] == weighed[0]
    assert len({openly[1], late[1], weighed[1], openly[2], late[2], weighed[2]}) == 6
