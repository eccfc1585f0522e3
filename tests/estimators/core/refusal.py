"""A precision that a machine is refused."""

import pytest

from skxlmr.estimators._core import estimator as core
from tests import contract


def check_refused(make_any, estimator, monkeypatch, dtype, message):
    """On a CPU, before the checkpoint is looked for."""

    def forbidden(*args):
        raise AssertionError("the checkpoint was looked for")

    X, y, _ = contract.inputs(estimator)
    made = make_any(estimator, dtype=dtype, device="cpu")
    monkeypatch.setattr(core, "resolve_checkpoint", forbidden)
    with pytest.raises(ValueError, match=message):
        made.fit(X, y)
    assert not hasattr(made, "module_")
    if hasattr(estimator, "partial_fit"):
        with pytest.raises(ValueError, match=message):
            estimator.from_checkpoint("someone/model", dtype=dtype, device="cpu")
