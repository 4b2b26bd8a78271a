"""Shape what is told of a call of a function that was not handed out. Computes nothing."""

from __future__ import annotations

from pydantic import BaseModel


class StoppedCall(BaseModel):
    """Why a call was stopped, which ended the answer; nothing of the call is told.

    - `focus`: of the tokens that it was written in, on trusted instructions, from 0 to 1; null where they
      were not watched. `minimum`: what it had to be. `is_fitted`: whether it is by weights of the model's
      profile.
    - `attended_to`: the segment of untrusted text that was attended to most, and its `share` among what went
      to instructions and untrusted text.
    """

    focus: float | None
    minimum: float
    is_fitted: bool
    attended_to: str | None
    share: float | None
    message: str
