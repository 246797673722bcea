"""What one run has cost so far: measured beside the loop, told as numbers, sealed as a report at the end."""

from __future__ import annotations

import time

from appliance.training.accounting import Operations, operations_per_step
from appliance.training.lanes import thread_count
from appliance.training.peak import measured_peak
from appliance.training.report import RunAccount, encode_account
from appliance.training.trainer import StepResult, Trainer
from appliance.worker.checkpoints import Checkpoints
from appliance.worker.port import Port
from appliance.worklink import Account
from kernels import Backend

NO_REPORT = -1
TELL_S = 2.0


class Meter:
    """Counts steps, seconds and bytes from the moment it is made."""

    def __init__(self, port: Port, trainer: Trainer, backend: Backend, checkpoints: Checkpoints) -> None:
        """Measure the machine's peak, then begin."""
        run = trainer.config.train
        self._peak = measured_peak(backend, run.precision, thread_count(run.threads))
        self._port = port
        self._trainer = trainer
        self._checkpoints = checkpoints
        self._begin_step = trainer.next_step
        self._began = self._told = time.monotonic()
        self._step_s = 0.0

    def step(self) -> StepResult:
        """Take one step on the clock."""
        began = time.perf_counter()
        result = self._trainer.step()
        self._step_s += time.perf_counter() - began
        return result

    def account(self) -> RunAccount:
        """Sum up what was computed since the run began, or went on."""
        config, taken = self._trainer.config, self._trainer.next_step - self._begin_step
        return RunAccount(
            begin_step=self._begin_step,
            step=self._trainer.next_step,
            tokens=taken * config.train.sequences * config.model.context,
            seconds=round(time.monotonic() - self._began, 3),
            step_seconds=round(self._step_s, 6),
            waited_seconds=round(self._checkpoints.waited_s, 6),
            bytes_read=self._port.bytes_given,
            peak_flops_per_s=self._peak,
            operations={op: _times(each, taken) for op, each in operations_per_step(config).items()},
        )

    def tell(self) -> None:
        """Tell the custodian now and then."""
        if time.monotonic() - self._told >= TELL_S:
            self._told = time.monotonic()
            self._port.send(message_of(self.account(), NO_REPORT))

    def report(self, name: str) -> None:
        """Seal the account and tell it with the object that holds it."""
        account = self.account()
        output = self._port.want_output("report", name)
        output.seal_from(memoryview(encode_account(account)))
        output.close()
        self._port.send(message_of(account, output.token))


def message_of(account: RunAccount, report: int) -> Account:
    """Phrase an account as a message."""
    total = account.sum
    return Account(
        begin_step=account.begin_step,
        step=account.step,
        tokens=account.tokens,
        seconds=account.seconds,
        step_seconds=account.step_seconds,
        waited_seconds=account.waited_seconds,
        bytes_read=account.bytes_read,
        flops=total.total,
        flops_forward=total.forward,
        flops_backward_inputs=total.backward_inputs,
        flops_backward_parameters=total.backward_parameters,
        flops_recompute=total.recompute,
        peak_flops_per_s=account.peak_flops_per_s,
        share_of_peak=account.share_of_peak,
        report=report,
    )


def _times(each: Operations, count: int) -> Operations:
    return Operations(
        each.forward * count,
        each.backward_inputs * count,
        each.backward_parameters * count,
        each.recompute * count,
    )
