"""Calls of clients, as the front hands them over, and who each client is.

The front is not believed about identity: it passes each client's socket, and the kernel's SO_PEERCRED on
that descriptor names the uid. Handlers run as tasks of their connection, so a hanging client holds up
nobody, and end with it; jobs belong to the custodian and go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

from appliance.errors import ApplianceError, MediumMissing, ProtocolError, SpaceExhausted, by_code
from appliance.frontlink import FROM_FRONT, Call, ClientClosed, ClientOpened, Disconnect, Failure, Reply
from appliance.messages import Channel, close_fds
from appliance.strictjson import JSON
from audit.errors import AuditError
from policy.errors import PolicyError

_PEERCRED = struct.Struct("iII")
_REFUSED = "Refused"
FRONT_PATIENCE_S = 5.0
_MEDIUM_GONE = (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ENOTDIR, errno.EROFS)
_INTERNAL = "an internal error: the daemon's own log names it; nothing was released"


@dataclass(frozen=True, slots=True)
class Caller:
    """One call of one client: who, what, and the descriptors that came along."""

    uid: int
    parameters: Mapping[str, JSON]
    descriptors: tuple[int, ...]

    def descriptor(self, name: str) -> int:
        """Return the descriptor that parameter `name` is an index of; raises ProtocolError without one."""
        index = self.parameters.get(name)
        if not isinstance(index, int) or not 0 <= index < len(self.descriptors):
            raise ProtocolError(
                f"{name} names descriptor {index}, but {len(self.descriptors)} came with the call"
            )
        return self.descriptors[index]

    def text(self, name: str) -> str:
        """Return a string parameter, "" where it was left out."""
        value = self.parameters.get(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a parameter that is a list of strings, empty where it was left out."""
        value = self.parameters.get(name)
        return tuple(str(item) for item in value) if isinstance(value, list | tuple) else ()

    def words(self, name: str) -> dict[str, str]:
        """Return a parameter that maps names to strings, empty where it was left out."""
        value = self.parameters.get(name)
        return {key: str(item) for key, item in value.items()} if isinstance(value, Mapping) else {}

    def number(self, name: str) -> int:
        """Return an integer parameter, 0 where it was left out."""
        value = self.parameters.get(name)
        return value if isinstance(value, int) else 0

    def real(self, name: str) -> float:
        """Return a numeric parameter as a float, 0.0 where it was left out."""
        value = self.parameters.get(name)
        return float(value) if isinstance(value, int | float) else 0.0


Answer = Mapping[str, JSON]
Handler = Callable[[Caller], Awaitable[Answer] | AsyncGenerator[Answer, None]]


class Clients:
    """The custodian's end of the front's channel."""

    def __init__(
        self, channel: Channel, verbs: Mapping[str, Handler], on_front_gone: Callable[[], None]
    ) -> None:
        self._channel = channel
        self._verbs = verbs
        self._end_front = on_front_gone
        self._uids: dict[int, int] = {}
        self._tasks: dict[int, set[asyncio.Task[None]]] = {}
        self._log = structlog.get_logger()

    async def serve(self) -> None:
        """Handle messages until the front ends."""
        while True:
            try:
                message, descriptors = await self._channel.receive_async(FROM_FRONT)
                if isinstance(message, ClientOpened):
                    self._open(message, descriptors)
            except (EOFError, OSError, ProtocolError) as broken:
                self._log.error("front-ended", reason=type(broken).__name__)
                self._end_front()
                return
            if isinstance(message, ClientClosed):
                self._close(message.conn)
            elif isinstance(message, Call):
                self._call(message, descriptors)

    def drop_all(self) -> None:
        """End every call: the front is gone, and with it every client."""
        for conn in tuple(self._uids):
            self._close(conn)

    def _open(self, message: ClientOpened, descriptors: tuple[int, ...]) -> None:
        uid = -1
        try:
            if len(descriptors) == 1:
                with socket.socket(fileno=descriptors[0]) as client:
                    descriptors = ()
                    raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
                    uid = _PEERCRED.unpack(raw)[1]
        except OSError:
            uid = -1
        finally:
            close_fds(descriptors)
        if uid < 0 or message.conn in self._uids:
            self._tell(Disconnect(message.conn))
            return
        self._uids[message.conn] = uid
        self._tasks[message.conn] = set()

    def _tell(self, message: object) -> None:
        """Send to the front; one that takes nothing for too long is ended, and started again."""
        try:
            self._channel.send(message, timeout_s=FRONT_PATIENCE_S)
        except TimeoutError:
            self._log.error("front-silent")
            self._end_front()

    def _close(self, conn: int) -> None:
        self._uids.pop(conn, None)
        for task in self._tasks.pop(conn, set()):
            task.cancel()

    def _call(self, message: Call, descriptors: tuple[int, ...]) -> None:
        if message.conn not in self._uids:
            close_fds(descriptors)
            return
        task = asyncio.get_running_loop().create_task(self._answer(message, descriptors))
        tasks = self._tasks[message.conn]
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _answer(self, message: Call, descriptors: tuple[int, ...]) -> None:
        caller = Caller(self._uids[message.conn], message.parameters, descriptors)
        try:
            handler = self._verbs[message.method.rpartition(".")[2]]
            answer = handler(caller)
            if isinstance(answer, AsyncGenerator):
                await self._stream(message, answer)
            else:
                self._reply(message, await answer, continues=False)
        except (ApplianceError, AuditError, PolicyError) as refused:
            self._refuse(message, refused)
        except asyncio.CancelledError:
            raise
        except OSError as broken:
            self._log.exception("call-failed", method=message.method)
            self._refuse(message, refusal_of(broken))
        except Exception:  # noqa: BLE001  a fault in one call must not end the custodian; it is said and logged
            self._log.exception("call-failed", method=message.method)
            self._refuse(message, ApplianceError(_INTERNAL))
        finally:
            close_fds(descriptors)

    async def _stream(self, message: Call, answers: AsyncGenerator[Answer, None]) -> None:
        """Send each answer as it comes, then an empty one that ends the stream."""
        async with contextlib.aclosing(answers):
            async for answer in answers:
                self._reply(message, answer, continues=True)
        self._reply(message, {}, continues=False)

    def _reply(self, message: Call, answer: Answer, *, continues: bool) -> None:
        if not message.oneway and message.conn in self._uids:
            self._tell(Reply(message.conn, message.serial, answer, continues))

    def _refuse(self, message: Call, refused: Exception) -> None:
        if message.oneway or message.conn not in self._uids:
            return
        exit_code = int(getattr(refused, "exit_code", 1))
        parameters: dict[str, JSON] = {
            "code": code_of(exit_code),
            "exit_code": exit_code,
            "message": str(refused),
        }
        self._tell(Failure(message.conn, message.serial, _REFUSED, parameters))


def refusal_of(broken: OSError) -> ApplianceError:
    """Return the error of the appliance that a fault of a disk or medium is; any other is our own."""
    if broken.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceExhausted("no space is left: nothing half-written stays, free some and repeat")
    if broken.errno in _MEDIUM_GONE:
        return MediumMissing(f"expected a folder on a readable medium, found: {broken.strerror}")
    return ApplianceError(_INTERNAL)


def code_of(exit_code: int) -> str:
    """Return the stable name of an exit code: audit and policy repeat the numbers, not the names."""
    return next((cls.code for cls in by_code().values() if cls.exit_code == exit_code), "internal")
