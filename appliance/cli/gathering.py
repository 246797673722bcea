"""All that a page on one job is made of, asked for piece by piece under the caller's own rights, and checked.

What the rules keep back is named as kept back. Each log entry is checked against its receipt here, so that a
page that exists shows only what the log's key signed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.bundle.signer import load_verifier
from appliance.cli.log import decoded
from appliance.cli.session import Session
from appliance.errors import PolicyRefused, SealedError, UnknownObject
from appliance.home import Home, read_facts
from appliance.report.sources import Cosigned, Proof, Sample, Samples, Sources
from audit.cosignature import verify_cosignatures
from audit.entry import Entry, format_time
from audit.errors import Invalid
from audit.note import VerifierKey
from audit.receipt import parse_receipt, verify_receipt

MOST_SAMPLES = 6
SAMPLE_LENGTH = 160
_NOT_KEPT = (
    "No sample text is kept: what a model says counts as text that leaves. With --prompt, `appliance report` "
    "asks each version that is still in the vault, as far as rules and budget allow."
)


def gathered(session: Session, job: str, key: tuple[VerifierKey, str], prompt: str | None) -> Sources:
    """Ask for all that a page is made of; raises BadSignature or Invalid for an entry not the log's."""
    row = next((item["job"] for item in session.stream("ListJobs", {}) if item["job"]["id"] == job), None)
    if row is None:
        raise UnknownObject(f"job {job[:80]}: expected it among the jobs, found none; see `appliance jobs`")
    status = session.call("Status", {})
    events = [item["event"] for item in session.stream("Watch", {"job": job, "after": 0, "follow": False})]
    objects = {item["object"]["id"]: item["object"] for item in session.stream("ListObjects", {})}
    account, why = _account(session, job)
    entries, left_out, proof = _entries(session, job, *key)
    return Sources(
        origin=status["origin"],
        profile=status["profile"],
        job=row,
        events=events,
        account=account,
        why_no_account=why,
        objects=objects,
        entries=entries,
        left_out=left_out,
        proof=proof,
        samples=_samples(session, row, objects, prompt),
        made=format_time(time.time()),
    )


def log_key_of(session: Session, given: Path | None) -> tuple[VerifierKey, str]:
    """Return the key to check with and where it is from; raises what reading either raises."""
    if given is not None:
        return load_verifier(given), "given by whoever made this page"
    return VerifierKey.parse(
        read_facts(Home(session.home)).log_vkey
    ), "the appliance's own copy: compare it with yours"


def _account(session: Session, job: str) -> tuple[dict[str, Any] | None, str]:
    try:
        return session.call("ShowAccount", {"job": job})["account"], ""
    except (PolicyRefused, SealedError, UnknownObject) as kept_back:
        return None, str(kept_back)


def _entries(session: Session, job: str, key: VerifierKey, key_from: str) -> tuple[list[Entry], int, Proof]:
    found: list[Entry] = []
    heads, left_out = set(), 0
    for item in session.stream("ListEntries", {"job": job}):
        if item.get("left_out") is not None:
            left_out = item["left_out"]
            continue
        checked = verify_receipt(decoded(item["proof"], "proof"), decoded(item["entry"], "entry"), key)
        heads.add(checked.head)
        found.append(checked.entry)
    if len(heads) != 1:
        raise Invalid(f"entries of job {job}: expected all under one tree head, found {len(heads)} heads")
    last = found[-1].seq
    return found, left_out, Proof(heads.pop(), key.text, key_from, _cosigned(session, last, key))


def _cosigned(session: Session, index: int, key: VerifierKey) -> Cosigned | None:
    """Return who cosigned a head that covers an entry, None where nobody did."""
    try:
        reply = session.call("Receipt", {"index": index, "witnessed": True})
    except UnknownObject:
        return None
    proof = decoded(reply["proof"], "proof")
    head = verify_receipt(proof, decoded(reply["entry"], "entry"), key).head
    witnesses = [VerifierKey.parse(each["vkey"]) for each in session.call("AuditStatus", {})["witnesses"]]
    found = verify_cosignatures(parse_receipt(proof).note, witnesses)
    return Cosigned(head.size, [(each.witness.name, format_time(each.seconds)) for each in found])


def _samples(session: Session, job: dict[str, Any], objects: dict[str, Any], prompt: str | None) -> Samples:
    if prompt is None:
        return Samples("", (), _NOT_KEPT)
    kept = [objects[name] for name in job["results"] if name in objects and objects[name]["state"] == "ready"]
    every = -(-len(kept) // MOST_SAMPLES) or 1
    texts: list[Sample] = []
    try:
        for row in kept[::-1][::every][::-1]:
            text = "".join(_continued(session, f"{row['name']}@{row['version']}", prompt))
            texts.append(Sample(row["version"], row["created"], text))
    except (PolicyRefused, SealedError) as refused:
        return Samples(prompt, texts, f"A sample was asked for and refused: {refused}")
    return Samples(prompt, texts, "This job has made no weights yet, so there is nothing to sample.")


def _continued(session: Session, model: str, prompt: str) -> Iterator[str]:
    wanted = {
        "model": model,
        "prompt": prompt,
        "length": SAMPLE_LENGTH,
        "temperature": 0.8,
        "top_k": 40,
        "seed": 0,
    }
    for item in session.stream("Sample", wanted):
        yield str(item["text"])
