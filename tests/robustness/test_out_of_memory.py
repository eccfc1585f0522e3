"""Where the memory of the GPU runs out, the same steps are computed in smaller batches, and predictions stay the same.

The tests raise torch's own errors for a full memory. The slow test does so in every pass of every task, with each way of
batching: ``pytest -m slow tests/robustness/test_out_of_memory.py``.
"""

import gc
import warnings
import weakref
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr import OutOfMemoryWarning, XLMRobertaCausalLM, XLMRobertaClassifier
from skxlmr.estimators._choices.task import ChoiceTask
from skxlmr.estimators._fine_tuning.training_run import TrainingRun
from skxlmr.estimators._language.task import MaskedLMTask
from skxlmr.estimators._tokens.task import TokenTask
from skxlmr.inference._batch_queue import BatchQueue
from skxlmr.nn import losses
from skxlmr.training import fit_loop, mean_losses
from tests import contract
from tests.batching.rows import TOKENIZER, random_rows
from tests.estimators.dialogues.dialogues import make_task as dialogue_task
from tests.nn.reference import make_pair
from tests.training import fits

N = 14  # rows: the last batch of an epoch is smaller
WEIGHTS = np.linspace(0.5, 2, N).astype(np.float32)
CPU = torch.device("cpu")


def masked_task(second=None):
    return MaskedLMTask(random_rows(np.arange(N) % 7 + 3), second, TOKENIZER, WEIGHTS, 0.3, alignment_weight=0.7)


def token_task():
    encoded = random_rows(np.arange(N) % 5 + 3)
    n_words = encoded.lengths - 2
    word_ids = np.concatenate([[-1, *range(n), -1] for n in n_words]).astype(np.int32)
    targets, weights = np.empty(N, object), np.empty(N, object)
    for i, n in enumerate(n_words):
        targets[i], weights[i] = np.arange(n) % 3, np.full(n, WEIGHTS[i])
    return TokenTask(replace(encoded, word_ids=word_ids), targets, weights, losses.cross_entropy)


def choice_task():
    n_choices = np.arange(N) % 3 + 2
    encoded = replace(random_rows(np.arange(n_choices.sum()) % 6 + 3), row_of_window=np.repeat(np.arange(N), n_choices))
    return ChoiceTask(encoded, np.arange(N) % 2, WEIGHTS)


TASKS = {
    "sequence": ("seqcls", lambda: fits.make_task(N, weights=WEIGHTS)),
    "token": ("tokcls", token_task),
    "choice": ("mc", choice_task),
    "masked LM": ("mlm", masked_task),
    # some rows have no translation
    "alignment": ("mlm", lambda: masked_task(random_rows([0 if i % 4 == 1 else i % 6 + 3 for i in range(N)], seed=1))),
    "dialogue": ("mlm", lambda: dialogue_task(np.arange(N) % 4 + 1, weights=WEIGHTS, contrastive_weight=0.7)),
}


class Graph:
    """Lives as long as the autograd graph that refers to it."""


class Memory:
    """A memory that is full in chosen passes through an encoder, or for batches of more than ``most`` sequences."""

    def __init__(self, forward=(), backward=(), most=None):
        self.forward, self.backward, self.most = set(forward), set(backward), most
        self.n_passes, self.failures, self.held = 0, [], []

    def before(self, encoder, inputs):
        sequences = len(inputs[1].lengths if len(inputs) > 1 else inputs[0])
        number, self.n_passes = self.n_passes, self.n_passes + 1
        gc.disable()  # an object that is still there is referred to, not only uncollected
        assert not any(reference() is not None for reference in self.held), "tensors of a failed try are still there"
        gc.enable()
        if number in self.forward or (self.most is not None and sequences > self.most):
            self.fail(sequences)

    def after(self, encoder, inputs, output):
        if self.n_passes - 1 in self.backward and output.last_hidden_state.requires_grad:
            self.backward.remove(self.n_passes - 1)
            graph, sequences = Graph(), len(inputs[1].lengths)
            self.held.append(weakref.ref(graph))

            def fail(gradient, graph=graph):  # lives as long as the graph
                self.fail(sequences)

            output.last_hidden_state.register_hook(fail)

    def fail(self, sequences):
        self.failures.append(sequences)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has ...")

    @contextmanager
    def of(self, module):
        handles = [
            module.backbone.register_forward_pre_hook(self.before),
            module.backbone.register_forward_hook(self.after),
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()


def fit(name, memory, dtype=torch.float64, batch_size=4, accumulate=1, plain_descent=False):
    """Two epochs: weights, loss curve, warnings and the state of the generator of rows and masks."""
    kind, make_task = TASKS[name]
    module, rng = make_pair(kind, fits.STILL, dtype)[0], np.random.default_rng(0)
    settings = replace(fits.SETTINGS, batch_size=batch_size, accumulate=accumulate, max_grad_norm=1.0)
    optimizer = fits.optimizer_for(module)
    if plain_descent:
        groups = [{**group, "initial_lr": 0.1} for group in optimizer.param_groups]
        optimizer = torch.optim.SGD([{"params": g["params"], "initial_lr": 0.1} for g in groups], lr=0.1)
    with memory.of(module), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit_loop(module, make_task(), optimizer, settings, rng)
    return module, history.loss_curve, caught, rng.bit_generator.state


def assert_same_fit(found, expected, tolerance):
    fits.assert_same_weights(found[0], fits.weights_of(expected[0]), tolerance)
    assert found[1] == pytest.approx(expected[1], rel=1e-5)
    assert found[3] == expected[3]


@pytest.fixture(scope="module")
def undisturbed():
    made = {}

    def undisturbed(name, **options):
        key = (name, *sorted(options.items(), key=str))
        if key not in made:
            made[key] = fit(name, Memory(), **options)
        return made[key]

    return undisturbed


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("name", TASKS)
def test_a_fit_that_runs_out_of_memory_learns_the_same(name, where, undisturbed):
    for step in (0, 2):
        memory = Memory(**{where: [step]})
        found = fit(name, memory)
        assert len(memory.failures) == 1
        assert_same_fit(found, undisturbed(name), 1e-10)
        assert len(found[2]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 1), (2, 2), (3, 3), (N, 1)])
@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("name", TASKS)
def test_at_any_step(name, where, batch_size, accumulate, undisturbed):
    options = {"batch_size": batch_size, "accumulate": accumulate}
    step, n_tried = 0, 0
    while True:
        memory = Memory(**{where: [step]})
        found = fit(name, memory, **options)
        if step >= memory.n_passes:
            break
        step, n_tried = step + 1, n_tried + len(memory.failures)
        assert_same_fit(found, undisturbed(name, **options), 1e-10)
    assert n_tried >= 2 * -(-N // (batch_size * accumulate))


@pytest.mark.parametrize("name", TASKS)
def test_in_float32(name, undisturbed):
    """With plain descent: Adam makes full steps from gradients that are only rounding, such as that of a key's bias."""
    options = {"dtype": torch.float32, "plain_descent": True}
    found = fit(name, Memory(forward=[1], backward=[5]), **options)
    assert_same_fit(found, undisturbed(name, **options), 1e-6)
    moved = fits.weights_of(make_pair(TASKS[name][0], fits.STILL, torch.float32)[0])
    assert max((value - moved[n]).abs().max() for n, value in fits.weights_of(found[0]).items()) > 1e-3


def test_batches_are_halved_until_they_fit_and_stay_so(undisturbed):
    memory = Memory(most=2)
    found = fit("sequence", memory, batch_size=N)
    assert memory.failures == [N, 7, 4] and memory.n_passes == 3 + 2 * 7
    assert_same_fit(found, undisturbed("sequence", batch_size=N), 1e-10)
    (said,) = found[2]
    assert said.category is OutOfMemoryWarning
    assert f"batches of {N} rows are computed in parts of 2" in str(said.message)
    assert "set batch_size=2 and accumulate=7" in str(said.message)


def test_without_the_parts_weights_would_differ():
    """The weights that agree to 1e-10 above differ if each part draws on its own, or sees only its own rows."""
    for name in ("masked LM", "dialogue"):
        whole, parts = (fit(name, Memory(), batch_size=size)[0] for size in (4, 2))
        with pytest.raises(AssertionError):
            fits.assert_same_weights(parts, fits.weights_of(whole), 1e-4)


def test_a_single_row_that_does_not_fit():
    with pytest.raises(torch.OutOfMemoryError, match=r"a single row does not fit .*: lower max_length, set") as caught:
        fit("sequence", Memory(most=0))
    assert (
        str(caught.value).endswith("(CUDA out of memory. Tried to allocate 2 GiB.)")
        and caught.value.__context__ is None
    )


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "MPS backend out of memory (MPS allocated: 17.9 GB, other allocations: 1.1 GB, max allowed: 18.1 GB)",
    ],
)
def test_other_messages_of_a_full_memory(words, undisturbed):
    """Outside torch's own allocator, and on Apple's GPUs, the error is a plain RuntimeError."""
    memory = Memory(forward=[0])
    memory.fail = lambda sequences: memory.failures.append(sequences) or raising(RuntimeError(words))
    found = fit("sequence", memory)
    assert len(memory.failures) == 1
    assert_same_fit(found, undisturbed("sequence"), 1e-10)
    (said,) = found[2]
    assert said.category is OutOfMemoryWarning
    failures = iter([RuntimeError(words)])
    with pytest.warns(OutOfMemoryWarning):
        batches = run_batches(lambda rows: raising(next(failures, None)) or rows, np.array([3, 3]), 9)
    assert len(batches) == 2


def run_batches(run, lengths, token_budget):
    """Batches with what is made of them."""
    queue, done = BatchQueue(lengths, token_budget, CPU, budget_per_row=128), []
    for rows in queue:
        with queue:
            done.append((rows, run(rows)))
    return done


def raising(error):
    if error is not None:
        raise error


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), MemoryError(), KeyboardInterrupt()], ids=repr)
def test_other_errors_are_not_caught(error):
    module = fits.make_module()

    def fail(*_):
        raise error

    module.backbone.register_forward_pre_hook(fail)
    with pytest.raises(type(error)) as caught:
        fits.fit(module, fits.make_task())
    assert caught.value is error


@pytest.mark.parametrize("name", ["masked LM", "alignment", "dialogue"])
def test_the_loss_of_validation_data(name):
    kind, make_task = TASKS[name]
    module = make_pair(kind, fits.STILL, torch.float64)[0]
    expected = mean_losses(module, make_task(), N, np.random.default_rng(0))
    memory = Memory(most=6)
    with memory.of(module), pytest.warns(OutOfMemoryWarning):
        found = mean_losses(module, make_task(), N, np.random.default_rng(0))
    assert memory.failures and found == pytest.approx(expected, rel=1e-12)


# Estimators -------------------------------------------------------------------------------------------------------------


def test_the_warning_names_the_parameters_and_the_line_of_the_user(still_checkpoint, monkeypatch):
    params = {"batch_size": 6, "accumulate": 2, "max_epochs": 2, "learning_rate": 1e-4, "warmup_ratio": 0.0}
    params |= {"dtype": "float32", "random_state": 0}
    classifiers = [XLMRobertaClassifier(still_checkpoint, **params) for _ in range(2)]
    X, y = contract.TEXTS * 4, contract.Y * 4
    expected = classifiers[0].fit(X, y).predict_proba(X)
    memory = Memory(most=3)
    run = TrainingRun.run

    def watched(made):
        with memory.of(made.module):
            return run(made)

    monkeypatch.setattr(TrainingRun, "run", watched)
    with pytest.warns(
        OutOfMemoryWarning, match="parts of 3, which makes the same steps; .* set batch_size=3 and accumulate=4"
    ) as said:
        classifiers[1].fit(X, y)
    assert len(said) == 1 and said[0].filename == __file__
    assert memory.failures == [6]
    np.testing.assert_allclose(classifiers[1].predict_proba(X), expected, atol=1e-3)


@contract.each
def test_predictions_are_the_same_in_smaller_batches(fitted, estimator):
    made, (X, _, _) = fitted(estimator), contract.inputs(estimator)
    for name in contract.methods_of(made):
        expected = getattr(made, name)(X)
        memory = Memory(most=1)
        with (
            memory.of(made.module_),
            pytest.warns(OutOfMemoryWarning, match="out of memory on cpu: .* batch_size=") as said,
        ):
            found = getattr(made, name)(X)
        assert memory.failures
        assert said[0].filename == __file__, name
        contract.assert_same(found, expected, name)


def test_generated_texts_are_the_same_in_smaller_batches(tiny_checkpoint):
    lm = XLMRobertaCausalLM(tiny_checkpoint, **contract.FAST).fit(contract.TEXTS)
    for params in ({}, {"num_beams": 2}, {"do_sample": True, "random_state": 0}):
        expected = lm.generate(contract.TEXTS, max_new_tokens=4, **params)
        memory = Memory(forward=[0])
        with memory.of(lm.module_), pytest.warns(OutOfMemoryWarning, match="batch_size=3"):
            assert lm.generate(contract.TEXTS, max_new_tokens=4, **params) == expected


def test_the_budget_is_halved_until_rows_fit_and_stays_so():
    lengths, tried = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1]), []

    def run(rows):
        tried.append(int(lengths[rows].sum()))
        if tried[-1] > 11:
            raise torch.OutOfMemoryError("full")
        return rows

    with pytest.warns(OutOfMemoryWarning) as said:
        batches = run_batches(run, lengths, 1000)
    assert tried == [45, 17, 9, 8, 7, 6, 5, 7, 3] and len(said) == 1
    assert all(np.array_equal(rows, result) for rows, result in batches)
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(9))
    lengths[0] = 12
    with pytest.raises(torch.OutOfMemoryError, match=r"a single row does not fit .*: lower max_length.*\(full\)"):
        run_batches(run, lengths, 1000)
