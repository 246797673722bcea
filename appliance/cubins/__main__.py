"""`python -m appliance.cubins`: what `make cubins` runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from appliance.bundle.signer import load_signer
from appliance.cubins.build import ARCHS, build, read_sources, sign, write
from appliance.cubins.nvrtc import Compiler
from appliance.errors import ApplianceError
from kernels.cuda.cubins import encode_list, parse_list
from kernels.errors import KernelError

KERNELS = Path(__file__).parents[2] / "kernels"


def main(arguments: list[str] | None = None) -> int:
    """Build, compare with the committed list, write, and sign where a key is given."""
    parser = argparse.ArgumentParser(prog="python -m appliance.cubins", description=__doc__)
    parser.add_argument("--arch", action="append", choices=ARCHS, help="only this one; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("build/cubins"), help="folder of the cubins")
    parser.add_argument("--update", action="store_true", help="write kernels/cubins.json anew")
    parser.add_argument("--sign-key", type=Path, help="key of `appliance keygen signer`: sign the list")
    asked = parser.parse_args(arguments)
    try:
        run(asked)
    except (ApplianceError, KernelError) as error:
        print(f"cubins: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def run(asked: argparse.Namespace) -> None:
    """Do what was asked; raises what the parts raise."""
    listed_at, archs = KERNELS / "cubins.json", tuple(asked.arch or ARCHS)
    compiler, sources = Compiler(), read_sources(KERNELS / "cuda")
    built = build(compiler, sources, ARCHS if asked.update else archs)
    if asked.update:
        listed_at.write_text(encode_list(built.listed), encoding="ascii")
    committed = parse_list(listed_at.read_bytes())
    write(built, committed, asked.out)
    names = ", ".join(built.listed.archs)
    print(f"{len(built.data)} cubins for {names} in {asked.out}: as kernels/cubins.json says")
    if asked.sign_key:
        signer = load_signer(asked.sign_key)
        print(f"{sign(committed, signer.note, asked.out)}: signed by {signer.name}")


if __name__ == "__main__":
    sys.exit(main())
