"""What the custodian and a worker may say to each other, and nothing else.

Every kind is a frozen value of numbers, enumerations and strictly patterned names: a worker that was
taken over has no free text in which to carry weights out. Descriptors travel beside the message; a key
travels as the read end of a pipe that holds exactly its bytes, so that it is never part of a message.

    custodian → worker                                   worker → custodian
    Begin      the task and its numbers                  Jailed     what the sandbox applied and proved
    GiveInput  payload + key of one granted object       WantInput  asks for a named object
    GiveOutput write end + key of one new object         WantOutput asks for a new object
    CopyPart   a part on a medium, and its quarantine    PartCopied its size and hash
    OpenPart   a quarantined part + key                  MemberHashed one file of a model folder
    GiveFile   a file the custodian made                 Sealed     an output is complete
    GivePart   a part to write + key                     PartDone   a part of an export is complete
                                                         Signed     one signature of an officer's bundle
    Proceed    go on to the next phase                   Progress   numbers about the run
    Stop       end at the next safe point                Checkpoint two sealed outputs belong together
                                                         Damaged    the state that was given does not open
                                                         Evaluated  how well a model predicts a text
                                                         Alive      a rank goes on
                                                         Began      which state the run goes on from
    Refused    an input or output is not to be had       Verified   what a fresh reader found
                                                         Text       a piece of a sample
                                                         Finished / Failed
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from appliance.errors import ProtocolError
from appliance.messages import kinds
from appliance.strictjson import JSON

TASKS = (
    "train",
    "replay",
    "account",
    "evaluate",
    "sample",
    "ingest",
    "import",
    "export",
    "verify",
    "verify-export",
)
PAYLOAD_KEY_BYTES = 32
_HEX_256 = re.compile(r"[0-9a-f]{64}")
_ARMOR = re.compile(r"[A-Za-z0-9+/=\n -]{1,8192}")
_BACKEND = re.compile(r"[a-z][a-z0-9_./-]{0,39}")


def _hex_256(text: str) -> None:
    """Refuse a digest that is none: it goes into the log, where free text would be in clear for ever."""
    if not _HEX_256.fullmatch(text):
        raise ProtocolError(f"expected 64 hex digits from a worker, found {len(text)} other characters")


@dataclass(frozen=True, slots=True)
class Begin:
    """The task, its job, and its numbers; inputs follow as `GiveInput`, then `Proceed`."""

    task: str
    job: str
    profile: str
    numbers: Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class GiveInput:
    """One granted object: descriptors (payload, key pipe). `offset` is where the payload's nonce ends."""

    role: str
    object_kind: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class GiveOutput:
    """Room for one new object: descriptors (write end placed after the nonce, key pipe)."""

    token: int


@dataclass(frozen=True, slots=True)
class CopyPart:
    """A part to copy once while hashing: descriptors (medium, quarantine)."""

    index: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A verified part: descriptors (file, key pipe). The payload's chunks begin at `offset`."""

    index: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class GiveFile:
    """A file that the custodian made for a model folder: descriptor (its bytes)."""

    name: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GivePart:
    """A part of an export to write: descriptors (write end after header and nonce, key pipe)."""

    index: int


@dataclass(frozen=True, slots=True)
class Proceed:
    """Everything for the next phase has been given."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End at the next safe point, with a checkpoint."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The input or output asked for is not to be had; `code` is an error code of `appliance.errors`."""

    code: str


@dataclass(frozen=True, slots=True)
class Jailed:
    """First word of a worker: restriction names that took, and that did not; the kernel's Landlock ABI."""

    took: tuple[str, ...]
    missing: tuple[str, ...]
    landlock_abi: int = 0


@dataclass(frozen=True, slots=True)
class WantInput:
    """Asks for the newest object of this kind and name."""

    object_kind: str
    name: str


@dataclass(frozen=True, slots=True)
class WantOutput:
    """Asks for room for a new object."""

    object_kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """The output is complete and closed."""

    token: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PartCopied:
    """A part now lies in quarantine."""

    index: int
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        """Raise ProtocolError for a digest that is none."""
        _hex_256(self.sha256)


@dataclass(frozen=True, slots=True)
class MemberHashed:
    """One file of a model folder, hashed from its sealed source."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        """Raise ProtocolError for a digest that is none."""
        _hex_256(self.sha256)


@dataclass(frozen=True, slots=True)
class PartDone:
    """A part of an export was written and closed."""

    index: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Signed:
    """An officer's signature as it came, and the SHA-256 of what it came with; it counts if it verifies."""

    request: str
    signature: str

    def __post_init__(self) -> None:
        """Raise ProtocolError for what could be neither."""
        _hex_256(self.request)
        if not _ARMOR.fullmatch(self.signature):
            raise ProtocolError("expected an armored signature from a worker, found other characters")


@dataclass(frozen=True, slots=True)
class Progress:
    """Numbers about a run; a loss is in nats per token, -1.0 where a figure does not apply."""

    step: int
    steps: int
    loss: float
    bits_per_byte: float
    learning_rate: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Made:
    """One sealed output stands alone and is complete: a tokenizer, before the first step."""

    token: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Two sealed outputs are the state after `step` steps, and the config's rule which states stay."""

    step: int
    weights: int
    optimizer: int
    flops: int
    seed: int
    keep_last: int
    keep_best: int
    keep_every: int


@dataclass(frozen=True, slots=True)
class Damaged:
    """The state that was given does not open, or is not one of this run: the one before it, please."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """How well a model predicted a text of so many tokens and bytes."""

    tokens: int
    size_bytes: int
    nats_per_token: float
    bits_per_byte: float


@dataclass(frozen=True, slots=True)
class Alive:
    """A rank beside the first has taken `step` steps."""

    step: int


@dataclass(frozen=True, slots=True)
class Began:
    """The run goes on after `step` steps (0: begins), on `backend`; the state was computed on `made_on`."""

    step: int
    made_on: str
    backend: str
    threads: int

    def __post_init__(self) -> None:
        """Raise ProtocolError for names that are none: they are logged in clear."""
        for name in (self.made_on, self.backend):
            if not _BACKEND.fullmatch(name):
                raise ProtocolError("expected the name of a backend from a worker, found other characters")


@dataclass(frozen=True, slots=True)
class Account:
    """What steps [begin_step, step) computed; `report` is the output that holds it sealed, -1: none yet."""

    begin_step: int
    step: int
    tokens: int
    seconds: float
    step_seconds: float
    waited_seconds: float
    bytes_read: int
    flops: int
    flops_forward: int
    flops_backward_inputs: int
    flops_backward_parameters: int
    flops_recompute: int
    peak_flops_per_s: int
    share_of_peak: float
    report: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """Digests of the two files of the state after `step` steps, computed again."""

    step: int
    weights_sha256: str
    optimizer_sha256: str

    def __post_init__(self) -> None:
        """Raise ProtocolError for a digest that is none."""
        _hex_256(self.weights_sha256)
        _hex_256(self.optimizer_sha256)


@dataclass(frozen=True, slots=True)
class Verified:
    """What a fresh reader found in the staged object `role`."""

    role: str
    size_bytes: int
    payload_sha256: str
    plaintext_sha256: str

    def __post_init__(self) -> None:
        """Raise ProtocolError for a digest that is none."""
        _hex_256(self.role)
        _hex_256(self.payload_sha256)
        _hex_256(self.plaintext_sha256)


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of a sample."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The task is complete after `step` steps; `stopped` when a Stop ended it early."""

    step: int
    stopped: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The task gave up; `code` is an error code of `appliance.errors`.

    `chunk` is that of a sealed payload whose tag did not fit, -1 where it was something else.
    """

    code: str
    step: int
    chunk: int


TO_WORKER = kinds(
    Begin, GiveInput, GiveOutput, CopyPart, OpenPart, GiveFile, GivePart, Proceed, Stop, Refused
)
TO_CUSTODIAN = kinds(
    Jailed,
    WantInput,
    WantOutput,
    Sealed,
    PartCopied,
    MemberHashed,
    PartDone,
    Signed,
    Progress,
    Made,
    Checkpoint,
    Damaged,
    Evaluated,
    Alive,
    Began,
    Account,
    Replayed,
    Verified,
    Text,
    Finished,
    Failed,
)
