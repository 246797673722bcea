"""The demo's story: five people, one model, and what each of them types.

Order: keys → a new appliance → a signed bundle of text → import and training → two officers → export → the
recipient → the auditor. The daemon is ended before the auditor comes: what is checked is what is on the disk.
"""

from __future__ import annotations

import pydoc_data.topics
import shlex
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.demo import corpus
from appliance.demo.narrator import Narrator
from appliance.demo.previous import Ground
from appliance.errors import ApplianceError
from appliance.training.config import parse_config

PREPARED = ("researcher/corpus", "officers", "recipient", "in", "out")
MODEL = "reference"

CONFIG = """\
# Train on the Python language reference. Whatever is not named here is as the preset has it.
preset = "tiny"

[model]
context = 128

[train]
steps = 1250
batch = 12

[data]
corpus = "python-reference"
"""

# The preset's model after one step: what it says before it has learned anything.
FIRST_STEP = """\
preset = "tiny"

[model]
context = 128

[train]
batch = 12
steps = 1
warmup_steps = 0

[data]
corpus = "python-reference"
"""


@dataclass(frozen=True, slots=True)
class Script:
    """What can be told shorter: the two configs, the samples, and how long training may take."""

    config: str = CONFIG
    first_step: str = FIRST_STEP
    prompt: str = "The yield expression is"
    length: int = 240
    patience_s: float = (
        150.0  # on a slow machine the job is stopped at a checkpoint then, and the story goes on
    )


@dataclass(frozen=True, slots=True)
class Result:
    """What training reached: bits per byte of the held-out text, after how many steps and seconds."""

    bits_per_byte: float
    steps: int
    elapsed_s: float


class Story:
    """One telling in one folder; every method is a scene."""

    def __init__(self, tell: Narrator, ground: Ground, script: Script) -> None:
        self.tell = tell
        self.ground = ground
        self.script = script
        self.at = shlex.quote(ground.folder.name)  # commands run in the folder above
        self.texts = corpus.documents(pydoc_data.topics.topics)

    def keys(self) -> None:
        """Everybody makes keys, each at home."""
        at, run = self.at, self.tell.run
        for name in PREPARED:
            (self.ground.folder / name).mkdir(parents=True)
        self.tell.section("Everybody", "makes keys; only public halves are handed around")
        run(f"appliance keygen signer researcher --out {at}/researcher", show=2)
        for officer in ("alice", "bob"):
            key = f"{at}/officers/{officer}"
            run(f"ssh-keygen -q -t ed25519 -N '' -C {officer} -f {key}")
            run(
                f"""echo '{officer} namespaces="approval@appliance"' "$(cat {key}.pub)" """
                f">> {at}/officers/allowed_signers"
            )
        run(f"appliance keygen recipient lab --out {at}/recipient", show=2)

    def initialise(self) -> None:
        """Let the operator make an appliance."""
        at = self.at
        self.tell.section("Operator", "makes an appliance that trusts this researcher and these officers")
        self.tell.run(
            f"appliance init --profile development --custody file: --yes --public {at}/public \\\n"
            f"    --trust-signer {at}/researcher/researcher.vkey --officers {at}/officers/allowed_signers",
            show="^(warning|origin|profile|log.vkey|export.pub)",
        )

    def pack(self) -> None:
        """Let the researcher pack text and configs for this appliance and no other."""
        at, home = self.at, self.ground.folder / "researcher"
        self.tell.section("Researcher", "packs text and configs into a signed bundle that only it can open")
        for name, text in self.texts.items():
            (home / "corpus" / f"{name}.txt").write_text(text, encoding="utf-8")
        (home / f"{MODEL}.toml").write_text(self.script.config, encoding="utf-8")
        (home / "first-step.toml").write_text(self.script.first_step, encoding="utf-8")
        size = sum(len(text.encode("utf-8")) for text in self.texts.values())
        self.tell.outcome(
            f"{len(self.texts)} topics of the Python language reference, {size:,} bytes, each paragraph once"
        )
        self.tell.run(
            f"appliance bundle create {at}/researcher/corpus {at}/researcher/*.toml \\\n"
            f"    --name python-reference --to {at}/public/transfer.recipient \\\n"
            f"    --sign {at}/researcher/researcher.key --out {at}/in"
        )

    def start(self) -> None:
        """Let the operator start the daemon and take the bundle in."""
        self.tell.section("Operator", "starts it, opens the vault, takes the bundle in")
        said = self.tell.run("appliance daemon --detach")
        self.ground.record(int(said.split()[-1]))
        self.tell.run("appliance unseal --reason demo")
        self.tell.run("appliance status", show="^(vault|profile|warning: dev)")
        self.tell.run(f"appliance import {self.at}/in/*.bundle", show=5)

    def train(self) -> Result:
        """Let the operator train, and the model speak before and after."""
        tell, prompt = self.tell, shlex.quote(self.script.prompt)
        sample = f"--prompt {prompt} --length {self.script.length}"
        tell.section("Operator", "trains, without being able to look at text, config or weights")
        tell.run("appliance train first-step", show="^(evaluated|done)")
        tell.run(f"appliance sample first-step {sample}", show=6)
        steps = parse_config(self.script.config.encode("utf-8")).train.steps
        tell.outcome(f"now {steps:,} steps, about two minutes on two cores; Ctrl-C ends the demo")
        tell.follow(f"appliance train {MODEL}", patience_s=self.script.patience_s, give_up=self._stop_early)
        tell.run(f"appliance sample {MODEL} {sample}", show=8)
        return self._result()

    def _stop_early(self) -> None:
        self.tell.outcome(
            f"this machine is slow: enough after {self.script.patience_s:.0f} s, a checkpoint is whole"
        )
        with suppress(ApplianceError):  # the job may end by itself just now
            for job in self.tell.ask("appliance jobs --json"):
                if job["state"] == "running":
                    self.tell.run(f"appliance stop {job['id']}")

    def _result(self) -> Result:
        """Read the last evaluation out of the job's events."""
        (job,) = [job for job in self.tell.ask("appliance jobs --json") if job["name"] == MODEL]
        events = self.tell.ask(f"appliance watch {job['id']} --json | tr '\\n' , | sed 's/^/[/; s/,$/]/'")
        last = [event for event in events if event.get("bits_per_byte") is not None][-1]
        return Result(last["bits_per_byte"], last["step"], events[-1]["elapsed_s"])

    def compare(self, result: Result) -> None:
        """Set the model beside general compressors on the same held-out text."""
        config = parse_config(self.script.config.encode("utf-8"))
        other = corpus.yardsticks(self.texts.values(), config.train.validation_fraction)
        self.tell.say(
            f"\n    bits per byte of the {other.held_out_bytes:,} bytes held out (less is better):\n"
            f"    {result.bits_per_byte:7.3f}  this model, after {result.steps:,} steps and"
            f" {result.elapsed_s:.0f} s\n"
            f"    {other.gzip:7.3f}  gzip -9, {other.xz:.3f}  xz -9: of that text alone\n"
            f"    {other.xz_after_training_text:7.3f}  xz -9 that has read the training text first,"
            " as the model has"
        )

    def export(self) -> str:
        """Show one approval refused and two accepted; return the bundle's path, as the shell takes it."""
        at, tell = self.at, self.tell
        request, to = f"{at}/officers/export.request", f"{at}/recipient/lab.recipient"
        export = f"appliance export {MODEL} --sign --to {to} \\\n    --request {request} --out {at}/out"
        tell.section("Operator", "asks to take the model out, and one officer is not enough")
        tell.run(
            f"appliance request export {MODEL} --to {to} \\\n"
            f"    --reason 'shown in the demo' --out {request}",
            show=1,
        )
        self._approve("alice", request)
        tell.run(export, show=1, expect=8)
        tell.section("Operator", "takes it out with the second officer's word")
        self._approve("bob", request)
        tell.run(export, show=4)
        (bundle,) = [path.name for path in (self.ground.folder / "out").glob("*.bundle")]
        return f"{at}/out/{shlex.quote(bundle)}"

    def _approve(self, officer: str, request: str) -> None:
        signature = f"{self.at}/officers/{officer}.sig"
        self.tell.run(
            f"ssh-keygen -q -Y sign -n approval@appliance -f {self.at}/officers/{officer} \\\n"
            f"    < {request} > {signature}",
            show=0,
        )
        self.tell.run(f"appliance approve {request} {signature}")

    def open(self, bundle: str) -> None:
        """Let the recipient check and open the export, with public tools where they are installed."""
        at, run = self.at, self.tell.run
        identity, trust = f"{at}/recipient/lab.identity", f"--trust {at}/public/bundle.vkey"
        path = self.tell.environment["PATH"]
        if all(shutil.which(tool, path=path) for tool in ("age", "sha256sum", "tar")):
            self.tell.section("Recipient", "opens the export with sha256sum, age and tar")
            run(f"appliance bundle verify {bundle} {trust}", show="^ok")
            run(f"(cd {bundle} && sha256sum -c sha256sums)")
            run(
                f'for part in {bundle}/p*.age; do age -d -i {identity} "$part"; done \\\n'
                f"    | tar -x -C {at} model"
            )
        else:
            self.tell.section("Recipient", "opens the export (age, sha256sum or tar is not installed here)")
            run(f"appliance bundle open {bundle} --identity {identity} {trust} --out {at}/opened", show=0)
            run(f"mv {at}/opened/model {at}/model")
        run(f"ls {at}/model", show=6)

    def shut_down(self) -> None:
        """End the operator's day."""
        self.tell.section("Operator", "ends the daemon; the vault is sealed again")
        self.tell.run("appliance shutdown")

    def audit(self) -> None:
        """Let the auditor check log, receipts and model with two public keys and no daemon."""
        at, tell = self.at, self.tell
        log, export = f"{at}/public/log.vkey", f"{at}/public/export.pub"
        tell.section("Auditor", "checks the whole log, each receipt and the model, with public keys only")
        tell.run(
            f"python -m audit verify {at}/home/log --vkey {log} \\\n"
            f"    --receipt {at}/model/lineage/*.tlog-proof",
            show="^OK|entries |signature",
        )
        if shutil.which("model_signing", path=tell.environment["PATH"]):
            tell.run(
                f"model_signing verify key --public_key {export} --signature {at}/model/model.sig {at}/model"
            )
        tell.run(
            f"appliance verify-model {at}/model --log-key {log} --export-key {export}",
            show="^(signature|approved|receipts|warning)",
        )


def perform(tell: Narrator, folder: Path, script: Script) -> Result:
    """Tell the whole story in `folder`, a child of the narrator's working directory.

    Ends the daemon of an earlier demo in it first, and its own whatever happens. Raises the first
    ApplianceError.
    """
    ground = Ground.take(folder)
    try:
        ended = ground.end_daemon()
        if ended is not None:
            tell.say(f"ended the daemon of an earlier demo (pid {ended})")
        try:
            ground.clear()
        except PermissionError as kept:
            message = (
                f"{kept.filename}: an earlier demo of another user made it; remove {folder} as that user"
            )
            raise ApplianceError(message) from kept
        return _scenes(Story(tell, ground, script))
    finally:
        ended = ground.end_daemon()
        if ended is not None:
            tell.say(f"ended the daemon (pid {ended}); what it said last: {folder}/home/run/daemon.err")
        ground.close()


def _scenes(story: Story) -> Result:
    story.keys()
    story.initialise()
    story.pack()
    story.start()
    result = story.train()
    story.compare(result)
    bundle = story.export()
    story.open(bundle)
    story.shut_down()
    story.audit()
    story.tell.end_section()
    return result
