"""Test how a name becomes a folder. Knows nothing of what is in it, and reaches no network."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from cynosure.core.errors import CheckpointNotFound
from cynosure.models import hub
from cynosure.models.hub import UNWANTED, WANTED, resolve_checkpoint


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


def put(cache: Path, *names: str) -> Path:
    """Store `org/name` as the library does: blobs, and links in a snapshot."""
    repo = cache / "models--org--name"
    snapshot = repo / "snapshots" / ("0" * 40)
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "blobs").mkdir()
    snapshot.mkdir(parents=True)
    for name in names:
        (repo / "blobs" / name).write_text('{"weight_map": {"a": "x.safetensors"}}')
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    return snapshot


def test_a_local_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_checkpoint("org/name") == Path("org/name")
    assert resolve_checkpoint(tmp_path) == tmp_path


def test_an_id_is_found_in_the_cache(cache: Path) -> None:
    snapshot = put(cache, "config.json", "model.safetensors")
    assert resolve_checkpoint("org/name") == snapshot


def test_offline_and_absent(cache: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"HF_HUB_OFFLINE .*hf download org/absent"):
        resolve_checkpoint("org/absent")


@pytest.mark.parametrize(
    "name", ["./absent", "/absent", "a/b/c", "../up", "", "org/..", "a b", "https://x/y"]
)
def test_what_is_neither_folder_nor_id(
    cache: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    if name:
        with pytest.raises(CheckpointNotFound, match="there is no folder"):
            resolve_checkpoint(name)
    with pytest.raises(CheckpointNotFound, match="there is no folder"):
        resolve_checkpoint(tmp_path / "absent")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointNotFound, match="is a file; a folder is needed"):
        resolve_checkpoint(tmp_path / "model.safetensors")


class Hub:
    """Stands for the library: a cache that may hold a folder, and a hub that gives one or fails."""

    def __init__(self, cached: Path | None, online: Path | Exception) -> None:
        self.cached = cached
        self.online = online
        self.asked = 0

    def __call__(self, name: str, *, local_files_only: bool = False, **options: object) -> str:
        if local_files_only:
            if self.cached is None:
                raise LocalEntryNotFoundError("not cached")
            return str(self.cached)
        self.asked += 1
        if isinstance(self.online, Exception):
            raise self.online
        assert options["allow_patterns"] == list(WANTED)
        return str(self.online)


@pytest.mark.parametrize(
    ("names", "asked"),
    [
        (["config.json", "model.safetensors"], 0),
        (["config.json", "model.safetensors.index.json", "x.safetensors"], 0),
        (["config.json", "model.safetensors.index.json"], 1),
        (["config.json", "diffusion_pytorch_model.safetensors"], 0),
        (["config.json", "diffusion_pytorch_model.safetensors.index.json"], 1),
        (["config.json", "diffusion_pytorch_model.fp16.safetensors"], 1),
        (["config.json"], 1),
        (["model.safetensors"], 1),
    ],
)
def test_the_hub_is_asked_for_what_the_cache_lacks(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], asked: int
) -> None:
    snapshot = put(cache, *names)
    stand_in = Hub(snapshot, tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", stand_in)
    # Offline, a part is better than nothing: what is missing is named when it is needed.
    assert resolve_checkpoint("org/name") == snapshot
    monkeypatch.setattr(hub, "is_offline_mode", lambda: False)
    assert resolve_checkpoint("org/name") == (tmp_path if asked else snapshot)
    assert stand_in.asked == asked


@pytest.mark.parametrize("error", [LocalEntryNotFoundError("no network"), OSError("disk full")])
def test_the_hub_fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub, "snapshot_download", Hub(None, error))
    with pytest.raises(CheckpointNotFound, match="the hub did not give that id"):
        resolve_checkpoint("org/name")


def test_neither_code_nor_pickles_are_fetched() -> None:
    def wanted(name: str) -> bool:
        return any(fnmatch(name, one) for one in WANTED) and not any(fnmatch(name, one) for one in UNWANTED)

    fetched = [
        "config.json",
        "model-00001-of-00002.safetensors",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "chat_template.jinja",
        "1_Pooling/config.json",
    ]
    assert all(map(wanted, [*fetched, "vocab.txt", "tokenizer.model", "2_Dense/model.safetensors"]))
    left = ["pytorch_model.bin", "modeling_x.py", "a/b.py", "x.pt", "original/model.safetensors", "README.md"]
    left.append("diffusion_pytorch_model.fp16.safetensors")
    assert not any(map(wanted, [*left, "consolidated.safetensors"]))
