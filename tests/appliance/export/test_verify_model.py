"""An exported model is accepted whole, with a lineage that the log backs, or not at all."""

import hashlib
import os
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.errors import ContentRefused, Incomplete, IntegrityError, MediumMissing, SignatureError
from appliance.export.form import Form
from appliance.export.lineage import ReceiptName
from appliance.export.model_folder import complete_folder
from appliance.export.signing import public_pem, sign_model
from appliance.export.verify_model import verify_model
from audit.entry import Decision, Record
from audit.log import Log
from audit.note import NoteSigner
from audit.signing import LogSigner

from .conftest import PAYLOAD, SmallLog


def test_report_says_what_was_checked(exported):
    report = exported.verify()
    assert report.model == "model"
    assert set(report.files) == {
        *PAYLOAD,
        *(
            "lineage/statement.json",
            "lineage/tree-head.note",
            "lineage/train.tlog-proof",
            "lineage/train.entry",
        ),
        *("lineage/export.tlog-proof", "lineage/export.entry"),
    }
    assert report.lineage == exported.lineage
    assert report.tree_head.size == 4


def test_every_flipped_byte_of_every_small_file_is_refused(exported):
    for path in sorted(exported.folder.rglob("*")):
        if path.is_dir() or path.name == "model.safetensors":
            continue
        with path.open("r+b", buffering=0) as file:
            for at, good in enumerate(path.read_bytes()):
                os.pwrite(file.fileno(), bytes([good ^ 1]), at)
                with pytest.raises(SignatureError if path.name == "model.sig" else IntegrityError):
                    exported.verify()
                os.pwrite(file.fileno(), bytes([good]), at)
    exported.verify()


def test_changed_weights_are_named(exported):
    with (exported.folder / "model.safetensors").open("r+b") as file:
        file.write(b"W")
    with pytest.raises(IntegrityError, match=r"model\.safetensors: expected SHA-256 .* it was changed"):
        exported.verify()


@pytest.mark.parametrize("name", [*PAYLOAD, "model.sig", "lineage/train.entry", "lineage/tree-head.note"])
def test_absent_file_is_named(exported, name):
    (exported.folder / name).unlink()
    with pytest.raises(Incomplete, match=name):
        exported.verify()


@pytest.mark.parametrize("name", ["extra.bin", "lineage/extra.entry", "lineage/model.sig"])
def test_unsigned_file_is_refused(exported, name):
    (exported.folder / name).write_bytes(b"x")
    with pytest.raises(ContentRefused, match=f"expected only signed files, found {name}"):
        exported.verify()


@pytest.mark.parametrize("name", [".git", ".gitattributes", ".hidden"])
def test_paths_that_the_public_tool_ignores_are_refused_by_ours(exported, name):
    (exported.folder / name).mkdir()
    with pytest.raises(ContentRefused, match=f"no hidden files, found {name}"):
        exported.verify()


def test_link_in_the_place_of_a_file_is_refused(exported):
    target = exported.folder / "config.json"
    target.rename(exported.folder.parent / "config.json")
    target.symlink_to(exported.folder.parent / "config.json")
    with pytest.raises(ContentRefused, match=r"found config\.json, a link"):
        exported.verify()


def test_pipe_does_not_hang_the_verifier(exported):
    os.mkfifo(exported.folder / "pipe")
    with pytest.raises(ContentRefused, match="found pipe"):
        exported.verify()


def test_folder_that_is_not_there_is_named(exported):
    with pytest.raises(MediumMissing, match="name the folder"):
        verify_model(exported.folder / "none", exported.log_key, exported.export_pub)


def test_another_export_key_is_refused(exported):
    other = ec.derive_private_key(77, ec.SECP256R1())
    with pytest.raises(SignatureError, match="by this export key"):
        verify_model(exported.folder, exported.log_key, public_pem(other))


def test_another_log_key_is_refused(exported):
    other = SmallLog(seed=9).signer.vkey
    with pytest.raises(SignatureError, match="is this the right key file"):
        verify_model(exported.folder, other, exported.export_pub)


def sign_as_it_lies(exported) -> None:
    """Sign the folder's present files, whatever the statement says of them."""
    files = [path for path in exported.folder.rglob("*") if path.is_file() and path.name != "model.sig"]
    digests = {
        path.relative_to(exported.folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }
    (exported.folder / "model.sig").write_bytes(sign_model("model", digests, exported.key))


def test_statement_of_another_model_is_refused_although_signed(exported):
    (exported.folder / "model.safetensors").write_bytes(b"another model")
    sign_as_it_lies(exported)
    with pytest.raises(IntegrityError, match="signed files as its subjects, found others; it is of another"):
        exported.verify()


def test_statement_that_leaves_out_a_file_is_refused_although_signed(exported):
    (exported.folder / "extra.json").write_bytes(b"{}")
    sign_as_it_lies(exported)
    with pytest.raises(IntegrityError, match="signed files as its subjects, found others"):
        exported.verify()


def test_lineage_file_that_the_statement_does_not_name_is_refused_although_signed(exported):
    (exported.folder / "lineage" / "extra.entry").write_bytes(b"{}")
    sign_as_it_lies(exported)
    with pytest.raises(
        ContentRefused, match=r"lineage/extra\.entry: expected only files that the statement names"
    ):
        exported.verify()


def test_control_folder_signed_as_it_lies_is_accepted(exported):
    sign_as_it_lies(exported)
    exported.verify()


def test_statement_that_names_another_log_is_refused(exported):
    exported.restate(origin="log.example/other")
    with pytest.raises(IntegrityError, match=r"found it names log\.example/other"):
        exported.verify()


@pytest.mark.parametrize("action", ["train", "export"])
def test_model_without_the_receipt_of_a_decision_is_refused(exported, action):
    del exported.receipts[action]
    kept = tuple(each for each in exported.lineage.receipts if each.name != action)
    for path in (exported.folder / "lineage").glob(f"{action}.*"):
        path.unlink()
    exported.restate(receipts=kept)
    with pytest.raises(Incomplete, match=f"a receipt of the decision to {action}"):
        exported.verify()


def relogged(exported, **entry: object) -> None:
    """Replace the export's receipt by one of a new entry."""
    index = exported.log.append("export", **entry)
    exported.receipts["export"] = exported.log.receipt(index)
    exported.tree_head = exported.log.head()
    train, _ = exported.lineage.receipts
    exported.restate(receipts=(train, ReceiptName("export", index, "export")))


def test_denied_export_is_refused(exported):
    relogged(exported, allow=False)
    with pytest.raises(IntegrityError, match="a decision that allowed export, found one that denied it"):
        exported.verify()


def test_entry_without_a_decision_is_no_permission(exported):
    relogged(exported, allow=None, kind="outcome")
    with pytest.raises(Incomplete, match="a receipt of the decision to export"):
        exported.verify()


def test_control_another_allowed_export_is_accepted(exported):
    relogged(exported, allow=True)
    assert exported.verify().tree_head.size == 5


@pytest.mark.parametrize("wrong", [{"index": 1}, {"action": "train"}])
def test_receipt_of_another_entry_is_refused(exported, wrong):
    train, export = exported.lineage.receipts
    exported.restate(receipts=(train, replace(export, **wrong)))
    with pytest.raises(IntegrityError, match="as the statement says, found entry 2, action export"):
        exported.verify()


def test_receipt_from_after_the_tree_head_is_refused(exported):
    exported.tree_head = exported.log.head(3)
    exported.write()
    with pytest.raises(IntegrityError, match="forked or the receipt came later"):
        exported.verify()


def test_receipt_of_a_forked_log_is_refused(exported):
    fork = SmallLog()
    for action in ("other", "train", "export", "status"):
        fork.append(action)
    exported.receipts["export"] = fork.receipt(2)
    exported.write()
    with pytest.raises(IntegrityError, match="forked or the receipt came later"):
        exported.verify()


def test_receipt_under_an_earlier_head_is_accepted(exported):
    exported.receipts["train"] = exported.log.receipt(1, size=2)
    exported.write()
    assert exported.verify().tree_head.size == 4


def test_receipt_with_another_entry_beside_it_is_refused(exported):
    exported.receipts["train"] = (exported.receipts["train"][0], exported.receipts["export"][1])
    exported.write()
    with pytest.raises(IntegrityError, match=r"lineage: inclusion proof: expected root .* for index 1 of 4"):
        exported.verify()


def test_receipt_that_the_statement_does_not_name_is_not_signed(exported):
    with pytest.raises(ContentRefused, match=r"expected receipts \['export', 'train'\], found \['train'\]"):
        complete_folder(
            "model", exported.lineage, {"train": exported.receipts["train"]}, exported.tree_head, exported.key
        )


def test_a_model_exported_after_the_log_key_rotated_verifies_under_the_first_key(tmp_path, exported):
    """The folder brings the heads that closed the key's epochs."""
    first, second = exported.log.signer, LogSigner(NoteSigner(exported.log.signer.name, bytes([9]) * 32))
    log = Log.create(tmp_path / "log", first, lambda: 1_750_000_000.0)
    allow = Decision(allow=True, policies=("permit",), policy_set="00" * 32)
    records = [
        Record("decision", "person:olga", action, "object:x", {}, allow)
        for action in ("init", "train", "export")
    ]
    log.append(records[:2])
    log.rotate_key(second, "Custodian:custodian", "Appliance:x", {})
    log.append(records[2:])
    indexes = {"train": 1, "export": 3}
    exported.receipts = {name: (log.receipt(index), log.entry(index)) for name, index in indexes.items()}
    named = tuple(ReceiptName(name, index, name) for name, index in indexes.items())
    exported.lineage = replace(exported.lineage, receipts=named)
    exported.tree_head, exported.closings = log.tree_head(), log.epochs.kept()
    log.close()
    exported.write()
    assert exported.verify().tree_head.size == 4
    exported.closings = []
    for path in (exported.folder / "lineage").glob("epoch-*"):
        path.unlink()
    exported.write()
    with pytest.raises(SignatureError, match="expected a signature by"):
        exported.verify()


def test_a_statement_that_hides_whether_the_architecture_left_is_refused_although_signed(exported):
    exported.restate(form=Form("withheld"))
    with pytest.raises(IntegrityError, match=r"config.json if, and only if, the architecture is included"):
        exported.verify()
