"""Training the tagger: weights, the steps of a plain loop, scikit-learn's tools, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict, cross_val_score, cross_validate

from skxlmr import XLMRobertaTokenClassifier, save
from skxlmr.metrics import entity_f1_score
from tests.estimators.tokens.tags import LEARNS, X, Y, as_texts

# What is learnt -------------------------------------------------------------------------------------------------------


def full_batch_losses(make, checkpoint, rows=X, y=Y, **params):
    weight = params.pop("sample_weight", None)
    whole = {"batch_size": 500, "max_epochs": 3, "learning_rate": 1e-3}
    return make(XLMRobertaTokenClassifier, checkpoint, **whole | params).fit(rows, y, weight).loss_curve_


def test_weights_are_repetitions(make, still_checkpoint):
    weight = np.arange(24) % 3
    repeated = np.repeat(np.arange(24), weight)
    expected = full_batch_losses(make, still_checkpoint, [X[i] for i in repeated], [Y[i] for i in repeated])
    found = full_batch_losses(make, still_checkpoint, sample_weight=weight)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert abs(found[0] - full_batch_losses(make, still_checkpoint)[0]) > 1e-4


def test_class_weights(make, still_checkpoint):
    plain = full_batch_losses(make, still_checkpoint)
    heavy = full_batch_losses(make, still_checkpoint, class_weight={"B-DE": 50.0, "I-DE": 1.0, "O": 1.0})
    balanced = full_batch_losses(make, still_checkpoint, class_weight="balanced")
    counts = {tag: sum(row.count(tag) for row in Y) for tag in ("B-DE", "I-DE", "O")}
    by_hand = {tag: sum(counts.values()) / (3 * n) for tag, n in counts.items()}
    np.testing.assert_allclose(balanced, full_batch_losses(make, still_checkpoint, class_weight=by_hand), atol=1e-6)
    assert abs(plain[0] - heavy[0]) > 1e-2 and abs(plain[0] - balanced[0]) > 1e-3


def test_balanced_where_all_words_of_a_tag_weigh_nothing(make, still_checkpoint):
    rows, tags = [*X, ["the"]], [*Y, ["B-FR"]]
    weighted = full_batch_losses(
        make, still_checkpoint, rows, tags, class_weight="balanced", sample_weight=[1.0] * len(X) + [0.0]
    )
    assert np.isfinite(weighted).all()


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_words_without_a_tag_are_not_learnt(make, still_checkpoint, class_weight):
    """A row of them is like a row without a weight."""
    ignored = [[-100] * len(Y[0]), [*Y[1][:-1], -100], *Y[2:]]
    shorter = [X[0], X[1][:-1], *X[2:]], [Y[0], Y[1][:-1], *Y[2:]]
    found = full_batch_losses(make, still_checkpoint, y=ignored, class_weight=class_weight, max_epochs=1)
    weight = [0.0] + [1.0] * 23
    shown = full_batch_losses(
        make, still_checkpoint, y=[Y[0], *ignored[1:]], class_weight=class_weight, sample_weight=weight, max_epochs=1
    )
    np.testing.assert_allclose(found, shown, rtol=0, atol=1e-5)
    one_less = full_batch_losses(
        make, still_checkpoint, *shorter, class_weight=class_weight, sample_weight=weight, max_epochs=1
    )
    assert 0 < abs(found[0] - one_less[0]) < 0.1  # the word is still seen
    tagger = make(XLMRobertaTokenClassifier, still_checkpoint, batch_size=1, max_epochs=1, early_stopping=True)
    tagger.fit(X, ignored, X_val=X, y_val=ignored)
    assert tagger.classes_.tolist() == ["B-DE", "I-DE", "O"] and np.isfinite(tagger.loss_curve_).all()
    assert tagger.validation_scores_ == [tagger.score(X, ignored)]
    with pytest.raises(ValueError, match="y has no tags: every word has -100"):
        tagger.fit(X, [[-100] * len(row) for row in Y])


@pytest.mark.parametrize("tags", [["B", "I", "O"], ["B-DE", "I-DE", "DE"]])
def test_tags_that_look_like_those_of_a_scheme_are_doubted(make, tmp_path, tags):
    y = [[tags["BIO".index(tag[0])] for tag in row] for row in Y]
    with pytest.warns(UserWarning, match="the tags are read as plain classes, not as entities: .* pass scheme='plain'"):
        make(XLMRobertaTokenClassifier, max_epochs=1).fit(X, y)
    save(make(XLMRobertaTokenClassifier, max_epochs=1, scheme="plain").fit(X, y), tmp_path / "saved")
    with pytest.warns(UserWarning, match="the tags are read as plain classes"):
        XLMRobertaTokenClassifier.from_checkpoint(tmp_path / "saved")


@pytest.mark.parametrize("params", [{"label_all_subwords": True}, {"label_smoothing": 0.3}, {"subword_sampling": 0.1}])
def test_parameter_changes_the_loss(make, still_checkpoint, params):
    assert (
        abs(full_batch_losses(make, still_checkpoint)[0] - full_batch_losses(make, still_checkpoint, **params)[0])
        > 1e-3
    )


@pytest.mark.parametrize("all_subwords", [False, True])
def test_steps_follow_a_plain_loop(make, still_checkpoint, tmp_path, reference, all_subwords):
    settings = {"batch_size": 500, "weight_decay": 0.0, "schedule": "constant", "learning_rate": 1e-3, "max_epochs": 1}
    tagger = make(XLMRobertaTokenClassifier, still_checkpoint, label_all_subwords=all_subwords, **settings).fit(X, Y)
    save(tagger, tmp_path / "start")
    tagger.set_params(warm_start=True, max_epochs=5).fit(X, Y)

    theirs = reference("XLMRobertaForTokenClassification", tmp_path / "start").train()
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=0.0)
    encoded = tagger.tokenizer_.encode_words(X)
    ids = torch.full((len(X), int(encoded.lengths.max())), tagger.tokenizer_.pad_token_id)
    labels = torch.full_like(ids, -100)
    for i, tags in enumerate(Y):
        row, words = encoded.row(i).astype(np.int64), encoded.word_ids[encoded.span(i)]
        ids[i, : len(row)] = torch.from_numpy(row)
        for k in range(1, len(row) - 1):
            if all_subwords or words[k] != words[k - 1]:
                labels[i, k] = tagger.classes_.tolist().index(tags[words[k]])
    losses = []
    for _ in range(5):
        loss = theirs(ids, attention_mask=(ids != 1).long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    np.testing.assert_allclose(tagger.loss_curve_, losses, rtol=0, atol=1e-5)
    assert losses[-1] < losses[0] - 0.01


def test_long_rows_are_learnt_whole(make):
    """Only the last words of long rows have tags: they are learnt too."""
    rows = [["the"] * 60 + [word] for word in ("Haus", "river") * 12]
    y = [["O"] * 60 + [tag] for tag in ("B-DE", "O") * 12]
    tagger = make(XLMRobertaTokenClassifier, max_length=20, stride=6, max_epochs=6, learning_rate=5e-3).fit(rows, y)
    assert tagger.score(rows, y) == 1.0


# scikit-learn's tools -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", [list, pd.Series, lambda rows: np.array(rows, dtype=object)])
def test_cross_validation_takes_ragged_targets(make, container):
    tagger = make(XLMRobertaTokenClassifier)
    rows, y = container(X), container(Y)
    assert not is_classifier(tagger)  # so that no tool looks for classes in ragged targets
    scores = cross_val_score(tagger, rows, y, cv=2, error_score="raise")
    assert scores.shape == (2,)
    found = cross_val_predict(tagger, rows, y, cv=2)
    assert [len(tags) for tags in found] == list(map(len, X))
    halves = [clone(tagger).fit(X[12:], Y[12:]).predict(X[:12]), clone(tagger).fit(X[:12], Y[:12]).predict(X[12:])]
    assert found.tolist() == [tags for half in halves for tags in half]


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_grid_search_groups_and_scorers(make):
    groups = np.arange(24) % 4
    search = GridSearchCV(
        make(XLMRobertaTokenClassifier, batch_size=4, max_epochs=4, scheme="plain"),
        {"learning_rate": [1e-7, 5e-3]},
        cv=GroupKFold(2),
        error_score="raise",
    ).fit(X, Y, groups=groups)
    assert (
        search.best_params_ == {"learning_rate": 5e-3} and search.best_score_ > search.cv_results_["mean_test_score"][0]
    )
    assert search.score(X, Y) == search.best_estimator_.score(X, Y)
    own = cross_validate(
        make(XLMRobertaTokenClassifier, learning_rate=5e-3, batch_size=4, max_epochs=4),
        X,
        Y,
        cv=2,
        scoring={"own": lambda tagger, X, y: entity_f1_score(y, tagger.predict(X), scheme="IOB2")},
        error_score="raise",
    )
    assert own["test_own"].max() > 0
    texts, spans = as_texts(X, Y)
    assert cross_val_score(make(XLMRobertaTokenClassifier), texts, spans, cv=2, error_score="raise").shape == (2,)


def test_validation_and_early_stopping(make):
    watched = make(XLMRobertaTokenClassifier, **LEARNS | {"max_epochs": 4}).fit(X, Y, X_val=X[:12], y_val=Y[:12])
    assert len(watched.validation_scores_) == 4 and watched.validation_scores_[-1] == watched.score(X[:12], Y[:12]) > 0
    still = make(XLMRobertaTokenClassifier, max_epochs=9, learning_rate=1e-9, early_stopping=True).fit(X, Y)
    assert still.n_iter_ == 3  # the first epoch, and two that were no better
    texts, spans = as_texts(X, Y)
    other = make(XLMRobertaTokenClassifier, max_epochs=2).fit(texts, spans, X_val=texts, y_val=spans)
    assert other.validation_scores_[-1] == other.score(texts, spans)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "y", "params", "said"),
    [
        ([[], []], [[], []], {}, "X has no words"),
        ([["a"]], [["O"]], {}, "y has only one tag, 'O': at least two are needed"),
        (["a"], [[]], {}, "y has only one tag, 'O'"),
        ([["a"]], None, {}, "XLMRobertaTokenClassifier requires y to be passed, but the target y is None"),
        (X, [*Y[:-1], ["O"]], {}, f"y row 23: 1 tags for {len(X[23])} words"),
        (
            X,
            Y,
            {"scheme": "IOBES", "X_val": X[:1], "y_val": [["B-FR"] * len(X[0])]},
            "y_val row 0: tag 'B-FR' is not among",
        ),
        (X, Y, {"X_val": X[:2], "y_val": [Y[0], ["O"]]}, "y_val row 1: 1 tags for"),
        (X, Y, {"X_val": X}, "X_val and y_val belong together"),
        (X, [["NOUN"] * len(row) for row in X], {"scheme": "IOB2"}, "y has only one tag"),
        ([["a", "b"]], [["NOUN", "VERB"]], {"scheme": "IOB2"}, "'NOUN' is not a tag of the scheme 'IOB2'"),
        ([["a", "b"]], [["NOUN", "VERB"]], {"constrained": True}, "constrained=True needs tags with a scheme"),
        (["a b"], [[(0, 3, "PER")]], {"constrained": True, "scheme": "plain"}, "constrained=True needs tags"),
    ],
)
def test_fit_refuses(make, X, y, params, said):
    validation = {name: params[name] for name in ("X_val", "y_val") if name in params}
    own = {name: value for name, value in params.items() if name not in validation}
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaTokenClassifier, **own).fit(X, y, **validation)


def test_warm_start_keeps_the_tags(make):
    tagger = make(XLMRobertaTokenClassifier, warm_start=True).fit(X, Y)
    tagger.fit(X[:2], Y[:2])
    with pytest.raises(
        ValueError, match="y row 1: tag 'B-FR' is not among the classes of the fit, 'B-DE', 'I-DE', 'O'"
    ):
        tagger.fit(X[:2], [Y[0], ["B-FR"] * len(X[1])])
