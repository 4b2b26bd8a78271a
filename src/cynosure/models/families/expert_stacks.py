"""Name experts that lie in stacks, as views of them. Knows nothing of any family's keys."""

from __future__ import annotations

from torch import Tensor

from cynosure.models.families.naming import Change, Target
from cynosure.models.mlp import MlpSpec
from cynosure.models.moe import MoeSpec


def stacked(
    spec: MoeSpec, gate_up: str, down: str, *, is_input_first: bool, leaf: str = ""
) -> dict[str, Target]:
    """Return where the matrices of each expert lie, for `naming.rename`.

    Args:
        spec: a mixture of plain experts.
        gate_up: the stack of gates, each followed by its input's projection.
        down: the stack of the projections back.
        is_input_first: stacks are `[experts, input, output]`, else `[experts, output, input]`.
        leaf: `.weight` where the names of the stacks end otherwise.
    """
    assert isinstance(spec.expert, MlpSpec)
    width = spec.expert.intermediate_size

    def rows(expert: int, start: int, stop: int | None) -> Change:
        def change(stack: Tensor) -> Tensor:
            matrix = stack[expert].T if is_input_first else stack[expert]
            return matrix[start:stop]

        return change

    first: dict[str, Change | None] = {}
    second: dict[str, Change | None] = {}
    for expert in range(spec.num_experts):
        owner = f"mlp.experts.each.{expert}"
        first[f"{owner}.gate{leaf}"] = rows(expert, 0, width)
        first[f"{owner}.up{leaf}"] = rows(expert, width, 2 * width)
        second[f"{owner}.down{leaf}"] = rows(expert, 0, None)
    return {gate_up: first, down: second}
