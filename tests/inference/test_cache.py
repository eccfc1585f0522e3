"""Outputs that are kept: each row is encoded once, and nothing that matters is left out of the key."""

import copy
import os
import pickle
import shutil
from pathlib import Path
from threading import Thread

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

import skxlmr
from skxlmr import Cache, XLMRobertaVectorizer, XLMRobertaZeroShotClassifier, XLMVectorizer, cache_info, clear_cache
from skxlmr.checkpoints import _origin
from skxlmr.inference import Engine
from skxlmr.inference._cached_rows import CachedRows
from skxlmr.inference._stores import hashes
from skxlmr.text import EncodedBatch, SentencePieceTokenizer
from tests.processes import run
from tests.sentence_encoders import add_outputs, flags, write
from tests.tiny import train, write_checkpoint

TEXTS = ["Good morning.", "Guten Morgen.", "Bonne nuit, mes amis !", "Good morning.", "नमस्ते दुनिया"]
N_DISTINCT = 4


@pytest.fixture(autouse=True)
def _cache(with_cache):
    """All tests here are with the cache."""


def vectorizer(**params):
    return XLMRobertaVectorizer(**{"checkpoint": "skxlmr-mini", "device": "cpu"} | params).fit(TEXTS)


def test_each_text_is_encoded_once(computed):
    first = vectorizer().transform(TEXTS)
    again = vectorizer().transform(TEXTS[::-1])
    assert computed == [N_DISTINCT]
    assert np.array_equal(first, again[::-1])
    assert np.array_equal(first, vectorizer(memory=None).transform(TEXTS))


def test_only_new_texts_are_computed(computed):
    one = vectorizer()
    before = one.transform(TEXTS[:2])
    together = one.transform([*TEXTS, "Zeile"])
    assert computed == [2, N_DISTINCT + 1 - 2]
    assert np.array_equal(together[:2], before)
    np.testing.assert_allclose(together, vectorizer(memory=None).transform([*TEXTS, "Zeile"]), atol=1e-5)


def test_scaling_and_cutting_come_after_the_cache(computed):
    distinct = TEXTS[:3]  # so that what is computed is what is returned, and scaled in place
    scaled = vectorizer(normalize=True).transform(distinct)
    plain = vectorizer().transform(distinct)
    cut = vectorizer(truncate_dim=7).transform(distinct)
    assert computed == [3]
    assert np.array_equal(plain, vectorizer(memory=None).transform(distinct))
    assert np.array_equal(scaled, vectorizer(memory=None, normalize=True).transform(distinct))
    assert np.array_equal(cut, plain[:, :7])


def test_nothing_is_kept_without_memory(computed):
    one = vectorizer(memory=None)
    one.transform(TEXTS), one.transform(TEXTS)
    assert computed == [5, 5] and cache_info().entries == 0


LONG = ["word " * 60 + "end", "short", "query: short"]


@pytest.mark.filterwarnings("ignore::skxlmr.TruncationWarning")
@pytest.mark.parametrize(
    "params",
    [
        {"pooling": "cls"},
        {"pooling": ["mean", "cls"], "layers": [3, 4]},
        {"layers": 0},
        {"layers": [0, 1]},
        {"prompt": "query: "},
        {"max_length": 16},
        {"max_length": 16, "long_text": "window"},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_each_part_of_the_key(computed, params):
    """Whatever is changed, what is returned is what would have been computed."""
    vectorizer(max_length=32).transform(LONG)
    n_before = sum(computed)
    changed = vectorizer(**{"max_length": 32} | params).transform(LONG)
    assert sum(computed) > n_before
    expected = vectorizer(**{"max_length": 32, "memory": None} | params).transform(LONG)
    np.testing.assert_allclose(changed, expected, atol=1e-5)


def test_the_language_of_the_original_xlm(computed, tiny_xlm_languages):
    texts = ["one two", "two three"]
    for lang in ("en", "de"):
        XLMVectorizer(tiny_xlm_languages, lang=lang, device="cpu").fit(texts).transform(texts)
    assert computed == [2, 2]


def test_the_second_text_of_a_pair_that_has_the_same_ids(computed, tiny_checkpoint):
    """Where a pair has token types, equal ids in other texts are another row; the key says where the second text begins."""
    rows = EncodedBatch(np.arange(10, 16, dtype=np.int32), np.array([6]), np.array([0]), second_starts=np.array([2]))
    other = EncodedBatch(rows.ids, rows.lengths, np.array([0]), second_starts=np.array([4]))
    cached = CachedRows(Cache()._store(), "any", False, None)
    keys = [cached._keys(each) for each in (rows, other)]
    assert keys[0] != keys[1]


def test_tokens_that_are_left_out(computed, tiny_checkpoint, tmp_path):
    """A text that begins as the prompt does has the same ids, but all its tokens count."""
    folder = write(
        tmp_path / "encoder",
        tiny_checkpoint,
        pooling=flags("mean", include_prompt=False),
        prompts={"prompts": {"query": "query: "}, "default_prompt_name": None},
    )
    with_prompt = vectorizer(checkpoint=folder, prompt="query").transform(["eins"])
    spelt_out = vectorizer(checkpoint=folder).transform(["query: eins"])
    assert not np.allclose(with_prompt, spelt_out, atol=1e-4)
    assert computed == [1, 1]


def test_other_weights(computed, tiny_tokenizer, tmp_path):
    """Of another checkpoint, of the same folder once it is replaced, and changed by hand."""
    folder = write_checkpoint(tmp_path / "one", tiny_tokenizer, seed=0)
    first = vectorizer(checkpoint=folder).transform(TEXTS)
    second = vectorizer(checkpoint=write_checkpoint(tmp_path / "two", tiny_tokenizer, seed=1)).transform(TEXTS)
    shutil.rmtree(folder)
    write_checkpoint(folder, tiny_tokenizer, seed=1)
    again = vectorizer(checkpoint=folder)
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(again.transform(TEXTS), second, atol=1e-6)
    assert len(computed) == 3
    weight = again.module_.backbone.encoder.layer[0].output.dense.weight
    with torch.no_grad():
        weight.mul_(1.5)
    changed = again.transform(TEXTS)
    assert not np.allclose(changed, second, atol=1e-4)
    assert len(computed) == 4
    again.transform(TEXTS)
    assert len(computed) == 5  # of weights that no file has, nothing is kept


def test_another_tokenizer(computed, tiny_checkpoint, tmp_path):
    """Of the same weights: other ids are other rows, in the process and in a folder that knows the weights by content."""
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other", copy_function=shutil.copyfile)
    pieces = SentencePieceTokenizer(train(vocab_size=260), model_max_length=64)
    for file in ("sentencepiece.bpe.model", "tokenizer.json"):
        (other / file).unlink(missing_ok=True)
    pieces.save(other)
    for memory in ("auto", tmp_path / "kept"):
        n_before = sum(computed)
        first = vectorizer(checkpoint=tiny_checkpoint, memory=memory).transform(TEXTS)
        found = vectorizer(checkpoint=other, memory=memory).transform(TEXTS)
        assert sum(computed) == n_before + 2 * N_DISTINCT
        assert not np.allclose(found, first, atol=1e-4)
        expected = vectorizer(checkpoint=other, memory=None).transform(TEXTS)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_layers_that_changed_places(computed, tiny_checkpoint):
    one, other = vectorizer(checkpoint=tiny_checkpoint), vectorizer(checkpoint=tiny_checkpoint)
    layers = other.module_.backbone.encoder.layer
    layers[0], layers[1] = layers[1], layers[0]
    assert not np.allclose(one.transform(TEXTS), other.transform(TEXTS), atol=1e-4)
    assert len(computed) == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each)), copy.copy])
@pytest.mark.parametrize("store_weights", [False, True])
def test_copies_know_their_weights_and_carry_no_vectors(computed, copied, store_weights):
    one = vectorizer(store_weights_in_pickle=store_weights)
    size = len(pickle.dumps(one))
    expected = one.transform(TEXTS * 3)
    assert len(pickle.dumps(one)) == size
    other = copied(one)
    assert np.array_equal(other.transform(TEXTS), expected[:5])
    other.transform(TEXTS)
    assert len(computed) == (2 if store_weights and copied not in (copy.copy, copy.deepcopy) else 1)
    assert clone(one).get_params()["memory"] == "auto"


def test_saved_and_loaded(computed, tmp_path):
    one = vectorizer(memory=Cache(max_bytes=10**6))
    skxlmr.save(one, tmp_path / "saved")
    loaded = skxlmr.load(tmp_path / "saved")
    assert loaded.memory == "auto"  # the folder does not name a place on this machine
    loaded.transform(TEXTS), loaded.transform(TEXTS)
    assert len(computed) == 1


def test_threads_compute_each_text_once(computed):
    one, results = vectorizer(), {}
    threads = [Thread(target=lambda k=k: results.update({k: one.transform(TEXTS)})) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(computed) == N_DISTINCT
    assert all(np.array_equal(result, results[0]) for result in results.values())


def test_a_failure_gives_its_rows_to_others(monkeypatch):
    one = vectorizer()
    with monkeypatch.context() as patched:
        patched.setattr(Engine, "_run", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one.transform(TEXTS)
    assert one.transform(TEXTS).shape == (5, 192)


def test_the_least_recently_used_go_first(computed):
    cache = Cache(max_bytes=2 * 192 * 4)
    one = vectorizer(memory=cache)
    for text in "abacb":
        one.transform([text])
    assert computed == [1, 1, 1, 1]  # b was forgotten for c, which came when a had just been used
    info = cache_info(cache)
    assert info.entries == 2 and info.n_bytes == info.max_bytes
    assert one.transform(TEXTS).shape == (5, 192)  # more than there is room for


def test_bfloat16_rounds_what_is_found_and_what_is_computed(computed):
    cache = Cache(dtype="bfloat16")
    first, again = (vectorizer(memory=cache).transform(TEXTS) for _ in range(2))
    assert np.array_equal(first, again) and len(computed) == 1
    exact = vectorizer(memory=None).transform(TEXTS)
    assert np.array_equal(first, torch.from_numpy(exact).bfloat16().float().numpy())
    assert cache_info(cache).n_bytes == N_DISTINCT * 192 * 2
    assert np.array_equal(vectorizer().transform(TEXTS), exact)  # though both are in one store


def test_vectors_of_tokens_are_kept_too(computed, tiny_tokenizer, tmp_path):
    one = vectorizer(checkpoint=add_outputs(write_checkpoint(tmp_path / "m3", tiny_tokenizer)))
    first, again = one.transform_tokens(TEXTS), one.transform_tokens(TEXTS[::-1])[::-1]
    assert len(computed) == 1
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("memory", ["auto", None, Cache(), Cache(max_bytes=5), joblib.Memory(None)], ids=repr)
def test_an_empty_frame_and_one_text(memory):
    one = vectorizer(memory=memory)
    assert one.transform([]).shape == (0, 192)
    assert one.transform(["a"]).shape == (1, 192)


def test_wrong_values():
    for params in (
        {"max_bytes": 0},
        {"max_bytes": "1GB"},
        {"max_bytes": True},
        {"dtype": "float16"},
        {"location": ""},
    ):
        with pytest.raises(ValueError, match=next(iter(params))):
            Cache(**params)
    with pytest.raises(ValueError, match="'memory' parameter of XLMRobertaVectorizer"):
        vectorizer(memory=3)
    with pytest.raises(ValueError, match="keeps nothing"):
        cache_info(None)
    assert Cache(max_bytes=np.int64(5)) == Cache(max_bytes=5)
    with pytest.raises(TypeError, match=r"location must be None .*, got b'x'"):
        Cache(b"x")
    for ask in (cache_info, clear_cache):
        with pytest.raises(TypeError, match=r"memory must be 'auto', None .*, got True"):
            ask(True)


@pytest.mark.parametrize("memory", ["Auto", "auto ", "none", "None"])
def test_a_mistyped_word_makes_no_folder(memory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zero_shot = XLMRobertaZeroShotClassifier(candidate_labels=["food", "weather"], memory=memory)
    for call in (
        lambda: vectorizer(memory=memory).transform(TEXTS),
        zero_shot.fit,
        lambda: vectorizer(memory=memory).fit(TEXTS),
    ):
        with pytest.raises(
            ValueError, match=f"memory must be 'auto', None .*, got '{memory}'; a folder of that name is '[.]"
        ):
            call()
    with pytest.raises(ValueError, match=f"location must be None .*, got '{memory}'"):
        Cache(memory)
    assert not list(tmp_path.iterdir())
    assert Cache(os.path.join(".", memory)).folder == os.path.abspath(memory)


def test_zero_shot_and_other_candidates(computed, nli_checkpoint):
    texts = ["It rains.", "The soup was cold."]
    for labels in (["food", "weather"], ["weather", "food", "sport"]):
        XLMRobertaZeroShotClassifier(nli_checkpoint, candidate_labels=labels, device="cpu").fit().predict_proba(texts)
    assert computed == [4, 2]


# In a folder ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch):
    """The folders whose content hash was computed."""
    folders = []
    compute = _origin.content_hash
    monkeypatch.setattr(_origin, "content_hash", lambda folder: folders.append(str(folder)) or compute(folder))
    monkeypatch.setattr(skxlmr.inference.cache, "_hashes", {})
    _origin._content_hash.cache_clear()
    return folders


def find_in_folder(memory, file):
    """In a process that can't compute."""
    Engine._run = None
    np.save(file, vectorizer(memory=memory).transform(TEXTS))


@pytest.mark.parametrize("made", [str, Path, Cache, lambda folder: joblib.Memory(folder, verbose=0)])
def test_a_folder_is_shared_by_later_processes(computed, made, tmp_path):
    memory = made(str(tmp_path / "kept"))
    first = vectorizer(memory=memory).transform(TEXTS)
    assert cache_info(memory).encoded == cache_info(memory).entries == N_DISTINCT
    done = run(find_in_folder, cache_info(memory).location, tmp_path / "found.npy")
    assert done.exit_code == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "found.npy"), first)
    clear_cache(memory)
    assert cache_info(memory).entries == 0
    assert np.array_equal(vectorizer(memory=memory).transform(TEXTS), first)


def test_weights_are_hashed_once(computed, hashed, tiny_tokenizer, tmp_path):
    """A folder knows a checkpoint by its content; what it costs to read a gigabyte is paid once."""
    folder = write_checkpoint(tmp_path / "one", tiny_tokenizer)
    for k in range(3):
        one = vectorizer(checkpoint=folder, memory=tmp_path / "kept")
        one.transform([f"text {k}"]), one.transform([f"one more {k}"])
    assert len(hashed) == 1
    before = len(computed)
    copied = shutil.copytree(folder, tmp_path / "copied")
    vectorizer(checkpoint=copied, memory=tmp_path / "kept").transform(["text 0", "text 1"])
    assert len(hashed) == 2 and len(computed) == before  # the same content: found
    other = write_checkpoint(tmp_path / "other", tiny_tokenizer, seed=1)
    vectorizer(checkpoint=other, memory=tmp_path / "kept").transform(["text 0"])
    assert len(computed) == before + 1


def test_hashes_are_remembered_for_later_processes(hashed, tiny_tokenizer, tmp_path):
    folder = write_checkpoint(tmp_path / "one", tiny_tokenizer)
    for file in folder.iterdir():
        os.utime(file, (1e9, 1e9))
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        patched.setattr(hashes, "FRESH_SECONDS", -1e9)  # the time of change can't be set back
        for _ in range(2):
            vectorizer(checkpoint=folder, memory=tmp_path / "kept").transform(["text"])
            skxlmr.inference.cache._hashes.clear()
            _origin._content_hash.cache_clear()
    assert len(hashed) == 1


def test_nothing_is_hashed_in_the_process(hashed):
    vectorizer().transform(TEXTS)
    assert not hashed


def test_rows_come_back_in_order_from_a_folder(computed, tmp_path):
    """Processes compute a folder's rows in the order of their lengths."""
    texts = ["a", "a much longer text than that", "a longer text", "b", "one more longer text, and some"]
    found = vectorizer(memory=tmp_path).transform(texts)
    np.testing.assert_allclose(found, vectorizer(memory=None).transform(texts), atol=1e-5)
    assert np.array_equal(found, vectorizer(memory=tmp_path).transform(texts))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs the list of open files in /proc")
def test_many_folders_do_not_use_up_the_files_that_a_process_may_open(tmp_path, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(skxlmr.inference.cache, "FOLDERS_OPEN", 2)
    one = vectorizer(checkpoint=tiny_checkpoint)
    before, expected = len(os.listdir("/proc/self/fd")), one.transform(TEXTS)
    for folder in [*range(12), 0]:  # what was closed opens again
        assert np.array_equal(one.set_params(memory=tmp_path / str(folder)).transform(TEXTS), expected)
    assert cache_info(tmp_path / "0").hits == N_DISTINCT
    assert len(os.listdir("/proc/self/fd")) <= before + 12 + 3 * 3  # a file of locks each, and three of the open ones


def test_a_folder_that_can_not_be_used(computed, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.warns(UserWarning, match="file"):
        found = vectorizer(memory=tmp_path / "file").transform(TEXTS)
    assert np.array_equal(found, vectorizer(memory=None).transform(TEXTS))


def test_a_module_whose_checkpoint_was_replaced_is_computed(computed, hashed, tiny_tokenizer, tmp_path):
    folder = write_checkpoint(tmp_path / "one", tiny_tokenizer)
    one = vectorizer(checkpoint=folder, memory=tmp_path / "kept")
    shutil.rmtree(folder)
    write_checkpoint(folder, tiny_tokenizer, seed=1)
    found = one.transform(TEXTS)
    other = vectorizer(checkpoint=folder, memory=tmp_path / "kept").transform(TEXTS)
    assert not np.allclose(found, other, atol=1e-4) and len(computed) == 2
