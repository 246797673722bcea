"""What a jail can come to where the tests run: a container may forbid namespaces, or lack Landlock."""

from __future__ import annotations

import functools
import json
import subprocess
import sys

from appliance.sandbox import OWN_USER, required

_TRY = "import json; from appliance import sandbox; print(json.dumps(sandbox.apply(sandbox.WORKER).missing))"


@functools.cache
def missing() -> frozenset[str]:
    """The restrictions that this host does not let a worker put on itself, an account of its own aside."""
    done = subprocess.run([sys.executable, "-I", "-c", _TRY], capture_output=True, text=True, check=True)
    return frozenset(json.loads(done.stdout)) - {OWN_USER}


def profile() -> str:
    """The strictest profile whose jail this host allows."""
    return "development" if missing() & required("isolated") else "isolated"
