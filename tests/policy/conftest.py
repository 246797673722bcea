"""The shipped engine, and the people and things that the tests ask it about."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policy.engine import Engine, shipped
from policy.model import Decision, Entity, Request

DEVELOPMENT = {
    "profile": "development",
    "sealed": False,
    "isolated": False,
    "witnesses": 0,
    "unwitnessed_entries": 12,
    "unwitnessed_age_s": 0,
    "witnessed_once": False,
    "break_glass": False,
    "custody": "passphrase:",
    "log_custody": "file:",
    "since_boot_s": 3600,
}


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(*shipped())


@pytest.fixture(scope="session")
def facts() -> dict[str, object]:
    return dict(DEVELOPMENT)


@pytest.fixture(scope="session")
def person() -> Callable[..., Entity]:
    return lambda *roles: Entity("Person", "ada", {"roles": roles, "compartments": (), "uid": 1000}, ())


@pytest.fixture(scope="session")
def thing() -> Callable[..., Entity]:
    def make(
        kind: str = "config", state: str = "ready", name: str = "a" * 64, labels: tuple[str, ...] = ()
    ) -> Entity:
        attrs = {"kind": kind, "name": "tiny", "compartments": labels, "state": state}
        return Entity("Object", name, attrs, ())

    return make


@pytest.fixture(scope="session")
def job() -> Callable[..., Entity]:
    return lambda purpose, *names: Entity(
        "Job", "j1", {"owner": "ada", "purpose": purpose, "objects": names, "compartments": ()}, ()
    )


@pytest.fixture(scope="session")
def ask(engine: Engine) -> Callable[..., Decision]:
    def ask(principal: Entity, action: str, resource: Entity, **more: object) -> Decision:
        return engine.decide(Request(principal, action, resource, {**DEVELOPMENT, **more}))

    return ask
