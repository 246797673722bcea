"""The front: the process that reads clients' bytes, and nothing more.

Guarantees, to the custodian: what arrives as a Call is framed, bounded and of the interface's types; calls of
one client come one at a time; a client's socket itself is shown before its first call, so that the custodian
asks the kernel who it is. To clients: answers in the order of the calls, each checked against the interface;
one client's garbage, silence or flood is its own trouble.

The front decides nothing and holds no keys. It ends with the custodian's channel.
Started as `python -I -m appliance.front [PROFILE]` with the channel as descriptor 3 and the listening socket
as descriptor 4; PROFILE is `isolated` unless given.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING

from appliance import sandbox
from appliance.connection import Connection, Limits
from appliance.errors import ApplianceError, Busy, ProtocolError
from appliance.frontlink import TO_FRONT, Call, ClientClosed, ClientOpened, Disconnect, Failure, Reply
from appliance.interface import Interface, check_struct, parse_interface
from appliance.messages import Channel, close_fds
from appliance.varlink import (
    SERVICE,
    SERVICE_DEFINITION,
    MethodCall,
    ServiceError,
    answer_service,
    check_call,
    encode_error,
    encode_reply,
    load_interface,
    parse_call,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.strictjson import JSON

CHANNEL_FD, LISTENER_FD = 3, 4
_ACCEPT_PAUSE_S = 1.0
_CROWDED_PATIENCE_S = 1.0  # when all places are taken: enough for a request that is on its way
_DRAIN_BYTES = 64 * 1024


class _Client:
    """A connection, its number, and the call that it waits for, if any."""

    def __init__(self, conn: int, sock: socket.socket, limits: Limits) -> None:
        self.conn = conn
        self.changed = asyncio.Event()
        self.connection = Connection(sock, limits, self.changed.set)
        self.serial = 0
        self.waiting: MethodCall | None = None

    def answer(self, data: bytes, *, last: bool) -> None:
        """Write an answer to the waiting call."""
        self.connection.write(data)
        if last:
            self.waiting = None
            self.changed.set()


class Front:
    """Serves the clients of a listening socket on behalf of the far end of a channel."""

    def __init__(
        self, channel: Channel, listener: socket.socket, interface: Interface, limits: Limits | None = None
    ) -> None:
        self._channel = channel
        self._listener = listener
        self._interface = interface
        self._service = parse_interface(SERVICE_DEFINITION)
        self._limits = limits or Limits()
        self._clients: dict[int, _Client] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    async def serve(self) -> None:
        """Serve until the channel ends. Raises ProtocolError when the custodian breaks the protocol."""
        loop = asyncio.get_running_loop()
        self._listener.setblocking(False)
        loop.add_reader(self._listener, self._accept)
        try:
            while True:
                message, fds = await self._channel.receive_async(TO_FRONT)
                close_fds(fds)
                self._deliver(message)
        except EOFError:
            return
        finally:
            loop.remove_reader(self._listener)
            for client in list(self._clients.values()):
                client.connection.close()

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            sock, _ = self._listener.accept()
            shown = os.dup(sock.fileno())  # our own may be closed, and its number reused, before it is sent
        except BlockingIOError:
            return
        except OSError:  # out of descriptors: let some clients end first
            loop.remove_reader(self._listener)
            loop.call_later(_ACCEPT_PAUSE_S, loop.add_reader, self._listener, self._accept)
            return
        if len(self._clients) >= self._limits.clients and not self._make_room():
            os.close(shown)
            self._turn_away(sock)
            return
        client = _Client(next(self._numbers), sock, self._limits)
        self._clients[client.conn] = client
        task = loop.create_task(self._serve_client(client, shown))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _make_room(self) -> bool:
        """Drop whoever has kept us waiting longest: mute connections must not shut out those who speak."""
        waited_for = [each.connection for each in self._clients.values() if not each.connection.closed]
        slowest = max(waited_for, key=lambda connection: connection.owing_s, default=None)
        if slowest is None or slowest.owing_s < _CROWDED_PATIENCE_S:
            return False
        slowest.close()
        return True

    def _turn_away(self, sock: socket.socket) -> None:
        found = (
            f"expected at most {self._limits.clients} clients at once, found them all here: try again later"
        )
        with sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.recv(_DRAIN_BYTES)  # closing with a request unread would take our answer back
            sock.send(self._refused(Busy(found)))

    async def _serve_client(self, client: _Client, shown: int) -> None:
        try:
            await self._introduce(client, shown)
            while (message := await client.connection.next()) is not None:
                await self._handle(client, *message)
        except EOFError:
            client.connection.close()  # the custodian is gone; `serve` has seen it too
        except Exception:  # noqa: BLE001  a fault in serving one client must not end the others
            traceback.print_exc()
        finally:
            client.connection.finish()
            await self._forget(client)

    async def _introduce(self, client: _Client, shown: int) -> None:
        try:
            await self._channel.send_async(ClientOpened(client.conn), (shown,))
        finally:
            os.close(shown)

    async def _forget(self, client: _Client) -> None:
        while not client.connection.closed:
            client.changed.clear()
            await client.changed.wait()
        del self._clients[client.conn]
        with contextlib.suppress(EOFError):
            await self._channel.send_async(ClientClosed(client.conn))

    # From a client to the custodian.

    async def _handle(self, client: _Client, data: bytes, fds: tuple[int, ...]) -> None:
        """Answer or forward one message; whatever is wrong with it is told to its sender alone."""
        try:
            call = parse_call(data)
        except ProtocolError:  # a client that garbles one message is not asked for another
            close_fds(fds)
            client.connection.write(encode_error(f"{SERVICE}.InvalidParameter", {"parameter": "message"}))
            client.connection.finish()
            return
        try:
            if call.interface == SERVICE:
                answer = encode_reply(answer_service(self._service, self._interface, call, len(fds)))
                client.connection.write(b"" if call.oneway else answer)
            else:
                check_call(self._interface, call, len(fds))
                await self._forward(client, call, fds)
        except ServiceError as error:
            client.connection.write(b"" if call.oneway else encode_error(error.name, error.parameters))
        finally:
            close_fds(fds)

    async def _forward(self, client: _Client, call: MethodCall, fds: tuple[int, ...]) -> None:
        """Hand a call to the custodian and wait until it is answered, or the client is gone."""
        client.serial += 1
        client.waiting = None if call.oneway else call
        message = Call(client.conn, client.serial, call.method, call.parameters, call.more, call.oneway)
        try:
            await self._channel.send_async(message, fds)
        except ProtocolError as error:  # within the client's limit of 1 MiB, but not within a packet
            client.waiting = None
            raise ServiceError("InvalidParameter", parameter="parameters") from error
        while client.waiting is not None and not client.connection.closed:
            client.changed.clear()
            await client.changed.wait()

    # From the custodian to a client.

    def _deliver(self, message: Reply | Failure | Disconnect) -> None:
        client = self._clients.get(message.conn)
        if client is None:
            return  # it left while the answer was on its way
        if isinstance(message, Disconnect):
            client.waiting = None
            client.connection.finish()
            client.changed.set()
        elif client.waiting is not None and client.serial == message.serial:
            try:
                data, last = self._encode(message, client.waiting)
            except ProtocolError as error:
                sys.stderr.write(f"the custodian's answer to {client.waiting.method} was not sent: {error}\n")
                data, last = (
                    self._refused(ApplianceError("an answer broke the interface: see the daemon's log")),
                    True,
                )
            client.answer(data, last=last)

    def _encode(self, message: Reply | Failure, call: MethodCall) -> tuple[bytes, bool]:
        """Return the bytes and whether they are the last. Raises ProtocolError for what is not declared."""
        parameters = dict(message.parameters)
        if isinstance(message, Failure):
            if message.error not in self._interface.errors:
                raise ProtocolError(f"expected an error of the interface, found {message.error!r:.80}")
            check_struct(self._interface, self._interface.errors[message.error], parameters)
            return encode_error(f"{self._interface.name}.{message.error}", parameters), True
        if message.continues and not call.more:
            raise ProtocolError("expected one answer, found the first of several")
        check_struct(self._interface, self._interface.methods[call.method].reply, parameters)
        return encode_reply(parameters, continues=message.continues), not message.continues

    def _refused(self, error: ApplianceError) -> bytes:
        parameters: dict[str, JSON] = {
            "code": error.code,
            "exit_code": error.exit_code,
            "message": str(error),
        }
        return encode_error(f"{self._interface.name}.Refused", parameters)


def main(arguments: Sequence[str]) -> None:
    """Jail this process, then serve until the custodian ends. Raises JailError."""
    profile = arguments[0] if arguments else "isolated"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at a terminal is the custodian's to answer
    channel = Channel.inherited(CHANNEL_FD)
    listener = socket.socket(fileno=LISTENER_FD)
    listener.set_inheritable(False)
    with asyncio.Runner() as runner:
        runner.get_loop()  # makes its wake-up socket pair, which the jail would refuse
        interface = load_interface()  # the jail opens no file
        sandbox.apply(sandbox.FRONT, parent=channel.peer_pid()).demand(profile)
        runner.run(Front(channel, listener, interface).serve())


if __name__ == "__main__":
    main(sys.argv[1:])
