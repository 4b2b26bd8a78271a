"""Quantise a checkpoint, a folder or a GGUF file, into a folder. Knows nothing of terminals or of codes.

What is written loads as the same bits that quantising at load gives. Tensors are named as our graphs name
them, since fused and transposed projections were taken apart before they became codes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cynosure.core.errors import EnvironmentFault, InputError, UnknownOption
from cynosure.models.brand import TensorSource
from cynosure.models.checkpoint import choose_dtype, fill, open_weights
from cynosure.models.fingerprint import digests_of
from cynosure.models.gguf.folder_files import folder_files
from cynosure.models.gguf.header import is_gguf, read_gguf
from cynosure.models.hub import WANTED, resolve_checkpoint
from cynosure.models.json_file import JsonValue
from cynosure.models.load import empty_graph, graph_tensors, read_spec
from cynosure.models.quantize.graph import coded_layers
from cynosure.models.quantize.scheme import CONFIG_KEY, QuantScheme, read_scheme
from cynosure.models.safetensor_files import DIFFUSION_INDEX, INDEX, SINGLE
from cynosure.models.safetensor_writer import write_safetensors
from cynosure.models.stored_config import place_of_config, stored_config

#: Called with a stage, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

#: What is copied as it is: tokenizer, templates, advice for sampling, modules behind an encoder, licences.
COPIED = (*WANTED, "*/*.json", "*/*.jinja", "LICENSE*", "NOTICE*", "README.md")
_WEIGHTS = re.compile(
    rf"(?:diffusion_pytorch_)?model.*\.safetensors|config\.json|{re.escape(INDEX)}|{re.escape(DIFFUSION_INDEX)}"
)


@dataclass(frozen=True)
class Written:
    """What came out: where, in which scheme, the bytes of all weights before and after, and their number."""

    folder: Path
    scheme: QuantScheme
    bytes_before: int
    bytes_after: int
    num_weights: int

    @property
    def bits_per_weight(self) -> float:
        """Bits that a weight takes on average, scales and what stays wide included."""
        return 8 * self.bytes_after / self.num_weights


def quantise_folder(
    source: str | Path, scheme: QuantScheme, out: Path, report: Report = lambda stage, done, total: None
) -> Written:
    """Write the checkpoint `source` in codes to the new folder `out`, whole or not at all.

    A GGUF file's own codes are read as the numbers that they stand for, and quantised anew.

    Raises:
        CheckpointError: the checkpoint is absent, damaged, or of a kind that is not served here.
        UnknownOption: it is quantised already.
        InputError: `out` exists.
        EnvironmentFault: `out` can't be written.
    """
    folder = resolve_checkpoint(source)
    if out.exists():
        raise InputError(f"{out} exists; nothing is overwritten. Name a folder that does not exist.")
    config = stored_config(folder)
    graph, dtype = _quantised(folder, config, scheme, report)
    report("Writing", 0, 0)
    told = {"dtype": str(dtype).removeprefix("torch.")}
    told = {} if config.get("dtype") or config.get("torch_dtype") else told
    config = {**config, **told, CONFIG_KEY: scheme.config()}
    _write(folder, out, json.dumps(config, indent=2) + "\n", _stored(graph))
    tables = {id(layer.codes): layer.num_rows * layer.width for _, layer in coded_layers(graph)}
    return Written(
        folder=out,
        scheme=scheme,
        bytes_before=sum(path.stat().st_size for path in _weights_of(folder)),
        bytes_after=(out / SINGLE).stat().st_size,
        num_weights=sum(tables.values()) + sum(parameter.numel() for parameter in graph.parameters()),
    )


def _quantised(
    folder: Path, config: Mapping[str, JsonValue], scheme: QuantScheme, report: Report
) -> tuple[nn.Module, torch.dtype]:
    """Return the graph with its codes; what stays wide is as it is stored."""
    stored = read_scheme(config, place_of_config(folder))
    if stored is not None:
        raise UnknownOption(
            f"{folder} holds {stored.name} codes already. Name the checkpoint that they were made from."
        )
    brand, spec = read_spec(folder, config, None)
    weights = open_weights(folder, is_mapped=False)
    dtype = choose_dtype("auto", config, weights)
    graph = empty_graph(brand, spec, scheme, dtype)
    tensors = graph_tensors(brand, spec, weights, graph, None)
    fill(graph, _reported(tensors, report), None, ignore=brand.ignore)
    return graph, dtype


def _reported(tensors: Mapping[str, TensorSource], report: Report) -> dict[str, TensorSource]:
    """Count tensors as they are read."""
    counter = itertools.count(1)

    def counted(source: TensorSource) -> TensorSource:
        def read() -> Tensor:
            tensor = source()
            report("Quantising", next(counter), len(tensors))
            return tensor

        return read

    return {name: counted(source) for name, source in tensors.items()}


def _stored(graph: nn.Module) -> dict[str, Tensor]:
    """Return each tensor of a graph once; tied ones under their first name."""
    once = {id(tensor): (name, tensor) for name, tensor in reversed(graph.state_dict(keep_vars=True).items())}
    return dict(once.values())


def _write(folder: Path, out: Path, config: str, tensors: Mapping[str, Tensor]) -> None:
    """Write everything beside `out`, then give it its name."""
    metadata = {"format": "pt", "producer": "cynosure", "source_sha256": _digest(folder)}
    scratch = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        scratch.mkdir(parents=True)
        _write_rest(folder, scratch)
        (scratch / "config.json").write_text(config)
        write_safetensors(scratch / SINGLE, tensors, metadata)
        scratch.rename(out)
    except OSError as error:
        raise EnvironmentFault(
            f"{out} can't be written: {error.strerror}. Make room, or name another folder."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _weights_of(folder: Path) -> list[Path]:
    if is_gguf(folder):
        return [folder]
    return [path for path in folder.glob("*.safetensors") if _is_replaced(path.relative_to(folder))]


def _write_rest(folder: Path, out: Path) -> None:
    """Write what stands beside config and weights: as it is, or as the GGUF file says it."""
    texts = folder_files(read_gguf(folder)) if is_gguf(folder) else {}
    for name, text in texts.items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")
    for path in _rest(folder):
        (out / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / path, out / path)


def _rest(folder: Path) -> list[Path]:
    """Return what is copied, seen from the folder."""
    found = {path for pattern in COPIED for path in folder.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(folder) for path in found if not _is_replaced(path.relative_to(folder)))


def _is_replaced(path: Path) -> bool:
    """Whether a file of the folder itself is written anew; those of modules below it are not."""
    return len(path.parts) == 1 and _WEIGHTS.fullmatch(path.name) is not None


def _digest(folder: Path) -> str:
    """Return one SHA-256 of all files that shaped the weights."""
    lines = "".join(f"{path.relative_to(folder)} {digest}\n" for path, digest in digests_of(folder).items())
    return hashlib.sha256(lines.encode()).hexdigest()
