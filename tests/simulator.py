"""A whole appliance in one process, for tests that attack it.

Log, vault, catalog, rules, gate and custody are the real ones, in a temporary folder; clocks and the host's
facts are the test's to set; no process is started. What an attacker does is in `tests.tampering`, one method
each. `refused` and `refuses_to_start` hold an attack to its whole promise: this very error, nothing changed,
no key out.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from nacl.signing import SigningKey

from appliance.age import PayloadReader, PayloadWriter, descriptor_sink
from appliance.age.x25519 import X25519Identity
from appliance.catalog import Object
from appliance.custodian.approvals import take_approval
from appliance.custodian.core import Core, job_entity
from appliance.custodian.custodies import unlock
from appliance.custodian.outputs import Outputs, Staged
from appliance.custodian.requests import Asked, make_request
from appliance.custodian.start import Opened, open_appliance
from appliance.custody import release
from appliance.gate import NamedObject, StagedObject, Thing
from appliance.home import Home
from appliance.initialise import initialise
from appliance.worklink import Verified
from audit.entry import parse_entry
from audit.note import VerifierKey
from audit.verify import verify_log
from policy.model import Entity
from policy.sshkey import ed25519_key
from policy.sshsig import sign
from tests.hosts import write_host
from tests.tampering import Tampering

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from appliance.grants import Grant
    from audit.entry import Entry

    Errors = type[Exception] | tuple[type[Exception], ...]

OPERATOR = "operator"
DAY_S = 24 * 3600
CUSTODIAN = Entity("Custodian", "custodian", {})
NONCE_BYTES = 16


class Clock:
    """Wall and monotonic time that pass when a test says so."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self._began_s = time.time()

    def pass_(self, seconds: float) -> None:
        self.passed_s += seconds

    def wall(self) -> float:
        return self._began_s + self.passed_s

    def monotonic(self) -> float:
        return 1000.0 + self.passed_s


@dataclass(frozen=True, slots=True)
class Standing:
    """What an attack that is refused must leave as it was: the vault's bytes and the catalog's rows."""

    vault: dict[str, str]
    objects: tuple[Any, ...]
    jobs: tuple[Any, ...]
    requests: tuple[Any, ...]


class Simulator(Tampering):
    """One appliance, initialised, started and unsealed on a host that is isolated."""

    def __init__(
        self,
        folder: Path,
        *,
        profile: str = "development",
        hybrid: bool = False,
        witnesses: Sequence[str] = (),
        quorum: int | None = None,
        people: dict[int, str] | None = None,
        custody: str = "file:",
        **more: Any,
    ) -> None:
        self.folder = folder
        self.home = Home(folder / "home")
        self.clock = Clock()
        self.host = write_host(folder / "host")
        self.officers = {name: hashlib.sha256(name.encode()).digest() for name in ("alice", "bob", "carol")}
        self.init = initialise(
            self.home.root,
            profile=profile,
            custody_uri=custody,
            secret=None,
            trust=[],
            officers=self.signers_file(self.officers),
            people=people or {os.getuid(): OPERATOR},
            hybrid=hybrid,
            witnesses=witnesses,
            witness_quorum=quorum,
            **more,
        )
        self.keys: list[bytearray] = []
        """Every payload key that custody made since the start."""
        self._opened: Opened | None = None
        self._spy: Any = None
        self.start()
        self.unseal()

    # ---- life ------------------------------------------------------------------------------------

    @property
    def core(self) -> Core:
        assert self._opened is not None, "the simulated appliance is not running"
        return self._opened.core

    @property
    def running(self) -> bool:
        return self._opened is not None

    def start(self) -> None:
        """Open and check everything, as the custodian does."""
        clock = self.clock
        self._opened = open_appliance(
            self.home, clock=clock.wall, monotonic=clock.monotonic, sysroot=self.host
        )
        real = release.payload_key
        self._spy = patch.object(release, "payload_key", lambda *given: self._note(real(*given)))
        self._spy.start()

    def unseal(self) -> None:
        self.core.custody = unlock(self.core, self.core.live, None)

    def seal(self) -> None:
        self.core.wipe()

    def stop(self) -> None:
        """End in good order."""
        self._end(_end_log)

    def crash(self) -> None:
        """End as `kill -9` would: nothing is published or closed in good order."""
        self._end(_drop_log)

    def restart(self) -> None:
        self.stop()
        self.start()
        self.unseal()

    def close(self) -> None:
        if self.running:
            self.crash()

    def _end(self, end_log: Any) -> None:
        assert self._opened is not None
        core, lock = self._opened.core, self._opened.lock
        self._opened = None
        self._spy.stop()
        core.wipe()
        end_log(core)
        core.catalog.close()
        os.close(lock)

    def _note(self, key: bytearray) -> bytearray:
        self.keys.append(key)
        return key

    # ---- work ------------------------------------------------------------------------------------

    @property
    def operator(self) -> Entity:
        return self.core.person(os.getuid())

    def ask(self, action: str, resource: Any, principal: Entity | None = None, **context: Any) -> Grant:
        """Ask the gate, as the operator unless somebody else is named."""
        return self.core.gate.request(principal or self.operator, action, resource, context).grant

    def thing(self) -> Thing:
        """The appliance as a resource."""
        return Thing(self.core.appliance())

    def use(self, what: Object, job: str = "train-1", purpose: str = "train") -> Grant:
        """Ask for one object for a job whose decision named it."""
        worker = job_entity(job, OPERATOR, purpose, [what.id])
        return self.core.gate.request(worker, "use", NamedObject(what.kind, what.name), job=job).grant

    def open(self, grant: Grant) -> bytes:
        """Unwrap the key that was granted and return the object's plaintext."""
        released = self.core.custody.unwrap(grant)
        vault, name = self.core.vault, released.object_id
        fd = vault.open_staged(name) if vault.is_staged(name) else vault.open_payload(name)
        try:
            length = os.fstat(fd).st_size - NONCE_BYTES
            return PayloadReader(fd, released.key, NONCE_BYTES, length).read()
        finally:
            os.close(fd)

    def read(self, what: Object) -> bytes:
        return self.open(self.use(what))

    def stage(self, plaintext: bytes, kind: str = "weights", name: str = "tiny") -> StagedObject:
        """Seal an object as a worker does; it is not verified and not published yet."""
        output = self.core.custody.mint()
        fd = self.core.vault.stage(output.object_id, output.header, output.nonce)
        try:
            with PayloadWriter(descriptor_sink(fd), output.key) as payload:
                payload.write(plaintext)
        finally:
            os.close(fd)
        return StagedObject(output.object_id, kind, name, "import-1")

    def verify(self, staged: StagedObject) -> bytes:
        """Open a staged object as the fresh reader does."""
        return self.open(self.core.gate.request(CUSTODIAN, "verify", staged).grant)

    def add(self, kind: str, name: str, plaintext: bytes, parents: Sequence[Object] = ()) -> Object:
        """Seal, verify, publish, log and catalogue one object."""
        staged = self.stage(plaintext, kind, name)
        assert self.verify(staged) == plaintext
        return self.publish(staged, plaintext, parents)

    def publish(self, staged: StagedObject, plaintext: bytes, parents: Sequence[Object] = ()) -> Object:
        payload = (self.home.vault / ".incoming" / staged.id / "payload").read_bytes()
        digests = hashlib.sha256(payload).hexdigest(), hashlib.sha256(plaintext).hexdigest()
        outputs = Outputs(self.core, staged.job, [staged.kind], {})
        item = Staged(staged.id, staged.kind, staged.name, len(plaintext))
        return outputs._publish(item, Verified(staged.id, len(plaintext), *digests), parents, {})

    # ---- two persons -----------------------------------------------------------------------------

    @staticmethod
    def signers_file(seeds: dict[str, bytes]) -> str:
        """An allowed-signers file for these people."""
        lines = []
        for person, seed in seeds.items():
            key = ed25519_key(bytes(SigningKey(seed).verify_key)).blob
            text = base64.b64encode(key).decode("ascii")
            lines.append(f'{person} namespaces="approval@appliance" ssh-ed25519 {text}')
        return "".join(f"{line}\n" for line in lines)

    def request(
        self,
        action: str,
        *resources: str,
        recipients: Sequence[str] = (),
        options: dict[str, str] | None = None,
        hours: int = 24,
    ) -> str:
        """Make a request as the operator and return the document that officers sign."""
        asked = Asked(action, resources, tuple(recipients), options or {})
        return make_request(self.core, self.operator, asked, reason="for carol", valid_hours=hours).document

    def approved(self, action: str, *resources: str, **options: str) -> str:
        """Make a request and have two officers approve it."""
        document = self.request(action, *resources, options=options)
        self.approve(document, "alice", "bob")
        return document

    def request_export(self, what: Object, recipient: str) -> str:
        """Make an export request and return the document that officers sign."""
        return self.request("export", what.name, recipients=[recipient])

    def sign(self, document: str, officer: str) -> str:
        return sign(self.officers[officer], "approval@appliance", document.encode("ascii"))

    def approve(self, document: str, *officers: str) -> None:
        for officer in officers:
            take_approval(self.core, document, self.sign(document, officer))

    @staticmethod
    def recipient() -> str:
        return X25519Identity.generate().recipient.text

    # ---- looking ---------------------------------------------------------------------------------

    def entries(self, start: int = 0) -> list[Entry]:
        return [parse_entry(entry) for entry in self.core.log.entries(start)]

    def verify_log(self) -> int:
        """Verify the published log as an auditor does; returns its size."""
        return verify_log(self.home.log, VerifierKey.parse(self.init.log_vkey)).size

    def standing(self) -> Standing:
        catalog = self.core.catalog
        return Standing(
            digests(self.home.vault),
            catalog.list(),
            catalog.jobs(),
            tuple(catalog._database.rows("SELECT * FROM requests")),
        )

    @contextmanager
    def refused(self, error: Errors, match: str, logged: Sequence[str] = ()) -> Iterator[None]:
        """Hold the body to its refusal: this class and text, nothing changed, no key, these entries logged.

        An entry is written `kind` or, for a decision, `allow ACTION` or `deny ACTION`.
        """
        standing, size, keys = self.standing(), self.core.log.size, len(self.keys)
        with pytest.raises(error, match=match) as caught:
            yield
        assert caught.type in (error if isinstance(error, tuple) else (error,)), "a subclass is another error"
        assert self.standing() == standing
        assert [told(entry) for entry in self.entries(size)] == list(logged)
        assert len(self.keys) == keys, "a key came out"

    def refuses_to_start(self, error: Errors, match: str) -> None:
        """Start, which must fail with this class and text, change no file but the log's, hold nothing."""
        kept = digests(self.home.root, without="log")
        with pytest.raises(error, match=match) as caught:
            self.start()
        assert caught.type in (error if isinstance(error, tuple) else (error,)), "a subclass is another error"
        assert not self.running
        assert digests(self.home.root, without="log") == kept

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Undo what the body does to the stopped home: afterwards it must start and hold what it held."""
        copy = self.folder / "copy"
        shutil.copytree(self.home.root, copy)
        yield
        shutil.rmtree(self.home.root)
        copy.rename(self.home.root)
        self.start()
        self.unseal()


def told(entry: Entry) -> str:
    if entry.decision is None:
        return entry.kind
    return f"{'allow' if entry.decision.allow else 'deny'} {entry.action}"


def digests(root: Path, without: str = "") -> dict[str, str]:
    """SHA-256 and mode of each file below a folder, by its path."""
    return {
        str(
            path.relative_to(root)
        ): f"{path.lstat().st_mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] != without
    }


def _end_log(core: Core) -> None:
    core.keep_head()
    core.log.close()


def _drop_log(core: Core) -> None:
    core.log._failure = core.log._failure or "killed"
    core.log._held.close()
