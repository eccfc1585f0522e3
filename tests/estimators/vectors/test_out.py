"""Features in an array of the caller's or in a file: those of a call without ``out``, and nothing that is there is lost."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from skxlmr import TruncationWarning, XLMRobertaVectorizer, XLMVectorizer, cache_info
from skxlmr.checkpoints import read_tensors, write_folder
from skxlmr.estimators._vectors import output, parts
from skxlmr.estimators._vectors.output import FileOutput

N_ROWS = 5  # of a part


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "ROWS", N_ROWS)


@pytest.fixture
def X(texts):
    """Three parts and a half; some rows come again in later parts."""
    return [*texts[:12], texts[0], *texts[12:14], texts[3], texts[1]]


@pytest.fixture
def vectorizer(make):
    return make(XLMRobertaVectorizer)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "features.npy"


def stop_after(monkeypatch, n_parts, error=KeyboardInterrupt):
    """End a call before its part of this number is written."""
    write, n_written = FileOutput.write, []

    def stopping(self, start, values):
        if len(n_written) == n_parts:
            raise error
        n_written.append(start)
        write(self, start, values)

    monkeypatch.setattr(FileOutput, "write", stopping)


def begun(monkeypatch, vectorizer, X, file, n_parts=2):
    with monkeypatch.context() as patched:
        stop_after(patched, n_parts)
        with pytest.raises(KeyboardInterrupt):
            vectorizer.transform(X, out=file)


def names(file):
    return sorted(path.name for path in file.parent.iterdir())


# Arrays ---------------------------------------------------------------------------------------------------------------


def test_an_array_is_filled(vectorizer, X, file):
    expected, array = vectorizer.transform(X), np.full((17, 32), np.nan, np.float32)
    assert vectorizer.transform(X, out=array) is array
    np.testing.assert_array_equal(array, expected)
    mapped = np.lib.format.open_memmap(file, "w+", np.float32, (17, 32))
    assert vectorizer.transform(X, out=mapped) is mapped
    np.testing.assert_array_equal(np.load(file), expected)


def readonly():
    array = np.zeros((17, 32), np.float32)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "error", "said"),
    [
        (
            np.zeros((17, 31), np.float32),
            ValueError,
            r"float32 of shape \(17, 32\), .* got float32 of shape \(17, 31\)",
        ),
        (np.zeros((17, 32)), ValueError, r"got float64 of shape \(17, 32\)"),
        (np.zeros((32, 17), np.float32).T, ValueError, "got one whose rows do not lie one after another"),
        (readonly(), ValueError, "got one that is read-only"),
        ([[0.0]], TypeError, "the path of a .npy file, or an array to fill, got a list"),
        (b"features.npy", TypeError, "got a bytes"),
        ("features", ValueError, "the path of a .npy file, or an array to fill, got 'features'"),
        ("nowhere/features.npy", FileNotFoundError, "there is no folder"),
    ],
)
def test_what_cannot_take_features_is_refused(vectorizer, X, computed, out, error, said):
    with pytest.raises(error, match=said):
        vectorizer.transform(X, out=out)
    assert not computed


def test_tables_and_sparse_output_are_refused(vectorizer, make, X, file):
    with pytest.raises(ValueError, match=r"set_output\(transform='pandas'\) asks for a table"):
        vectorizer.set_output(transform="pandas").transform(X, out=file)
    with pytest.raises(ValueError, match="out is for dense features"):
        make(XLMRobertaVectorizer, output="sparse").transform(X, out=file)
    assert names(file) == []


def test_meta_estimators_do_not_ask_for_it(vectorizer):
    assert not hasattr(vectorizer, "set_transform_request")


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [XLMRobertaVectorizer, XLMVectorizer])
@pytest.mark.parametrize("pairs", ["auto", False], ids=["texts", "side by side"])
def test_a_file_is_made(make_any, X, file, estimator, pairs):
    X = X if pairs == "auto" else [[text, text[:5]] for text in X]
    vectorizer = make_any(estimator, pairs=pairs)
    made = vectorizer.transform(X, out=str(file))
    assert isinstance(made, np.memmap) and not made.flags.writeable and names(file) == ["features.npy"]
    np.testing.assert_array_equal(made, vectorizer.transform(X))
    np.testing.assert_array_equal(np.load(file), made)


def test_no_rows(vectorizer, texts, file):
    assert vectorizer.fit(texts).transform([], out=file).shape == np.load(file).shape == (0, 32)


@pytest.mark.parametrize("n_parts", [0, 1, 3])
def test_an_interrupted_call_goes_on_with_the_rows_that_are_missing(
    vectorizer, make, X, file, computed, monkeypatch, n_parts
):
    begun(monkeypatch, vectorizer, X, file, n_parts)
    assert names(file) == ["features.npy.partial", "features.npy.progress"]
    assert json.loads((file.parent / "features.npy.progress").read_text())["n_done"] == n_parts * N_ROWS
    computed.clear()
    made = make(XLMRobertaVectorizer, batch_size=1).transform(X, out=file)  # another object
    assert sum(computed) == len({*X[n_parts * N_ROWS :]} - {*X[: n_parts * N_ROWS]})
    assert names(file) == ["features.npy"]
    np.testing.assert_allclose(made, vectorizer.transform(X), rtol=0, atol=1e-6)


def test_a_full_disk(vectorizer, X, file, monkeypatch):
    with monkeypatch.context() as patched:
        stop_after(patched, 1, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(OSError, match="No space left"):
            vectorizer.transform(X, out=file)
    np.testing.assert_array_equal(vectorizer.transform(X, out=file), vectorizer.transform(X))


def test_rows_that_are_not_on_the_disk_do_not_count(vectorizer, X, file, computed, monkeypatch):
    """As after a kill between the rows and the file that counts them."""
    save = FileOutput._save

    def stopping(self):
        if self.n_done == 2 * N_ROWS:
            raise KeyboardInterrupt
        save(self)

    with monkeypatch.context() as patched:
        patched.setattr(FileOutput, "_save", stopping)
        with pytest.raises(KeyboardInterrupt):
            vectorizer.transform(X, out=file)
    computed.clear()
    np.testing.assert_array_equal(vectorizer.transform(X, out=file), vectorizer.transform(X))
    assert computed[0] == N_ROWS and sum(computed[:-1]) >= 9


def test_a_call_that_ended_between_its_last_two_steps(vectorizer, X, file, computed, monkeypatch):
    class Stopped(Exception):
        pass

    flush = output.flush

    def stopping(path):
        if path == file.parent:
            raise Stopped
        flush(path)

    with monkeypatch.context() as patched:
        patched.setattr(output, "flush", stopping)
        with pytest.raises(Stopped):
            vectorizer.transform(X, out=file)
    assert names(file) == ["features.npy", "features.npy.progress"]
    computed.clear()
    made = vectorizer.transform(X, out=file)
    assert not computed and names(file) == ["features.npy"]
    np.testing.assert_array_equal(made, vectorizer.transform(X))


def another_checkpoint(folder, tiny_checkpoint, tiny_tokenizer):
    tensors = read_tensors(tiny_checkpoint)
    name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    tensors = {**tensors, name: tensors[name] + 1}
    write_folder(folder, config=config, tensors=tensors, tokenizer=tiny_tokenizer)
    return folder


CHANGES = {
    "normalize": ({"normalize": True}, "normalize"),
    "pooling": ({"pooling": "cls"}, "pooling"),
    "max_length": ({"max_length": 63}, "max_length"),
    "prompt": ({"prompt": "query: "}, "prompt"),
    "dtype": ({"dtype": "bfloat16"}, "dtype or device"),
    "layers": ({"layers": 1}, "layers"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_parameters_never_meet_in_a_file(vectorizer, make, X, file, monkeypatch, change):
    params, said = CHANGES[change]
    begun(monkeypatch, vectorizer, X, file)
    before = (file.parent / "features.npy.partial").read_bytes()
    with pytest.raises(FileExistsError, match=f"holds features of a call that differs in .*{said}.*: delete it and"):
        make(XLMRobertaVectorizer, **params).transform(X, out=file)
    assert (file.parent / "features.npy.partial").read_bytes() == before
    vectorizer.transform(X, out=file)


def test_other_texts_weights_and_tokenizers_never_meet_in_a_file(
    vectorizer, make, X, file, monkeypatch, tmp_path, tiny_checkpoint, tiny_tokenizer
):
    begun(monkeypatch, vectorizer, X, file)
    for others in (X[::-1], [*X[:-1], "another"], X[:-1]):
        with pytest.raises(FileExistsError, match="differs in X: "):
            vectorizer.transform(others, out=file)
    (tmp_path / "other").mkdir()
    other = another_checkpoint(tmp_path / "other" / "checkpoint", tiny_checkpoint, tiny_tokenizer)
    with pytest.raises(FileExistsError, match="differs in the weights: "):
        make(XLMRobertaVectorizer, other).transform(X, out=file)
    tokenizer, vectorizer.tokenizer_ = vectorizer.tokenizer_, tiny_tokenizer.with_tokens(["Vogel"], special=False)
    with pytest.raises(FileExistsError, match="differs in the tokenizer: "):
        vectorizer.transform(X, out=file)
    vectorizer.tokenizer_ = tokenizer
    copy = tmp_path / "other" / "copy"  # of the same checkpoint
    write_folder(
        copy,
        config=json.loads((tiny_checkpoint / "config.json").read_text()),
        tensors=read_tensors(tiny_checkpoint),
        tokenizer=tiny_tokenizer,
    )
    np.testing.assert_array_equal(make(XLMRobertaVectorizer, copy).transform(X, out=file), vectorizer.transform(X))


def test_weights_that_nobody_knows(vectorizer, X, file):
    vectorizer.fit(X).module_.register_forward_hook(lambda *args: None)
    with pytest.raises(ValueError, match=r"weights are no longer those of the checkpoint, .* Pass an array"):
        vectorizer.transform(X, out=file)
    vectorizer.transform(X, out=np.empty((17, 32), np.float32))


def test_a_file_that_is_there_is_never_written_over(vectorizer, X, file):
    file.write_text("precious")
    with pytest.raises(FileExistsError, match=r"features\.npy exists already: read it with np.load\("):
        vectorizer.transform(X, out=file)
    assert file.read_text() == "precious" and names(file) == ["features.npy"]


@pytest.mark.parametrize("end", ["", ".partial", ".progress"])
@pytest.mark.parametrize("kind", ["a link to nowhere", "a folder", "a pipe"])
def test_what_is_no_file_is_never_replaced(vectorizer, X, file, kind, end):
    place = file.with_name(file.name + end)
    if kind == "a pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    {
        "a folder": Path.mkdir,
        "a pipe": lambda path: os.mkfifo(path),
        "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    }[kind](place)
    with pytest.raises(
        FileExistsError, match=f"{place.name} is no file, or a link to none: delete it, or pass another"
    ):
        vectorizer.transform(X, out=file)
    assert names(file) == [place.name] and not place.is_file()


@pytest.mark.parametrize("broken", ["no progress", "progress", "header", "shorter"])
def test_a_beginning_that_is_broken_is_never_continued(vectorizer, X, file, monkeypatch, broken):
    begun(monkeypatch, vectorizer, X, file)
    partial, progress = (file.with_name(file.name + end) for end in (".partial", ".progress"))
    if broken == "no progress":
        progress.unlink()
    elif broken == "progress":
        progress.write_text('{"format": 0}')
    else:
        partial.write_bytes(b"x" * 10_000 if broken == "header" else partial.read_bytes()[:-1])
    with pytest.raises(
        FileExistsError, match=r"features\.npy\.partial .*: delete it and features\.npy\.progress to start again"
    ):
        vectorizer.transform(X, out=file)
    partial.unlink()
    np.testing.assert_array_equal(vectorizer.transform(X, out=file), vectorizer.transform(X))
    assert names(file) == ["features.npy"]


@pytest.mark.parametrize(
    "changed", [{"cut": {"other": 1}}, {"cut": None}, {"n_done": 5.0}, {"n_done": True}, {"about": [1]}], ids=repr
)
def test_progress_of_another_form_is_never_continued(vectorizer, X, file, monkeypatch, changed):
    begun(monkeypatch, vectorizer, X, file)
    progress = file.with_name(file.name + ".progress")
    progress.write_text(json.dumps(json.loads(progress.read_text()) | changed))
    with pytest.raises(FileExistsError, match=r"can't be continued: features\.npy\.progress is not what this version"):
        vectorizer.transform(X, out=file)


def test_two_at_once(vectorizer, X, file, monkeypatch):
    pytest.importorskip("fcntl", reason="needs locks of files")
    write = FileOutput.write

    def at_once(self, start, values):
        with pytest.raises(BlockingIOError, match="another process or thread is writing"):
            vectorizer.transform(X, out=file)
        write(self, start, values)

    monkeypatch.setattr(FileOutput, "write", at_once)
    np.testing.assert_array_equal(vectorizer.transform(X, out=file), vectorizer.transform(X))


def test_another_call_ends_before_the_lock(vectorizer, X, file, monkeypatch):
    pytest.importorskip("fcntl", reason="needs locks of files")
    lock_folder = output.lock_folder

    def late(path):
        monkeypatch.setattr(output, "lock_folder", lock_folder)
        vectorizer.transform(X, out=file)
        return lock_folder(path)

    monkeypatch.setattr(output, "lock_folder", late)
    with pytest.raises(FileExistsError, match="exists already: read it with"):
        vectorizer.transform(X, out=file)


def test_all_texts_that_were_cut_are_counted(make, X, file, monkeypatch):
    vectorizer = make(XLMRobertaVectorizer, max_length=9)
    with pytest.warns(TruncationWarning) as whole:
        vectorizer.transform(X)
    begun(monkeypatch, vectorizer, X, file)
    with pytest.warns(TruncationWarning) as found:
        vectorizer.transform(X, out=file)
    assert [str(each.message) for each in found] == [str(each.message) for each in whole]


def test_cache(with_cache, vectorizer, make, X, file, tmp_path, computed):
    vectorizer.transform(X, out=file)
    assert cache_info().entries == 0
    file.unlink()
    kept = make(XLMRobertaVectorizer, memory=tmp_path / "cache")
    kept.transform(X)
    computed.clear()
    kept.transform(X, out=file)
    assert not computed
