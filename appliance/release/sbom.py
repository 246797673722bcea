"""What a release is made of, as a CycloneDX 1.6 document: every package, and every file that carries it.

Guarantees to whoever looks for a vulnerable package: what the install bundle can install stands here with its
version, package URL and SHA-256, and the compiler's run-time library inside our own wheel as well.
Source: CycloneDX 1.6 (ECMA-424), JSON.
"""

from __future__ import annotations

import hashlib
import uuid
import zipfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from appliance.bundle.canonical import JSON
from appliance.release.wheels import Wheel

OURS = "training-appliance"


def bill_of_materials(wheels: Sequence[Wheel], epoch: int) -> dict[str, JSON]:
    """Return the document; equal wheels and an equal epoch (seconds) give an equal one."""
    ordered = sorted(wheels, key=lambda wheel: (wheel.purl, wheel.path.name))
    components: list[JSON] = []
    dependencies: list[JSON] = []
    purls = {wheel.name: wheel.purl for wheel in ordered}
    for purl, group in groupby(ordered, key=lambda wheel: wheel.purl):
        same = list(group)
        needed = {purls[name] for wheel in same for name in wheel.requires if name in purls}
        dependencies.append({"ref": purl, "dependsOn": sorted(needed)})
        if same[0].name != OURS:
            components.append(_component(same))
    (ours,) = [wheel for wheel in ordered if wheel.name == OURS]
    identity = hashlib.sha256("".join(_sha256(wheel.path) for wheel in ordered).encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, identity)}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).isoformat(),
            "component": {
                **_component([ours]),
                "type": "application",
                "components": [_file(ours.path), *_libraries(ours.path)],
            },
        },
        "components": components,
        "dependencies": dependencies,
    }


def _component(wheels: Sequence[Wheel]) -> dict[str, JSON]:
    first = wheels[0]
    told: dict[str, JSON] = {
        "type": "library",
        "bom-ref": first.purl,
        "name": first.name,
        "version": first.version,
        "purl": first.purl,
        "components": [_file(wheel.path) for wheel in wheels],
    }
    if first.licence:
        told["licenses"] = [{"expression": first.licence}]
    return told


def _file(path: Path) -> dict[str, JSON]:
    return {"type": "file", "name": path.name, "hashes": [{"alg": "SHA-256", "content": _sha256(path)}]}


def _libraries(wheel: Path) -> Iterable[JSON]:
    """Tell the shared libraries inside our wheel, those of the compiler among them."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if ".so" in name:
                digest = hashlib.sha256(archive.read(name)).hexdigest()
                yield {"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
