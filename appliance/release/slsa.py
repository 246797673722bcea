"""How a release was built, as an in-toto statement: from which commit, out of which downloads, with what.

Guarantees to whoever rebuilds it: this commit, these downloads and these programs give the same bytes.
Source: SLSA provenance v1, in-toto Statement v1.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence

from appliance.bundle.canonical import JSON
from appliance.release.wheels import Wheel

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://appliance.invalid/install-bundle/v1"


def provenance(
    digests: Mapping[str, str], wheels: Sequence[Wheel], *, commit: str, epoch: int, gpu: bool
) -> dict[str, JSON]:
    """Return the statement; `digests` maps each file of the bundle to its SHA-256 (hex)."""
    fetched = sorted(
        (wheel for wheel in wheels if wheel.name != "training-appliance"), key=lambda each: each.path.name
    )
    by_name = {name.rpartition("/")[2]: digest for name, digest in digests.items()}
    materials: list[JSON] = [{"uri": "git+training-appliance", "digest": {"gitCommit": commit}}]
    materials += [
        {"uri": wheel.purl, "name": wheel.path.name, "digest": {"sha256": by_name[wheel.path.name]}}
        for wheel in fetched
    ]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digests[name]}} for name in sorted(digests)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"commit": commit, "gpu": gpu},
                "internalParameters": {"SOURCE_DATE_EPOCH": epoch},
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": {
                    "id": f"{BUILD_TYPE}/make",
                    "version": {"python": sys.version.split()[0], "g++": _compiler()},
                }
            },
        },
    }


def _compiler() -> str:
    told = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True)  # noqa: S607  as CMake finds it
    return told.stdout.splitlines()[0]
