"""A person at a real terminal: a pseudo-terminal that is the controlling one of the program on it."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Iterator

from tests.processes.living import ANSWER_S


class Terminal:
    """What one program shows on its terminal, and what is typed there."""

    def __init__(self, screen: int, process: subprocess.Popen[bytes]) -> None:
        self._screen = screen
        self._process = process
        self.shown = ""
        self._read = 0

    def until(self, text: str) -> str:
        """Wait until the program shows `text`, and return all that came since what was waited for before."""
        deadline = time.monotonic() + ANSWER_S
        while (at := self.shown.find(text, self._read)) < 0:
            left = deadline - time.monotonic()
            assert left > 0, f"waited {ANSWER_S} s for {text!r}, the terminal shows {self.shown[-800:]!r}"
            assert self._more(left), f"the program ended without {text!r}: {self.shown[-800:]!r}"
        before, self._read = self._read, at + len(text)
        return self.shown[before : self._read]

    def enter(self, line: str = "") -> None:
        """Type a line. Whoever asks for a secret throws away what was typed before its prompt."""
        os.write(self._screen, f"{line}\n".encode())

    def give_up(self) -> None:
        """Type Ctrl-D: the end of what is typed."""
        os.write(self._screen, b"\x04")

    def end(self) -> int:
        """Wait for the program's end and return its exit code."""
        while self._more(ANSWER_S):
            pass
        return self._process.wait(timeout=ANSWER_S)

    def _more(self, within_s: float) -> bool:
        """Read what is there; false at the end, which Linux tells as an error of the terminal."""
        if not select.select([self._screen], [], [], within_s)[0]:
            return False
        try:
            piece = os.read(self._screen, 65536)
        except OSError:
            return False
        self.shown += piece.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(piece)


@contextlib.contextmanager
def terminal(*command: object) -> Iterator[Terminal]:
    """Run a program on a terminal of its own; it is gone afterwards."""
    screen, inside = os.openpty()
    # setsid (util-linux) makes standard input the controlling terminal, which is where secrets are asked.
    arguments = ["setsid", "--ctty", *(str(part) for part in command)]
    process = subprocess.Popen(arguments, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    try:
        yield Terminal(screen, process)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
