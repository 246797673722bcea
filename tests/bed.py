"""A host of its own that is isolated, to be breached: `python tests/bed.py COMMAND...` inside `unshare`.

Run as the first process of fresh network, mount and PID namespaces (and a user namespace where the caller is
not root). It mounts /sys anew, hides the machine's real devices below /sys/bus, starts COMMAND, and then does
what the lines on its standard input say: `veth` brings a pair of interfaces up, `mount PATH` mounts a memory
file system there. When its input ends, everything ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.veth import make_pair, remove

FAKES = {
    "/proc/sys/kernel/core_pattern": "core\n",
    "/proc/sys/fs/suid_dumpable": "0\n",
    "/proc/swaps": "Filename\t\t\tType\t\tSize\tUsed\tPriority\n",
}
RADIOS = ("bluetooth", "ieee80211", "rfkill", "wwan", "nfc", "infiniband")


def unshare() -> list[str]:
    """The command that makes the namespaces; ends everything inside when it is killed."""
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    options = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *user, *options, sys.executable, "-I", __file__]


def works() -> bool:
    """Whether this host lets us make such namespaces, and mount in them."""
    try:
        done = subprocess.run([*unshare(), "true"], input=b"", capture_output=True, timeout=30, check=False)
    except OSError:
        return False
    return b"ready" in done.stdout


def main() -> None:
    mount("-t", "sysfs", "sysfs", "/sys")
    mount("-t", "tmpfs", "none", "/sys/bus")  # the machine's own adapter is not this host's
    for kind in RADIOS:
        if Path("/sys/class", kind).exists():
            mount("-t", "tmpfs", "none", f"/sys/class/{kind}")
    mount("-t", "tmpfs", "none", "/mnt")
    for path, text in FAKES.items():
        if not Path(path).exists():
            continue
        fake = Path("/mnt") / Path(path).name
        fake.write_text(text)
        mount("--bind", str(fake), path)
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        try:
            print("ready", flush=True)
            for line in sys.stdin:
                obey(line.split())
                print("done", flush=True)
        finally:
            child.kill()


def obey(words: list[str]) -> None:
    if words == ["veth"]:
        make_pair()
    elif words == ["no-veth"]:
        remove()
    elif words[0] == "mount":
        mount("-t", "tmpfs", "none", words[1])
    else:
        raise SystemExit(f"no such command: {words}")


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main()
