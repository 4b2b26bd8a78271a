"""Try grammars out in a process of its own. Knows nothing of requests: it runs as a script.

Reads JSON lines from its input and answers each with one: first the tokenizer and the limits, then one line a
grammar. Compilers have their own limits, and inputs that slip through them; here the parent's clock and the
system's memory limit hold, and a crash is nobody else's.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import llguidance

try:
    import resource
except ImportError:
    # Windows has no such limits: the parent's clock still holds.
    resource = None

_PAGES = Path("/proc/self/statm")

#: Less than a thread of the parent has: what nests too deeply ends here.
_STACK_BYTES = 4 << 20


def main() -> None:
    """Answer until the input ends."""
    setup = json.loads(sys.stdin.readline())
    try:
        tokenizer = llguidance.LLTokenizer(
            setup["tokenizer"],
            n_vocab=setup["vocab_size"],
            eos_token=setup["eos_token_ids"] or None,
            slices=[],
        )
    except ValueError as error:
        _answer({"error": str(error)})
        return
    limits = llguidance.LLParserLimits(**setup["parser_limits"])
    _bound(setup["max_bytes"])
    _answer({})
    for line in sys.stdin:
        _answer(_try(tokenizer, json.loads(line), limits))


def _try(tokenizer: Any, text: str, limits: Any) -> dict[str, object]:  # noqa: ANN401 - native types
    """Compile a grammar and compute its first mask; say what that cost, or what is wrong."""
    before, start = _num_bytes(), time.perf_counter()
    matcher = llguidance.LLMatcher(tokenizer, text, log_level=0, limits=limits)
    seconds = time.perf_counter() - start
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        return {"error": matcher.get_error()}
    return {"seconds": seconds, "num_bytes": max(0, _num_bytes() - before)}


def _bound(max_bytes: int) -> None:
    if resource is not None:
        size = _num_bytes(is_virtual=True) + max_bytes
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
        resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, hard))


def _num_bytes(is_virtual: bool = False) -> int:
    """Memory of this process; 0 where the system does not tell."""
    if resource is None or not _PAGES.exists():
        return 0
    return int(_PAGES.read_text().split()[0 if is_virtual else 1]) * resource.getpagesize()


def _answer(answer: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
