"""The daemon's own log: JSON lines on standard error, for a journal or a file; events, never contents.

Guarantee: whatever a value's name, bytes and the types that hold keys never reach a line, nor do they inside
lists and mappings; a long text is cut. This is the second hedge: no call is meant to pass one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from appliance.age.identity import Identity
from appliance.custody.keyring import Keyring
from appliance.custody.release import ObjectKey, Output
from appliance.custody.secret_memory import SecretMemory
from appliance.grants import Grant

REDACTED = "[redacted]"
MAX_TEXT = 4096
_SECRET = (bytes, bytearray, memoryview, Keyring, SecretMemory, ObjectKey, Output, Grant, Identity)
_DEPTH = 8


def configure_log() -> None:
    """Write the daemon's own log as JSON lines to standard error."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what may be secret by its type; the last step before a line is made."""
    for name, value in event.items():
        event[name] = _without_secrets(value, _DEPTH)
    return event


def _without_secrets(value: Any, depth: int) -> Any:
    if isinstance(value, _SECRET) or not depth:
        return REDACTED
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else f"{value[:MAX_TEXT]} [cut]"
    if isinstance(value, Mapping):
        return {str(name): _without_secrets(each, depth - 1) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_without_secrets(each, depth - 1) for each in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return REDACTED  # any other object: its text could hold anything
