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
}


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(*shipped())


@pytest.fixture(scope="session")
def facts() -> dict[str, object]:
    return dict(DEVELOPMENT)


@pytest.fixture(scope="session")
def person() -> Callable[..., Entity]:
    return lambda *roles: Entity("Person", "ada", {"roles": roles, "uid": 1000}, ())


@pytest.fixture(scope="session")
def thing() -> Callable[..., Entity]:
    def make(kind: str = "config", state: str = "ready", name: str = "a" * 64) -> Entity:
        return Entity("Object", name, {"kind": kind, "name": "tiny", "compartments": (), "state": state}, ())

    return make


@pytest.fixture(scope="session")
def job() -> Callable[..., Entity]:
    return lambda purpose, *names: Entity(
        "Job", "j1", {"owner": "ada", "purpose": purpose, "objects": names}, ()
    )


@pytest.fixture(scope="session")
def ask(engine: Engine) -> Callable[..., Decision]:
    def ask(principal: Entity, action: str, resource: Entity, **more: object) -> Decision:
        return engine.decide(Request(principal, action, resource, {**DEVELOPMENT, **more}))

    return ask
