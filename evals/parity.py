"""Measure how far every architecture is from transformers or diffusers, on tiny random checkpoints.

python evals/parity.py [--write] [ARCHITECTURE ...]
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cynosure.evaluate.results import write_result

ROOT = Path(__file__).parents[1]
TOLERANCE = 1e-4
#: Where the tests keep their oracles, and what each calls its measurements.
ORACLES = {
    "tests.models.decoder_oracle": "DECODER_CASES",
    "tests.models.moe_oracle": "MOE_CASES",
    "tests.models.brand_oracle": "BRAND_CASES",
    "tests.models.mixer_oracle": "MIXER_CASES",
    "tests.models.encoder_oracle": "ENCODER_CASES",
    "tests.models.late_oracle": "LATE_CASES",
    "tests.models.image_decoder_oracle": "IMAGE_DECODER_CASES",
    "tests.models.grid_decoder_oracle": "GRID_DECODER_CASES",
    "tests.models.tiled_decoder_oracle": "TILED_DECODER_CASES",
    "tests.models.vision_oracle": "VISION_CASES",
    "tests.models.denoise.denoise_oracle": "DENOISE_CASES",
    "tests.models.t5_oracle": "T5_CASES",
    "tests.models.seq2seq_oracle": "SEQ2SEQ_CASES",
}


def collect() -> Mapping[str, Callable[[], float]]:
    """Return one measurement an architecture, from every oracle."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.insert(0, str(ROOT))
    found: dict[str, Callable[[], float]] = {}
    for module, name in ORACLES.items():
        cases = vars(importlib.import_module(module))[name]
        assert found.keys().isdisjoint(cases), f"{module} measures again what another oracle does"
        found.update(cases)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", help="the ones to measure; all where none is named")
    parser.add_argument("--write", action="store_true", help="write results/parity.json")
    options = parser.parse_args()
    cases = collect()
    wanted = options.architectures or list(cases)
    unknown = [name for name in wanted if name not in cases]
    if unknown or (options.write and options.architectures):
        parser.error(f"no oracle measures {unknown}" if unknown else "--write writes all: name none")
    errors = {}
    for name in wanted:
        start = time.perf_counter()
        errors[name] = cases[name]()
        print(f"{name:32} {errors[name]:.1e}  {time.perf_counter() - start:5.1f} s", flush=True)
    if options.write:
        print(write_result("parity", errors, "python evals/parity.py --write", ROOT / "results"))
    failed = [name for name, error in errors.items() if not error <= TOLERANCE]
    if failed:
        print(f"above {TOLERANCE}: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
