"""Each level keeps what it may and nothing of a higher one; what others read is hidden."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from cynosure.insight import PromptPart
from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import ALL, Trace, TraceExtra, generic_ids, lowered, trace_of
from cynosure.insight.traces.trace_view import HIDDEN, hidden
from tests.insight.trace_cases import CANARY, CHOICE, half_watched, report

LEVELS = [TraceLevel.L0, TraceLevel.L1, TraceLevel.L2, TraceLevel.L3]
EXTRAS = (
    TraceExtra("risk", TraceLevel.L1, lambda one: {"mean": 0.5}),
    TraceExtra("citations", TraceLevel.L3, lambda one: [one.text]),
    TraceExtra("nothing", TraceLevel.L0, lambda one: None),
)


def words_in(trace: Trace) -> str:
    return repr([trace.summary, trace.shares, trace.ids, trace.texts, trace.extra]) + repr(
        [asdict(one) for one in (trace.summary, trace.ids, trace.texts) if one is not None]
    )


def test_levels_are_ordered_and_have_words() -> None:
    assert [level.word for level in TraceLevel] == ["off", "L0", "L1", "L2", "L3"]
    assert [TraceLevel.of(level.word) for level in TraceLevel] == list(TraceLevel)
    assert TraceLevel.OFF < TraceLevel.L0 < TraceLevel.L3
    with pytest.raises(ValueError, match="'L4'"):
        TraceLevel.of("L4")


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_keeps_what_it_may(level: TraceLevel) -> None:
    trace = trace_of(report(), level, EXTRAS)
    assert trace.summary.level is level
    assert sum(trace.summary.mass_by_role.values()) == pytest.approx(1, abs=1e-6)
    assert (trace.shares is not None) == (level >= TraceLevel.L1)
    assert (trace.ids is not None) == (level >= TraceLevel.L2)
    assert (trace.texts is not None) == (level >= TraceLevel.L3)
    allowed = {"risk": TraceLevel.L1, "citations": TraceLevel.L3}
    assert set(trace.extra) == {name for name, least in allowed.items() if level >= least}
    # The control: at the highest level the same search finds it.
    assert (CANARY in words_in(trace)) == (level is TraceLevel.L3)


def test_masses_are_the_engine_s_in_the_order_that_is_said() -> None:
    told = report()
    shares = trace_of(told, TraceLevel.L1).shares
    assert shares is not None
    assert [(part.id, part.num_tokens) for part in shares.parts] == [
        ("system:0", 2),
        ("document:0#0", 3),
        ("document:0#1", 2),
        ("user:0", 1),
    ]
    assert shares.group_names == (ALL, "retrieval", "odd")
    assert shares.masses.shape == (3, 3, 7)
    np.testing.assert_allclose(shares.masses[0].sum(-1), 1, atol=1e-6)
    for row, token in zip(shares.masses[0], told.tokens, strict=True):
        assert token.shares is not None
        assert row[:4].tolist() == list(token.shares.masses)
        assert row[4:].tolist() == [
            token.shares.sink_mass,
            token.shares.template_mass,
            token.shares.generated_mass,
        ]
    # An engine counts sink and template before the caller's parts.
    engine = np.array([token.folds[1] for token in told.tokens])
    np.testing.assert_array_equal(shares.masses[2], engine[:, [2, 3, 4, 5, 0, 1, 6]])


def test_tokens_that_nobody_watched_have_ids_and_no_masses() -> None:
    trace = trace_of(report(tokens=half_watched(5)), TraceLevel.L3)
    assert trace.shares is not None
    assert trace.ids is not None
    assert trace.texts is not None
    assert trace.shares.watched == (0, 2, 4)
    assert trace.shares.masses.shape == (3, 3, 7)
    assert trace.ids.token_ids == (40, 41, 42, 43, 44)
    assert trace.texts.tokens == ("w0 ", "w1 ", "w2 ", "w3 ", "w4 ")
    assert (trace.summary.num_tokens, trace.summary.num_watched) == (5, 3)
    assert trace.summary.coverage.tokens == pytest.approx(3 / 5)


@pytest.mark.parametrize("tokens", [(), half_watched(2)[1:]])
@pytest.mark.parametrize("level", LEVELS)
def test_an_answer_of_which_nothing_was_watched(level: TraceLevel, tokens: tuple[object, ...]) -> None:
    trace = trace_of(report(tokens=tokens), level)
    assert trace.summary.mass_by_role == {}
    assert trace.summary.entropy_bits is trace.summary.lookback is None
    if trace.shares is not None:
        assert trace.shares.masses.shape == (3, 0, 7)


def test_a_choice_without_groups_has_the_mean_alone() -> None:
    made = report()
    bare = replace(made, reading=replace(made.reading, choice=replace(CHOICE, groups=())))
    tokens = tuple(replace(token, folds=()) for token in made.tokens)
    shares = trace_of(replace(bare, tokens=tokens), TraceLevel.L1).shares
    assert shares is not None
    assert shares.group_names == (ALL,)
    assert shares.masses.shape == (1, 3, 7)


def test_places_are_numbers() -> None:
    ids = trace_of(report(), TraceLevel.L2).ids
    assert ids is not None
    assert [tuple(vars(place).values()) for place in ids.places] == [
        (0, None, 0, 17, 2),
        (1, 0, 0, 21, 4),
        (1, 0, 21, 31, 7),
        (1, 1, 0, 6, 9),
    ]


@pytest.mark.parametrize("level", LEVELS)
def test_lowering_gives_what_the_lower_level_keeps(level: TraceLevel) -> None:
    whole = trace_of(report(), TraceLevel.L3, EXTRAS)
    low, kept = lowered(whole, level), trace_of(report(), level, EXTRAS)
    assert low.summary == kept.summary
    assert low.ids == kept.ids
    assert low.texts == kept.texts
    assert low.extra == kept.extra
    assert (low.shares is None) == (kept.shares is None)
    assert lowered(kept, TraceLevel.L3) is kept


@pytest.mark.parametrize("level", LEVELS)
def test_what_others_read_has_one_part(level: TraceLevel) -> None:
    trace = trace_of(report(), level, EXTRAS)
    shown = hidden(trace)
    assert CANARY not in words_in(shown)
    assert shown.summary.mass_by_role == trace.summary.mass_by_role
    assert (shown.ids, shown.texts, shown.extra) == (None, None, {})
    if level is TraceLevel.L0:
        assert shown.shares is None
        return
    assert trace.shares is not None
    assert shown.shares is not None
    (part,) = shown.shares.parts
    assert (part.id, part.role, part.num_tokens) == (HIDDEN, HIDDEN, 8)
    np.testing.assert_allclose(shown.shares.masses[..., 0], trace.shares.masses[..., :4].sum(-1), rtol=1e-6)
    np.testing.assert_array_equal(shown.shares.masses[..., 1:], trace.shares.masses[..., 4:])


def test_names_of_ours_tell_parts_apart() -> None:
    names = ["user:0", "doc:b", "doc:a", "doc:a.1", "doc:c#0", "doc:c#1", "user:1"]
    roles = ["user", "document", "document", "document", "document", "document", "user"]
    parts = [PromptPart(name, name, role) for name, role in zip(names, roles, strict=True)]
    assert generic_ids(parts) == [
        "user:0",
        "document:0",
        "document:1",
        "document:2",
        "document:3#0",
        "document:3#1",
        "user:1",
    ]


def test_its_size_grows_with_what_it_holds() -> None:
    sizes = [trace_of(report(tokens=half_watched(400)), level).num_bytes for level in LEVELS]
    assert sizes == sorted(sizes)
    assert sizes[1] > 200 * 3 * 7 * 4
