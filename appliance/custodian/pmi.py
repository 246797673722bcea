"""Where the ranks of one job learn of each other: the custodian's end of MPICH's PMI-1 wire protocol.

The ranks are started by the custodian, as every worker is, so no launcher of somebody else's stands between
them: it holds their channels and pidfds and can end each. Here it answers the few questions that MPI asks at
its start. Lines of `key=value` words on a socket pair of each rank; one that says anything else is cut off.
Source: MPICH, "PMI-1 wire protocol" (src/pmi), version 1.1.
"""

from __future__ import annotations

import asyncio
import socket

from appliance.errors import ProtocolError

PMI_FD = 4  # the first descriptor after a child's channel
MAX_LINE = 4096
MAX_KEYS = 1024
# Shared memory only: no socket, nothing read out of another process (CMA), no device of a cluster.
ENVIRONMENT = {
    "PMI_FD": str(PMI_FD),
    "UCX_TLS": "self,posix",
    "UCX_POSIX_USE_PROC_LINK": "n",  # memory by its name: the jail reads nothing of another process
    "MPIR_CVAR_CH4_CMA_ENABLE": "0",
    "MPIR_CVAR_CH4_XPMEM_ENABLE": "0",
}


class Meeting:
    """The key-value space of one job's ranks and their barrier."""

    def __init__(self, job: str, size: int) -> None:
        self._job = job
        self._size = size
        self._keys = {"PMI_process_mapping": f"(vector,(0,1,{size}))"}
        self._waiting: list[asyncio.StreamWriter] = []
        self._serving: set[asyncio.Task[None]] = set()

    def environment(self, rank: int) -> dict[str, str]:
        """Return what a rank's process needs to find this meeting."""
        return {**ENVIRONMENT, "PMI_RANK": str(rank), "PMI_SIZE": str(self._size)}

    async def door(self) -> int:
        """Return the far end of a new socket pair, for one rank and to be closed here once it has started."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return theirs.detach()

    def close(self) -> None:
        """Answer nobody any more."""
        for task in tuple(self._serving):
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self._answer(parse_line(line), writer)
                await writer.drain()
        except (ProtocolError, ValueError, OSError):
            return  # whoever breaks the protocol hears nothing more; a start that hangs then times out
        finally:
            writer.close()

    def _answer(self, said: dict[str, str], writer: asyncio.StreamWriter) -> None:
        """Answer one command, or, at the barrier, all ranks once the last has come."""
        command = said["cmd"]
        if command == "barrier_in":
            self._waiting.append(writer)
            if len(self._waiting) == self._size:
                for each in self._waiting:
                    each.write(b"cmd=barrier_out rc=0\n")
                self._waiting.clear()
            return
        writer.write(self._reply(command, said).encode("ascii") + b"\n")

    def _reply(self, command: str, said: dict[str, str]) -> str:
        fixed = {
            "init": "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0",
            "get_maxes": "cmd=maxes kvsname_max=256 keylen_max=64 vallen_max=2048 rc=0",
            "get_appnum": "cmd=appnum appnum=0 rc=0",
            "get_my_kvsname": f"cmd=my_kvsname kvsname={self._job} rc=0",
            "get_universe_size": f"cmd=universe_size size={self._size} rc=0",
            "finalize": "cmd=finalize_ack rc=0",
        }
        if command in fixed:
            return fixed[command]
        if command == "put" and len(self._keys) < MAX_KEYS:
            self._keys[said.get("key", "")] = said.get("value", "")
            return "cmd=put_result rc=0"
        if command == "get":
            value = self._keys.get(said.get("key", ""))
            return (
                "cmd=get_result rc=-1 value=unknown"
                if value is None
                else f"cmd=get_result rc=0 value={value}"
            )
        raise ProtocolError(f"expected a command of PMI-1, found {command[:40]!r}")


def parse_line(line: bytes) -> dict[str, str]:
    """Read one line; a value reaches to its end, since it may hold spaces. Raises ProtocolError."""
    try:
        text = line.decode("ascii").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ProtocolError("expected ASCII in a line of PMI-1, found something else") from error
    head, mark, value = text.partition(" value=")
    words = dict(word.split("=", 1) for word in head.split() if "=" in word)
    if "cmd" not in words:
        raise ProtocolError(f"expected a line of PMI-1 with a command, found {text[:40]!r}")
    return {**words, "value": value} if mark else words
