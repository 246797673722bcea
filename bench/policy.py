"""Decisions a second on one core: the engine with all that it checks, beside bare Cedar with handles kept.

Taken in turns in one run: the shipped rules, asked about a small laboratory's people and objects; 200 rules,
asked about 10,000 people and objects at random; and `cedarpy` alone with the shipped rules, schema and facts
kept as handles, asked one question over and over. Each of our questions states other counts, as a growing log
does. The 200 rules are the shipped ones and, in equal parts, rules about one person, about one object, and
about one name for one of the actions; how long such a set takes to load and validate is measured too. Times
are of the thread's own processor, so that a busy machine says what a quiet one would, nearly.
Prints one JSON object: medians, rates from means, and ratios. `python bench/policy.py`.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import time
from collections.abc import Sequence

import cedarpy

from policy.engine import Engine, shipped
from policy.model import WORLD_FACTS, Entity, Request

ROUNDS, BLOCK, LOADS = 12, 500, 7
RULES, ENTITIES, PEOPLE = 200, 10_000, 10
SEED = 5
WORLD = {
    "profile": "isolated",
    "sealed": False,
    "isolated": True,
    "custody": "passphrase:",
    "log_custody": "file:",
    "since_boot_s": 3600,
    "witnesses": 1,
    "witnessed_once": True,
    "break_glass": False,
    "unwitnessed_age_s": 60,
}
ASKED = (("train", "config"), ("sample", "weights"), ("use", "corpus"), ("use", "weights"))


def questions(draw: random.Random, people: int, objects: int, count: int) -> list[Request]:
    """Questions that the shipped rules permit, about people and objects drawn at random."""
    found = []
    for number in range(count):
        action, kind = draw.choice(ASKED)
        person, name = f"p{draw.randrange(people)}", f"{draw.randrange(objects):064x}"
        attrs = {"kind": kind, "name": "tales", "state": "ready", "compartments": ("a",)}
        principal = Entity(
            "Person", person, {"roles": ("operator",), "compartments": ("a", "b"), "uid": 1000}
        )
        if action == "use":
            job = {"owner": person, "purpose": "train", "objects": [name], "compartments": ("a", "b")}
            principal = Entity("Job", f"train-{person}", job)
        context = {**WORLD, "unwitnessed_entries": number % 9000}
        found.append(Request(principal, action, Entity("Object", name, attrs), context))
    return found


def more_rules(draw: random.Random, count: int) -> str:
    """Rules as a laboratory adds them: about one person, one object, and one name for one action."""
    actions = ("train", "sample", "evaluate", "export", "read", "use", "request", "shred")
    rules = []
    for number in range(count):
        action = draw.choice(actions)
        head, condition = (
            (
                f'permit (principal == Person::"q{number}", action, resource is Object)',
                'resource.kind == "weights"',
            ),
            (
                f'forbid (principal, action, resource == Object::"{number:064x}")',
                'resource.name == "gone"',
            ),
            (
                f'forbid (principal, action == Action::"{action}", resource is Object)',
                f'resource.name == "r{number}"',
            ),
        )[number % 3]
        rules.append(f'@id("r{number}")\n{head}\nwhen {{ {condition} }};\n')
    return "\n".join(rules)


def ask(engine: Engine, requests: Sequence[Request]) -> list[float]:
    """Seconds of each decision, every one of which must be an allow."""
    seconds = []
    for request in requests:
        begin = time.thread_time()
        decision = engine.decide(request)
        seconds.append(time.thread_time() - begin)
        assert decision.allow, decision
    return seconds


def bare_cedar(rules: str, schema: str, request: Request) -> list[float]:
    """Seconds of Cedar's own answer, with all that can be kept as a handle."""
    policies, parsed = cedarpy.PolicySet.from_str(rules), cedarpy.Schema.from_str(schema)
    world = {name: request.context[name] for name in WORLD_FACTS}
    more = {name: value for name, value in request.context.items() if name not in WORLD_FACTS}
    told = [("World", "now", world)]
    told += [
        (each.type, each.id, {**each.attrs, "id": each.id}) for each in (request.principal, request.resource)
    ]
    entities = cedarpy.Entities.from_json_str(
        json.dumps([{"uid": {"type": t, "id": i}, "attrs": a, "parents": []} for t, i, a in told]), parsed
    )
    asked = {
        "principal": {"type": request.principal.type, "id": request.principal.id},
        "action": {"type": "Action", "id": request.action},
        "resource": {"type": request.resource.type, "id": request.resource.id},
        "context": json.dumps(more),
    }
    seconds = []
    for _ in range(BLOCK):
        begin = time.thread_time()
        answer = cedarpy.is_authorized(asked, policies, entities, parsed)
        seconds.append(time.thread_time() - begin)
        assert answer.allowed
    return seconds


def load_time(rules: dict[str, str], schema: str) -> float:
    """Median milliseconds to parse, validate and keep a set."""
    taken = []
    for _ in range(LOADS):
        begin = time.perf_counter()
        Engine(rules, schema)
        taken.append(time.perf_counter() - begin)
    return round(1e3 * statistics.median(taken), 1)


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median in µs, and the rate that the mean allows."""
    return {
        "median_us": round(1e6 * statistics.median(seconds), 1),
        "decisions_per_s": round(1 / statistics.mean(seconds)),
    }


def main() -> None:
    """Measure and print."""
    draw = random.Random(SEED)  # noqa: S311  questions, not keys
    rules, schema = shipped()
    count = sum(text.count("@id(") for text in rules.values())
    many = {**rules, "lab.cedar": more_rules(draw, RULES - count)}
    small, large = Engine(rules, schema), Engine(many, schema)
    few = questions(draw, 3, 12, ROUNDS * BLOCK)
    crowd = questions(draw, PEOPLE, ENTITIES - PEOPLE, ROUNDS * BLOCK)
    ours: list[float] = []
    crowded: list[float] = []
    bare: list[float] = []
    ask(small, few[:BLOCK])
    ask(large, crowd[:BLOCK])
    for number in range(ROUNDS):
        block = slice(number * BLOCK, (number + 1) * BLOCK)
        ours += ask(small, few[block])
        crowded += ask(large, crowd[block])
        bare += bare_cedar("".join(rules.values()), schema, few[0])
    result = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "targets": {
            "median_us": "<= 66",
            "decisions_per_s": ">= 15000",
            "slowdown": "< 2",
            "load_ms": "< 100",
        },
        "shipped_rules": {"rules": count, **summary(ours)},
        "200_rules_10000_entities": summary(crowded),
        "slowdown": {
            "of_medians": round(statistics.median(crowded) / statistics.median(ours), 2),
            "of_means": round(statistics.mean(crowded) / statistics.mean(ours), 2),
        },
        "bare_cedar_one_question": summary(bare),
        "ratio_to_bare_cedar": {
            "shipped_rules": round(statistics.median(ours) / statistics.median(bare), 2),
            "200_rules_10000_entities": round(statistics.median(crowded) / statistics.median(bare), 2),
        },
        "load_200_rules_ms": load_time(many, schema),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
