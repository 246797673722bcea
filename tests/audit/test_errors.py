from __future__ import annotations

import json
import subprocess
import sys

import audit.errors
from audit.errors import AuditError

TABLE = {
    "AuditError": 1,
    "Invalid": 6,
    "BadSignature": 7,
    "NotLatest": 9,
    "UnknownOrigin": 11,
    "Malformed": 12,
    "CouldNotCheck": 13,
    "LogBusy": 16,
    "LogUnavailable": 17,
    "AlreadyExists": 21,
}


def test_every_error_has_its_own_exit_code_and_stands_in_the_drawn_tree():
    classes = [AuditError, *AuditError.__subclasses__()]
    assert {cls.__name__: cls.exit_code for cls in classes} == TABLE
    assert len({cls.code for cls in classes}) == len(classes)
    for cls in classes:
        assert f"{cls.__name__} " in audit.errors.__doc__
        assert f" {cls.exit_code} " in audit.errors.__doc__


def test_importing_the_auditors_program_loads_pynacl_and_the_standard_library_only():
    script = (
        "import json, sys; before = set(sys.modules)\n"
        "import audit.__main__, audit.verify, audit.log\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout)) - set(sys.stdlib_module_names)
    assert loaded <= {"audit", "nacl", "_sodium", "cffi", "_cffi_backend"}  # PyNaCl, its C part, and cffi
    assert {"audit", "nacl"} <= loaded
