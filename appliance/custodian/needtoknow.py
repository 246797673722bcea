"""Which labels a job works under, and whether a person carries them: what it tells is theirs alone.

The rules judge objects by their labels (`need-to-know`); a job's record has none of its own. It has those of
all that it was given keys of, also of what turned out damaged, and of what it was made of and has made.
"""

from __future__ import annotations

from collections.abc import Collection

from appliance.catalog import Job
from appliance.custodian.core import Core
from appliance.custodian.jobs import Run
from appliance.gate import Lack
from policy.model import Entity

REASON = "need-to-know:job"


def labels_of(core: Core, row: Job, run: Run | None) -> frozenset[str]:
    """Return a job's labels; `run` is what it did in this life of the daemon, None where nothing."""
    objects = [core.catalog.get(each) for each in (row.config, *row.corpora, *row.results)]
    of_run = run.labels if run is not None else frozenset[str]()
    return frozenset(of_run).union(*(each.compartments for each in objects))


def carries(person: Entity, labels: Collection[str]) -> bool:
    """Whether a person may know what is under these labels."""
    told = person.attrs.get("compartments", ())
    return isinstance(told, list | tuple | set | frozenset) and set(labels) <= set(told)


def lacks(person: Entity, labels: Collection[str]) -> tuple[Lack, ...]:
    """Return what denies somebody who does not carry them all."""
    if carries(person, labels):
        return ()
    return (Lack(REASON, "ask somebody who carries the labels of everything that the job works on"),)
