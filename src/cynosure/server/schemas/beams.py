"""Shape how an answer is searched for, as vLLM and transformers name it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cynosure.engine.beam_params import MAX_BEAMS, MAX_LENGTH_PENALTY, BeamParams, EarlyStopping

NumBeams = Annotated[int, Field(ge=1, le=MAX_BEAMS)]
LengthPenalty = Annotated[float, Field(ge=-MAX_LENGTH_PENALTY, le=MAX_LENGTH_PENALTY)]
EarlyStoppingField = bool | Literal["never"]

_STOPPING: dict[bool | str, EarlyStopping] = {
    True: EarlyStopping.FULL,
    False: EarlyStopping.HEURISTIC,
    "never": EarlyStopping.NEVER,
}


def beams_of(
    width: int, length_penalty: float | None, early_stopping: EarlyStoppingField | None
) -> BeamParams | None:
    """The search that is asked for; a width of 1 is none.

    Raises:
        ValueError: how to search is said, and there is no search.
    """
    if width == 1:
        if length_penalty is not None or early_stopping is not None:
            raise ValueError("length_penalty and early_stopping are of a beam search; num_beams asks for one")
        return None
    return BeamParams(
        width,
        length_penalty=1.0 if length_penalty is None else length_penalty,
        early_stopping=_STOPPING[early_stopping or False],
    )
