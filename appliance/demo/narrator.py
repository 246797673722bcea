"""Shows a command, runs exactly what it showed, and prints the few lines of its outcome that matter.

Guaranteed to the reader: the line after `$` is the line that `sh` was given, in the folder and environment
named at the start, and a command that ends otherwise than announced ends the demo.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from appliance.errors import ApplianceError

INDENT = "    "
MAX_COLUMNS = 110
QUIET_S = 10.0  # between two lines of a long command where there is no terminal
TAIL_LINES = 12  # of a failed command's output


@dataclass(slots=True)
class Narrator:
    """Tells the demo on `out`; `clock` gives seconds and only moves forward. Commands run in `workdir`."""

    out: TextIO
    workdir: Path
    environment: Mapping[str, str]
    clock: Callable[[], float]
    times: list[tuple[str, float]] = field(default_factory=list)
    _begun: tuple[str, float] | None = None

    def section(self, who: str, what: str) -> None:
        """Begin a part of the story, and end the time of the one before."""
        self.end_section()
        self._begun = (f"{who}: {what}", self.clock())
        self.say(f"\n== {who}: {what}")

    def end_section(self) -> None:
        """Take the time of the part that is being told."""
        if self._begun is not None:
            title, begun = self._begun
            self.times.append((title, self.clock() - begun))
        self._begun = None

    def say(self, text: str) -> None:
        """Print text of our own."""
        print(text, file=self.out, flush=True)

    def run(self, line: str, *, show: int | str = 3, expect: int = 0) -> str:
        """Show and run one command; return its whole output.

        `show` is how many lines of it to print, or a pattern that printed lines match. Raises
        ApplianceError when it ends with another exit code than `expect`.
        """
        self.say(f"$ {line}")
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.workdir,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        output = done.stdout.decode("utf-8", "replace")
        _judge(line, done.returncode, expect, output)
        lines = [each for each in output.splitlines() if each.strip()]
        kept = lines[:show] if isinstance(show, int) else [each for each in lines if re.search(show, each)]
        for each in kept:
            self.outcome(each)
        if expect:
            self.outcome(f"(exit code {expect}, as it should be)")
        return output

    def ask(self, line: str) -> Any:
        """Run a command that prints JSON without showing it; return the value."""
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=self.workdir,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        _judge(line, done.returncode, 0, (done.stdout + done.stderr).decode("utf-8", "replace"))
        return json.loads(done.stdout)

    def follow(self, line: str, *, patience_s: float, give_up: Callable[[], None]) -> None:
        """Show and run a long command: with its own progress bar on a terminal, else a line every 10 s.

        Calls `give_up` once, from another thread, when it runs longer than `patience_s`.
        """
        self.say(f"$ {line}")
        on_terminal = self.out.isatty()
        output = ""
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {line}"],
            cwd=self.workdir,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.out if on_terminal else subprocess.PIPE,
            stderr=None if on_terminal else subprocess.STDOUT,
        )
        timer = threading.Timer(patience_s, give_up)
        timer.start()
        try:
            if process.stdout is not None:
                output = self._relay(process.stdout)
            code = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            timer.cancel()
            if process.stdout is not None:
                process.stdout.close()
        _judge(line, code, 0, output)

    def _relay(self, source: Any) -> str:
        """Print the first line, then one every few seconds, then the last; return the tail of all."""
        told_at, told = -QUIET_S, ""
        tail: list[str] = []
        for raw in source:
            latest = raw.decode("utf-8", "replace").rstrip("\n")
            tail = [*tail[-TAIL_LINES:], latest]
            if self.clock() - told_at >= QUIET_S and not latest.startswith("checkpoint"):
                self.outcome(latest)
                told_at, told = self.clock(), latest
        if tail and tail[-1] != told:
            self.outcome(tail[-1])
        return "\n".join(tail)

    def outcome(self, line: str) -> None:
        """Print one line of what a command brought; a long one takes two lines and is cut after them."""
        for each in textwrap.wrap(
            line,
            MAX_COLUMNS,
            initial_indent=INDENT,
            subsequent_indent=2 * INDENT,
            max_lines=2,
            break_on_hyphens=False,
            placeholder=" ...",
        ):
            self.say(each)


def _judge(line: str, code: int, expected: int, output: str) -> None:
    """Raise where a command ended otherwise than announced."""
    if code == expected:
        return
    tail = "\n".join(INDENT + each for each in output.splitlines()[-TAIL_LINES:])
    raise ApplianceError(f"expected exit code {expected}, found {code}, of\n$ {line}\n{tail}")


def clean_environment(inherited: Mapping[str, str], programs: Path, home: Path) -> dict[str, str]:
    """Return an environment for the commands: theirs is this appliance, and no SSH agent or Python setting.

    `programs` is the folder of our own programs; it comes first in PATH.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(("PYTHON", "SSH_", "APPLIANCE_"))
    }
    path = kept.get("PATH") or os.defpath
    return {**kept, "PATH": f"{programs}{os.pathsep}{path}", "APPLIANCE_HOME": str(home)}
