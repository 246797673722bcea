"""`python -I -m appliance.demo [FOLDER]`: tell the story in FOLDER, `demo` if none is named.

Whatever ends it, the daemon that it started ends too. Exit codes are those of `appliance`; 130 after Ctrl-C.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from appliance.demo.narrator import Narrator, clean_environment
from appliance.demo.previous import HOME
from appliance.demo.story import Script, perform
from appliance.errors import ApplianceError, UsageError

INTERRUPTED = 130

OPENING = """\
The whole job once: weights that are only ever stored encrypted, rules and a log in front of every key, an
export that two officers must sign, and proof of all of it. This machine counts as networked, so the profile
is `development`: the output and every entry of the log say so. To type commands (what follows $) yourself:
    cd {workdir}
    export PATH="{programs}:$PATH" APPLIANCE_HOME="{home}\""""

CLOSING = """
done in {total}; the daemon has ended. In {folder}: home (the appliance), public (keys for checking), in and
out (bundles), model (what the recipient has). To look at next:
    python -m audit show {folder}/home/log        every fact in order
    less {folder}/model/lineage/statement.json    what the model was made of, and who let it out
    appliance daemon --detach && appliance unseal && appliance objects    the vault again"""


def main(arguments: list[str]) -> int:
    """Run the demo; returns its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of any alphabet
    try:
        tell(arguments)
    except ApplianceError as failed:
        print(f"\nerror: {failed}\nnext: mend it, then `make demo` again; it begins anew", file=sys.stderr)
        return failed.exit_code
    except OSError as failed:
        print(f"\nerror: {failed}", file=sys.stderr)
        return ApplianceError.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def tell(arguments: list[str]) -> None:
    """Open, perform, and close with the times and what to look at next."""
    if len(arguments) > 1 or any(each.startswith("-") for each in arguments):
        raise UsageError("expected at most one folder: python -m appliance.demo [FOLDER]")
    folder = Path(arguments[0] if arguments else "demo").absolute()
    programs = Path(sys.executable).parent
    if not (programs / "appliance").exists():
        raise UsageError(f"expected the program `appliance` in {programs}, found none: run `make demo`")
    environment = clean_environment(os.environ, programs, folder / HOME)
    narrator = Narrator(sys.stdout, folder.parent, environment, time.monotonic)
    narrator.say(OPENING.format(workdir=folder.parent, programs=programs, home=folder / HOME))
    perform(narrator, folder, Script())
    narrator.say("\nseconds")
    for title, seconds in narrator.times:
        narrator.say(f"{seconds:8.1f}  {title}")
    total = sum(seconds for _, seconds in narrator.times)
    narrator.say(CLOSING.format(total=minutes(total), folder=folder.name))


def minutes(seconds: float) -> str:
    """Write a time span as `3 min 07 s`."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02} s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
