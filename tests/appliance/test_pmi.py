"""The meeting of ranks: what MPI asks at its start is answered, and who says something else is cut off."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from appliance.custodian.pmi import Meeting, parse_line
from appliance.errors import ProtocolError


async def talk(door, *lines):
    """Say lines as a rank does and return the answers, "" for a connection that was closed."""
    reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=door))
    answers = []
    for line in lines:
        writer.write(line.encode() + b"\n")
        answers.append((await asyncio.wait_for(reader.readline(), 10)).decode().rstrip("\n"))
    writer.close()
    return answers


def test_a_rank_learns_the_size_the_mapping_and_what_others_put():
    async def meet():
        meeting = Meeting("train-1", 2)
        first = await talk(
            await meeting.door(),
            "cmd=init pmi_version=1 pmi_subversion=1",
            "cmd=get_my_kvsname",
            "cmd=get_universe_size",
            "cmd=get kvsname=train-1 key=PMI_process_mapping",
            "cmd=get kvsname=train-1 key=nobody",
            "cmd=put kvsname=train-1 key=card value=a b=c",
        )
        second = await talk(await meeting.door(), "cmd=get kvsname=train-1 key=card", "cmd=finalize")
        meeting.close()
        return first, second

    first, second = asyncio.run(meet())
    assert first == [
        "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0",
        "cmd=my_kvsname kvsname=train-1 rc=0",
        "cmd=universe_size size=2 rc=0",
        "cmd=get_result rc=0 value=(vector,(0,1,2))",
        "cmd=get_result rc=-1 value=unknown",
        "cmd=put_result rc=0",
    ]
    assert second == ["cmd=get_result rc=0 value=a b=c", "cmd=finalize_ack rc=0"]


def test_nobody_leaves_the_barrier_before_the_last_has_come():
    async def meet():
        meeting = Meeting("train-1", 2)
        early = asyncio.create_task(talk(await meeting.door(), "cmd=barrier_in"))
        await asyncio.sleep(0.1)
        assert not early.done()
        late = await talk(await meeting.door(), "cmd=barrier_in")
        meeting.close()
        return await early, late

    assert asyncio.run(meet()) == (["cmd=barrier_out rc=0"],) * 2


@pytest.mark.parametrize("line", ["cmd=spawn nprocs=1", "hello", "cmd=get_maxes\xff", "x" * 10_000])
def test_whoever_says_something_else_is_cut_off_and_the_others_are_answered(line):
    async def meet():
        meeting = Meeting("train-1", 2)
        odd = await talk(await meeting.door(), line)
        good = await talk(await meeting.door(), "cmd=get_appnum")
        meeting.close()
        return odd, good

    assert asyncio.run(meet()) == ([""], ["cmd=appnum appnum=0 rc=0"])


def test_a_line_without_a_command_is_none():
    with pytest.raises(ProtocolError, match="expected a line of PMI-1 with a command"):
        parse_line(b"value=cmd=init\n")


def test_a_rank_gets_shared_memory_and_no_way_into_other_processes():
    given = Meeting("train-1", 3).environment(2)
    assert (given["PMI_RANK"], given["PMI_SIZE"], given["PMI_FD"]) == ("2", "3", "4")
    assert (given["UCX_TLS"], given["MPIR_CVAR_CH4_CMA_ENABLE"]) == ("self,posix", "0")
    assert not given.keys() & os.environ.keys()
