"""What a small appliance logs in a day, in the words of the real one: import, training, refusal, export."""

from __future__ import annotations

import json

from audit.entry import Decision, Record, encode_entry, format_time, parse_entry

CONFIG, CORPUS, WEIGHTS = "c0" * 32, "d0" * 32, "e0" * 32
APPLIANCE = "Appliance:log.example/test"
SET = "ab" * 32
BEGAN_S = 1_750_000_000.0
SECRET = bytes(range(64, 96))


def decision(who, action, what, /, *, allow=True, rules=("a-rule",), reasons=(), sealed=False, **context):
    facts = {"isolated": True, "sealed": sealed, "profile": "isolated", **context}
    return Record("decision", who, action, what, facts, Decision(allow, tuple(rules), SET, tuple(reasons)))


def fact(kind, who, action, what, /, *, secret=None, **context):
    return Record(kind, who, action, what, {"profile": "isolated", **context}, secret=secret or {})


def opened(job, what, kind, name):
    return fact("output-opened", f"Job:{job}", "create", f"Object:{what}", kind=kind, name=name)


def verified(job, what, name):
    rules = ("custodian-verifies-what-is-staged",)
    return decision("Custodian:custodian", "verify", f"Object:{what}", rules=rules, job=job, object_name=name)


def created(job, what, kind, name, parents=(), **changes):
    context = {
        "object": what,
        "kind": kind,
        "name": name,
        "version": 1,
        "size": 100,
        "payload_sha256": what[::-1],
        "compartments": [],
        "parents": list(parents),
        "job": job,
        **changes,
    }
    secret = {"plaintext_sha256": "77" * 32, "flops": 1234}
    return fact("object-created", f"Job:{job}", "create", f"Object:{what}", secret=secret, **context)


def use(job, what, name):
    rules = ("job-uses-what-its-decision-named",)
    return decision(f"Job:{job}", "use", f"Object:{what}", rules=rules, job=job, object_name=name)


def export_decision(*approvers, allow=True, job="export-3", request="99" * 32, requester="operator"):
    return decision(
        "Person:operator",
        "export",
        f"Object:{WEIGHTS}",
        allow=allow,
        rules=("operator-exports-weights",) if allow else ("export-needs-two-officers",),
        reasons=() if allow else ("forbidden-by:export-needs-two-officers",),
        job=job,
        object_name="weights/tiny",
        approvals=len(approvers),
        approvers=list(approvers),
        requester=requester,
        recipient="age1" + "q" * 58,
        request=request,
    )


def approved(person, request="99" * 32):
    return fact(
        "approved", f"Person:{person}", "approve", f"Request:{request}", request=request, key="SHA256:x"
    )


def exported(job="export-3", what=WEIGHTS, request="99" * 32):
    facts = {"object": what, "request": request, "bundle": "b0" * 16, "bytes": 541000, "job": job}
    return fact("bundle-exported", "Person:operator", "export", f"Object:{what}", **facts)


def day():
    """The entries of one day, in order."""
    bundle = f"Bundle:{'b1' * 16}"
    return [
        fact("genesis", "Custodian:custodian", "init", APPLIANCE, custody="file:"),
        fact("started", "Custodian:custodian", "start", APPLIANCE, warnings=["keys lie in a file"], pid=1),
        fact("unseal-failed", "Person:operator", "unseal", APPLIANCE, reason="secret"),
        fact("unsealed", "Person:operator", "unseal", APPLIANCE, custody="file:", reason=""),
        decision("Person:operator", "import", bundle, job="import-1"),
        decision("Job:import-1", "open", bundle, job="import-1"),
        opened("import-1", CONFIG, "config", "tiny"),
        verified("import-1", CONFIG, "config/tiny"),
        created("import-1", CONFIG, "config", "tiny"),
        opened("import-1", CORPUS, "corpus", "words"),
        verified("import-1", CORPUS, "corpus/words"),
        created("import-1", CORPUS, "corpus", "words"),
        fact(
            "bundle-imported", "Person:operator", "import", bundle, job="import-1", objects=[CONFIG, CORPUS]
        ),
        decision("Person:operator", "train", f"Object:{CONFIG}", job="train-2", object_name="config/tiny"),
        fact("jail", "Custodian:custodian", "train", "JobRecord:train-2", job="train-2", missing=[]),
        use("train-2", CONFIG, "config/tiny"),
        fact(
            "object-named", "Job:train-2", "name", f"Object:{CORPUS}", job="train-2", object=CORPUS, by=CONFIG
        ),
        use("train-2", CORPUS, "corpus/words"),
        opened("train-2", WEIGHTS, "weights", "tiny"),
        verified("train-2", WEIGHTS, "weights/tiny"),
        created("train-2", WEIGHTS, "weights", "tiny", parents=[CONFIG, CORPUS]),
        fact("job-ended", "Custodian:custodian", "train", "JobRecord:train-2", job="train-2", state="done"),
        decision("Person:mallory", "read", f"Object:{WEIGHTS}", allow=False, rules=(), reasons=("no-rule",)),
        decision("Person:operator", "request", f"Object:{WEIGHTS}", object_name="weights/tiny"),
        fact(
            "request-made",
            "Person:operator",
            "request",
            f"Object:{WEIGHTS}",
            request="99" * 32,
            action="export",
            reason="for carol",
        ),
        approved("alice"),
        export_decision("alice", allow=False),
        approved("bob"),
        export_decision("alice", "bob"),
        use("export-3", WEIGHTS, "weights/tiny"),
        exported(),
        fact("sealed", "Person:operator", "seal", APPLIANCE, reason="night"),
        fact("started", "Custodian:custodian", "start", APPLIANCE, warnings=[], pid=2),
        fact("ended", "Custodian:custodian", "end", APPLIANCE, pid=2),
    ]


def entries(records, times=None):
    """Entries as the verifier hands them out, one a minute, unless `times` says otherwise."""
    found = []
    for seq, record in enumerate(records):
        plain = Record(
            record.kind, record.principal, record.action, record.resource, record.context, record.decision
        )
        time = times[seq] if times else format_time(BEGAN_S + 60 * seq)
        found.append(parse_entry(encode_entry(plain, seq, time)))
    return found


def listing(found):
    """The vault's list that belongs to these entries, as `appliance objects list --json` prints it."""
    return [
        {
            "id": entry.context["object"],
            "kind": entry.context["kind"],
            "name": entry.context["name"],
            "version": entry.context["version"],
            "size_bytes": entry.context["size"],
            "sha256": entry.context["payload_sha256"],
            "parents": entry.context["parents"],
            "compartments": entry.context["compartments"],
            "state": "ready",
            "job": entry.context["job"],
            "log_index": entry.seq,
            "created": entry.time,
        }
        for entry in found
        if entry.kind == "object-created"
    ]


def listing_text(found):
    return json.dumps(listing(found), indent=2)
