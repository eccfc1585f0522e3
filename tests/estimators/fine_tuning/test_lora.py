"""Fits with adapters: what learns, what is kept, how they go on, and a whole fit beside a plain loop of peft."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
import transformers
from safetensors import safe_open

from skxlmr import (
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaMultipleChoiceClassifier,
)
from skxlmr.estimators._fine_tuning import training_run
from skxlmr.training import auto_learning_rate
from tests.contract import each_that_trains, inputs
from tests.estimators.conftest import differing, padded, weights_of
from tests.processors import INT8
from tests.tiny import write_checkpoint

LORA = {"lora_rank": 2, "lora_dropout": 0.1}
ADAPTED = {f"roberta.encoder.layer.{i}.attention.self.{name}" for i in (0, 1) for name in ("query", "value")}
MERGED = {f"{name}.weight" for name in ADAPTED}
HEAD = {f"classifier.{layer}.{end}" for layer in ("dense", "out_proj") for end in ("weight", "bias")}


@pytest.fixture
def trained(monkeypatch):
    """Copies of the parameters that each fit trains, as it starts, by their names; and its optimisers."""
    seen = []

    def watching(module, **options):
        optimizer = make_optimizer(module, **options)
        learns = {p for group in optimizer.param_groups for p in group["params"]}
        seen.append(({n: p.detach().clone() for n, p in module.named_parameters() if p in learns}, optimizer))
        return optimizer

    make_optimizer = training_run.make_optimizer
    monkeypatch.setattr(training_run, "make_optimizer", watching)
    return seen


def merged(estimator):
    """The adapted weights as what is kept says that they are."""
    lora = estimator.module_.lora
    base = {name: lora.base[f"{name}.weight"] for name in lora.modules}
    return {f"{name}.weight": weight + lora.update(name, weight) for name, weight in base.items()}


def assert_merged(estimator):
    for name, weight in merged(estimator).items():
        assert torch.equal(estimator.module_.get_parameter(name), weight), name


# What learns ----------------------------------------------------------------------------------------------------------


@each_that_trains
def test_every_estimator_that_trains(make_any, trained, estimator):
    """Adapters, head and what is new; no other weight changes, and no trace of the adapters is left in the module."""
    X, y, _ = inputs(estimator)
    made = make_any(estimator, **LORA).fit(*([X] if y is None else [X, y]))
    names = {name for name in trained[0][0] if ".lora_" in name}
    assert {name.rpartition(".lora_")[0] for name in names} == set(made.module_.lora.modules)
    assert len(made.module_.lora.modules) == 4 and len(names) == 8
    whole = trained[0][0].keys() - names
    assert all(name.startswith(tuple(f"{part}." for part in made.module_.lora.whole)) for name in whole)
    assert not any("lora" in name for name in made.module_.state_dict())
    assert_merged(made)


def test_nothing_else_changes_and_stays_mapped(make, texts, languages, watched):
    classifier = make(XLMRobertaClassifier, **LORA, weight_decay=0.5).fit(texts, languages)
    assert differing(weights_of(classifier), watched["start"][0]) == MERGED | HEAD
    module = classifier.module_
    others = dict(module.named_parameters()).keys() - MERGED - HEAD
    assert all(module.get_parameter(name).data_ptr() in module.mapped_files.addresses for name in others)
    assert module.loaded.as_read(module) == others  # which were not written to, not even with the same values
    assert all(tensor.data_ptr() in module.mapped_files.addresses for tensor in module.lora.base.values())
    assert module.lora.whole == ("classifier",) and set(module.lora.modules) == ADAPTED


@pytest.mark.parametrize("n_frozen_layers", [0, 1])
def test_optimizer_state_and_copies_hold_what_learns(make, trained, texts, languages, tmp_path, n_frozen_layers):
    given = {"resume_dir": tmp_path, "early_stopping": True, "n_frozen_layers": n_frozen_layers, "max_epochs": 2}
    classifier = make(XLMRobertaClassifier, lora_rank=2, **given).fit(texts, languages)
    (started, optimizer) = trained[0]
    adapters = {n: p for n, p in started.items() if ".lora_" in n}
    assert len(adapters) == 4 * (2 - n_frozen_layers) and started.keys() - adapters.keys() == HEAD
    assert all(p.shape == (2, 32) for n, p in adapters.items() if "lora_A" in n)
    assert all(p.shape == (32, 2) and not p.any() for n, p in adapters.items() if "lora_B" in n)
    with safe_open(tmp_path / "fit.safetensors", "pt") as state:
        kept = {name.partition("/")[2] for name in state.keys() if name.startswith("weight/")}  # noqa: SIM118
        sizes = [state.get_tensor(name).numel() for name in state.keys() if name.startswith("optimizer/exp_avg/")]  # noqa: SIM118
    assert kept == started.keys()
    assert (
        sum(sizes)
        == sum(p.numel() for p in started.values())
        == sum(
            len(optimizer.state[p]["exp_avg"].flatten()) for group in optimizer.param_groups for p in group["params"]
        )
    )
    assert len(classifier.module_.lora.modules) == 2 * (2 - n_frozen_layers)


def test_kaiming_uniform(make, texts, languages, trained):
    make(XLMRobertaClassifier, lora_rank=64).fit(texts, languages)
    drawn = torch.cat([p.flatten() for name, p in trained[0][0].items() if "lora_A" in name])
    assert drawn.abs().max() <= 32**-0.5 and abs(float(drawn.std()) - (3 * 32) ** -0.5) < 0.002


def test_new_pooler_learns_in_full_and_that_of_the_checkpoint_does_not(tmp_path, tiny_tokenizer, make):
    X, y, _ = inputs(XLMRobertaMultipleChoiceClassifier)
    chooser = make(XLMRobertaMultipleChoiceClassifier, **LORA).fit(X, y)
    assert chooser.module_.lora.whole == ("classifier",)
    folder = write_checkpoint(tmp_path / "c", tiny_tokenizer)
    from safetensors.torch import load_file, save_file

    tensors = {n: t for n, t in load_file(folder / "model.safetensors").items() if ".pooler." not in n}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    chooser = make(XLMRobertaMultipleChoiceClassifier, folder, lora_targets="all-linear", **LORA).fit(X, y)
    assert chooser.module_.lora.whole == ("roberta.pooler", "classifier")
    assert not any("pooler" in name for name in chooser.module_.lora.modules)


def test_head_of_a_language_model_is_pretrained(make, texts, trained):
    lm = make(XLMRobertaMaskedLM, **LORA).fit(texts)
    assert lm.module_.lora.whole == () and all(".lora_" in name for name in trained[0][0])


@pytest.mark.parametrize(
    ("targets", "n_frozen_layers", "n_adapted"),
    [("all-linear", 0, 12), ("all-linear", 1, 6), (["key"], 0, 2), (("1.output.dense", "query"), 0, 3)],
)
def test_targets(make, texts, languages, targets, n_frozen_layers, n_adapted):
    params = {"lora_targets": targets, "n_frozen_layers": n_frozen_layers, "lora_rank": 1}
    classifier = make(XLMRobertaClassifier, **params).fit(texts, languages)
    assert len(classifier.module_.lora.modules) == n_adapted
    assert classifier.module_.lora.targets == ((targets,) if isinstance(targets, str) else tuple(targets))


@pytest.mark.parametrize(
    ("params", "error", "said"),
    [
        (
            {"lora_targets": ["query", "q_proj"]},
            ValueError,
            r"'q_proj', and no .* they are attention.self.query, .*output.dense",
        ),
        ({"lora_targets": []}, TypeError, r"list of names of layers, got \[\]"),
        ({"lora_targets": ["query", 3]}, TypeError, "list of names"),
        ({"n_frozen_layers": 2}, ValueError, "every layer that lora_targets names is frozen"),
        ({"lora_targets": ["0.attention.self.query"], "n_frozen_layers": 1}, ValueError, "lower n_frozen_layers"),
        ({"lora_rank": 0}, ValueError, "lora_rank"),
        ({"lora_alpha": 0}, ValueError, "lora_alpha"),
        ({"lora_dropout": 1.0}, ValueError, "lora_dropout"),
        ({"lora_targets": "query"}, ValueError, "lora_targets"),
    ],
    ids=str,
)
def test_refused(make, texts, languages, params, error, said):
    with pytest.raises(error, match=said):
        make(XLMRobertaClassifier, **LORA | params).fit(texts, languages)


# Options of the fit ---------------------------------------------------------------------------------------------------


def test_each_parameter_matters(make, texts, languages):
    def loss(**params):
        return (
            make(XLMRobertaClassifier, max_epochs=1, **{"lora_rank": 2, **params}).fit(texts, languages).loss_curve_[0]
        )

    plain = loss()
    for changed in ({"lora_alpha": 64.0}, {"lora_dropout": 0.5}, {"lora_rank": 3}, {"lora_targets": ["key"]}):
        assert loss(**changed) != plain, changed


def test_automatic_rate_is_ten_times_that_of_all_weights(make, texts, languages):
    classifier = make(XLMRobertaClassifier, learning_rate="auto", lora_rank=2).fit(texts, languages)
    assert classifier.learning_rate_ == pytest.approx(10 * auto_learning_rate(32, False), rel=1e-12)


@pytest.mark.parametrize("params", [{"gradient_checkpointing": True}, {"n_frozen_layers": 1, "memory": None}], ids=str)
def test_same_fit(make, texts, languages, params):
    """Recomputed layers draw the same dropout, that of the adapters too; states of frozen layers are the same from memory."""
    other = {name: value for name, value in params.items() if name == "n_frozen_layers"}
    fits = [make(XLMRobertaClassifier, **LORA, **given).fit(texts, languages) for given in (other, params)]
    assert fits[0].loss_curve_ == fits[1].loss_curve_
    assert not differing(*map(weights_of, fits))


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("int8", marks=INT8)])
def test_other_precisions(make, texts, languages, dtype):
    """Frozen weights are cast as they are used: what is merged, in float32, and all others stay float32."""
    given = {"max_epochs": 2, "lora_rank": 2, "device": "cpu"}
    plain, other = (make(XLMRobertaClassifier, **given | {"dtype": kind}) for kind in ("float32", dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the processor is slow at it
        for classifier in plain, other:
            classifier.fit(texts, languages, X_val=texts, y_val=languages)
    np.testing.assert_allclose(other.loss_curve_, plain.loss_curve_, atol=0.02)
    assert {p.dtype for p in other.module_.parameters()} == {torch.float32}
    assert_merged(other)
    assert other.validation_scores_[-1] == other.score(texts, languages)


def test_validation_and_callbacks_see_the_module_with_its_adapters(make, texts, languages):
    given = {"max_epochs": 3, "lora_rank": 2, "learning_rate": 1e-2}
    copies = []

    def scorer(estimator, X, y):
        copies.append(estimator.module_)
        return estimator.score(X, y)

    scored = make(XLMRobertaClassifier, scoring=scorer, **given).fit(texts, languages, X_val=texts, y_val=languages)
    plain = make(XLMRobertaClassifier, **given).fit(texts, languages, X_val=texts, y_val=languages)
    assert (
        scored.validation_scores_ == plain.validation_scores_
        and scored.score(texts, languages) == plain.validation_scores_[-1]
    )
    last = copies[-1].state_dict()
    assert not differing({name: tensor.clone() for name, tensor in last.items()}, weights_of(plain))
    assert set(copies[-1].lora.modules) == ADAPTED
    for name, tensor in plain.module_.lora.tensors.items():
        assert torch.equal(copies[-1].lora.tensors[name], tensor)


def test_early_stopping_keeps_the_adapters_of_the_best_epoch(make, texts, languages):
    scores = iter([0.1, 0.9, 0.2, 0.3])
    given = {
        "lora_rank": 2,
        "early_stopping": True,
        "n_iter_no_change": 2,
        "learning_rate": 1e-2,
        "schedule": "constant",
    }
    stopped = make(XLMRobertaClassifier, max_epochs=9, scoring=lambda *_: next(scores), **given)
    stopped.fit(texts, languages, X_val=texts, y_val=languages)
    two = make(XLMRobertaClassifier, max_epochs=2, **given).fit(texts, languages, X_val=texts, y_val=languages)
    assert stopped.n_iter_ == 4 and not differing(weights_of(stopped), weights_of(two))
    assert_merged(stopped)


# On and on ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pickled", [False, True])
def test_portions_train_the_same_adapters(make, trained, texts, languages, pickled):
    """From exactly the adapters and the base of the call before; after a pickle the base is known but for rounding."""
    classifier = make(XLMRobertaClassifier, schedule="constant", **LORA).fit(texts, languages)
    first = classifier.module_.lora
    if pickled:
        classifier = copy.deepcopy(classifier)
        classifier.module_.lora = pickle.loads(pickle.dumps(first))
        assert not classifier.module_.lora.base
    classifier.partial_fit(texts, languages)
    for name, tensor in first.tensors.items():
        assert torch.equal(trained[1][0][name], tensor)
    second = classifier.module_.lora
    assert all(not torch.equal(second.tensors[name], first.tensors[name]) for name in first.tensors)
    assert_merged(classifier)
    for name, tensor in second.base.items():
        assert (torch.equal(tensor, first.base[name]) != pickled) and torch.allclose(
            tensor, first.base[name], atol=1e-6
        )


def test_ten_portions_leave_the_base(make, texts, languages):
    classifier = make(XLMRobertaClassifier, **LORA)
    for _ in range(10):
        classifier.partial_fit(texts[:16], languages[:16], classes=sorted(set(languages)))
    fresh = make(XLMRobertaClassifier, **LORA).fit(texts, languages).module_.lora
    assert all(torch.equal(classifier.module_.lora.base[name], tensor) for name, tensor in fresh.base.items())
    assert_merged(classifier)


def test_other_adapters_start_on_the_merged_weights(make, texts, languages):
    classifier = make(XLMRobertaClassifier, warm_start=True, **LORA).fit(texts, languages)
    before = weights_of(classifier)
    classifier.set_params(lora_rank=3, lora_targets=["query"]).fit(texts, languages)
    assert (classifier.module_.lora.rank, len(classifier.module_.lora.modules)) == (3, 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in classifier.module_.lora.base.items())
    classifier.set_params(lora_rank=None).fit(texts, languages)
    assert classifier.module_.lora is None


def test_moments_belong_to_their_adapters(make, trained, texts, languages):
    """Whether each group of parameters goes on from the steps of the call before."""
    classifier = make(XLMRobertaClassifier, **LORA)
    for alpha in (8.0, 8.0, 3.0):
        classifier.set_params(lora_alpha=alpha).partial_fit(texts, languages, classes=sorted(set(languages)))
    steps = []
    for started, optimizer in trained:
        learns = [p for group in optimizer.param_groups for p in group["params"]]
        of_adapters = {int(optimizer.state[p]["step"]) for p in learns if 2 in p.shape}
        steps.append((of_adapters, {int(optimizer.state[p]["step"]) for p in learns if 2 not in p.shape}))
        assert sum(2 in p.shape for p in learns) == 8 and len(learns) == len(started) == 12
    # of the second and the third call; numbers of steps that go on are the same tensors
    assert steps[1:] == [({6}, {9}), ({3}, {9})]


def test_weights_that_were_changed_by_hand_stay_changed(make, texts, languages):
    classifier = make(XLMRobertaClassifier, learning_rate=1e-9, **LORA).fit(texts, languages)
    name = min(MERGED)
    with torch.no_grad():
        classifier.module_.get_parameter(name).add_(1.0)
    changed = classifier.module_.get_parameter(name).clone()
    classifier.partial_fit(texts, languages)
    assert torch.allclose(classifier.module_.get_parameter(name), changed, atol=1e-6)


@pytest.mark.parametrize("failing", ["fit", "fit without adapters", "partial_fit"])
def test_after_a_failure(make, texts, languages, monkeypatch, failing):
    """A fit leaves the weights of before, to the last bit; a portion keeps the steps that it took."""
    classifier = make(XLMRobertaClassifier, warm_start=True, max_epochs=2, **LORA).fit(texts, languages)
    before, lora = weights_of(classifier), classifier.module_.lora
    modules = [type(module) for module in classifier.module_.modules()]
    step, n_steps = training_run.fit_loop.__globals__["TrainStep"].run, []

    def fails(*args):
        n_steps.append(1)
        if len(n_steps) > 2:
            raise MemoryError("on purpose")
        return step(*args)

    monkeypatch.setattr(training_run.fit_loop.__globals__["TrainStep"], "run", fails)
    if failing == "fit without adapters":
        classifier.set_params(lora_rank=None)
    with pytest.raises(MemoryError, match="on purpose"):
        getattr(classifier, failing.split()[0])(texts, languages)
    assert [type(module) for module in classifier.module_.modules()] == modules
    if failing == "partial_fit":
        assert differing(weights_of(classifier), before) == MERGED | HEAD
        assert classifier.module_.lora is not lora
        assert_merged(classifier)
    else:
        assert not differing(weights_of(classifier), before) and classifier.module_.lora is lora
    assert np.isfinite(classifier.predict_proba(texts)).all()


def test_resumed_fit_is_the_fit_that_was_not_interrupted(make, texts, languages, tmp_path, monkeypatch):
    given = {"max_epochs": 3, "resume_every": 1, **LORA}
    expected = make(XLMRobertaClassifier, **given).fit(texts, languages)
    step, n_steps = training_run.fit_loop.__globals__["TrainStep"].run, []

    def fails(*args):
        n_steps.append(1)
        if len(n_steps) == 6:
            raise MemoryError
        return step(*args)

    monkeypatch.setattr(training_run.fit_loop.__globals__["TrainStep"], "run", fails)
    with pytest.raises(MemoryError):
        make(XLMRobertaClassifier, resume_dir=tmp_path, **given).fit(texts, languages)
    resumed = make(XLMRobertaClassifier, resume_dir=tmp_path, **given).fit(texts, languages, resume=True)
    assert resumed.loss_curve_ == expected.loss_curve_ and len(n_steps) == 6 + 9 - 5
    assert not differing(weights_of(resumed), weights_of(expected))


def test_state_of_a_fit_without_adapters_says_nothing_of_them(make, texts, languages, tmp_path):
    """So that states of earlier versions are read; and a fit with adapters is another one."""
    given = {"max_epochs": 2, "resume_dir": tmp_path}
    make(XLMRobertaClassifier, **given).fit(texts, languages)
    with safe_open(tmp_path / "fit.safetensors", "pt") as state:
        assert "lora" not in state.metadata()["fit"]
    with pytest.raises(ValueError, match=r"another fit, which differs in .*lora_rank"):
        make(XLMRobertaClassifier, **given, **LORA).fit(texts, languages, resume=True)


# Beside peft ----------------------------------------------------------------------------------------------------------


def test_fit_of_thirty_steps_is_pefts(make, trained, watched, still_checkpoint, many):
    peft = pytest.importorskip("peft", reason="compares with peft")
    texts, y = (values[:96] for values in many)
    given = {"learning_rate": 1e-2, "weight_decay": 0.01, "warmup_ratio": 0.1, "max_epochs": 5, "batch_size": 16}
    given |= {"lora_rank": 4, "lora_alpha": 16.0}
    classifier = make(XLMRobertaClassifier, still_checkpoint, **given).fit(texts, y)
    config = transformers.XLMRobertaConfig(**classifier.config_.to_dict(), num_labels=4)
    module = transformers.XLMRobertaForSequenceClassification(config)
    module.load_state_dict(watched["start"][0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(module, peft.LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=16)).train()
    short = {
        name: name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", "")
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
    }
    assert set(short.values()) == trained[0][0].keys()
    groups = []
    with torch.no_grad():
        for name, of_ours in short.items():
            parameter = adapted.get_parameter(name)
            parameter.copy_(trained[0][0][of_ours])
            groups.append({"params": [parameter], "weight_decay": 0.0 if name.endswith("bias") else 0.01})
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 3, 30)
    codes, expected = torch.from_numpy(np.searchsorted(classifier.classes_, y)), []
    for rows in watched["batches"]:
        batch = padded(classifier.tokenizer_, [texts[i] for i in rows])
        loss = torch.nn.functional.cross_entropy(adapted(**batch).logits, codes[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in adapted.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert len(expected) == 30 and np.mean(expected[-5:]) < 0.9 * np.mean(expected[:5])
    np.testing.assert_allclose(watched["losses"], expected, rtol=0, atol=1e-5)
    for name, of_ours in short.items():
        if ".lora_" in of_ours:
            found, theirs = classifier.module_.lora.tensors[of_ours], adapted.get_parameter(name).detach()
            np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)
            assert (theirs - trained[0][0][of_ours]).abs().max() > 1e-3
    with torch.no_grad():
        probabilities = adapted.eval().merge_and_unload()(**padded(classifier.tokenizer_, texts)).logits.softmax(1)
    np.testing.assert_allclose(classifier.predict_proba(texts), probabilities, rtol=0, atol=1e-5)
