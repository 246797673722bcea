"""The Unix socket of an appliance, from both ends: where it is bound, and how a command line calls it.

Guarantees, to the command line: a call returns the reply's parameters or raises the error class that the
daemon named, so that a refusal has the same exit code on both sides of the socket; an appliance that is not
running, or that ends in mid-call, is NotRunning. To the custodian: the socket's mode is set by the umask when
it is bound, never by a chmod after, so there is no moment at which a stranger may connect.

A path in a socket address holds 108 bytes at most; both ends go through /proc/self/fd of the folder, so a
home may lie at any depth. Source: unix(7); https://varlink.org/Method-Call for the framing.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import stat
from typing import TYPE_CHECKING, Any, Self

from appliance.errors import (
    ApplianceError,
    Busy,
    NotRunning,
    PolicyRefused,
    ProtocolError,
    UsageError,
    by_code,
)
from appliance.strictjson import encode_json, parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

INTERFACE = "invalid.appliance"
SOCKET_NAME = "appliance.sock"
MAX_REPLY = 1024 * 1024
_BACKLOG = 64


def listen(run_dir: Path, *, group: bool = False) -> socket.socket:
    """Bind the listening socket in `run_dir` (made with mode 0750 if absent), in place of a stale one.

    Only the owner may connect, with `group` also the folder's group. The caller holds the home's lock:
    without it, the socket replaced could be that of a daemon that is alive. Raises UsageError for a folder
    that others can write to.
    """
    with contextlib.suppress(FileExistsError):
        run_dir.mkdir(mode=0o750)
    try:
        folder = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError as error:
        raise UsageError(f"expected {run_dir} to be a folder of its own, found a link or a file") from error
    try:
        if os.fstat(folder).st_mode & stat.S_IWOTH:
            raise UsageError(f"expected {run_dir} closed to others, found it world-writable: chmod o-w it")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET_NAME, dir_fd=folder)
        return _bind(f"/proc/self/fd/{folder}/{SOCKET_NAME}", 0o117 if group else 0o177)
    finally:
        os.close(folder)


def _bind(address: str, mask: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(mask)
    try:
        sock.bind(address)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(old)
    return sock


def connect(home: Path, *, timeout_s: float | None = None) -> Client:
    """Connect to the appliance of `home`; each later wait for bytes lasts `timeout_s` at most.

    Raises NotRunning, and PolicyRefused where the socket's mode shuts the caller out.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        folder = os.open(home / "run", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.settimeout(timeout_s)
            sock.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        finally:
            os.close(folder)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        sock.close()
        if not (home / "home.json").exists():
            raise NotRunning(f"no appliance in {home}: make one with `appliance init`") from error
        raise NotRunning(
            f"expected the appliance in {home} to answer, found no daemon: "
            f"start it with `appliance --home {home} daemon --detach`"
        ) from error
    except PermissionError as error:
        sock.close()
        raise PolicyRefused(
            f"expected access to the socket of {home}, found it closed to uid {os.getuid()}: "
            "ask who runs the appliance"
        ) from error
    except BaseException:
        sock.close()
        raise
    return Client(sock)


class Client:
    """A connection to an appliance: one call at a time, in order."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. A job started over this connection goes on."""
        self._sock.close()

    def call(
        self, method: str, parameters: Mapping[str, Any] | None = None, fds: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Call a method and return its one reply. Raises the ApplianceError that the appliance answered."""
        self._write({"method": _qualified(method), "parameters": dict(parameters or {})}, fds)
        reply, continues = self._read()
        if continues:
            self.close()
            raise ProtocolError(f"expected one reply to {method}, found the first of several: use `stream`")
        return reply

    def stream(
        self, method: str, parameters: Mapping[str, Any] | None = None, fds: Sequence[int] = ()
    ) -> Iterator[dict[str, Any]]:
        """Call a method and yield each of its replies, but not an empty last one. Leaving early hangs up.

        Raises as `call`.
        """
        self._write({"method": _qualified(method), "parameters": dict(parameters or {}), "more": True}, fds)
        continues = True
        try:
            while continues:
                reply, continues = self._read()
                if continues or any(value is not None for value in reply.values()):
                    yield reply
        except ApplianceError:
            continues = False
            raise
        finally:
            if continues:
                self.close()

    def _write(self, message: dict[str, Any], fds: Sequence[int]) -> None:
        data = memoryview(encode_json(message) + b"\0")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            sent = self._sock.sendmsg([data], rights)  # descriptors ride on the first byte
            self._sock.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError):
            return  # it may have said why before it hung up: `_read` finds that, or the end

    def _read(self) -> tuple[dict[str, Any], bool]:
        while (end := self._buffer.find(b"\0")) < 0:
            if len(self._buffer) > MAX_REPLY:
                raise ProtocolError(f"expected a reply of at most {MAX_REPLY} bytes, found more")
            try:
                data = self._sock.recv(65536)
            except ConnectionResetError as error:
                raise _ended() from error
            except TimeoutError as error:
                raise Busy(f"expected an answer within {self._sock.gettimeout()} s, found none") from error
            if not data:
                raise _ended()
            self._buffer += data
        reply = parse_json(bytes(self._buffer[:end]), limit=MAX_REPLY)
        del self._buffer[: end + 1]
        return _unwrap(reply)


def _qualified(method: str) -> str:
    return method if "." in method else f"{INTERFACE}.{method}"


def _ended() -> NotRunning:
    return NotRunning(
        "expected an answer, found that the appliance ended: see its own output, then start it again"
    )


def _unwrap(reply: Any) -> tuple[dict[str, Any], bool]:
    """Return a reply's parameters and whether more follow; raise what it reports as an error."""
    parameters = reply.get("parameters", {}) if isinstance(reply, dict) else None
    if not isinstance(parameters, dict):
        raise ProtocolError(f"expected a reply object, found {type(reply).__name__}")
    error = reply.get("error")
    if error is None:
        return parameters, reply.get("continues") is True
    if error == f"{INTERFACE}.Refused":
        code, message = parameters.get("code"), parameters.get("message")
        raise by_code().get(str(code), ApplianceError)(str(message))
    raise ProtocolError(f"expected an answer, found {error!s:.200}: {parameters!s:.200}")
