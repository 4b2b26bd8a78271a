from __future__ import annotations

import pytest

from cynosure.attention.positions import DynamicNtk, Linear, Llama3, LongRope, NoScaling, Rope, Yarn
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.config_reader import ConfigReader
from cynosure.models.rope_config import declared_length, read_rope

HEAD_DIM = 16


def rope_of(config: dict[str, object], **options: object) -> Rope:
    reader = ConfigReader({"max_position_embeddings": 64, **config})
    rope = read_rope(reader, HEAD_DIM, **options)
    reader.finish()
    return rope


def test_nothing_said_means_the_default() -> None:
    assert rope_of({}) == Rope(HEAD_DIM, 10_000.0, NoScaling(), max_model_len=64)


SCALINGS = [
    ({"rope_type": "default"}, NoScaling(), 64),
    ({"rope_type": "linear", "factor": 2}, Linear(2.0), 64),
    ({"rope_type": "dynamic", "factor": 2.0}, DynamicNtk(2.0, 64), 128),
    (
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "mscale": 0.7,
            "mscale_all_dim": 0.9,
            "truncate": False,
        },
        Yarn(4.0, 16, mscale=0.7, mscale_all_dim=0.9, truncate=False),
        64,
    ),
    ({"rope_type": "yarn", "original_max_position_embeddings": 16}, Yarn(4.0, 16), 64),
    (
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        Llama3(8.0, 1.0, 4.0, 16),
        64,
    ),
    (
        {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2] * 8, "factor": 4.0},
        LongRope((1.0,) * 8, (2.0,) * 8, 64, 64, factor=4.0),
        64,
    ),
]


@pytest.mark.parametrize(("values", "scaling", "longest"), SCALINGS)
def test_new_and_old_spelling_mean_the_same(values: dict[str, object], scaling: object, longest: int) -> None:
    expected = Rope(HEAD_DIM, 500.0, scaling, max_model_len=longest)
    assert rope_of({"rope_parameters": {"rope_theta": 500.0, **values}}) == expected
    assert rope_of({"rope_theta": 500.0, "rope_scaling": values}) == expected
    renamed = {("type" if key == "rope_type" else key): value for key, value in values.items()}
    assert rope_of({"rope_theta": 500.0, "rope_scaling": renamed}) == expected


def test_su_is_what_longrope_was_called() -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    old = {"rope_scaling": {"type": "su", **factors}, "original_max_position_embeddings": 32}
    assert rope_of(old).scaling == LongRope((1.0,) * 8, (2.0,) * 8, 32, 64)


@pytest.mark.parametrize("inside", [True, False])
def test_a_part_of_the_head_rotates(inside: bool) -> None:
    share = {"partial_rotary_factor": 0.5}
    assert rope_of({"rope_parameters": share} if inside else share).dim == 8


def test_kinds_of_layers_have_their_own() -> None:
    both = {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 9.0},
            "sliding_attention": {"rope_type": "default"},
        }
    }
    reader = ConfigReader({"max_position_embeddings": 64, **both})
    assert read_rope(reader, HEAD_DIM, layer_type="full_attention").scaling == Linear(2.0)
    assert read_rope(reader, HEAD_DIM, theta=7.0, layer_type="sliding_attention").theta == 7.0
    reader.finish()


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}, "mrope_section"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 2.0, "surprise": 1}}, "surprise"),
        ({"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0]}}, "long_factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.35}}, "even number"),
        ({"rope_theta": 0.5}, "theta"),
    ],
)
def test_what_does_not_fit_is_named(config: dict[str, object], named: str) -> None:
    with pytest.raises(UnsupportedConfig, match=named):
        rope_of(config)


def test_a_declared_length_chooses_and_is_bounded() -> None:
    assert rope_of({"max_model_len": 40}).max_model_len == 40
    assert (
        rope_of({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_model_len": 100}).max_model_len
        == 100
    )
    with pytest.raises(UnsupportedConfig, match="reaches 64 positions"):
        rope_of({"max_model_len": 65})
    assert declared_length(ConfigReader({"max_model_len": 9}), None) == 9
    assert declared_length(ConfigReader({}), None) is None
