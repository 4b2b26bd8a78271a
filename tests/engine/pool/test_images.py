"""Models that read images are served beside others: by name, over the wire, within the budget."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.core.errors import InputError, WireFault
from cynosure.engine import Finished, Request
from cynosure.engine.pool import ModelRole, PoolSettings, ServedModel
from cynosure.engine.pool.pool import ModelPool
from cynosure.engine.pool.read_card import describe
from cynosure.engine.wire.messages import CALLS, Submit
from cynosure.models.image_input import ImageInput
from tests.engine.engine_cases import SMALL
from tests.engine.image_cases import NUM_NEW, expected, image_of, pair_of, question
from tests.engine.pool.pool_cases import Waiting, ask, folder_of

SETTINGS = PoolSettings(memory_bytes=64 << 20, engine=replace(SMALL, image_cache_bytes=1 << 16))


def served(name: str, **options: object) -> ServedModel:
    return ServedModel(name, str(pair_of(name).folder), dtype="float32", **options)  # type: ignore[arg-type]


def with_image(request_id: str, family: str, seed: int = 1) -> Request:
    it = question(family, image_of(family, seed))
    return replace(ask(request_id, it.prompt, NUM_NEW), images=it.images)


@pytest.mark.parametrize(("family", "image_token_id"), [("llava", 99), ("qwen2-vl", 99), ("mllama", 115)])
def test_a_card_tells_that_images_are_read(family: str, image_token_id: int) -> None:
    card = describe(served(family)).card
    assert card.role is ModelRole.DECODER
    assert card.image_token_id == image_token_id
    assert card.max_model_len == 200
    assert card.watchable is not None
    assert card.watchable.full_layers[:2] == (0, 1)


def test_a_pool_answers_about_images_and_about_text() -> None:
    text = ServedModel("text", str(folder_of("llama")), dtype="float32")
    pool, ear = ModelPool([served("llava"), served("mllama"), text], SETTINGS), Waiting()
    try:
        for family in ("llava", "mllama"):
            pool.submit(family, with_image(family, family), ear)
        pool.submit("text", ask("text", [3, 4, 5]), ear)
        ear.wait("llava", "mllama", "text")
        for family in ("llava", "mllama"):
            it = question(family, image_of(family, 1))
            assert ear.tokens(family) == expected(family, it)
        assert isinstance(ear.end("text"), Finished)
        with pytest.raises(InputError, match="1 images are sent; this model reads none"):
            pool.submit("text", with_image("it", "llava"), ear)
        wrong = ImageInput((3, 4, 4), bytes(4 * 48))
        with pytest.raises(InputError, match=r"this model reads \[3, 8, 8\] alone"):
            pool.submit("llava", replace(with_image("wrong", "llava"), images=(wrong,)), ear)
    finally:
        pool.close()


def test_what_images_take_is_in_the_budget() -> None:
    small = ModelPool([served("llava")], SETTINGS)
    large = ModelPool([served("llava")], replace(SETTINGS, engine=replace(SMALL, image_cache_bytes=1 << 20)))
    try:
        taken = [pool._residency.entry("llava").needed_bytes for pool in (small, large)]
        assert taken[1] - taken[0] == (1 << 20) - (1 << 16)
    finally:
        small.close()
        large.close()


def test_a_request_with_images_crosses_the_wire() -> None:
    message = Submit("llava", with_image("it", "llava"))
    assert CALLS.read(CALLS.write(message)) == message


def test_a_broken_image_does_not_cross_the_wire() -> None:
    message = CALLS.write(Submit("llava", with_image("it", "llava")))

    def broken(value: object) -> object:
        if isinstance(value, bytes) and len(value) == 4 * 192:
            return value[:-4]
        return tuple(map(broken, value)) if isinstance(value, tuple) else value

    with pytest.raises(WireFault, match="764 bytes"):
        CALLS.read(broken(message))
