"""The varlink messages on the wire, and the service that every varlink server describes itself with.

Guarantees, to the front: bytes become calls only in one way (one strict JSON object, then one NUL, of 1 MiB
and 16 levels at most, with no unknown field), and a call is let through only if the interface declares it,
its parameters match, and each descriptor that came along is named once by a parameter whose name ends in
`_fd`.
Everything here is pure: no sockets.

Source: https://varlink.org/Method-Call, https://varlink.org/Service.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, resources
from typing import TYPE_CHECKING, Any

from appliance.errors import ProtocolError
from appliance.interface import Interface, InvalidValue, Method, check_struct, parse_interface
from appliance.strictjson import encode_json, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.strictjson import JSON

MAX_MESSAGE = 1024 * 1024
SERVICE = "org.varlink.service"
_CALL_FIELDS = {"method": str, "parameters": dict, "more": bool, "oneway": bool, "upgrade": bool}

SERVICE_DEFINITION = """\
# What every varlink service answers about itself.
interface org.varlink.service

method GetInfo() -> (vendor: string, product: string, version: string, url: string, interfaces: []string)
method GetInterfaceDescription(interface: string) -> (description: string)

error InterfaceNotFound (interface: string)
error MethodNotFound (method: string)
error MethodNotImplemented (method: string)
error InvalidParameter (parameter: string)
error PermissionDenied ()
error ExpectedMore ()
"""


class ServiceError(ProtocolError):
    """A call that cannot be forwarded; `name` and `parameters` are the varlink error to answer with."""

    def __init__(self, name: str, **parameters: str) -> None:
        super().__init__(f"{name}: {parameters}")
        self.name = f"{SERVICE}.{name}"
        self.parameters = parameters


@dataclass(frozen=True, slots=True)
class MethodCall:
    """One message of a client, well formed but not yet checked against an interface."""

    interface: str
    method: str
    parameters: Mapping[str, JSON]
    more: bool
    oneway: bool


def load_interface() -> Interface:
    """Read the appliance's own interface, as packaged."""
    return parse_interface(resources.files("appliance").joinpath("appliance.varlink").read_text("utf-8"))


def parse_call(data: bytes) -> MethodCall:
    """Parse one message without its NUL. Raises ProtocolError."""
    message = parse_json(data, limit=MAX_MESSAGE)
    if not isinstance(message, dict) or "method" not in message:
        raise ProtocolError("expected an object with a method, found another JSON value")
    for name, value in message.items():
        if type(value) is not _CALL_FIELDS.get(name):
            raise ProtocolError(
                f"expected the fields of a varlink call, found {name!r:.80} {type(value).__name__}"
            )
    more, oneway = message.get("more", False), message.get("oneway", False)
    if message.get("upgrade", False) or (more and oneway):
        raise ProtocolError("expected a plain call, found an upgrade or an answerless stream")
    interface, _, method = message["method"].rpartition(".")
    return MethodCall(interface, method, message.get("parameters", {}), more, oneway)


def check_call(interface: Interface, call: MethodCall, fds: int) -> Method:
    """Check a call, with its number of descriptors, against the interface. Raises ServiceError."""
    if call.interface != interface.name:
        raise ServiceError("InterfaceNotFound", interface=call.interface[:256])
    method = interface.methods.get(call.method)
    if method is None:
        raise ServiceError("MethodNotFound", method=f"{call.interface}.{call.method[:256]}")
    try:
        check_struct(interface, method.parameters, call.parameters)
    except InvalidValue as error:
        raise ServiceError("InvalidParameter", parameter=error.parameter) from error
    _check_fds(call.parameters, fds)
    if method.streams and not call.more:
        raise ServiceError("ExpectedMore")
    return method


def _check_fds(parameters: Mapping[str, JSON], fds: int) -> None:
    named = {name: value for name, value in parameters.items() if name.endswith("_fd") and value is not None}
    free = set(range(fds))
    for name, value in named.items():
        if value not in free:
            raise ServiceError("InvalidParameter", parameter=name)
        free.discard(value)
    if free:
        raise ServiceError("InvalidParameter", parameter="descriptors that no parameter names")


def answer_service(service: Interface, interface: Interface, call: MethodCall, fds: int) -> dict[str, Any]:
    """Answer a call of org.varlink.service itself. Raises ServiceError."""
    check_call(service, call, fds)
    if call.method == "GetInfo":
        return {
            "vendor": "training-appliance",
            "product": "training appliance",
            "version": _version(),
            "url": "",
            "interfaces": [service.name, interface.name],
        }
    known = {each.name: each.text for each in (service, interface)}
    wanted = str(call.parameters["interface"])
    if wanted not in known:
        raise ServiceError("InterfaceNotFound", interface=wanted[:256])
    return {"description": known[wanted]}


def _version() -> str:
    try:
        return metadata.version("training-appliance")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"


def encode_reply(parameters: Mapping[str, JSON], *, continues: bool = False) -> bytes:
    """Frame one answer."""
    more: dict[str, JSON] = {"continues": True} if continues else {}
    return encode_json({"parameters": dict(parameters), **more}) + b"\0"


def encode_error(name: str, parameters: Mapping[str, JSON]) -> bytes:
    """Frame an error, by its full name."""
    return encode_json({"error": name, "parameters": dict(parameters)}) + b"\0"


class Framer:
    """Cuts a client's bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def partial(self) -> bool:
        """Whether bytes of an unfinished message are held."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, return the messages they complete. Raises ProtocolError on one that is too long."""
        start = len(self._buffer)
        self._buffer += data
        if self._buffer.find(b"\0", start) < 0:
            messages = []
        else:
            *messages, rest = bytes(self._buffer).split(b"\0")
            self._buffer = bytearray(rest)
        if any(len(message) > MAX_MESSAGE for message in (*messages, self._buffer)):
            raise ProtocolError(f"expected messages of at most {MAX_MESSAGE} bytes, found a longer one")
        return messages
