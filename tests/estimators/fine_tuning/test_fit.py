"""What all estimators that train share: weights of rows, schedules, frozen parts, seeds, drawn segmentations."""

import hashlib
import pickle

import numpy as np
import pytest
import torch

from skxlmr import TruncationWarning, XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaRegressor
from skxlmr.checkpoints import read_tensors
from skxlmr.nn.kernels import onednn
from tests.estimators.conftest import LEARNS, close, differing, weights_of

WORDS = "roberta.embeddings.word_embeddings.weight"


@pytest.fixture
def fit(make, still_checkpoint, texts, languages):
    """Fit a classifier without dropout."""

    def fit(X=texts, y=languages, sample_weight=None, **params):
        return make(XLMRobertaClassifier, still_checkpoint, **params).fit(X, y, sample_weight)

    return fit


@pytest.fixture
def apart(texts):
    """Largest difference between the probabilities of two classifiers.

    Weights themselves are no measure: AdamW divides by the gradient's size, so that where the gradient is zero but for
    rounding (the keys' biases) a step is noise as large as the learning rate.
    """

    def apart(found, expected):
        return np.abs(found.predict_proba(texts) - expected.predict_proba(texts)).max()

    return apart


# Weights of rows ------------------------------------------------------------------------------------------------------


def test_rows_that_weigh_nothing_do_not_matter(fit, apart, texts, languages):
    clean = fit(texts[:32], languages[:32], batch_size=48)
    wrong = np.r_[languages[:32], np.roll(languages[32:], 1)]
    assert apart(fit(texts, wrong, np.repeat([1.0, 0.0], [32, 16]), batch_size=48), clean) < 1e-4
    assert apart(fit(texts, wrong, batch_size=48), clean) > 1e-2


def test_a_weight_counts_like_a_repetition(fit, apart, texts, languages):
    times = np.arange(48) % 3
    repeated = np.repeat(np.arange(48), times)
    weighted = fit(texts, languages, times, batch_size=48)
    assert apart(weighted, fit([texts[i] for i in repeated], languages[repeated], batch_size=48)) < 1e-4
    assert apart(weighted, fit(batch_size=48)) > 1e-2


def test_sample_weight_is_checked(make, texts, languages):
    classifier = make(XLMRobertaClassifier)
    with pytest.raises(ValueError, match="sample_weight"):
        classifier.fit(texts, languages, np.ones(3))
    with pytest.raises(ValueError, match=r"Negative values .*sample_weight"):
        classifier.fit(texts, languages, np.r_[-1.0, np.ones(47)])
    with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
        classifier.fit(texts, languages, np.zeros(48))
    with pytest.raises(ValueError, match=r"sample_weight row \d+: expected a finite number, got nan"):
        classifier.fit(texts, languages, np.r_[np.nan, np.ones(47)])


# What learns, and how fast --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_frozen", [1, 2])
def test_frozen_layers_keep_their_weights(make, tiny_checkpoint, texts, languages, n_frozen):
    classifier = make(XLMRobertaClassifier, n_frozen_layers=n_frozen).fit(texts, languages)
    stored = read_tensors(tiny_checkpoint)
    fitted = {name: tensor for name, tensor in weights_of(classifier).items() if name in stored}
    changed = differing(fitted, {name: stored[name] for name in fitted})
    learning = {name for name in fitted if any(f"layer.{i}." in name for i in range(n_frozen, 2))}
    # the key's bias has no influence on the softmax, and so no gradient but rounding
    assert changed | {name for name in learning if name.endswith("key.bias")} == learning


def test_everything_learns_by_default(fit, still_checkpoint):
    stored = read_tensors(still_checkpoint)
    fitted = {name: tensor for name, tensor in weights_of(fit()).items() if name in stored}
    assert differing(fitted, {name: stored[name] for name in fitted}) == set(fitted)


@pytest.mark.parametrize("estimator", [XLMRobertaClassifier, XLMRobertaRegressor])
def test_words_that_no_text_holds_stay_as_they_are(make, tiny_checkpoint, texts, estimator):
    short = texts[:6]
    fitted = make(estimator, max_epochs=2, weight_decay=0.1).fit(short, [0, 1] * 3)
    words, stored = weights_of(fitted)[WORDS], read_tensors(tiny_checkpoint)[WORDS]
    assert words.shape == stored.shape
    used = np.unique(fitted.tokenizer_.encode_batch(short).ids)
    unused = np.setdiff1d(np.arange(len(stored)), used)
    assert len(used) > 20 and len(unused) > 100
    assert torch.equal(words[unused], stored[unused])
    assert (words[used] != stored[used]).any(1).all()


def test_file_of_the_checkpoint_is_not_written_to(make, tiny_checkpoint, texts, languages):
    digest = hashlib.sha256((tiny_checkpoint / "model.safetensors").read_bytes()).digest()
    make(XLMRobertaClassifier, learning_rate=0.1, max_epochs=2).fit(texts, languages)
    make(XLMRobertaRegressor, learning_rate=0.1, n_frozen_layers=1).fit(texts, np.arange(48))
    make(XLMRobertaMaskedLM, learning_rate=0.1).fit(texts)
    assert hashlib.sha256((tiny_checkpoint / "model.safetensors").read_bytes()).digest() == digest


def moved(fitted, start):
    """How far each weight went."""
    fitted = weights_of(fitted)
    return {name: (fitted[name] - start[name]).abs().max().item() for name in start if name in fitted}


def test_rates_of_layers_and_head(fit, still_checkpoint):
    """AdamW's first step moves each weight by its learning rate."""
    start = read_tensors(still_checkpoint)
    one = {"batch_size": 48, "learning_rate": 1e-3, "weight_decay": 0.0, "max_grad_norm": None}
    query = "roberta.encoder.layer.{}.attention.self.query.weight".format
    plain = moved(fit(**one), start)
    assert [plain[name] for name in (query(1), query(0), WORDS)] == pytest.approx([1e-3] * 3, rel=0.01)
    decayed = moved(fit(**one, layer_decay=0.5), start)
    assert [decayed[name] for name in (query(1), query(0), WORDS)] == pytest.approx([1e-3, 5e-4, 2.5e-4], rel=0.01)
    # the head starts anew: what it started from is what it is after no step at all
    head = "classifier.out_proj.weight"
    untrained = weights_of(fit(**{**one, "learning_rate": 1e-12}))
    fast = fit(**one, head_learning_rate=1e-2)
    assert moved(fast, untrained)[head] == pytest.approx(1e-2, rel=0.01)
    assert moved(fit(**one), untrained)[head] == pytest.approx(1e-3, rel=0.01)
    assert moved(fast, start)[query(1)] == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize(
    "params",
    [
        {"schedule": "cosine"},
        {"schedule": "constant"},
        {"warmup_ratio": 0.5},
        {"weight_decay": 0.5},
        {"max_grad_norm": 1e-3},
        {"learning_rate": 1e-3},
        {"head_learning_rate": 1e-3},
        {"layer_decay": 0.5},
        {"batch_size": 24},
        {"max_epochs": 3},
        {"max_length": 8},
        {"label_smoothing": 0.2},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::skxlmr.TruncationWarning")
def test_parameter_matters(fit, params):
    base = {"max_epochs": 2, "weight_decay": 0.0}
    assert len(differing(*(weights_of(fit(**settings)) for settings in (base, base | params)))) > 10


def test_accumulated_batches_are_one_large_batch(fit, apart):
    whole = fit(batch_size=24, max_epochs=2)
    assert apart(fit(batch_size=6, accumulate=4, max_epochs=2), whole) < 1e-4
    assert apart(fit(batch_size=6, max_epochs=2), whole) > 1e-2


def test_gradient_checkpointing_changes_nothing_but_memory(make, texts, languages):
    plain, frugal = (
        make(XLMRobertaClassifier, gradient_checkpointing=flag).fit(texts, languages) for flag in (False, True)
    )
    assert close(weights_of(frugal), weights_of(plain), 1e-6)
    assert frugal.module_.roberta.gradient_checkpointing


def test_loss_falls_and_verbose_tells(make, capsys, many):
    make(XLMRobertaClassifier, **LEARNS).fit(*many)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    classifier = make(XLMRobertaClassifier, **LEARNS, verbose=1).fit(*many)
    captured = capsys.readouterr()
    assert captured.out == "" and "epoch 5/5" in captured.err
    assert f"{classifier.loss_curve_[-1]:.4f}" in captured.err
    assert np.argmin(classifier.loss_curve_) == 4


def test_truncation_is_counted_and_warned_of_once(make):
    X = ["bird", "river " * 40, "house", "city " * 50]
    classifier = make(XLMRobertaClassifier, max_length=16)
    with pytest.warns(TruncationWarning, match="2 of 4 texts are longer than 16 tokens") as caught:
        classifier.fit(X, [0, 1, 0, 1])
    assert len(caught) == 1 and caught[0].filename == __file__
    assert classifier.n_truncated_ == 2
    with pytest.warns(TruncationWarning, match="1 of 1"):
        classifier.predict(X[1:2])


# Seeds and what lies around -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaMaskedLM])
def test_same_seed_same_bits(make, texts, estimator):
    def fit(seed):
        return weights_of(make(estimator, max_epochs=2, random_state=seed).fit(texts, np.arange(48) % 2))

    assert not differing(fit(3), fit(3))
    assert not differing(fit(np.random.RandomState(3)), fit(np.random.RandomState(3)))
    assert len(differing(fit(3), fit(4))) > 30


def test_random_state_instance_goes_on(make, texts, languages):
    classifier = make(XLMRobertaClassifier, random_state=np.random.RandomState(0))
    assert differing(weights_of(classifier.fit(texts, languages)), weights_of(classifier.fit(texts, languages)))


def test_nothing_around_is_touched(make, texts, languages):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    threads = torch.get_num_threads(), torch.get_num_interop_threads()
    make(XLMRobertaClassifier).fit(texts, languages).predict(texts)
    make(XLMRobertaMaskedLM).fit(texts).fill_mask(["<mask>"])
    assert torch.equal(torch.get_rng_state(), before[0]) and pickle.dumps(np.random.get_state()) == before[1]
    assert (torch.get_num_threads(), torch.get_num_interop_threads()) == threads
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def test_callers_without_gradients(make, texts, languages):
    expected = weights_of(make(XLMRobertaClassifier).fit(texts, languages))
    for without in (torch.no_grad, torch.inference_mode):
        with without():
            classifier = make(XLMRobertaClassifier).fit(texts, languages)
            assert not torch.is_grad_enabled()
        assert not differing(weights_of(classifier), expected)


@pytest.mark.filterwarnings("ignore:dtype='bfloat16' takes")
@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    "params",
    [
        {"dtype": "float32", "early_stopping": True},
        {"dtype": "bfloat16", "early_stopping": True},
        {"dtype": "float32", "lora_rank": 2},
        {"dtype": "bfloat16", "n_frozen_layers": 1},
    ],
    ids=str,
)
def test_callers_inside_autocast(monkeypatch, make, texts, languages, params, enabled, is_on):
    """Torch keeps the casts of weights until the block of the caller ends; those of a fit change within it."""

    def twice():
        classifier = make(XLMRobertaClassifier, random_state=0, warm_start=True, max_epochs=2, **params)
        probabilities = [classifier.fit(texts, languages).predict_proba(texts) for _ in range(2)]
        return [*weights_of(classifier).values(), *map(torch.tensor, (*probabilities, classifier.loss_curve_))]

    monkeypatch.setattr(onednn, "is_on", lambda: is_on)
    expected = twice()
    with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        found = twice()
        assert torch.is_autocast_enabled("cpu") == enabled and torch.is_autocast_cache_enabled()
    assert all(map(torch.equal, found, expected))


# Subword sampling -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopping", [{}, {"early_stopping": True, "validation_fraction": 0.25}])
def test_subword_sampling_draws_new_segmentations_in_each_epoch(monkeypatch, fit, texts, stopping):
    drawn = []
    encode = XLMRobertaClassifier._encode

    def watched(self, texts, sampling=None):
        encoded = encode(self, texts, sampling)
        drawn.append((sampling, encoded.ids.tolist()))
        return encoded

    monkeypatch.setattr(XLMRobertaClassifier, "_encode", watched)
    first = fit(max_epochs=3, subword_sampling=0.1, random_state=0, **stopping)
    best, *epochs = drawn
    assert best[0] is None  # truncation is counted, and predictions are made, on the best segmentation
    assert len(epochs) == first.n_iter_ == 3
    assert all(sampling.alpha == 0.1 and ids != best[1] for sampling, ids in epochs)
    assert len({str(ids) for _, ids in epochs}) == 3

    again = fit(max_epochs=3, subword_sampling=0.1, random_state=0, **stopping)
    assert np.array_equal(first.predict_proba(texts), again.predict_proba(texts))
    assert first.loss_curve_ != fit(max_epochs=3, random_state=0, **stopping).loss_curve_


def test_predictions_take_the_best_segmentation(fit, texts):
    classifier = fit(subword_sampling=0.1, random_state=0)
    assert np.array_equal(classifier.predict_proba(texts), classifier.predict_proba(texts))


@pytest.mark.parametrize("objective", ["translation", "alignment"])
def test_subword_sampling_of_pairs(make, still_checkpoint, texts, objective):
    pairs = list(zip(texts, [*texts[1:], ""], strict=True))
    plain, sampled = (
        make(XLMRobertaMaskedLM, still_checkpoint, pair_objective=objective, subword_sampling=alpha).fit(pairs)
        for alpha in (None, 0.1)
    )
    assert np.isfinite(sampled.loss_curve_).all()
    assert sampled.loss_curve_ != plain.loss_curve_
