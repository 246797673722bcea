"""What an install bundle says first: the lines to type, in their order, and why in that order."""

from __future__ import annotations

TEXT = """\
Training appliance {version}, for Linux on x86-64 with CPython 3.11 to 3.13. Needs no network.

1. Copy this folder from the medium to the machine, so that every later step sees the same bytes:

    cp -r training-appliance-{version}-linux-x86_64 ~/
    cd ~/training-appliance-{version}-linux-x86_64

2. Check who made it. release.signers is one line that came to you another way than this folder: on paper, by
   another courier, from a release before. A key from the same medium proves nothing. Put it
   beside this folder, not into it.

    ssh-keygen -Y verify -f ../release.signers -I release -n release@appliance \\
        -s sha256sums.sig < sha256sums &&
    sha256sum --check --strict --quiet sha256sums

   It must say: Good "release@appliance" signature. Then install.sh, too, is what was signed.

3. Install. It names first what the machine lacks, and changes nothing until that is mended:

    sh install.sh --signers ../release.signers --prefix /opt/appliance

   The program is then /opt/appliance/current/bin/appliance; `appliance rollback` goes back to the one before.

requirements.txt, sbom.cdx.json (CycloneDX) and provenance.json (SLSA) say what is in it and how it was built.
"""


def readme(version: str) -> str:
    """Return the text for one release."""
    return TEXT.format(version=version)
