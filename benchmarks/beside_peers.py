"""Measure one model in one code beside the best of its peers, in processes taking turns. Writes nothing.

Everybody warms up once. Whoever is then far from the best peer in all that a question is about is not asked
it again; the others are, in turn, and medians count. Which peer is the best may differ from row to row.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine_limits
from benchmarks.line_child import ChildEnded, LineChild
from benchmarks.machine_limits import Limits
from benchmarks.shapes import Shape
from benchmarks.speed_rows import Row, Rows, compared

HERE = Path(__file__).parent
BITS = ("bf16", "int8", "int4")
#: Ours against llama.cpp's: 16, about 8 and about 4 bits a weight.
GGUF = {"bf16": "bf16", "int8": "q8_0", "int4": "q4_0"}
OURS, SERVER = "ours", "server"

#: Below this share of the best peer, a peer is not the best one.
HOPELESS = 0.8
#: So often at least, however long it takes.
MIN_REPEATS = 5


@dataclass(frozen=True)
class Question:
    """So many sequences, steps, and tokens before; `rows` says which figure becomes which row.

    `is_for_server` asks our own server too, for rows of its own.
    """

    num_seqs: int
    num_steps: int
    length: int
    rows: Mapping[str, str]
    is_for_server: bool = False

    @property
    def line(self) -> str:
        """As it is asked."""
        return f"{self.num_seqs} {self.num_steps} {self.length}"


QUESTIONS = (
    Question(1, 32, 512, {"prefill_512": "prefill", "decode_x1_at_512": "decode"}, True),
    Question(1, 16, 4096, {"prefill_4096": "prefill", "decode_x1_at_4096": "decode"}),
    Question(16, 16, 64, {"decode_x16": "decode"}, True),
    Question(32, 16, 64, {"decode_x32": "decode"}, True),
)
#: Asked while another process holds a core.
BESIDE_A_NEIGHBOUR = (
    Question(1, 16, 512, {"neighbour_x1_at_512": "decode"}),
    Question(16, 8, 64, {"neighbour_x16": "decode"}),
)


@dataclass(frozen=True)
class Patience:
    """How often to ask: `repeats`, but no more once a question has taken `seconds`."""

    repeats: int = 5
    seconds: float = 40.0

    def is_over(self, num_done: int, begun_s: float) -> bool:
        """Whether it is time for the next question."""
        return num_done >= self.repeats or (
            num_done >= self.least and time.perf_counter() - begun_s > self.seconds
        )

    @property
    def least(self) -> int:
        """How often every question is asked."""
        return min(MIN_REPEATS, self.repeats)


@dataclass(frozen=True)
class Setting:
    """A checkpoint in one code, and where the peers' environments are."""

    shape: Shape
    folder: Path
    bits: str
    peers: Path
    num_threads: int

    def python(self, environment: str) -> str:
        """The interpreter of a peer."""
        return str(self.peers / environment / "bin" / "python")

    def commands(self) -> Iterator[tuple[str, list[str]]]:
        """The environment of each peer that has the code, and how it is started."""
        threads = ["--threads", str(self.num_threads)]
        gguf = [str(self.folder.with_suffix(".gguf")), "--to", GGUF[self.bits], *threads]
        yield "llama", [str(HERE / "peer/run_llama.py"), *gguf]
        yield "llama", [str(HERE / "peer/run_llama.py"), *gguf, "--flash"]
        coded = [str(self.folder), "--to", self.bits, *threads]
        if self.bits == "bf16":
            yield "transformers", [str(HERE / "peer/run_transformers.py"), str(self.folder), *threads]
        else:
            yield "openvino", [str(HERE / "peer/run_openvino.py"), *coded]
        if self.bits == "int8":
            yield "ctranslate2", [str(HERE / "peer/run_ctranslate2.py"), *coded]


def write_gguf(setting: Setting) -> None:
    """Write the checkpoint as llama.cpp reads it, once."""
    file = setting.folder.with_suffix(".gguf")
    if not file.exists() and Path(setting.python("llama")).exists():
        script = str(HERE / "gguf_export.py")
        subprocess.run([setting.python("llama"), script, str(setting.folder), str(file)], check=True)


@contextmanager
def started(setting: Setting, with_server: bool) -> Iterator[list[LineChild]]:
    """Ourselves first, then our server, then every peer that is installed and starts."""
    own = [sys.executable, "-m", "benchmarks.engine_child", str(setting.folder), setting.bits]
    quiet = {"OMP_WAIT_POLICY": "passive"}
    children = [LineChild(own, quiet)]
    try:
        if with_server:
            children.append(LineChild([*own, "--through-server"], quiet))
        write_gguf(setting)
        for environment, command in setting.commands():
            if not Path(setting.python(environment)).exists():
                print(f"left out: {environment} is not installed. `make peers` installs it.")
                continue
            try:
                children.append(LineChild([setting.python(environment), *command]))
            except ChildEnded as end:
                print(f"left out: {Path(command[0]).stem} {setting.bits}: {end}")
        yield children
    finally:
        for child in children:
            child.end()


#: Every figure of everybody who was asked, by name.
Found = dict[str, dict[str, list[float]]]


def asked(children: Sequence[LineChild], question: Question, patience: Patience) -> Found:
    """Put one question to all in turn; a peer that breaks is left out from then on."""
    present = [child for child in children if child.name != SERVER or question.is_for_server]
    warm = {child.name: _figures(child, question) for child in present}
    hopeful = [child for child in present if _is_hopeful(child.name, warm, question)]
    found: Found = {child.name: {} for child in hopeful}
    begun, num_done = time.perf_counter(), 0
    while not patience.is_over(num_done, begun):
        for child in hopeful:
            for figure, value in _figures(child, question).items():
                found[child.name].setdefault(figure, []).append(value)
        num_done += 1
    return {name: figures for name, figures in found.items() if len(figures) == 2}


def _figures(child: LineChild, question: Question) -> dict[str, float]:
    try:
        figures = child.ask(question.line)
    except ChildEnded as end:
        if child.name == OURS:
            raise
        print(f"{child.name} broke at {question.line!r}: {end}")
        return {}
    told = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
    print(f"  {question.line:<12}{child.name:<36}{told}", file=sys.stderr, flush=True)
    return figures


def _is_hopeful(name: str, warm: Mapping[str, Mapping[str, float]], question: Question) -> bool:
    """Whether a peer may turn out the best in something that is asked for."""
    if name in (OURS, SERVER):
        return bool(warm[name])
    theirs = [figures for other, figures in warm.items() if figures and other not in (OURS, SERVER)]
    return bool(warm[name]) and any(
        warm[name][figure] >= HOPELESS * max(figures[figure] for figures in theirs)
        for figure in question.rows.values()
    )


def best_of(found: Found, figure: str) -> tuple[str, float]:
    """The best peer in a figure, by the median; nobody, and 0, where no peer is there."""
    medians = {
        name: statistics.median(figures[figure])
        for name, figures in found.items()
        if name not in (OURS, SERVER)
    }
    best = max(medians, key=lambda name: medians[name], default="")
    return best, medians.get(best, 0.0)


@contextmanager
def busy_neighbour() -> Iterator[None]:
    """A process that holds the last of our cores."""
    core = max(os.sched_getaffinity(0))
    code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    neighbour = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        neighbour.kill()
        neighbour.wait()


def wanted(questions: Sequence[Question], names: Sequence[str] | None) -> list[Question]:
    """The questions that these rows come of; all where no row is named."""
    return [question for question in questions if names is None or set(names) & set(question.rows)]


def measure(
    setting: Setting,
    key: str,
    patience: Patience,
    names: Sequence[str] | None = None,
    *,
    with_neighbour: bool,
    with_server: bool,
) -> tuple[Rows, Limits]:
    """Rows of a checkpoint in one code, and the machine's limits, measured anew before each question."""
    answers: list[tuple[Question, Found]] = []
    limits: list[Limits] = []
    with started(setting, with_server) as children:
        told = {name: float(value) for name, value in children[0].told.items() if name != "ready"}
        for question in wanted(QUESTIONS, names):
            limits.append(machine_limits.measure(setting.num_threads))
            answers.append((question, asked(children, question, patience)))
        limits.append(machine_limits.measure(setting.num_threads))
        beside = wanted(BESIDE_A_NEIGHBOUR, names) if with_neighbour else []
        if beside:
            with busy_neighbour():
                answers += [(question, asked(children, question, patience)) for question in beside]
    best = machine_limits.best_of(limits)
    rows: Rows = {}
    for question, found in answers:
        for what, row in rows_of(question, found, setting, best, told):
            rows.setdefault(what, {})[key] = row
    return rows, best


def rows_of(
    question: Question, found: Found, setting: Setting, limits: Limits, told: Mapping[str, float]
) -> Iterator[tuple[str, Row]]:
    """The rows of one question; those of limits have their shares of them."""
    for what, figure in question.rows.items():
        peer, theirs = best_of(found, figure)
        ours = statistics.median(found[OURS][figure])
        more: Row = {}
        if what.startswith("decode_x1_"):
            read = told["weight_bytes"] + told["kv_bytes_per_token"] * (
                question.length + question.num_steps / 2
            )
            more["memory_limit_share"] = ours * read / 1e9 / limits.read_gb_per_s
        if figure == "prefill":
            done = ours * operations_per_token(setting.shape, question.length) / 1e12
            limit = limits.tera_per_s(setting.bits)
            more |= {"tera_per_s": done, "tile_limit_share": None if limit is None else done / limit}
        if peer:
            yield what, compared(ours, theirs, peer, **more)
        if question.is_for_server and SERVER in found and figure == "decode":
            through = statistics.median(found[SERVER][figure])
            if question.num_seqs == 1:
                yield "server_x1_at_512", compared(through, ours, "ours in process")
            elif peer:
                yield f"server_x{question.num_seqs}", compared(through, theirs, peer)


def operations_per_token(shape: Shape, length: int) -> float:
    """Multiplications and additions of reading a prompt, by the token: layers and attention, no head."""
    products = 2.0 * (shape.num_weights - shape.vocab_size * shape.hidden_size)
    attention = 4.0 * shape.num_hidden_layers * shape.num_attention_heads * shape.head_dim * length / 2
    return products + attention
