"""Keep secrets and personal numbers out of prompts and answers, and an audit log. Sees text, no tensors."""

from cynosure.guard.audit import AuditBegun, AuditLog, AuditRecord, AuditSettings, Outcome
from cynosure.guard.audit_key import KEY_VARIABLE, read_key, read_or_create_key
from cynosure.guard.audit_verify import Broken, Verification, verify
from cynosure.guard.kinds import Kind
from cynosure.guard.places import Places
from cynosure.guard.policy import (
    CALLS,
    Action,
    CallRules,
    Decision,
    Finding,
    Policy,
    Rules,
    count_kinds,
    read_policy,
)
from cynosure.guard.scan import MAX_HELD, MAX_VISIBLE
from cynosure.guard.stream_filter import StreamFilter, check

__all__ = [
    "CALLS",
    "KEY_VARIABLE",
    "MAX_HELD",
    "MAX_VISIBLE",
    "Action",
    "AuditBegun",
    "AuditLog",
    "AuditRecord",
    "AuditSettings",
    "Broken",
    "CallRules",
    "Decision",
    "Finding",
    "Kind",
    "Outcome",
    "Places",
    "Policy",
    "Rules",
    "StreamFilter",
    "Verification",
    "check",
    "count_kinds",
    "read_key",
    "read_or_create_key",
    "read_policy",
    "verify",
]
