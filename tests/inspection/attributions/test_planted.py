"""A made-up word decides the class: each method finds it (benchmarks/attributions.py does this with 200 texts)."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import attributions

        yield attributions
    for name in ("_common", "attributions"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def learnt(benchmark):
    """A classifier that has learnt the rule, and other texts."""
    train, test = benchmark.rows(n_train=8, n_test=2, languages=("en", "ja"))
    return benchmark.fitted(train, epochs=2, learning_rate=1e-3), test


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input", "occlusion", "shapley"])
def test_the_word_that_decides_comes_first(benchmark, learnt, method):
    classifier, test = learnt
    assert classifier.score([text for text, _ in test], [benchmark.DECIDES[word] for _, word in test]) == 1
    some = test[:2] if method == "shapley" else test  # it masks some 300 times a text
    # gradient x input follows the logit in a straight line, which bends after so short a fit
    least = 0.5 if method == "gradient_x_input" else 1
    assert benchmark.found(classifier, some, method)["first"] >= least


def test_each_text_has_the_word_that_decides_and_no_other(benchmark):
    train, test = benchmark.rows()
    assert len(test) == 200 and len(train) == 5 * benchmark.N_TRAIN * 2 * benchmark.PLACES
    for text, word in test:
        assert [each in text for each in benchmark.DECIDES] == [each == word for each in benchmark.DECIDES]
    assert not {text for text, _ in test} & {text for text, _ in train}
