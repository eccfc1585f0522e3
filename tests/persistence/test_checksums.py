"""A folder knows the SHA-256 of each of its files, and `load` says which one is not what was saved."""

import hashlib
import json
import os
import random

import pytest

from skxlmr import CheckpointError, XLMRobertaMaskedLM, XLMRobertaVectorizer, load, save
from skxlmr.checkpoints import sha256_of
from skxlmr.utils._files import open_file
from tests.persistence.conftest import TEXTS, names_in

READ = ["config.json", "model.safetensors", "sentencepiece.bpe.model", "skxlmr.json", "tokenizer_config.json"]


def flip(file, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def test_every_file_is_recorded(saved):
    about = json.loads((saved / "skxlmr.json").read_text())
    assert about["format"] == 5
    assert names_in(saved) == sorted([*about["files"], "skxlmr.json"]) == sorted([*READ, "README.md"])
    for name, digest in about["files"].items():
        assert hashlib.sha256((saved / name).read_bytes()).hexdigest() == digest


def test_files_in_folders_are_recorded(tiny_checkpoint, tmp_path):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)
    save(vectorizer, tmp_path / "saved")
    load(tmp_path / "saved")
    flip(tmp_path / "saved" / "1_Pooling" / "config.json", 80)
    with pytest.raises(CheckpointError, match=r"1_Pooling.config\.json: is not what save wrote"):
        load(tmp_path / "saved")
    (tmp_path / "saved" / "1_Pooling" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"1_Pooling.config\.json: is missing"):
        load(tmp_path / "saved")


def test_files_that_the_estimator_does_not_read_may_be_missing(tiny_checkpoint, tmp_path):
    save(XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint), tmp_path / "saved")
    (tmp_path / "saved" / "README.md").unlink()  # which people read
    load(tmp_path / "saved")
    (tmp_path / "saved" / "modules.json").unlink()
    with pytest.raises(CheckpointError, match=r"modules\.json: is missing"):
        load(tmp_path / "saved")


@pytest.mark.parametrize("name", READ)
def test_a_flipped_bit_is_reported_by_file(saved, name):
    n_bits = 8 * (saved / name).stat().st_size
    for bit in [0, n_bits - 1, *random.Random(0).sample(range(n_bits), 20)]:
        flip(saved / name, bit)
        with pytest.raises(CheckpointError) as caught:
            load(saved)
        assert caught.value.file == str(saved / name), bit
        flip(saved / name, bit)
    load(saved)


def test_every_bit_of_the_description_counts(saved):
    file = saved / "skxlmr.json"
    whole = file.read_bytes()
    place = whole.index(b'"learning_rate": 0.003')
    for bit in range(8 * place, 8 * (place + 22)):
        flip(file, bit)
        with pytest.raises(CheckpointError, match=r"skxlmr\.json"):
            load(saved)
        file.write_bytes(whole)


@pytest.mark.parametrize("name", READ)
def test_a_missing_file_is_reported(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match="is missing") as caught:
        load(saved)
    assert caught.value.file == str(saved / name)


def test_an_edited_model_card_is_only_warned_of(saved):
    (saved / "README.md").write_text("My own words.")
    with pytest.warns(UserWarning, match=r"README\.md is not the model card that save wrote"):
        load(saved)
    load(saved, verify=False)
    (saved / "README.md").unlink()
    load(saved)


def test_verification_may_be_left_out(saved, fitted_classifier):
    file = saved / "skxlmr.json"
    file.write_text(file.read_text().replace('"learning_rate": 0.003', '"learning_rate": 0.5'))
    with pytest.raises(CheckpointError, match=r"skxlmr\.json: is not what save wrote .*verify=False"):
        load(saved)
    loaded = load(saved, verify=False)
    assert loaded.learning_rate == 0.5
    assert (loaded.predict_proba(TEXTS) == fitted_classifier.predict_proba(TEXTS)).all()


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/hostname", "a/../../b", "c:\\x", "a\0b"])
def test_recorded_names_stay_in_the_folder(saved, name, monkeypatch):
    from skxlmr.persistence import _description

    file = saved / "skxlmr.json"
    about = json.loads(file.read_text())
    about["files"][name] = "0" * 64
    text = json.dumps(about | {"sha256": ""}, indent=1)
    seal = _description._digest(text)
    file.write_text(text.replace('"sha256": ""', f'"sha256": "{seal}"', 1))
    with pytest.raises(CheckpointError, match="names a file that cannot be in the folder"):
        load(saved)


@pytest.mark.parametrize("seal", [None, 3, "", "0" * 64])
def test_the_seal_is_needed(saved, seal):
    file = saved / "skxlmr.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"sha256": seal}))
    with pytest.raises(CheckpointError, match="is not what save wrote"):
        load(saved)


@pytest.mark.parametrize(
    "name",
    [
        "special_tokens_map.json",
        "added_tokens.json",
        "tokenizer.json",
        "vocab.json",
        "model-00002-of-00002.safetensors",
    ],
)
def test_a_file_that_was_added_is_refused(saved_in_shards, name):
    (saved_in_shards / name).write_text("{}")
    with pytest.raises(CheckpointError, match="would be read, but save did not write it: remove it") as caught:
        load(saved_in_shards)
    assert caught.value.file == str(saved_in_shards / name)


def test_weights_laid_beside_shards_are_refused(saved_in_shards, saved):
    (saved_in_shards / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"model\.safetensors: would be read, but save did not write it"):
        load(saved_in_shards)
    load(saved_in_shards, verify=False)


def test_files_that_nobody_reads_may_be_added(saved):
    for name in ("notes.txt", "pytorch_model.bin", ".DS_Store", "LICENSE"):
        (saved / name).write_bytes(b"x")
    load(saved)


@pytest.fixture
def saved_in_shards(classifier, tmp_path):
    save(classifier, tmp_path / "shards", max_shard_size=50_000)
    return tmp_path / "shards"


def sparse(file, n_bytes):
    os.unlink(file)
    with open(file, "wb") as opened:
        opened.truncate(n_bytes)


@pytest.mark.parametrize("name", [*READ, "README.md"])
def test_a_file_with_holes_is_not_hashed(saved, name, monkeypatch):
    """It takes no room on the disk, and an hour to read."""
    sparse(saved / name, 2**40)

    def careful(file, most=None, **options):
        assert os.stat(file).st_size < 2**30 or most < 2**40
        return open_file(file, most, **options)

    monkeypatch.setattr("skxlmr.checkpoints._hashes.open_file", careful)
    with pytest.raises(CheckpointError, match=r"has 1099511627776 bytes, expected at most \d+") as caught:
        load(saved)
    assert caught.value.file == str(saved / name)


def test_a_file_of_the_system_that_never_ends(tmp_path):
    """Some say that they are empty."""
    if not os.path.exists("/proc/self/pagemap"):
        pytest.skip("needs /proc")
    with pytest.raises(CheckpointError, match="changed while it was read"):
        sha256_of("/proc/self/pagemap")
