"""The table of the examples, in scikit-learn's manner."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris

from skxlmr.datasets import load_reviews


def test_bunch_has_what_scikit_learns_have():
    reviews, iris = load_reviews(), load_iris(as_frame=True)
    assert set(reviews) == set(iris) - {"data_module"}
    assert {key: type(value) for key, value in reviews.items()} == {key: type(iris[key]) for key in reviews}
    assert reviews.data.shape == (360, 6) and reviews.data.columns.tolist() == reviews.feature_names
    assert reviews.target.name == "sentiment" and reviews.target_names.tolist() == sorted(set(reviews.target))
    pd.testing.assert_frame_equal(reviews.frame, reviews.data.assign(sentiment=reviews.target))
    assert Path(reviews.filename).is_file() and "ten languages" in reviews.DESCR
    assert not reviews.frame.isna().any().any() and all(isinstance(text, str) for text in reviews.data["review"])


@pytest.mark.parametrize("as_frame", [True, False])
def test_other_forms_hold_the_same(as_frame):
    whole = load_reviews()
    X, y = load_reviews(as_frame=as_frame, return_X_y=True)
    arrays = load_reviews(as_frame=as_frame)
    assert isinstance(X, pd.DataFrame if as_frame else np.ndarray)
    for data, target in ((X, y), (arrays.data, arrays.target)):
        np.testing.assert_array_equal(np.asarray(data, dtype=object), whole.data.to_numpy(dtype=object))
        np.testing.assert_array_equal(np.asarray(target, dtype=object), whole.target.to_numpy(dtype=object))
    assert (arrays.frame is None) == (not as_frame)


def test_callers_do_not_share_it():
    frame = load_reviews().frame
    frame.loc[0, "review"] = "changed"
    assert load_reviews().frame.loc[0, "review"] != "changed"
