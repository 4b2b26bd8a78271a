"""Uploaded files with the real embedder, in a process of its own, and the options that say where they lie."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

import openai
import pytest

from cynosure.cli.home import files_home
from cynosure.cli.library import FilesOptions, open_library
from cynosure.cli.serve_files import add_file_arguments, files_of
from cynosure.core.errors import EnvironmentFault, InputError
from tests.cli.test_serve import _served, _wait
from tests.retrieval.fakes import BagOfWords


def read(*words: str) -> FilesOptions | None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--without-docs", action="store_true")
    add_file_arguments(parser)
    return files_of(parser.parse_args(words), {"CYNOSURE_HOME": "/home"})


def test_options() -> None:
    assert read() == FilesOptions(Path("/home/files"), 1 << 30)
    assert read("--files-dir", "/a", "--files-bytes", "2GiB") == FilesOptions(Path("/a"), 2 << 30, True)
    assert read("--without-files") is read("--without-docs") is None
    for wrong in (("--without-files", "--files-dir", "/a"), ("--without-docs", "--files-bytes", "1"),
                  ("--files-bytes", "0")):  # fmt: skip
        with pytest.raises(InputError):
            read(*wrong)


def test_files_are_not_kept_among_what_can_be_made_again() -> None:
    assert files_home({"XDG_DATA_HOME": "/data"}) == Path("/data/cynosure/files")
    assert files_home({}) == Path.home() / ".local/share/cynosure/files"


def test_of_two_servers_the_second_goes_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = open_library(FilesOptions(tmp_path), BagOfWords())
    assert first is not None
    assert open_library(FilesOptions(tmp_path), BagOfWords()) is None
    assert "another server keeps files" in caplog.text
    with pytest.raises(EnvironmentFault, match="another server"):
        open_library(FilesOptions(tmp_path, is_named=True), BagOfWords())
    first.close()


def test_the_real_server_indexes_and_finds_what_is_uploaded(
    index_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    options = [str(checkpoint), "--lazy", "--index-dir", str(index_folder), "--threads", "1"]
    with _served(*options, "--files-dir", str(tmp_path / "files")) as (process, url):
        _wait(url)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            store = client.vector_stores.create(name="mine").id
            files = [("bread.md", b"# Bread\n\nBake it at 230 degrees."), ("trip.txt", b"The ferry leaves.")]
            done = client.vector_stores.file_batches.upload_and_poll(store, files=files, poll_interval_ms=20)
            assert done.file_counts.completed == 2
            [first, *_] = client.vector_stores.search(store, query="how hot must the oven be?")
            assert first.filename == "bread.md"
            assert first.content[0].text == "# Bread\n\nBake it at 230 degrees."
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    # Another server may have the folder now, and finds what there is.
    library = open_library(FilesOptions(tmp_path / "files", is_named=True), BagOfWords())
    assert library is not None
    assert [one.name for one in library.of("").stores()] == ["mine"]
    library.close()
