"""Shares at a real terminal: shown to one holder at a time, typed by several people, judged one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.custody import shamir
from tests.processes.living import PYTHON, Living
from tests.processes.terminal import Terminal, terminal

pytestmark = pytest.mark.processes

HIDES = "Enter hides it, and shows the next to the next holder: "
FORMER_SCREEN = "\x1b[2J\x1b[?1049l"


def written_down(asked: Terminal, count: int) -> list[str]:
    """What the holders of new shares copy from their screens, each of which is erased before the next."""
    shares = []
    for number in range(1, count + 1):
        page = asked.until(HIDES)
        assert f"Share {number} of {count}; any 2 of them open the vault." in page
        words = re.findall(r"^ *\d+ ([a-z]+)|  +\d+ ([a-z]+)", page.partition("by word.")[2], re.MULTILINE)
        shares.append(" ".join(first or other for first, other in words))
        assert len(words) == 33
        asked.enter()
        asked.until(FORMER_SCREEN)
    return shares


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[tuple[Living, list[str]]]:
    """An appliance whose shares were handed out at its making, running and sealed."""
    home, public = tmp_path / "home", tmp_path / "public"
    made = (*PYTHON, "appliance", "--home", home, "init", "--profile", "development", "--public", public)
    with terminal(*made, "--custody", "shamir:2-of-3") as asked:
        asked.until("[y/N]: ")
        asked.enter("y")
        shares = written_down(asked, 3)
        assert asked.end() == 0
    appliance = Living(home, public)
    yield appliance.start(), shares
    appliance.kill()


def mistyped(share: str) -> str:
    first, second, *others = share.split()
    return " ".join((first, second, *reversed(others)))


def at_terminal(appliance: Living, *arguments: str) -> tuple[object, ...]:
    return (*PYTHON, "appliance", "--home", appliance.home, *arguments)


def test_mistakes_cost_an_entry_and_the_ceremony_goes_on(shared: tuple[Living, list[str]]):
    appliance, (one, two, three) = shared
    stranger = bytes(shamir.make("shamir:2-of-3").shares[0]).decode()
    with terminal(*at_terminal(appliance, "unseal")) as asked:
        for share, answer in (
            (mistyped(one), "refused: share: its checksum does not fit"),
            (stranger, "refused: share 1: expected one of set"),
            (three, "taken, 1 to go"),
            (three, "refused: share 3: expected another share"),
            ("", "refused: share: expected 33 words, found 0"),
            (one, "taken, 0 to go"),
        ):
            asked.until("to go (33 words, not shown): ")
            asked.enter(share)
            asked.until(answer)
        asked.until("unsealed (custody shamir:2-of-3)")
        assert asked.end() == 0
    for share in (one, three, stranger):
        assert " ".join(share.split()[3:5]) not in asked.shown  # nobody reads over a shoulder
    assert appliance.call("Status")["sealed"] is False

    with terminal(*at_terminal(appliance, "custody", "reshare")) as asked:
        for share in (two, one):
            asked.until("to go (33 words, not shown): ")
            asked.enter(share)
        fresh = written_down(asked, 3)
        asked.until("each was entered once")
        assert asked.end() == 0
    with terminal(*at_terminal(appliance, "custody", "reshare", "--verify")) as asked:
        for share, answer in (
            (fresh[0], "taken, 2 to go"),
            (one, "refused: share 1: expected one of set"),
            (fresh[2], "taken, 1 to go"),
            (fresh[1], "taken, 0 to go"),
        ):
            asked.until("to go (33 words, not shown): ")
            asked.enter(share)
            asked.until(answer)
        asked.until("custody shamir:2-of-3 is in force")
        assert asked.end() == 0
    appliance.cli("seal")
    with terminal(*at_terminal(appliance, "unseal")) as asked:
        for share, answer in ((one, "refused: "), (fresh[1], "1 to go"), (fresh[0], "0 to go")):
            asked.until("to go (33 words, not shown): ")
            asked.enter(share)
            asked.until(answer)
        assert asked.end() == 0
    assert appliance.call("Status")["sealed"] is False


def test_whoever_gives_up_leaves_the_vault_sealed(shared: tuple[Living, list[str]]):
    appliance, (one, _, _) = shared
    with terminal(*at_terminal(appliance, "unseal")) as asked:
        asked.until("of 2 to go (33 words, not shown): ")
        asked.enter(one)
        asked.until("of 1 to go (33 words, not shown): ")
        asked.give_up()
        assert asked.end() == 130
    assert appliance.call("Status")["sealed"] is True
