"""Run many requests at once. Knows nothing of HTTP, text or documents."""

from cynosure.engine.beam_params import BeamParams, EarlyStopping
from cynosure.engine.constraints import Constraint, ConstraintKind
from cynosure.engine.fairness import TokenCounter
from cynosure.engine.request import (
    Cancelled,
    Event,
    Failed,
    Finished,
    FinishReason,
    PromptLogprobs,
    RefusalReason,
    Refused,
    Request,
    TerminalEvent,
    TokenEvent,
    TokenLogprob,
    Usage,
    finish_reason,
)
from cynosure.engine.sampling import SamplingParams
from cynosure.engine.schedule import Limits, Rates, Refusal, Schedule, SequenceView, Step
from cynosure.engine.scheduler import schedule

__all__ = [
    "BeamParams",
    "Cancelled",
    "Constraint",
    "ConstraintKind",
    "EarlyStopping",
    "Event",
    "Failed",
    "FinishReason",
    "Finished",
    "Limits",
    "PromptLogprobs",
    "Rates",
    "Refusal",
    "RefusalReason",
    "Refused",
    "Request",
    "SamplingParams",
    "Schedule",
    "SequenceView",
    "Step",
    "TerminalEvent",
    "TokenCounter",
    "TokenEvent",
    "TokenLogprob",
    "Usage",
    "finish_reason",
    "schedule",
]
