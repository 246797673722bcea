"""A made-up job with all that a page can show; any name can be replaced by a hostile one."""

from __future__ import annotations

from dataclasses import replace

from appliance.report.sources import Cosigned, Proof, Sample, Samples, Sources
from audit.checkpoint import TreeHead
from audit.entry import Decision, Entry

JOB = "train-0a1b2c3d4e5f"
CONFIG, CORPUS, FIRST, SECOND, OPTIMIZER = ("c0" * 32, "c1" * 32, "e0" * 32, "e1" * 32, "0f" * 32)
TOKENIZER = "70" * 32


def row(name_id, kind, name, index, parents=(), job="", version=1):
    return {
        "id": name_id,
        "kind": kind,
        "name": name,
        "version": version,
        "size_bytes": 1000,
        "sha256": "ab" * 32,
        "parents": list(parents),
        "compartments": [],
        "state": "ready",
        "job": job,
        "log_index": index,
        "created": "2026-01-02T03:04:05.000000Z",
    }


def objects(name="first"):
    inputs = [CONFIG, CORPUS]
    rows = [
        row(CONFIG, "config", name, 3),
        row(CORPUS, "corpus", name, 4),
        row(FIRST, "weights", name, 14, inputs, JOB),
        row(OPTIMIZER, "optimizer", name, 15, inputs, JOB),
        row(SECOND, "weights", name, 18, inputs, JOB, version=2),
    ]
    return {each["id"]: each for each in rows}


def event(seq, kind="progress", **figures):
    return {"seq": seq, "kind": kind, "step": 10 * seq, "steps": 200, "elapsed_s": float(seq), **figures}


def events():
    told = [event(0, "evaluated", bits_per_byte=8.0)]
    for number in range(1, 21):
        bits = {"bits_per_byte": 8.0 - number / 5} if number % 5 == 0 else {}
        figures = {"loss": 5.6 - number / 8, "learning_rate": 1e-3 / number, "tokens_per_s": 4000.0 + number}
        told.append(event(number, "evaluated" if bits else "progress", **figures, **bits))
    return told


ACCOUNT = {"begin_step": 0, "step": 200, "tokens": 25_600, "flops": 4 * 10**9, "share_of_peak": 0.31}


def entry(seq, kind, principal, action, resource, allow=None, rules=(), **context):
    decision = None if allow is None else Decision(allow, tuple(rules), "ab" * 32, ())
    return Entry(seq, "2026-01-02T03:04:05.000000Z", kind, principal, action, resource, context, decision)


def entries(name="first", person="Person:operator"):
    weights = f"Object:{SECOND}"
    return [
        entry(4, "object-created", "Job:import-1", "create", f"Object:{CORPUS}"),
        entry(10, "decision", person, "train", f"Object:{CONFIG}", True, ["operator-trains"], job=JOB),
        entry(11, "decision", f"Job:{JOB}", "use", f"Object:{CORPUS}", True, job=JOB, object_name=name),
        entry(12, "decision", f"Job:{JOB}", "use", f"Object:{CORPUS}", True, job=JOB, object_name=name),
        entry(19, "job-ended", "Custodian:custodian", "train", f"JobRecord:{JOB}", state="done", reason=name),
        entry(20, "request-made", person, "request", weights, request="r1", reason=name),
        entry(21, "decision", person, "export", weights, False, ["export-needs-two-officers"], request="r1"),
        entry(22, "approved", "Person:alice", "approve", "Request:r1", request="r1"),
        entry(23, "approved", "Person:bob", "approve", "Request:r1", request="r1"),
        entry(
            25, "bundle-exported", person, "export", weights, request="r1", bundle="b0" * 16, bytes=541_000
        ),
    ]


def sources(name="first", **more):
    job = {
        "id": JOB,
        "name": name,
        "state": "done",
        "owner": "operator",
        "config": CONFIG,
        "step": 200,
        "steps": 200,
        "created": "2026-01-02T03:04:05.000000Z",
        "reason": "",
        "results": [FIRST, SECOND],
        "account": None,
    }
    proof = Proof(
        TreeHead("log.example/test", 30, bytes(32)),
        "log.example/test+00000000+AAAA",
        "given by whoever made this page",
        Cosigned(28, [("witness.example/1", "2026-01-02T03:04:05.000000Z")]),
    )
    whole = Sources(
        origin="log.example/test",
        profile="development",
        job=job,
        events=events(),
        account=ACCOUNT,
        why_no_account="",
        objects=objects(name),
        entries=entries(name),
        left_out=0,
        proof=proof,
        samples=Samples("the ", (Sample(1, "2026-01-02T03:04:05.000000Z", f"log {name}"),), ""),
        made="2026-01-03T03:04:05.000000Z",
    )
    return replace(whole, **more)
