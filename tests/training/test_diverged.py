"""The error for a loss or gradient that is not finite: it names rows, few or many, and survives pickling."""

import pickle

import numpy as np

from skxlmr.training import Diverged


def test_names_up_to_ten_rows():
    few, many = Diverged("loss", np.array([3, 7])), Diverged("gradient", np.arange(20, 45))
    assert "the loss is not finite at rows 3, 7 of the training data: lower learning_rate" in str(few)
    assert "the gradient is not finite at rows 20, 21, 22, 23, 24, 25, 26, 27, 28, 29 and 15 more of" in str(many)


def test_is_a_floating_point_error_that_pickles():
    error = Diverged("loss", np.array([3, 7]))
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, FloatingPointError) and str(again) == str(error) and again.rows.tolist() == [3, 7]
