"""Name every way Cynosure fails. Knows nothing of HTTP, tensors or files.

One tree; the server maps it to status codes in one place (`server/errors.py`):

    CynosureError
    ├── InputError                  the caller's request is unusable
    │   ├── EmptyInput              nothing was asked
    │   ├── InputTooLong            over a stated limit; nothing is truncated
    │   ├── ContentPolicyViolation  the guard found what its policy blocks; says what and where
    │   ├── UnknownOption           an option, field or name that does not exist
    │   └── NotFound                a model, store or object that is not here
    ├── AccessDenied                who asks may not
    │   ├── InvalidApiKey           no key came with the request, or none of ours
    │   ├── AdminOnly               a key of ours, but not the admin's
    │   └── RateLimitExceeded       a key has used what it may; says when to come back
    ├── CheckpointError             a checkpoint cannot be served
    │   ├── CheckpointNotFound      no such folder, shard, file or cached hub id
    │   ├── CheckpointCorrupt       truncated, mis-shaped, missing or non-finite weights
    │   ├── CheckpointUnsafe        pickled weights or code; never opened
    │   ├── UnsupportedArchitecture an architecture that has no parity proof here
    │   └── UnsupportedConfig       a config key or value that would change the maths
    ├── TemplateError               a chat template failed, or ran over its limits
    ├── AttentionError              a spec, plan and sources that do not fit together
    │   └── UnsupportedByBackend    a backend asked for by name can't do this; says why
    ├── EngineFault                 a step of the engine failed for this request
    │   ├── EngineDown              the engine's process is gone or starting; says when to come back
    │   ├── EngineBusy              there is no room for it now; the same request may be served soon
    │   ├── DeadlineUnmet           the answer would come too late; nothing was begun
    │   └── WireFault               what came from the engine's process, or to it, is no message of ours
    ├── IndexFault                  the document index is absent, stale or damaged
    ├── AuditFault                  the audit log or its key is damaged, or cannot be written
    │   └── AuditInUse              another process writes to it
    ├── ProfileError                a head profile is altered, or of another model or version
    └── EnvironmentFault            the machine lacks something: a port, a package, disk
        ├── MissingPackage          an optional dependency is not installed
        ├── ModelTooLarge           the memory that may be used can never hold it
        └── PortInUse               the address is taken

A message says what was wrong, what was got, the limit and the remedy.
"""

from __future__ import annotations


class CynosureError(Exception):
    """Root of everything that Cynosure raises on purpose."""


class InputError(CynosureError):
    """The caller's request cannot be used as it is."""


class EmptyInput(InputError):
    """Nothing was asked."""


class InputTooLong(InputError):
    """The input is over a stated limit; nothing was truncated."""


class ContentPolicyViolation(InputError):
    """The guard found what its policy blocks; `place` is where, and what was found is never told."""

    def __init__(self, message: str, place: str = "") -> None:
        """Say which kind, and in which text."""
        super().__init__(message)
        self.place = place


class UnknownOption(InputError):
    """An option, field or name that does not exist."""


class NotFound(InputError):
    """A model, store or object that is not here."""


class AccessDenied(CynosureError):
    """Who asks may not."""


class InvalidApiKey(AccessDenied):
    """No key came with the request, or none of ours."""


class AdminOnly(AccessDenied):
    """A key of ours, but not the admin's."""


class RateLimitExceeded(AccessDenied):
    """A key has used what it may; in `retry_after_s` seconds it may again."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        """Say which limit, and when to come back."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class CheckpointError(CynosureError):
    """A checkpoint cannot be served."""


class CheckpointNotFound(CheckpointError):
    """No such folder, shard, file or locally cached hub id."""


class CheckpointCorrupt(CheckpointError):
    """Weights are truncated, mis-shaped, missing or not finite."""


class CheckpointUnsafe(CheckpointError):
    """Pickled weights or code from a checkpoint; never opened."""


class UnsupportedArchitecture(CheckpointError):
    """An architecture that has no parity proof here."""


class UnsupportedConfig(CheckpointError):
    """A config key or value that would change the maths and is not understood."""


class TemplateError(CynosureError):
    """A chat template failed, or ran over its time or size limit."""


class AttentionError(CynosureError):
    """A spec, a plan and sources that do not fit together."""


class UnsupportedByBackend(AttentionError):
    """A backend that was asked for by name cannot do this; the message says why."""


class EngineFault(CynosureError):
    """A step of the engine failed for this request; others go on."""


class EngineDown(EngineFault):
    """The engine's process has ended or is starting; in about `retry_after_s` seconds it serves again."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        """Say why, and when to come back."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineBusy(EngineFault):
    """There is no room for what was asked now; the same request may be served soon."""


class DeadlineUnmet(EngineFault):
    """The answer would come after its deadline, and was not begun; in `retry_after_s` seconds it may be."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        """Say what was predicted, and when to come back."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class WireFault(EngineFault):
    """A frame between server and engine is not what both agreed on; the connection ends."""


class IndexFault(CynosureError):
    """The document index is absent, stale or damaged."""


class AuditFault(CynosureError):
    """The audit log or its key is damaged, belongs to others, or cannot be written."""


class AuditInUse(AuditFault):
    """Another process writes to the audit log; two would fork its chain."""


class ProfileError(CynosureError):
    """A head profile is damaged, altered, of another model or version, or can't be written."""


class EnvironmentFault(CynosureError):
    """The machine lacks something that is needed."""


class MissingPackage(EnvironmentFault):
    """A package that this feature needs is not installed."""


class ModelTooLarge(EnvironmentFault):
    """A model that the memory that may be used can never hold."""


class PortInUse(EnvironmentFault):
    """The address to listen on is taken."""
