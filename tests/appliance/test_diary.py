"""The daemon's own log holds no secret, whoever passes one by mistake."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from appliance.custodian.diary import MAX_TEXT, REDACTED, redact
from appliance.custody.keyring import Keyring
from appliance.custody.release import ObjectKey
from appliance.custody.secret_memory import SecretMemory

CANARY = b"a key that must not be told!!!!!"


def told(**values: object) -> dict[str, object]:
    """What a line would hold: JSON takes no other values than plain ones."""
    return json.loads(json.dumps(redact(None, "info", values)))


def keyring() -> Keyring:
    return Keyring.generate()


@pytest.mark.parametrize(
    "secret",
    [
        CANARY,
        bytearray(CANARY),
        memoryview(CANARY),
        ObjectKey("00" * 32, bytearray(CANARY)),
        keyring(),
        keyring().vault_identity,
        SecretMemory(4096),
        OSError(5, CANARY.decode()),
        object(),
    ],
    ids=lambda secret: type(secret).__name__,
)
def test_a_secret_is_redacted_by_its_type_wherever_it_stands(secret):
    line = told(value=secret, inside={"list": [1, ("deep", secret)]})
    assert line["value"] == REDACTED
    assert line["inside"] == {"list": [1, ["deep", REDACTED]]}
    assert CANARY.decode() not in json.dumps(line)


def test_plain_facts_are_told_as_they_are():
    facts = {"number": 1, "share": 0.5, "flag": True, "nothing": None, "text": "words", "names": ["a", "b"]}
    assert told(**facts) == facts


def test_a_long_text_is_cut_and_a_deep_value_ends():
    assert told(text="x" * 10_000)["text"] == "x" * MAX_TEXT + " [cut]"
    deep: list[object] = []
    deep.append(deep)
    assert REDACTED in json.dumps(told(deep=deep))


def test_the_daemon_writes_its_lines_through_it():
    script = (
        "from appliance.custodian.diary import configure_log; import structlog; configure_log(); "
        "structlog.get_logger().info('event', key=b'secret', number=1)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    line = json.loads(done.stderr)
    assert (line["event"], line["key"], line["number"], line["level"]) == ("event", REDACTED, 1, "info")
