"""Install the programs that benchmarks compare with, each in an environment of its own. Times nothing.

    python benchmarks/peers.py [--into .peers] [--only llama]

llama.cpp is compiled here, for this processor. GCC 12 miscompiles its AMX kernels (wrong logits, no error):
it takes clang 15 or later, or GCC 13 or later. What is installed already is left as it is.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

#: The releases that were compared with.
LLAMA = "llama-cpp-python[server]==0.3.36"
GGUF = "gguf==0.19.0"
TRANSFORMERS = "transformers[serving]==5.23.*"
CTRANSLATE2 = "ctranslate2==4.8.5"
OPENVINO = ("openvino-genai==2026.4.1.0", "nncf==3.4.0", "optimum==2.3.0", "transformers==5.5.4")
#: It converts checkpoints; what it wants beside these is of pictures, and would bring another torch.
OPTIMUM_INTEL = "optimum-intel==2.2.0"
ENCODERS = ("sentence-transformers==6.2.*", "onnxruntime==1.31.*", "onnx==1.23.*", "onnxscript==0.7.*")
TORCH = "torch>=2.13,<2.14"
#: Of the oldest release of a compiler that builds llama.cpp right.
OLDEST = {"clang": 15, "gcc": 13}
CMAKE_ARGS = "-DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF"

_VERSION = re.compile(r"(?:clang version |\) |gcc version )(\d+)\.\d+")


def names() -> Iterator[tuple[str, str, str]]:
    """Compilers by the names they go by, the best first: kind, that of C, that of C++."""
    for release in ("", *(f"-{number}" for number in range(22, 14, -1))):
        yield "clang", f"clang{release}", f"clang++{release}"
    for release in ("", *(f"-{number}" for number in range(16, 12, -1))):
        yield "gcc", f"gcc{release}", f"g++{release}"


def release_of(said: str) -> int:
    """The major release in what `--version` says; 0 where it says none."""
    found = _VERSION.search(said)
    return int(found[1]) if found else 0


def find_compiler(ask: Callable[[str], str]) -> tuple[str, str] | None:
    """Names of the C and C++ compiler to take; `ask` tells what a program says of its version, or nothing."""
    for kind, c, cpp in names():
        if release_of(ask(c)) >= OLDEST[kind] and ask(cpp):
            return c, cpp
    return None


def said_version(program: str) -> str:
    """What a program says of its version; nothing where it is not here."""
    path = shutil.which(program)
    if path is None:
        return ""
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout


def new_environment(folder: Path) -> Callable[..., None]:
    """Make one; returns its pip."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)

    def pip(*arguments: str, environ: Mapping[str, str] | None = None) -> None:
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", *arguments]
        subprocess.run(command, check=True, env=os.environ | dict(environ or {}))

    return pip


def install_llama(folder: Path) -> None:
    """Compile llama.cpp for this processor, with its Python server and the package that writes its files."""
    compiler = find_compiler(said_version)
    if compiler is None:
        raise SystemExit(
            "llama.cpp needs clang 15 or later, or GCC 13 or later: older ones miscompile its AMX kernels. "
            "Install one (Debian: apt-get install clang-19), or leave this peer out: --only transformers."
        )
    pip = new_environment(folder)
    pip(GGUF)
    environ = {"CC": compiler[0], "CXX": compiler[1], "CMAKE_ARGS": CMAKE_ARGS}
    pip("--no-binary", "llama-cpp-python", LLAMA, environ=environ)


def install_transformers(folder: Path) -> None:
    """The same torch as ours, then transformers with its server."""
    pip = new_environment(folder)
    pip(TORCH)
    pip(TRANSFORMERS, "accelerate")


def install_ctranslate2(folder: Path) -> None:
    """With what its converter reads checkpoints by."""
    pip = new_environment(folder)
    pip(TORCH)
    pip(CTRANSLATE2, "transformers==5.23.*")


def install_openvino(folder: Path) -> None:
    """With what converts checkpoints for it."""
    pip = new_environment(folder)
    pip(TORCH)
    pip(*OPENVINO, "requests>=2.33", TORCH)
    pip("--no-deps", OPTIMUM_INTEL)


def install_encoders(folder: Path) -> None:
    """Both that embed, with what writes the file of one of them."""
    pip = new_environment(folder)
    pip(TORCH)
    pip(*ENCODERS, TORCH)


INSTALL = {
    "transformers": install_transformers,
    "llama": install_llama,
    "ctranslate2": install_ctranslate2,
    "openvino": install_openvino,
    "encoders": install_encoders,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--into", type=Path, default=Path(".peers"), help="where the environments go (.peers)"
    )
    parser.add_argument("--only", choices=INSTALL, help="this one")
    arguments = parser.parse_args()
    arguments.into.mkdir(exist_ok=True)
    for name in [arguments.only] if arguments.only else INSTALL:
        # Beside the environment: it appears once everything is installed.
        is_done = arguments.into / f"{name}.installed"
        if not is_done.exists():
            INSTALL[name](arguments.into / name)
            is_done.touch()
        print(f"{arguments.into / name} is installed")


if __name__ == "__main__":
    main()
