"""Devices that custody rests on, as real programs: a software TPM and a software token.

`swtpm` and SoftHSM2 speak the real protocols; what is missing is the chip. Where a program or an extra is not
installed, tests say so and skip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SOFTHSM = next(
    (
        path
        for path in (
            "/usr/lib/softhsm/libsofthsm2.so",
            "/usr/lib64/pkcs11/libsofthsm2.so",
            "/usr/local/lib/softhsm/libsofthsm2.so",
        )
        if Path(path).exists()
    ),
    "",
)
PIN = b"271828"


def need_tpm() -> None:
    """Skip aloud where no software TPM can be had."""
    pytest.importorskip("tpm2_pytss", reason="the extra `tpm` is not installed (requirements/tpm.txt)")
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")


def need_token() -> None:
    """Skip aloud where no software token can be had."""
    pytest.importorskip("pkcs11", reason="the extra `pkcs11` is not installed (requirements/pkcs11.txt)")
    if not SOFTHSM or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM2 is not installed")


class SoftwareTpm:
    """A swtpm process on a Unix socket; its state outlives it, as a chip's does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "tpm"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self.socket}"

    def uri(self, pcrs: str = "0,7") -> str:
        return f"tpm:pcrs={pcrs}?tcti={self.tcti}"

    def start(self) -> SoftwareTpm:
        """Power on: the registers begin anew, keys and counters stay."""
        self.process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}"),
                *(
                    "--server",
                    f"type=unixio,path={self.socket}",
                    "--ctrl",
                    f"type=unixio,path={self.socket}.ctrl",
                ),
                *("--flags", "not-need-init,startup-clear"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while not self.socket.exists():
            assert self.process.poll() is None, "swtpm ended at once"
            assert time.monotonic() < deadline, "swtpm did not listen"
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Power off."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.socket.unlink(missing_ok=True)

    def extend(self, register: int) -> None:
        """Measure something else into a register, as other firmware would."""
        import tpm2_pytss as tss  # noqa: PLC0415  an optional extra

        with tss.ESAPI(self.tcti) as esys:
            digest = tss.TPMT_HA(hashAlg=tss.TPM2_ALG.SHA256, digest=tss.TPMU_HA(sha256=os.urandom(32)))
            esys.pcr_extend(tss.ESYS_TR(register), tss.TPML_DIGEST_VALUES([digest]))


@contextmanager
def software_tpm() -> Iterator[SoftwareTpm]:
    """A TPM that is on; in a folder whose path fits a socket's address."""
    need_tpm()
    folder = Path(tempfile.mkdtemp(prefix="tpm-", dir="/tmp"))
    tpm = SoftwareTpm(folder)
    try:
        yield tpm.start()
    finally:
        tpm.stop()
        shutil.rmtree(folder)


class SoftwareToken:
    """SoftHSM2 with a folder of tokens of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tokens").mkdir()
        self.config = folder / "softhsm2.conf"
        self.config.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")

    def uri(self, label: str = "vault") -> str:
        return f"pkcs11:token={label}?module-path={SOFTHSM}"

    def initialise(self, label: str = "vault") -> None:
        subprocess.run(
            [
                *("softhsm2-util", "--init-token", "--free", "--label", label),
                *("--pin", PIN.decode(), "--so-pin", "31415926"),
            ],
            env={**os.environ, "SOFTHSM2_CONF": str(self.config)},
            check=True,
            capture_output=True,
        )


@contextmanager
def software_token(folder: Path) -> Iterator[SoftwareToken]:
    """A token that this process's library sees: it reads its tokens once, so it is told to begin anew."""
    need_token()
    import pkcs11  # noqa: PLC0415  an optional extra

    with pytest.MonkeyPatch.context() as patch:
        token = SoftwareToken(folder)
        patch.setenv("SOFTHSM2_CONF", str(token.config))
        token.initialise()
        pkcs11.lib(SOFTHSM).reinitialize()
        yield token
