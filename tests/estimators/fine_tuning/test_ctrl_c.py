"""Ctrl-C while weights are copied: what stays is one epoch, with its weights, its losses and its number."""

import copy

import numpy as np
import pytest
from torch import Tensor
from torch.overrides import TorchFunctionMode

from skxlmr import XLMRobertaClassifier, XLMRobertaRegressor
from skxlmr.training import StateKeeper
from tests.estimators.conftest import weights_of
from tests.tiny import sentences, write_checkpoint

TEXTS = sentences(12)
Y = np.arange(12) % 3


class CtrlC(TorchFunctionMode):
    """Counts the copies of weights, and interrupts the one of this number, before it is made or after it."""

    def __init__(self, number=None, after=False):
        super().__init__()
        self.number, self.after, self.n_copies = number, after, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        copies = func in (Tensor.copy_, Tensor.__setitem__) or (func is Tensor.to and kwargs.get("copy"))
        if not copies:
            return func(*args, **kwargs)
        self.n_copies += 1
        if self.n_copies - 1 == self.number and not self.after:
            raise KeyboardInterrupt
        result = func(*args, **kwargs)
        if self.n_copies - 1 == self.number:
            raise KeyboardInterrupt
        return result


@pytest.fixture(scope="module")
def small(tmp_path_factory, tiny_tokenizer):
    folder = tmp_path_factory.mktemp("small") / "checkpoint"
    write_checkpoint(folder, tiny_tokenizer, hidden_size=8, num_hidden_layers=1, intermediate_size=8)

    def small(estimator, **params):
        params = {"max_epochs": 3, "batch_size": 6, "learning_rate": 3e-3, "random_state": 0, **params}
        return estimator(folder, schedule="constant", warmup_ratio=0.0, dtype="float32", **params)

    return small


def learnt(estimator):
    """What a fit leaves; of early stopping's epochs the best one's weights."""
    weights = np.concatenate([tensor.numpy().ravel() for tensor in weights_of(estimator).values()])
    return weights, (estimator.loss_curve_, estimator.validation_scores_, estimator.n_iter_)


@pytest.mark.parametrize("kind", ["first fit", "early stopping", "warm start", "warm start of adapters"])
def test_whichever_copy_is_interrupted_one_epoch_is_left(small, kind):
    estimator = XLMRobertaClassifier if kind == "early stopping" else XLMRobertaRegressor
    given = {"X_val": TEXTS, "y_val": 2.0 * Y} if kind == "early stopping" else {}
    lora = {"lora_rank": 2} if "adapters" in kind else {}
    begun = small(estimator, warm_start=True, early_stopping=bool(given), **lora)
    possible = []
    if "warm start" in kind:
        possible = [learnt(begun.fit(TEXTS[::-1], 100.0 * Y))]

    def fit(watch, max_epochs=3):
        fitted = copy.deepcopy(begun).set_params(max_epochs=max_epochs)
        with watch:
            return fitted.fit(TEXTS, 2.0 * Y, **given)

    counter = CtrlC()
    possible += [learnt(fit(counter if max_epochs == 3 else CtrlC(), max_epochs)) for max_epochs in (1, 2, 3)]
    last = counter.n_copies - 1
    for i, number in enumerate(sorted({*range(0, last, last // 6), last - 2, last})):
        fitted = copy.deepcopy(begun)
        with pytest.raises(KeyboardInterrupt), CtrlC(number, after=bool(i % 2)):
            fitted.fit(TEXTS, 2.0 * Y, **given)
        if not hasattr(fitted, "module_"):
            assert not hasattr(fitted, "n_iter_") and "warm start" not in kind
            continue
        weights, about = learnt(fitted)
        # a regressor's scale, taken out of its head and put back in, may leave rounding
        assert any(np.allclose(weights, then, atol=1e-5) and about == said for then, said in possible), number
        assert np.isfinite(fitted.predict(TEXTS)).all()


@pytest.mark.parametrize("lora", [{}, {"lora_rank": 2}], ids=["weights", "adapters"])
def test_after_the_last_step_of_a_warm_start_the_whole_fit_is_left(small, tmp_path, monkeypatch, lora):
    begun = small(XLMRobertaClassifier, warm_start=True, resume_dir=tmp_path, **lora).fit(TEXTS[::-1], Y)
    expected = learnt(copy.deepcopy(begun).fit(TEXTS, Y))

    def close(keeper):
        raise KeyboardInterrupt

    monkeypatch.setattr(StateKeeper, "close", close)
    with pytest.raises(KeyboardInterrupt):
        begun.fit(TEXTS, Y)
    weights, about = learnt(begun)
    assert about == expected[1] and np.array_equal(weights, expected[0])
