"""What jobs computed and how fast, for those who may know: it reveals the architecture.

While a job runs its worker tells the sums, which stay in memory; at its end they lie sealed in a report, and
the log commits to them. Whether somebody sees either is asked for each job under the action `account`.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.catalog import Object
from appliance.custodian.clients import Answer, Caller, Handler
from appliance.custodian.core import Core
from appliance.custodian.jobs import Run, new_job_id
from appliance.custodian.needtoknow import labels_of, lacks
from appliance.custodian.trains import REPORT, Trains
from appliance.custodian.workers import Worker
from appliance.errors import PolicyRefused, UnknownObject
from appliance.gate import Thing
from appliance.worklink import Account
from audit.entry import JSON
from audit.errors import LogUnavailable
from policy.model import Entity


class Accounts:
    """The accounts of one custodian's jobs."""

    def __init__(self, core: Core, trains: Trains, environment: Mapping[str, str]) -> None:
        self._core = core
        self._trains = trains
        self._environment = environment

    def table(self) -> Mapping[str, Handler]:
        """Return the methods by their name on the wire."""
        return {"ShowAccount": self.account}

    def shown_to(self, person: Entity, job: str) -> dict[str, JSON] | None:
        """Return the account of a job at work, None where there is none yet or the rules keep it back."""
        training = self._trains.find(job)
        if training is None or training.account is None or job not in self._trains.running():
            return None
        missing = lacks(person, labels_of(self._core, self._core.catalog.job(job), training.run))
        try:
            self._core.gate.request(person, "account", self._record(job), job=job, lacks=missing)
        except (PolicyRefused, LogUnavailable):
            return None
        return account_json(job, training.account)

    async def account(self, caller: Caller) -> Answer:
        """Tell the account of a job: of one at work as it stands, of one that ended from its report."""
        job, person = caller.text("job"), self._core.person(caller.uid)
        self._core.catalog.job(job)
        if (shown := self.shown_to(person, job)) is not None:
            return {"account": shown}
        self._core.custody  # noqa: B018  raises SealedError before anything is asked
        report = self._report_of(job)
        asked = new_job_id("account")
        self._core.gate.request(person, "account", self._record(job), job=asked, named=[report.id])
        return {"account": account_json(job, await self._opened(person, asked, report))}

    async def _opened(self, person: Entity, asked: str, report: Object) -> Account:
        core = self._core
        run = Run(core, asked, person.id, "account", [report.id])
        worker = await Worker.start("account", asked, core.facts.profile, environment=self._environment)
        try:
            run.give(worker, REPORT, report)
            worker.proceed()
            return await worker.expect(Account)
        finally:
            await worker.end()
            core.live.revoke_job(asked)

    def _report_of(self, job: str) -> Object:
        """Return the newest account that a job sealed; a worker's own words are sealed under the job's id."""
        name = self._core.catalog.job(job).name
        rows = [row for row in self._core.catalog.list(REPORT) if (row.job, row.name) == (job, name)]
        if not rows:
            raise UnknownObject(f"job {job} has no account: it is sealed when a job is done or stopped")
        return rows[-1]

    def _record(self, job: str) -> Thing:
        owner = self._core.catalog.job(job).owner
        return Thing(Entity("JobRecord", job, {"owner": owner, "purpose": "train"}))


def account_json(job: str, account: Account) -> dict[str, JSON]:
    """Return an account as the interface's type Account."""
    names = [name for name in Account.__slots__ if name != "report"]
    return {"job": job, **{name: getattr(account, name) for name in names}}
