"""A daemon that answers as a test tells it to and remembers what it was asked; what it says by default."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from contextlib import contextmanager

from appliance.client import listen
from appliance.errors import ApplianceError

STATUS = {
    "version": "0.1.0",
    "origin": "example.invalid/log",
    "profile": "development",
    "isolated": False,
    "sealed": True,
    "custody": "passphrase:",
    "recovery": "",
    "log_custody": "file:",
    "log_size": 12,
    "log_alive": True,
    "witnesses": 2,
    "unwitnessed_entries": 7,
    "unwitnessed_age_s": 3700,
    "break_glass": False,
    "objects": 3,
    "jobs_running": ["7f3a"],
    "egress": [
        {
            "content": "text",
            "bytes": 2048,
            "count": 3,
            "limit_bytes": 4194304,
            "limit_count": 2000,
            "days": 7,
        }
    ],
    "accounts": [],
    "disk": {"free_bytes": 3 << 30, "total_bytes": 40 << 30},
    "refusals": [
        {
            "index": 9,
            "time": "2026-01-01T00:00:00.000000Z",
            "principal": "Person:carol",
            "action": "export",
            "resource": "weights/first\x1b[2J",
            "reasons": ["forbidden-by:export-needs-two-officers"],
        }
    ],
    "warnings": ["networked\x1b[2J"],
    "pid": 4242,
}


CUSTODY = {
    "uri": "passphrase:",
    "asks": "passphrase",
    "recipient": "age1abc",
    "generation": 0,
    "shares": None,
    "pending": None,
    "pending_shares": None,
    "device": "",
    "recovery": "",
}


FILE_CUSTODY = {**CUSTODY, "uri": "file:", "asks": ""}


OBJECT = {
    "id": "ab" * 32,
    "kind": "weights",
    "name": "first\x1b[31m",
    "version": 2,
    "size_bytes": 1536,
    "sha256": "cd" * 32,
    "parents": [],
    "compartments": [],
    "state": "ready",
    "job": "7f3a",
    "log_index": 9,
    "created": "2026-01-01T00:00:00Z",
}


JOB = {
    "id": "7f3a",
    "name": "first",
    "state": "running",
    "owner": "carol",
    "config": "small",
    "step": 3,
    "steps": 9,
    "created": "2026-01-01T00:00:00Z",
    "reason": "",
    "results": [],
    "account": None,
}


ACCOUNT = {
    "job": "7f3a",
    "begin_step": 100,
    "step": 300,
    "tokens": 204_800,
    "seconds": 12.5,
    "step_seconds": 11.25,
    "waited_seconds": 0.004,
    "bytes_read": 4096,
    "flops": 1_234_567_890_123,
    "flops_forward": 400_000_000_000,
    "flops_backward_inputs": 400_000_000_000,
    "flops_backward_parameters": 400_000_000_000,
    "flops_recompute": 34_567_890_123,
    "peak_flops_per_s": 300_000_000_000,
    "share_of_peak": 0.3658,
}


def event(seq, kind="progress", **more):
    figures = {"loss": 2.5, "bits_per_byte": None, "learning_rate": 0.001, "tokens_per_s": 3000.0}
    return {
        "seq": seq,
        "kind": kind,
        "step": seq,
        "steps": 9,
        "elapsed_s": float(seq),
        "object": None,
        "reason": None,
        **figures,
        **more,
    }


class FakeDaemon:
    """Answers on the home's socket with what the test lays out, and remembers what it was asked."""

    def __init__(self, home):
        self.answers = {"Status": STATUS, "CustodyStatus": CUSTODY}
        self.asked = []
        self.raw = bytearray()
        self.secrets = []
        self.listener = listen(home / "run")
        self.closing = False
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def parameters(self, method):
        return [parameters for name, parameters in self.asked if name == method][-1]

    def close(self):
        self.closing = True
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)

    def _accept(self):
        while not self.closing:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, connection):
        pending, fds = bytearray(), []
        with connection:
            while True:
                try:
                    data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
                except ConnectionResetError:  # a client that went away with answers unread
                    return
                for _, _, payload in ancillary:
                    received = array.array("i")
                    received.frombytes(payload)
                    fds.extend(received)
                if not data:
                    return
                self.raw += data
                pending += data
                while (end := pending.find(b"\0")) >= 0:
                    call = json.loads(pending[:end])
                    del pending[: end + 1]
                    try:
                        self._answer(connection, call, fds)
                    except (BrokenPipeError, ConnectionResetError):
                        return
                    finally:
                        for fd in fds:
                            os.close(fd)
                        fds.clear()

    def _answer(self, connection, call, fds):
        name = call["method"].removeprefix("invalid.appliance.")
        self.asked.append((name, call["parameters"]))
        answer = self.answers[name]

        def send(**message):
            connection.sendall(json.dumps(message).encode() + b"\0")

        try:
            answer = answer(call["parameters"], list(fds)) if callable(answer) else answer
            if not call.get("more"):
                return send(parameters=answer)
            keys = ["event"]
            for item in answer:
                keys = list(item)
                send(parameters=item, continues=True)
            return send(parameters=dict.fromkeys(keys))
        except ApplianceError as error:
            refusal = {"code": error.code, "exit_code": error.exit_code, "message": str(error)}
            return send(error="invalid.appliance.Refused", parameters=refusal)


@contextmanager
def pipe_with(data: bytes):
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    yield str(read_end)
    os.close(read_end)
