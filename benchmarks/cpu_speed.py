"""Compare our engine with its peers inside a process, at equal bits, and through our server. Prints rows.

    python -m benchmarks.cpu_speed [--write] [--quick] [--shape qwen2.5-0.5b] [--bits int8]
        [--row decode_x16] [--keep FOLDER]

All compute the same random-weight checkpoint on all cores. Ours are whole steps of the engine, scheduler,
passes, greedy sampling and events included; a peer's are passes without more than the largest logit:

- llama.cpp by its batched interface, with flash attention and without: bf16, Q8_0, Q4_0;
- transformers with torch's attention: bf16;
- OpenVINO, the graph of OpenVINO GenAI: 8 and 4 bits;
- CTranslate2: int8.

Tokens a second, medians; `ratio` is to the best peer. Rows: prefill of 512 and 4,096 tokens, decoding of one
sequence with as many before it, and of 16 and 32; the same through our server, one sequence against ours in
process; with one core held by another process. `memory_limit_share` is the share of what the machine reads in
a second, `tile_limit_share` of what its tiles multiply. `--write` merges rows into results/cpu_speed.json.
Checkpoints, and what peers make of them, take minutes to write: `--keep` has the next run find them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.beside_peers import BITS, Patience, Setting, measure
from benchmarks.shapes import LAST_FILE, SHAPES, write_checkpoint
from benchmarks.speed_rows import key_of, lines_of, write_rows

DEFAULT_SHAPES = ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b")
#: The one code in which a neighbour is measured.
NEIGHBOUR_BITS = "int8"


def checkpoint_in(place: Path, shape: str) -> Path:
    """The checkpoint of a shape; one that an earlier run has left is whole, or its last file is not there."""
    folder = place / key_of(shape)
    return folder if (folder / LAST_FILE).exists() else write_checkpoint(SHAPES[shape], folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="merge rows into results/cpu_speed.json")
    parser.add_argument("--quick", action="store_true", help="ask once, after warming up: a first impression")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="repeatable (three)")
    parser.add_argument("--bits", choices=BITS, action="append", help="repeatable (all)")
    parser.add_argument("--repeats", type=int, default=7, help="at most; five at least")
    parser.add_argument("--seconds", type=float, default=40.0, help="a question may take, after five times")
    parser.add_argument("--row", action="append", help="ask for these rows, and what comes with them (all)")
    parser.add_argument("--without-server", action="store_true")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where checkpoints stay (nowhere)")
    parser.add_argument("--peers", type=Path, default=Path(".peers"), help="where `make peers` put them")
    arguments = parser.parse_args()
    # Peers are to wait as they would by themselves; it halves what transformers decodes.
    os.environ.pop("OMP_WAIT_POLICY", None)
    threads = len(os.sched_getaffinity(0))
    patience = Patience(1 if arguments.quick else arguments.repeats, arguments.seconds)
    for shape in arguments.shape or DEFAULT_SHAPES:
        with tempfile.TemporaryDirectory() as scratch:
            # No dot: one program takes what follows it for a suffix.
            folder = checkpoint_in(arguments.keep or Path(scratch), shape)
            for bits in arguments.bits or BITS:
                setting = Setting(SHAPES[shape], folder, bits, arguments.peers, threads)
                rows, limits = measure(
                    setting,
                    key_of(shape, bits),
                    patience,
                    arguments.row,
                    with_neighbour=bits == NEIGHBOUR_BITS,
                    with_server=not arguments.without_server,
                )
                print("\n".join(lines_of(rows)), flush=True)
                if arguments.write:
                    told = {"threads": threads, "repeats": patience.least, **asdict(limits)}
                    print(write_rows(rows, {key_of(shape, bits): told}), flush=True)


if __name__ == "__main__":
    main()
