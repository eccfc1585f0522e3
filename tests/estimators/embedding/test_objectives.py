"""What X and y are, and which losses may be learnt from them."""

import numpy as np
import pandas as pd
import pytest

from skxlmr.estimators._embedding.objectives import ALL_LOSSES, LOSSES, check_learnable, chosen_loss, read_targets
from skxlmr.utils._validation import Texts

ONE = Texts(["a", "b", "a"])
TWO = Texts(["a", "b", "a", "b", "c", "d"], side_by_side=2)
THREE = Texts(["a", "b", "c", "d", "a", "f"], side_by_side=3)


@pytest.mark.parametrize(
    ("texts", "y", "kind", "expected"),
    [
        (ONE, ["x", "y", "x"], "classes", [0, 1, 0]),
        (ONE, [7, 7, -1], "classes", [1, 1, 0]),
        (ONE, [1.0, 0.0, 1.0], "classes", [1, 0, 1]),
        (ONE, [True, False, True], "classes", [1, 0, 1]),
        (ONE, pd.Series(["x", "y", "x"], dtype="category"), "classes", [0, 1, 0]),
        (TWO, None, "pairs", [[0, 1], [1, 2], [0, 3]]),
        (THREE, None, "pairs", [[0, 2, 0], [1, 3, 4]]),
        (TWO, [1, 0, 1], "scores", [1, 0, 1]),
        (TWO, [0.5, -2, 5], "scores", [0.5, -2, 5]),
        (TWO, [[0.5], [0.25], [0]], "scores", [0.5, 0.25, 0]),
        (ONE, [[0.5, 1], [2, 3], [4, 5.0]], "vectors", [[0.5, 1], [2, 3], [4, 5]]),
        (ONE, pd.DataFrame({"a": [0.5, 1, 2], "b": [0.0, 1, 2]}), "vectors", [[0.5, 0], [1, 1], [2, 2]]),
    ],
)
def test_what_y_is(texts, y, kind, expected):
    found, targets = read_targets(texts, y, "y")
    assert found == kind
    np.testing.assert_array_equal(targets, expected)
    assert targets.dtype == ("i8" if kind in ("classes", "pairs") else "f4")


@pytest.mark.parametrize(
    ("texts", "y", "message"),
    [
        (
            ONE,
            None,
            "X has one column of texts and y is None.* pass y, classes or a teacher's vectors, or pairs of texts",
        ),
        (THREE, [1, 0], "X has three columns, .* learnt from without y"),
        (TWO, ["x", "y", "x"], "y holds texts, such as 'x', but X has pairs of texts.* pass numbers, or one column"),
        (TWO, [[0.5, 1]] * 3, r"one number for each pair of texts, got shape \(3, 2\)"),
        (TWO, [0.5, np.nan, 1], "y row 1: expected a finite number, got nan: drop the row"),
        (TWO, [0.5, 1], "inconsistent numbers of samples"),
        (
            ONE,
            [0, 0.5, 1],
            "y row 1 is 0.5: .* use XLMRobertaRegressor; .* pass two columns of texts; .* two dimensions",
        ),
        (ONE, [[0, 1], [1, 0], [1, 1]], "y has 2 columns that are not all floats: .* pass one class for each text"),
        (ONE, [["x", "y"], ["x", "z"], ["x", "y"]], "2 columns that are not all floats"),
        (ONE, [[0.5, 1], [2, np.inf], [3, 4]], "y row 1: expected a finite number, got inf: drop the row"),
        (ONE, [[0.5, 1], [2, 1e300], [3, 4]], "y row 1: .* too large for float32"),
        (ONE, pd.Series([[0.5, 1.0]] * 3), r"y is a column of vectors: .* in two dimensions, np.stack\(y\)"),
        (ONE, pd.Series([np.ones(2)] * 3), r"y is a column of vectors: .* in two dimensions, np.stack\(y\)"),
        (ONE, [[0.5, 1], [2], [3, 4]], "y row 1: expected a vector of 2 features, as in row 0, got 1"),
        (ONE, [["x", "y"], ["x"], []], "y row 0: expected a label, .* for several labels per row"),
        (ONE, ["x", None, "y"], "y row 1: expected a label, got None"),
        (ONE, ["x", "y"], "inconsistent numbers of samples"),
    ],
)
def test_y_that_is_nothing_to_learn_from(texts, y, message):
    with pytest.raises(ValueError, match=message):
        read_targets(texts, y, "y")


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_for_its_data(kind):
    assert chosen_loss("auto", kind) == LOSSES[kind][0]
    for loss in ALL_LOSSES:
        if loss in LOSSES[kind]:
            assert chosen_loss(loss, kind) == loss
            continue
        with pytest.raises(
            ValueError, match=f"loss='{loss}' needs .*, but X and y are .*: .* set loss='{LOSSES[kind][0]}'"
        ):
            chosen_loss(loss, kind)


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        ("supervised_contrastive", [0, 0], "y has only one class: at least two"),
        (
            "contrastive_pairs",
            [0, 1, 2],
            r"each class of y has only one row.* Pairs .* fit\(list\(zip\(first, second\)\)\)",
        ),
        ("multiple_negatives_ranking", [[0, 1]], "X has one pair, .* at least two are needed"),
        ("cosent", [0.5, 0.5], "y is 0.5 for all rows, .* needs two values"),
        ("cosine", [0.5, 5, -0.5], "y row 1 is 5, .* from -1 to 1: scale y, .* or set loss='cosent'"),
        ("cosine", [0.5, 1, -1.5], "y row 2 is -1.5"),
    ],
)
def test_targets_of_which_nothing_is_learnt(loss, targets, message):
    with pytest.raises(ValueError, match=message):
        check_learnable(loss, np.array(targets), "y")


def test_targets_of_which_something_is_learnt():
    for loss, targets in (
        ("contrastive_pairs", [0, 1, 1]),
        ("cosent", [5, 0]),
        ("multiple_negatives_ranking", [[0, 1, 2]]),
        ("cosine", [1, -1]),
        ("distillation", [[9]]),
    ):
        check_learnable(loss, np.array(targets), "y")
