from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.cli.assembly import ServeOptions
from cynosure.cli.serve import add_arguments
from cynosure.cli.serve_models import num_bytes, options_of
from cynosure.core.errors import CynosureError, InputError
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.pool.settings import DiskSettings


def _options(*given: str) -> ServeOptions:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return options_of(parser.parse_args(given), Path("index"))


def test_models_come_by_place_or_by_flag_and_some_stay() -> None:
    options = _options("a=one", "two", "--model", "c=three", "--pin", "two", "--dtype", "float32", "--lazy")
    assert options.models == (
        ServedModel("a", "one", "float32"),
        ServedModel("two", "two", "float32", is_pinned=True),
        ServedModel("c", "three", "float32"),
    )
    assert options.is_lazy
    assert [model.name for model in options.setup.models] == [
        "all-MiniLM-L6-v2", "all-MiniLM-L6-v2 (index)", "ranker", "a", "two", "c",
    ]  # fmt: skip
    assert all(model.is_pinned for model in options.setup.models[:3])


def test_without_documentation_no_embedder_comes_along() -> None:
    assert [model.name for model in _options("one", "--without-docs").setup.models] == ["one"]


def test_flags_reach_the_models_and_the_pool() -> None:
    options = _options(
        "one", "--served-model-name", "x", "--max-model-len", "99", "--quantization", "int8",
        "--memory", "2GB", "--kv-cache-memory-bytes", "1GiB", "--block-size", "16", "--max-num-seqs", "3",
        "--kv-cache-dtype", "int8", "--max-num-batched-tokens", "77", "--no-enable-prefix-caching",
        "--attention-backend", "sdpa", "--threads", "2", "--log-format", "json", "--log-content",
        "--tool-call-parser", "hermes", "--num-speculative-tokens", "9", "--page-bounds",
        "--stream-delay-ms", "2.5",
    )  # fmt: skip
    [model] = options.models
    assert model == ServedModel("x", "one", quantize="int8", backend="sdpa", max_model_len=99)
    pool = options.pool
    assert (pool.memory_bytes, pool.kv_cache_bytes) == (2 * 10**9, 1 << 30)
    assert (pool.engine.block_size, pool.engine.max_num_seqs, pool.engine.max_num_batched_tokens) == (
        16,
        3,
        77,
    )
    assert not pool.engine.has_prefix_cache
    assert (options.step_timeout_s, options.load_timeout_s) == (300.0, 1800.0)
    assert options.setup.stream_delay_s == 0.0025
    assert (
        _options("one").setup.stream_delay_s,
        _options("one", "--stream-delay-ms", "0").stream_delay_s,
    ) == (
        0.04,
        0.0,
    )
    assert pool.engine.kv_cache_dtype == "int8"
    assert pool.engine.num_speculative_tokens == 9
    assert pool.engine.has_page_bounds
    assert not _options("one").pool.engine.has_page_bounds
    setup = options.setup
    assert (setup.num_threads, setup.log_level, setup.logs_content) == (2, 20, True)
    assert options.tool_format is not None


def test_what_is_not_said_is_as_the_pool_has_it() -> None:
    assert _options("one", "--no-packed-weights").pool == ServeOptions(Path("index")).pool


def test_packed_weights_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    kept = options_of(parser.parse_args(["one"]), tmp_path).pool
    assert kept.packed_folder == tmp_path / "packed"
    none = options_of(parser.parse_args(["one", "--no-packed-weights"]), tmp_path).pool
    assert none.packed_folder is None


def test_a_folder_for_sessions_has_a_secret_and_a_bound(tmp_path: Path) -> None:
    def disk_of(*given: str) -> DiskSettings | None:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        return options_of(parser.parse_args(["one", *given]), tmp_path).pool.disk

    assert disk_of() is None
    disk = disk_of("--cache-dir", "kept")
    assert disk is not None
    assert (disk.folder, disk.max_bytes) == (Path("kept").absolute(), 10 * 10**9)
    assert disk.secret == (tmp_path / "cache-secret").read_bytes()
    assert disk.secret.hex() not in repr(disk)
    assert repr(disk.secret) not in repr(disk)
    again = disk_of("--cache-dir", "kept", "--cache-bytes", "1MB")
    assert again is not None
    assert (again.secret, again.max_bytes) == (disk.secret, 10**6)
    for given, words in (
        (["--cache-bytes", "1MB"], "no --cache-dir"),
        (["--cache-dir", "kept", "--cache-bytes", "0"], "the limit is 1"),
        (["--cache-dir", "kept", "--no-enable-prefix-caching"], "needs the prefix cache"),
    ):
        with pytest.raises(InputError, match=words):
            disk_of(*given)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("1024", 1024), ("2K", 2000), ("1.5GB", 1_500_000_000), ("8gib", 8 << 30),
        ("3 MiB", 3 << 20), ("1T", 10**12),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert num_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1X", "1e3", "nan", "1.5.2G"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no size"):
        num_bytes(text)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["one", "--pin", "two"], "--pin names 'two'; the models are: one"),
        (["a", "b", "--served-model-name", "x"], "there are 2 models"),
        (["--served-model-name", "x"], "there are 0 models"),
        (["one", "--max-model-len", "0"], "--max-model-len is 0"),
        (["one", "--max-num-seqs", "0"], "max_num_seqs is 0"),
        (["one", "--memory", "0"], "memory_bytes is 0"),
        (["one", "--step-timeout", "0.5"], "--step-timeout is 0.5"),
        (["one", "--stream-delay-ms", "-1"], "--stream-delay-ms is -1"),
        (["one", "--stream-delay-ms", "1001"], "--stream-delay-ms is 1001"),
        (["one", "--stream-delay-ms", "nan"], "--stream-delay-ms is nan"),
        (["one", "--load-timeout", "0"], "--load-timeout is 0"),
        (["a/x", "b/x"], "two models are called 'x'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(given: list[str], words: str) -> None:
    with pytest.raises(CynosureError, match=words):
        _options(*given)


def test_the_pack_comes_where_it_is_wanted() -> None:
    setup = replace(_options(), with_pack=True).setup
    assert [model.name for model in setup.models][-2:] == ["ranker", "core-lm"]
    assert all((Path(model.source) / "config.json").is_file() for model in setup.models[-2:])
