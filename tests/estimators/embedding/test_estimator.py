"""Fits on data of each kind, what they learn, and what is refused."""

import copy
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skxlmr import CheckpointError, XLMRobertaEmbedder, XLMRobertaVectorizer
from tests.estimators.conftest import differing, weights_of
from tests.tiny import WORDS, sentences

PAIRS = list(zip(*(WORDS[language].split()[:14] for language in ("en", "de")), strict=True))
OTHERS = [(english, german) for (english, _), (_, german) in zip(PAIRS, [*PAIRS[3:], *PAIRS[:3]], strict=True)]
NUMBERS = np.linspace(0, 1, 14)
LEARNS = {"max_epochs": 4, "batch_size": 8, "learning_rate": 2e-3}


def data(texts, languages):
    """X and y by the loss that they are for."""
    teacher = np.random.default_rng(0).normal(size=(4, 20))[np.unique(languages, return_inverse=True)[1]]
    return {
        "supervised_contrastive": (texts, languages),
        "multiple_negatives_ranking": (PAIRS, None),
        "cosent": ([*PAIRS, *OTHERS], [1] * 14 + [0] * 14),
        "distillation": (texts, teacher),
    }


@pytest.mark.parametrize(
    "loss",
    ["supervised_contrastive", "contrastive_pairs", "multiple_negatives_ranking", "cosent", "cosine", "distillation"],
)
def test_each_loss_improves_its_score(make, tiny_checkpoint, texts, languages, loss):
    of_loss = data(texts, languages)
    X, y = of_loss.get(loss) or of_loss[{"contrastive_pairs": "supervised_contrastive", "cosine": "cosent"}[loss]]
    n_epochs = 10 if isinstance(X[0], tuple) else 3
    params = LEARNS | {"max_epochs": n_epochs, "loss": "auto" if loss in of_loss else loss}
    made = make(XLMRobertaEmbedder, **params).fit(X, y)
    assert made.loss_ == loss and made.loss_curve_[-1] < made.loss_curve_[0]
    before = XLMRobertaEmbedder.from_checkpoint(tiny_checkpoint)
    if loss != "distillation":  # whose checkpoint has vectors of another width
        assert made.score(X, y) > before.score(X, y) + 0.1
    else:
        assert made.score(X, y) > 0.5 and made.transform(texts).shape == (48, 20)


def test_of_weights_in_cosent_only_proportions_count(make):
    X, y, weights = [*PAIRS, *OTHERS], [1] * 14 + [0] * 14, np.tile([1.0, 2.0], 14)
    plain, thrice, weighted, scaled = (
        make(XLMRobertaEmbedder, max_epochs=2).fit(X, y, sample_weight=each)
        for each in (None, np.full(28, 3.0), weights, 3 * weights)
    )
    assert thrice.loss_curve_ == plain.loss_curve_ and not differing(weights_of(thrice), weights_of(plain))
    np.testing.assert_allclose(scaled.loss_curve_, weighted.loss_curve_, rtol=1e-5)


def test_a_classifier_on_trained_vectors(make, texts, languages, unseen):
    pipe = make_pipeline(make(XLMRobertaEmbedder, **LEARNS), LogisticRegression())
    frozen = make_pipeline(make(XLMRobertaVectorizer), LogisticRegression(max_iter=1000))
    assert pipe.fit(texts, languages).score(*unseen) > max(0.8, frozen.fit(texts, languages).score(*unseen))


def test_a_search_over_losses(make, texts, languages):
    pipe = make_pipeline(make(XLMRobertaEmbedder), LogisticRegression())
    losses = ["supervised_contrastive", "contrastive_pairs"]
    search = GridSearchCV(pipe, {"xlmrobertaembedder__loss": losses}, cv=2, refit=False, error_score="raise")
    search.set_params(scoring="neg_log_loss")
    found = search.fit(texts[:16], languages[:16]).cv_results_["mean_test_score"]
    assert np.isfinite(found).all() and len(set(found.tolist())) == 2


def test_drawn_pairs_of_one_row(make, texts):
    """A batch of one row warns of nothing, and its targets are its own."""
    alone = make(XLMRobertaEmbedder, loss="contrastive_pairs", batch_size=1, max_epochs=1).fit(
        texts[:3], ["a", "b", "a"]
    )
    assert np.isfinite(alone.loss_curve_).all()


# What is refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "X", "y", "message"),
    [
        (
            {"loss": "cosent"},
            ["a", "b"],
            ["x", "y"],
            "loss='cosent' needs two columns .*, set loss='supervised_contrastive'",
        ),
        ({}, ["a", "b"], None, "X has one column of texts and y is None"),
        ({}, [("a", "b", "c", "d")] * 2, None, "X must have one column of texts, or two or three .* got 4 columns"),
        ({}, ["a", "b", "c"], ["x", "y", "z"], "each class of y has only one row"),
        ({"loss": "cosine"}, PAIRS, 5 * NUMBERS, "y row .*, and loss='cosine' learns the cosine itself"),
        ({"batch_size": 2}, ["a", "b", "c", "d"], [0, 1, 0, 1], "a step has 2 rows"),
        ({"batch_size": 1}, PAIRS, None, "a step has 1 row "),
        ({"batch_size": 1}, PAIRS, NUMBERS, "a step has 1 row "),
        (
            {"matryoshka_dims": [33, 8]},
            PAIRS,
            None,
            "in falling order, from at most the 32 features .* got \\[33, 8\\]",
        ),
        ({"matryoshka_dims": [8, 16]}, PAIRS, None, "in falling order"),
        ({"matryoshka_dims": []}, PAIRS, None, "in falling order"),
        ({"matryoshka_dims": [8, 2.5]}, PAIRS, None, "must be whole numbers"),
        ({"truncate_dim": 8}, ["a", "b"], np.ones((2, 20)), "has truncate_dim: set it after fit"),
        ({}, [("a", None)] * 3, None, "X row 0: expected a text, got None"),
    ],
)
def test_what_is_refused_leaves_nothing(make, params, X, y, message):
    made = make(XLMRobertaEmbedder, **params)
    before = dict(vars(made))
    with pytest.raises(ValueError, match=message):
        made.fit(X, y)
    assert vars(made) == before


def test_validation_data_of_another_kind(make, texts, languages):
    made = make(XLMRobertaEmbedder)
    with pytest.raises(
        ValueError, match="X_val and y_val are data for loss='cosent', but X and y are for loss='supervised"
    ):
        made.fit(texts, languages, X_val=PAIRS, y_val=NUMBERS)
    with pytest.raises(ValueError, match="y_val has 7 columns, but the teacher's vectors of the fit have 20 features"):
        made.fit(texts, np.ones((48, 20)), X_val=texts, y_val=np.ones((48, 7)))


def test_validation_data_of_which_nothing_is_compared(make, texts):
    params = {"early_stopping": True, "validation_fraction": 0.1}
    with pytest.raises(ValueError, match=r"only one text of each class, .* raise validation_fraction, or pass X_val"):
        make(XLMRobertaEmbedder, **params).fit(texts[:20], np.arange(20) % 9)
    with pytest.raises(ValueError, match=r"the validation data have only one class, .* compares two or more"):
        make(XLMRobertaEmbedder).fit(texts[:20], np.arange(20) % 2, X_val=texts[:4], y_val=[0] * 4)
    with pytest.raises(ValueError, match=r"only one row, .* raise validation_fraction"):
        make(XLMRobertaEmbedder, **params).fit(PAIRS[:8], NUMBERS[:8])
    assert make(XLMRobertaEmbedder, scoring="loss", **params).fit(PAIRS[:8], NUMBERS[:8]).validation_scores_


def test_early_stopping_leaves_something_to_learn(make):
    made = make(XLMRobertaEmbedder, early_stopping=True, validation_fraction=0.5)
    with pytest.raises(
        ValueError, match=r"early_stopping leaves too little .* sets aside, X has one pair, .* or X_val"
    ):
        made.fit(PAIRS[:2])
    with pytest.raises(ValueError, match=r"early_stopping leaves too little .* sets aside, y is 0 for all rows"):
        made.fit(PAIRS[:4], [0, 0, 0, 1])


# X and its columns ------------------------------------------------------------------------------------------------------


def test_a_fit_on_pairs_transforms_texts(make):
    frame = pd.DataFrame(PAIRS, columns=["english", "german"])
    made = make(XLMRobertaEmbedder).fit(frame)
    assert not hasattr(made, "n_features_in_") and not hasattr(made, "feature_names_in_")
    vectors = made.transform(frame["german"])
    np.testing.assert_allclose(made.transform(frame[["german"]]), vectors, atol=1e-6)
    np.testing.assert_allclose(made.transform(frame), np.hstack([made.transform(frame["english"]), vectors]), atol=1e-6)
    assert made.get_feature_names_out().tolist() == [f"xlmrobertaembedder_{i}" for i in range(32)]
    made.set_output(transform="pandas")
    assert made.transform(frame["german"]).shape == (14, 32)
    with pytest.raises(ValueError, match=r"X has 2 columns of texts, .* transform each column, or set_output"):
        made.transform(frame)


def test_names_of_a_table_are_compared(make, texts, languages):
    made = make(XLMRobertaEmbedder).fit(pd.DataFrame({"text": texts}), languages)
    assert made.n_features_in_ == 1 and made.get_feature_names_out()[0] == "text_0"
    with pytest.raises(ValueError, match="feature names should match those that were passed during fit"):
        made.transform(pd.DataFrame({"review": texts}))
    assert 0 <= made.score(pd.DataFrame(PAIRS, columns=["a", "b"])) <= 1  # whatever the fit was on
    made.set_params(warm_start=True).fit(PAIRS)
    assert made.loss_ == "multiple_negatives_ranking" and not hasattr(made, "feature_names_in_")


@pytest.mark.parametrize("n_columns", [1, 2])
def test_numbers_beside_the_texts_belong_into_y(make, n_columns):
    rows = [(*pair[:n_columns], i / 14) for i, pair in enumerate(PAIRS)]
    message = rf"X has {n_columns + 1} columns, and {{}} holds numbers and no texts: pass the numbers as y"
    with pytest.raises(ValueError, match=message.format("the last one")):
        make(XLMRobertaEmbedder).fit(rows)
    frame = pd.DataFrame(rows, columns=[*["first", "second"][:n_columns], "similar"])
    with pytest.raises(ValueError, match=message.format("'similar'")):
        make(XLMRobertaEmbedder).fit(frame)
    with pytest.raises(ValueError, match=r"X row 0: expected a text, got 1 of type int: the column holds no texts"):
        make(XLMRobertaEmbedder).fit([(1, "a"), (2, "b")])


def test_second_texts_as_y(make):
    first, second = zip(*PAIRS, strict=True)
    with pytest.raises(ValueError, match=r"Pairs of texts are one argument: fit\(list\(zip\(first, second\)\)\)"):
        make(XLMRobertaEmbedder).fit(first, second)
    long = [f"{text} and {text} and more" for text in second]
    with pytest.warns(UserWarning, match=r"y looks like texts and not like labels.* pairs of texts are one argument"):
        make(XLMRobertaEmbedder).fit([*first, "x"], [*long, long[0]])


@pytest.mark.parametrize("n_same", [1, 12])
def test_pairs_that_are_left_out_are_counted(make, n_same):
    X = [(english, "the same" if i < n_same else german) for i, (english, german) in enumerate(PAIRS)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make(XLMRobertaEmbedder, max_epochs=2).fit(X)
    said = [str(warning.message) for warning in caught if "left out" in str(warning.message)]
    assert [message.partition(" of X")[0] for message in said] == ([] if n_same == 1 else ["11 of the 14 rows"])


def test_not_fitted(make):
    with pytest.raises(
        NotFittedError, match=r"call fit, or XLMRobertaEmbedder.from_checkpoint for the vectors that the"
    ):
        make(XLMRobertaEmbedder).transform(["a"])


def test_missing_texts(make):
    X = [*PAIRS[:4], ("a", None)]
    vectors = make(XLMRobertaEmbedder, missing="empty").fit(X).transform(X)
    assert vectors.shape == (5, 64) and np.isfinite(vectors).all()


# How vectors are made is a part of the fit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [{"pooling": "cls"}, {"prompt": "das: "}, {"truncate_dim": 8}, {"temperature": 1.0}, {"matryoshka_dims": [8]}],
)
def test_parameters_change_what_is_learnt(make, params):
    plain, other = (make(XLMRobertaEmbedder, **each).fit(PAIRS) for each in ({}, params))
    assert abs(plain.loss_curve_[0] - other.loss_curve_[0]) > 1e-3


def test_temperature_is_the_inverse_of_scale(make):
    auto, same = (make(XLMRobertaEmbedder, temperature=t).fit(PAIRS) for t in ("auto", 0.05))
    assert auto.loss_curve_ == same.loss_curve_
    auto, same = (make(XLMRobertaEmbedder, temperature=t).fit(sentences(8), [0, 1] * 4) for t in ("auto", 0.07))
    assert auto.loss_curve_ == same.loss_curve_


@pytest.mark.parametrize("params", [{}, {"pooling": "cls", "normalize": True}, {"lora_rank": 2}])
@pytest.mark.parametrize("resume", [True, "auto"])
def test_a_fit_is_resumed(make, tmp_path, params, resume):
    params = params | {"resume_dir": tmp_path, "schedule": "constant", "warmup_ratio": 0.0}
    made = make(XLMRobertaEmbedder, max_epochs=1, **params).fit(PAIRS, resume=resume)
    again = make(XLMRobertaEmbedder, max_epochs=1, **params).fit(PAIRS, resume=resume)
    assert again.n_iter_ == 1 and again.loss_curve_ == made.loss_curve_
    assert not differing(weights_of(again), weights_of(made))
    longer = make(XLMRobertaEmbedder, max_epochs=3, **params).fit(PAIRS, resume=resume)
    through = make(XLMRobertaEmbedder, max_epochs=3, **params | {"resume_dir": None}).fit(PAIRS)
    assert longer.loss_curve_ == through.loss_curve_ and longer.loss_curve_[:1] == made.loss_curve_
    assert not differing(weights_of(longer), weights_of(through))


@pytest.mark.parametrize("other", [{"pooling": "cls"}, {"normalize": True}, {"prompt": "das: "}, {"temperature": 1.0}])
def test_a_fit_with_other_vectors_is_not_resumed(make, tmp_path, other):
    params = {"max_epochs": 2, "resume_dir": tmp_path}
    made = make(XLMRobertaEmbedder, **params).fit(PAIRS)
    (name,) = other
    then = re.escape(repr(made.get_params()[name]))
    with pytest.raises(
        CheckpointError, match=rf"which differs in {name} \(then {then}, now {re.escape(repr(other[name]))}\)"
    ):
        make(XLMRobertaEmbedder, **params | other).fit(PAIRS, resume=True)


# Further fits ------------------------------------------------------------------------------------------------------------


def test_a_second_fit_and_portions(make, texts, languages):
    X, teacher = data(texts, languages)["distillation"]
    made = make(XLMRobertaEmbedder).fit(X, teacher)
    layer = made.module_.sentence[0].linear.weight.clone()
    made.partial_fit(X, teacher)
    assert made.n_iter_ == 2 and not torch.equal(made.module_.sentence[0].linear.weight, layer)
    assert made._how().layers[0].activation == "Identity" and len(made.module_.sentence) == 1
    before = weights_of(made)
    with pytest.raises(ValueError, match="y has 7 columns, but the teacher's vectors of the fit have 20 features"):
        made.partial_fit(X, np.ones((48, 7)))
    classes = make(XLMRobertaEmbedder, warm_start=True).fit(texts, languages)
    with pytest.raises(
        ValueError, match=r"y has vectors of 20 features, and those of the encoder have 32.* without warm_start"
    ):
        classes.fit(X, teacher)
    assert not differing(weights_of(made), before) and classes.loss_ == "supervised_contrastive"
    assert make(XLMRobertaEmbedder).partial_fit(X, teacher).transform(X).shape == (48, 20)


def test_early_stopping_keeps_the_best_epoch(make, texts, languages):
    params = {"early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 1}
    made = make(XLMRobertaEmbedder, **LEARNS | params).fit(texts, languages)
    assert 1 < len(made.validation_scores_) <= 4
    given = make(XLMRobertaEmbedder, max_epochs=2).fit(texts, languages, X_val=texts, y_val=languages)
    assert given.validation_scores_[-1] == pytest.approx(given.score(texts, languages))
    loss = make(XLMRobertaEmbedder, scoring="loss").fit(PAIRS, X_val=PAIRS)
    assert loss.validation_scores_[0] < 0


def test_a_layer_of_the_checkpoint_trains_too(make, texts, languages, tmp_path):
    from tests.sentence_encoders import dense, write

    checkpoint = make(XLMRobertaVectorizer).checkpoint
    folder = write(tmp_path / "encoder", checkpoint, layers=[("Dense", dense(n_out=12)), ("Normalize", {})])
    folder = tmp_path / "encoder" if folder is None else folder
    made = make(XLMRobertaEmbedder, folder).fit(texts, languages)
    before = XLMRobertaVectorizer(folder).fit(texts)
    assert made.transform(texts).shape == (48, 12) and made.normalize_
    assert not torch.equal(made.module_.sentence[0].linear.weight, before.module_.sentence[0].linear.weight)


@pytest.mark.parametrize("n_frozen_layers", [0, 1])
def test_copies_and_pickles(make, texts, languages, n_frozen_layers):
    X, teacher = data(texts, languages)["distillation"]
    made = make(XLMRobertaEmbedder, n_frozen_layers=n_frozen_layers).fit(X, teacher)
    expected, content = made.transform(X), pickle.dumps(made)
    for copied in (pickle.loads(content), copy.deepcopy(made)):
        np.testing.assert_array_equal(copied.transform(X), expected)
    assert n_frozen_layers == 0 or len(content) < 200_000  # the embeddings are the checkpoint's


def test_adapters(make, texts, languages):
    """The new layer trains in full beside them."""
    X, teacher = data(texts, languages)["distillation"]
    made = make(XLMRobertaEmbedder, lora_rank=2).fit(X, teacher)
    assert made.module_.lora.whole == ("sentence",) and made.transform(X).shape == (48, 20)
