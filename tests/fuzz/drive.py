"""Run one reader under a coverage-guided fuzzer: `python -m tests.fuzz.drive NAME [libFuzzer options]`.

`make fuzz` runs all of them. Needs `atheris` (requirements/fuzz.txt), which comes built for CPython 3.11 to
3.13 on Linux and x86-64; elsewhere its installation needs clang. What was found interesting stays in
build/fuzz/NAME, to begin with the next time; an input that breaks a reader is left there as `crash-…`.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from pathlib import Path

CORPUS = Path(__file__).parents[2] / "build" / "fuzz"


def main(arguments: list[str]) -> None:
    if arguments == ["--list"]:
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415  not instrumented: only their names

        print(*TARGETS)
        return
    import atheris  # noqa: PLC0415  there only where somebody fuzzes

    # The import hook of an editable installation would hide the sources from the instrumentation.
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, PathFinder]
    with atheris.instrument_imports(include=["audit"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415  instrumented as it is imported

    name, *options = arguments
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in TARGETS[name].seeds:
        (corpus / sha256(seed).hexdigest()).write_bytes(seed)
    atheris.Setup(
        [sys.argv[0], str(corpus), f"-artifact_prefix={corpus}/", "-timeout=10", *options], TARGETS[name].try_
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
