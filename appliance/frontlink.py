"""What the front and the custodian say to each other.

The front owns the clients' bytes: framing, limits, schema. The custodian owns who they are and what they get:
it is handed a duplicate of each client's socket and asks the kernel itself (SO_PEERCRED), so a captured front
cannot assert an identity. `conn` numbers a client connection and is never used twice; `serial` numbers the
calls of one connection from 1, and replies come back in the order of the calls.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from appliance.messages import kinds
from appliance.strictjson import JSON


@dataclass(frozen=True, slots=True)
class ClientOpened:
    """A client connected; one descriptor, a duplicate of its socket, travels beside it."""

    conn: int


@dataclass(frozen=True, slots=True)
class Call:
    """A validated call. Descriptors that the client sent travel beside it, in the client's order."""

    conn: int
    serial: int
    method: str
    parameters: Mapping[str, JSON]
    more: bool
    oneway: bool


@dataclass(frozen=True, slots=True)
class ClientClosed:
    """A client went away, or was dropped; nothing can be sent to it any more."""

    conn: int


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; `continues` only where the call asked for more."""

    conn: int
    serial: int
    parameters: Mapping[str, JSON]
    continues: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """The last answer to a call that failed: an error of the interface, by its bare name."""

    conn: int
    serial: int
    error: str
    parameters: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The custodian wants this client gone."""

    conn: int


FROM_FRONT = kinds(ClientOpened, Call, ClientClosed)
TO_FRONT = kinds(Reply, Failure, Disconnect)
