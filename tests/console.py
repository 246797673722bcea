"""Commands in documents, run as they stand: blocks of `console`, `$ command` with the output that follows.

What varies from run to run stands as `…` in a document and fits anything within its line; a line of `…` alone
fits any lines. A command goes on in the next line after a backslash. All blocks of a page run in one shell.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
_MARK = "end-of-command-"
ANY = "\u2026"


@dataclass(frozen=True)
class Command:
    """One command of a document, and the lines that it is said to print."""

    text: str
    output: tuple[str, ...]


def commands_of(document: str) -> list[Command]:
    """Read the commands of a page in order."""
    found: list[Command] = []
    for block in _BLOCK.findall(document):
        lines = block.splitlines()
        while lines:
            text = lines.pop(0).removeprefix("$ ")
            while text.endswith("\\") or text.count("<<'END'") > text.count("\nEND"):
                text += "\n" + lines.pop(0)
            output = []
            while lines and not lines[0].startswith("$ "):
                output.append(lines.pop(0))
            found.append(Command(text, tuple(output)))
    return found


def fits(expected: tuple[str, ...], found: str) -> bool:
    """Say whether what was printed is what the document shows."""
    return _fit(expected, tuple(found.strip("\n").splitlines()))


def _fit(expected: tuple[str, ...], lines: tuple[str, ...]) -> bool:
    if not expected:
        return not lines
    if expected[0].strip() == ANY:
        return any(_fit(expected[1:], lines[skipped:]) for skipped in range(len(lines) + 1))
    pattern = ".*".join(re.escape(part) for part in expected[0].split(ANY))
    return bool(lines) and re.fullmatch(pattern, lines[0]) is not None and _fit(expected[1:], lines[1:])


class Shell:
    """One shell in which commands run one after the other; standard error is part of the output."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["/bin/bash", "--norc", "--noprofile"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._number = 0

    def run(self, command: str) -> tuple[str, int]:
        """Run one command; returns what it printed and its exit code."""
        self._number += 1
        mark = f"{_MARK}{self._number}:"
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{{ {command}\n}} </dev/null\ncode=$?; echo; echo {mark}$code\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        for line in self._shell.stdout:
            if line.startswith(mark):
                return "".join(lines).removesuffix("\n"), int(line.removeprefix(mark))
            lines.append(line)
        raise AssertionError(f"the shell ended during: {command}\n{''.join(lines)}")

    def close(self) -> None:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        self._shell.wait(timeout=30)
        self._shell.stdout.close()
