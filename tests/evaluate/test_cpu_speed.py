"""What the comparison of speed decides, and how processes are asked, without any model."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import beside_peers, encoders, machine_limits, speed_rows
from benchmarks.beside_peers import Patience, Question
from benchmarks.line_child import ChildEnded, LineChild
from benchmarks.machine_limits import Limits
from benchmarks.peer import lines
from benchmarks.shapes import SHAPES
from cynosure.evaluate.results import read_result

DOCS = Path(__file__).parents[2] / "docs"
QUESTION = Question(1, 2, 512, {"prefill_512": "prefill", "decode_x1_at_512": "decode"}, True)
ONCE = Patience(1)

#: Says something that is no answer, then figures in order; it breaks where there are none left.
CHILD = """
import json, sys
print("noise of a library"); print(json.dumps({"ready": sys.argv[1], "weight_bytes": 5}), flush=True)
for figure in sys.argv[2:]:
    sys.stdin.readline()
    print(json.dumps({"prefill": float(figure), "decode": float(figure)}), flush=True)
sys.stdin.readline(); sys.exit("out of figures")
"""


def child(name: str, *figures: float) -> LineChild:
    return LineChild([sys.executable, "-c", CHILD, name, *map(str, figures)])


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.line_child.PAUSE_S", 0.0)


def test_rates_count_what_comes_after_warm_steps() -> None:
    stamps = [0.0, 2.0, 3.0, 4.0, 5.0, 5.5, 6.0]
    assert lines.rates(4, 2, 100, stamps) == (200.0, 8.0)
    with pytest.raises(AssertionError, match="1 steps were timed"):
        lines.rates(4, 2, 100, stamps[:-1])


def test_questions_are_answered_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("2 3 5\n1 1 1\n"))
    lines.answer("me", lambda *asked: (float(sum(asked)), 1.0), weight_bytes=7)
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert said == [
        {"ready": "me", "weight_bytes": 7},
        {"prefill": 10.0, "decode": 1.0},
        {"prefill": 3.0, "decode": 1.0},
    ]


def test_a_child_is_asked_and_its_last_words_are_told() -> None:
    one = child("one", 3)
    assert (one.name, one.told["weight_bytes"]) == ("one", 5)
    assert one.ask("1 1 1") == {"prefill": 3.0, "decode": 3.0}
    with pytest.raises(ChildEnded, match="out of figures"):
        one.ask("1 1 1")
    one.end()
    with pytest.raises(ChildEnded, match="cannot start"):
        LineChild([sys.executable, "-c", "raise SystemExit('cannot start')"])


def test_whoever_is_hopeless_is_asked_once_and_whoever_breaks_is_left_out() -> None:
    # Warm: 10, 100, 79; the second round is of those that may win.
    children = [child("ours", 10, 11), child("good", 100, 101), child("slow", 79), child("broken")]
    found = beside_peers.asked(children, QUESTION, ONCE)
    assert set(found) == {"ours", "good"}
    assert beside_peers.best_of(found, "decode") == ("good", 101.0)
    assert found["ours"] == {"prefill": [11.0], "decode": [11.0]}
    for one in children:
        one.end()


def test_our_own_engine_may_not_break() -> None:
    ours = child("ours")
    with pytest.raises(ChildEnded):
        beside_peers.asked([ours], QUESTION, ONCE)
    ours.end()


def test_patience_ends_after_the_time_but_not_before_five() -> None:
    assert Patience(7, 1e9).is_over(7, 0.0)
    assert not Patience(7, 1e9).is_over(6, 0.0)
    assert Patience(7, 0.0).is_over(5, -1e9)
    assert not Patience(7, 0.0).is_over(4, -1e9)
    assert (Patience(7).least, Patience(1).least) == (5, 1)
    assert Patience(1, 1e9).is_over(1, 0.0)


def rows(found: beside_peers.Found, question: Question = QUESTION) -> dict[str, speed_rows.Row]:
    setting = beside_peers.Setting(SHAPES["toy"], Path("x"), "int8", Path("peers"), 2)
    told = {"weight_bytes": 1e9, "kv_bytes_per_token": 0.0}
    return dict(beside_peers.rows_of(question, found, setting, Limits(50.0, 10.0, 20.0), told))


def test_rows_say_the_share_of_limits_and_compare_the_server_with_ourselves() -> None:
    found = {
        "ours": {"prefill": [1.0, 3.0, 2.0], "decode": [30.0, 40.0, 50.0]},
        "server": {"prefill": [1.0], "decode": [38.0]},
        "a": {"prefill": [1.0], "decode": [20.0]},
        "b": {"prefill": [4.0], "decode": [10.0]},
    }
    made = rows(found)
    assert made["prefill_512"]["peer"] == "b"
    assert made["prefill_512"]["ratio"] == 0.5
    assert made["decode_x1_at_512"] == {
        "ours": 40.0, "best_peer": 20.0, "peer": "a", "ratio": 2.0, "memory_limit_share": 0.8,
    }  # fmt: skip
    assert made["server_x1_at_512"]["ratio"] == pytest.approx(0.95)
    batch = Question(16, 2, 64, {"decode_x16": "decode"}, True)
    assert set(rows(found, batch)["decode_x16"]) == {"ours", "best_peer", "peer", "ratio"}
    assert rows(found, batch)["server_x16"]["ratio"] == pytest.approx(1.9)
    # Nobody to compare with: no row is made up.
    assert set(rows({"ours": found["ours"]})) == set()


def test_operations_grow_with_the_prompt_by_attention_alone() -> None:
    shape = SHAPES["toy"]
    short, long = (beside_peers.operations_per_token(shape, length) for length in (0, 100))
    layer = shape.hidden_size * (2 * 64 + 2 * 32 + 3 * 128)
    assert short == pytest.approx(2 * shape.num_hidden_layers * layer, rel=0.01)
    assert long - short == 4 * shape.num_hidden_layers * 64 * 50


def test_new_rows_stand_beside_old_ones(tmp_path: Path) -> None:
    speed_rows.write_rows(
        {"a": {"x_int8": {"ratio": 1.0}, "y_int8": {"ratio": 2.0}}}, {"x": {"repeats": 1}}, tmp_path
    )
    speed_rows.write_rows({"a": {"x_int8": {"ratio": 3.0}}}, {}, tmp_path)
    found = read_result("cpu_speed", tmp_path).metrics
    assert found["a"] == {"x_int8": {"ratio": 3.0}, "y_int8": {"ratio": 2.0}}


def test_rows_of_another_machine_go(tmp_path: Path) -> None:
    speed_rows.write_rows({"a": {"x": {"ratio": 1.0}}}, {}, tmp_path)
    file = tmp_path / "cpu_speed.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"machine": content["machine"] | {"cpu": "another"}}))
    speed_rows.write_rows({"b": {"x": {"ratio": 1.0}}}, {}, tmp_path)
    assert "a" not in read_result("cpu_speed", tmp_path).metrics


def test_keys_can_be_addressed() -> None:
    assert speed_rows.key_of("qwen2.5-0.5b", "int8") == "qwen2_5_0_5b_int8"


@pytest.mark.skipif(shutil.which("c++") is None, reason="no compiler")
def test_limits_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_limits, "READ_BYTES", 1 << 22)
    monkeypatch.setattr(machine_limits, "TILE_ROUNDS", 1000)
    found = machine_limits.measure(1, rounds=1)
    assert found.read_gb_per_s > 0.01
    has_tiles = "amx_int8" in Path("/proc/cpuinfo").read_text() if os.name == "posix" else False
    assert (found.int8_tera_per_s is not None) == has_tiles


def test_embedders_are_compared_at_equal_exactness() -> None:
    medians = {
        "ours bf16": 400.0, "ours int8": 600.0, "sentence-transformers float32": 100.0,
        "onnxruntime float32": 200.0, "onnxruntime int8": 300.0,
    }  # fmt: skip
    made = encoders.rows_of(medians, dict.fromkeys(medians, 0.9999))
    assert (made["bf16"]["peer"], made["bf16"]["ratio"]) == ("onnxruntime float32", 2.0)
    assert (made["int8"]["peer"], made["int8"]["ratio"]) == ("onnxruntime int8", 2.0)


def test_texts_are_the_same_each_time() -> None:
    assert encoders.texts(20) == encoders.texts(20)
    lengths = sorted(map(len, encoders.texts(200)))
    assert lengths[-1] > 4 * lengths[100]


def test_rows_can_be_asked_for_by_name() -> None:
    questions = beside_peers.QUESTIONS
    assert beside_peers.wanted(questions, None) == list(questions)
    assert [question.line for question in beside_peers.wanted(questions, ["prefill_4096"])] == ["1 16 4096"]
    assert beside_peers.wanted(questions, ["neighbour_x16"]) == []


def test_a_limit_is_the_best_of_all_minutes() -> None:
    found = [Limits(40.0, 9.0, None), Limits(50.0, None, None), Limits(30.0, 11.0, None)]
    assert machine_limits.best_of(found) == Limits(50.0, 11.0, None)


@pytest.fixture
def draw_speed() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_speed", DOCS / "draw_speed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_has_a_dot_for_every_row(draw_speed: ModuleType) -> None:
    metrics = {
        "decode_x16": {"qwen2_5_0_5b_int8": {"ratio": 2.0}, "llama_3_2_1b_int4": {"ratio": 1.0}},
        "load": {"qwen2_5_0_5b_int8": {"next_s": 1.0}},
    }
    drawn = draw_speed.picture(metrics)
    assert drawn.count("fill-opacity") == 2
    assert f'cx="{draw_speed.place_of(2.0):.1f}"' in drawn
    assert draw_speed.place_of(1.0) < draw_speed.place_of(2.0) < draw_speed.place_of(99.0)


def test_the_picture_is_of_the_result(draw_speed: ModuleType) -> None:
    if not draw_speed.RESULT.is_file():
        assert not draw_speed.PICTURE.exists()
        return
    drawn = draw_speed.picture(read_result("cpu_speed", draw_speed.RESULT.parent).metrics)
    assert draw_speed.PICTURE.read_text(encoding="utf-8") == drawn
