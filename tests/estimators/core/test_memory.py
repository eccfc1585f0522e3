"""Memory of estimators whose weights are mapped: what is shared, what a fit copies, and that it goes with the last user."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer
from skxlmr.checkpoints import forget_opened
from tests.tiny import write_checkpoint

TEXTS, Y = ["das kleine Haus", "the river", "σπίτι", "дом"], list("abab")
WORDS = "roberta.embeddings.word_embeddings.weight"
MB = 2**20
ROLLUP = Path("/proc/self/smaps_rollup")

pytestmark = pytest.mark.skipif(not ROLLUP.exists(), reason="needs Linux's account of a process's memory")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_tokenizer):
    """13 MB of weights, most of them word embeddings."""
    return write_checkpoint(tmp_path_factory.mktemp("large") / "checkpoint", tiny_tokenizer, vocab_size=100_000)


def private_bytes():
    """Memory that belongs to this process alone; clean pages of files do not."""
    (line,) = (line for line in ROLLUP.read_text().splitlines() if line.startswith("Private_Dirty:"))
    return 1024 * int(line.split()[1])


def pages(folder):
    """Bytes of the files in a folder that are mapped and were used, and of the pages that were copied to be written to."""
    found, ours = [0, 0], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            ours = str(folder) in line
        for i, name in enumerate(("Rss:", "Anonymous:")):
            found[i] += 1024 * int(line.split()[1]) if ours and line.startswith(name) else 0
    return found


def n_mappings(folder):
    return Path("/proc/self/maps").read_text().count(str(folder))


def n_tensors():
    gc.collect()
    return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())


def vectorizer(checkpoint):
    return XLMRobertaVectorizer(checkpoint, memory=None, device="cpu").fit(TEXTS)


def classifier(checkpoint, **params):
    return XLMRobertaClassifier(checkpoint, max_epochs=1, device="cpu", **params).fit(TEXTS, Y)


def use(estimator):
    """Read all weights."""
    return sum(float(weight.detach().sum()) for weight in estimator.module_.parameters())


def test_clones_of_a_vectorizer_add_no_private_memory(checkpoint):
    first = vectorizer(checkpoint)
    use(first)
    before = private_bytes()
    others = [clone(first).fit(TEXTS) for _ in range(5)]
    assert [use(other) for other in others] == [use(first)] * 5
    assert private_bytes() - before < 8 * MB  # one copy has 13


@pytest.mark.parametrize("n_frozen_layers", [0, 1])
def test_a_fit_copies_what_it_trains(checkpoint, n_frozen_layers):
    trained = classifier(checkpoint, n_frozen_layers=n_frozen_layers)
    use(trained)
    n_read, n_copied = pages(checkpoint)
    assert n_read > 12 * MB
    assert n_copied < 4 * MB  # of 13: pages of the few words, and two small layers
    trained.partial_fit(TEXTS, Y)
    assert pages(checkpoint)[1] < 4 * MB


@pytest.mark.parametrize("fit", [vectorizer, classifier])
def test_fits_in_a_row_leave_nothing(checkpoint, fit):
    for _ in range(2):
        use(fit(checkpoint))
    tensors, before = n_tensors(), private_bytes()
    for _ in range(20):
        use(fit(checkpoint))
        assert n_mappings(checkpoint) == 0
    assert n_tensors() <= tensors
    assert private_bytes() - before < 8 * MB


def test_the_file_is_mapped_as_long_as_somebody_uses_it(checkpoint):
    used = [vectorizer(checkpoint), classifier(checkpoint)]
    weight = used[0].module_.state_dict()[WORDS]
    del used[:]
    gc.collect()
    assert n_mappings(checkpoint) > 0
    del weight
    gc.collect()
    forget_opened()
    assert n_mappings(checkpoint) == 0


def test_changes_of_weights_show_in_no_other_estimator(checkpoint):
    one, two = vectorizer(checkpoint), vectorizer(checkpoint)
    expected = two.transform(TEXTS)
    with torch.no_grad():
        for weight in one.module_.parameters():
            weight.mul_(2)
    classifier(checkpoint, learning_rate=0.1)
    assert not np.allclose(one.transform(TEXTS), expected)
    for other in (two, clone(one).fit(TEXTS)):
        assert np.array_equal(other.transform(TEXTS), expected)
