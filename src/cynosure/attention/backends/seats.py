"""Keep the seats of kernels that are not built yet. They refuse everything, and say so by name."""

from __future__ import annotations

from cynosure.attention.backends.call import AttentionCall, Backend
from cynosure.attention.state import AttentionState


class TritonBackend(Backend):
    """The GPU kernels' seat."""

    name = "triton"

    def refusals(self, call: AttentionCall) -> tuple[str, ...]:
        """Refuse: nothing is written for the GPU in this version."""
        return ("no Triton kernels are part of this version",)

    def run(self, call: AttentionCall) -> AttentionState:
        """Never reached: `refusals` is never empty."""
        raise AssertionError("a refused backend was run")
