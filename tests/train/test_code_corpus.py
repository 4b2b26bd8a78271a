from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.core.errors import EmptyInput
from cynosure.train.code_corpus import HELD_OUT_MODULES, is_held_out, read_code, read_source
from cynosure.train.corpus import library_folder
from cynosure.train.licences import Licensed

SECRET = (
    "def wrapped(text, width, indent=0):\n    for word in text.split():\n        yield indent, word, width\n"
)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for index in range(40):
        (tmp_path / f"module{index}.py").write_text(f"def function{index}():\n    return {index}\n")
    for name, text in {
        "wrap.py": SECRET,
        "pack/__init__.py": "from pack.part import secret_part\n",
        "test/test_wrap.py": "import wrap\n\nclass WrapTests: ...\n",
        "test/test_pack/test_part.py": "import pack.part\n\nclass PartTests: ...\n",
        "test/test_module1.py": "import module1\n",
        "copied.py": f"import os\n\n\n{SECRET}",
        "again.py": "def function0():\n    return 0\n",
        "lib2to3/old.py": "print 'old'\n",
        "site-packages/other.py": "other = 1\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9")
    (tmp_path / "table.py").write_text("DATA = " + "'x' " * 300)
    return tmp_path


def test_modules_leave_with_their_tests_and_their_copies(library: Path) -> None:
    corpus = read_code(library, [], held_out=("wrap", "pack"))
    held = {file.name for file in corpus.held_out}
    assert held == {"wrap.py", "pack/__init__.py", "test/test_wrap.py", "test/test_pack/test_part.py"}
    learned = {file.name for file in (*corpus.train, *corpus.watched)}
    assert not learned & held
    assert "copied.py" not in learned
    assert corpus.num_dropped == 1
    assert {"module3.py", "test/test_module1.py"} <= learned
    assert not learned & {"lib2to3/old.py", "site-packages/other.py", "latin.py", "table.py"}
    assert len({"module0.py", "again.py"} & learned) == 1, "the same text is taken once"
    parts = {file.name: file.part for file in corpus.train}
    assert parts.get("test/test_module1.py", "tests") == "tests"


def test_without_holding_out_the_copy_is_learned(library: Path) -> None:
    corpus = read_code(library, [], held_out=("pack",))
    learned = {file.name for file in (*corpus.train, *corpus.watched)}
    assert {"wrap.py", "copied.py"} <= learned
    assert corpus.num_dropped == 0


def test_the_digest_is_of_what_is_learned(library: Path) -> None:
    first = read_code(library, [], held_out=("wrap",))
    assert first.digest == read_code(library, [], held_out=("wrap",)).digest
    (library / "wrap.py").write_text("x = 1\n")
    assert read_code(library, [], held_out=("wrap",)).digest != first.digest, "its copy is learned now"
    assert first.num_bytes() == sum(len(file.text) for file in first.train)


def test_packages_by_their_own_record(library: Path) -> None:
    iniconfig = Licensed("iniconfig", "2", "MIT")
    corpus = read_code(library, [iniconfig], held_out=("wrap",))
    own = [file for file in (*corpus.train, *corpus.watched) if file.part == "iniconfig"]
    assert own
    assert all(file.name.startswith("iniconfig/") for file in own)
    assert corpus.packages == (iniconfig,)
    few = read_code(library, [iniconfig], held_out=("wrap",), max_package_bytes=10)
    assert not few.packages


def test_what_is_not_there_can_t_be_held_out(library: Path, tmp_path: Path) -> None:
    with pytest.raises(EmptyInput, match="no source of absent"):
        read_code(library, [], held_out=("wrap", "absent"))


def test_the_modules_of_the_evaluation_are_held_out_and_are_there() -> None:
    listed = Path("evals/data/code_heldout_modules.txt").read_text().split()
    assert tuple(listed) == HELD_OUT_MODULES
    library = library_folder()
    for module in HELD_OUT_MODULES:
        assert (library / f"{module}.py").is_file() or (library / module / "__init__.py").is_file()
        assert is_held_out(f"test/test_{module}.py", HELD_OUT_MODULES)
    assert is_held_out("tomllib/_parser.py", HELD_OUT_MODULES)
    assert not is_held_out("test/string_tests.py", HELD_OUT_MODULES)
    assert not is_held_out("copyreg.py", HELD_OUT_MODULES)


def test_sources_that_are_none_are_empty(tmp_path: Path) -> None:
    (tmp_path / "null.py").write_text("x = '\0'")
    assert read_source(tmp_path / "null.py") == ""
    assert read_source(tmp_path / "absent.py") == ""
