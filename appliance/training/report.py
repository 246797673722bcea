"""The account of one run as a sealed object: what was computed, op by op, in how many seconds, of what peak.

It reveals the architecture, so it is sealed as weights are. ASCII JSON with sorted keys; `parse_account`
accepts exactly what `encode_account` writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from appliance.errors import ContentRefused
from appliance.training.accounting import Operations

FORMAT = "appliance-account/1"
MAX_ACCOUNT_BYTES = 64 * 1024
_INTEGERS = ("begin_step", "step", "tokens", "bytes_read", "peak_flops_per_s")
_REALS = ("seconds", "step_seconds", "waited_seconds")


@dataclass(frozen=True, slots=True)
class RunAccount:
    """Steps [begin_step, step) of a run; `operations` are those of all of them, by op.

    `seconds` are those of the whole run, `step_seconds` those of its steps alone, `waited_seconds` those in
    which steps stood still for a checkpoint; `bytes_read` are the sealed bytes that were opened.
    """

    begin_step: int
    step: int
    tokens: int
    seconds: float
    step_seconds: float
    waited_seconds: float
    bytes_read: int
    peak_flops_per_s: int
    operations: Mapping[str, Operations]

    @property
    def sum(self) -> Operations:
        """All ops together."""
        total = Operations()
        for each in self.operations.values():
            total += each
        return total

    @property
    def share_of_peak(self) -> float:
        """Operations a second of the steps, as a share of the measured peak; 0 before the first step."""
        if not self.step_seconds:
            return 0.0
        return self.sum.total / self.step_seconds / self.peak_flops_per_s


def encode_account(account: RunAccount) -> bytes:
    """Write an account."""
    operations = {op: list(asdict(each).values()) for op, each in account.operations.items()}
    numbers = {name: getattr(account, name) for name in (*_INTEGERS, *_REALS)}
    document = {"format": FORMAT, "operations": operations, **numbers}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def parse_account(data: bytes) -> RunAccount:
    """Read an account; raise `ContentRefused` for anything that `encode_account` does not write."""
    if len(data) > MAX_ACCOUNT_BYTES:
        raise ContentRefused(f"account: expected at most {MAX_ACCOUNT_BYTES} bytes, found {len(data)}")
    try:
        document = json.loads(data.decode("ascii"))
        if document.pop("format") != FORMAT:
            raise ContentRefused(f"account: expected the format {FORMAT}, found another")
        operations = {op: Operations(*each) for op, each in document.pop("operations").items()}
        account = RunAccount(operations=operations, **document)
        exact = encode_account(account) == data and _is_sound(account)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ContentRefused(f"account: expected JSON of the format {FORMAT}, found another") from error
    if not exact:
        raise ContentRefused(
            "account: expected numbers that are not negative, in the one spelling of the format"
        )
    return account


def _is_sound(account: RunAccount) -> bool:
    integers = [getattr(account, name) for name in _INTEGERS]
    integers += [number for each in account.operations.values() for number in asdict(each).values()]
    reals = [getattr(account, name) for name in _REALS]
    return (
        all(type(number) is int and number >= 0 for number in integers)
        and all(type(number) is float and number >= 0.0 for number in reals)
        and account.peak_flops_per_s > 0
    )
