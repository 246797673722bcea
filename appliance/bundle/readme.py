"""The two files for people without our programs: `readme.txt`, and `sha256sums` for `sha256sum -c`.

Guarantees to the recipient: both follow from the signed manifest (the readme's hash is in it), so neither
can be used to give wrong instructions; a difference is refused by our own tools.
Source: docs/formats/transfer-bundle.md; GNU coreutils sha256sum(1) for the sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.bundle.manifest import README

if TYPE_CHECKING:
    from appliance.bundle.manifest import Label, Manifest

_TEMPLATE = """\
Transfer bundle {bundle_id}
kind {kind}, direction {direction}, channel {channel}, number {seq}, {parts} part(s)
signed by {signers}

This folder can be checked and opened with public tools alone.
You need: the signer's public key from a source other than this medium, as a line of a file
allowed_signers (ssh-keygen(1)), and your own age identity in key.txt.

1. Check who made it (do this first):
     ssh-keygen -Y verify -f allowed_signers -I {principal} -n manifest@appliance \\
       -s manifest.json.sig < manifest.json
2. Check that nothing was damaged:
     sha256sum -c sha256sums
   The sums repeat those in the signed manifest.json (base64 in its "payload").
3. Open it:
     for p in p*.age; do age -d -i key.txt $p; done | tar -x
   Keys that begin with AGE-SECRET-KEY-PQ- need age 1.3 or later.

inner.json lists the contents with their SHA-256.
"""


def render_readme(label: Label, part_count: int) -> bytes:
    """Return the bytes of `readme.txt` for a bundle of this many parts."""
    principal = label.signers[0].partition("+")[0]
    if len(label.signers) > 1:  # the last one who signed
        principal = '"$(ssh-keygen -Y find-principals -f allowed_signers -s manifest.json.sig)"'
    text = _TEMPLATE.format(
        bundle_id=label.bundle_id,
        kind=label.kind,
        direction=label.direction,
        channel=label.channel,
        seq=label.seq,
        parts=part_count,
        signers=", ".join(label.signers),
        principal=principal,
    )
    return text.encode("ascii")


def render_sums(manifest: Manifest) -> bytes:
    """Return the bytes of `sha256sums`: parts, parity and readme, in the manifest's order."""
    lines = [f"{each.sha256}  {each.name}\n" for each in (*manifest.parts, *manifest.parity)]
    return "".join([*lines, f"{manifest.readme_sha256}  {README}\n"]).encode("ascii")
