"""What a fit draws: the bits that torch would draw, from generators that nothing else uses."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from skxlmr.nn import ModelConfig, XLMConfig, XLMForSequenceClassification, XLMRobertaForSequenceClassification
from skxlmr.nn import randomness as module_of
from skxlmr.nn.layers import Dropout
from skxlmr.nn.randomness import (
    Randomness,
    drawing_from,
    drawing_on,
    dropout,
    random_state,
    repeatable,
    set_random_state,
)

CPU, GPU = torch.device("cpu"), torch.device("mps")


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_dropout_has_the_bits_of_torch_s(p, dtype):
    for shape in ((7, 33), (2, 3, 4, 5), (0, 4)):
        x, slope = torch.randn(*shape).to(dtype).transpose(0, 1), torch.randn(*shape).to(dtype).transpose(0, 1)
        results = []
        for function in (F.dropout, dropout):
            leaf = x.clone().requires_grad_()
            with torch.random.fork_rng(), drawing_from(Randomness(3)):
                torch.manual_seed(3)
                value = function(leaf, p)
                results.append((value.detach(), *torch.autograd.grad(value, leaf, slope)))
        for ours, theirs in zip(*results, strict=True):
            assert torch.equal(ours, theirs)
    assert dropout(x, p, training=False) is x


def test_nothing_else_changes_the_draws_and_they_change_nothing():
    layer, x = Dropout(0.5).train(), torch.ones(100)
    before = torch.get_rng_state()

    def draws(between):
        found = []
        with drawing_from(Randomness(0)):
            for _ in range(3):
                found.append(layer(x))
                between()
        return torch.stack(found)

    expected = draws(lambda: None)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        assert torch.equal(draws(lambda: torch.rand(5)), expected)
        assert torch.equal(draws(lambda: torch.manual_seed(1)), expected)
    barrier = Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: draws(barrier.wait), range(4)):
            assert torch.equal(found, expected)
    assert len(expected.unique(dim=0)) == 3


@pytest.mark.parametrize(
    ("module", "config"),
    [
        (XLMRobertaForSequenceClassification, ModelConfig),
        (XLMForSequenceClassification, XLMConfig),
    ],
)
def test_no_module_draws_from_the_global_generator(module, config):
    """Also with gradient checkpointing, whose second pass draws what the first drew."""
    sizes = {
        ModelConfig: {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        XLMConfig: {"emb_dim": 32, "n_layers": 2, "n_heads": 2},
    }
    model = module(replace(config(), vocab_size=50, max_position_embeddings=40, **sizes[config]), 3).train()
    assert not any(type(part) is nn.Dropout for part in model.modules())
    ids, before, gradients = torch.randint(5, 50, (4, 9)), torch.get_rng_state(), []
    for checkpointing in (False, True):
        model.backbone.gradient_checkpointing = checkpointing
        model.zero_grad()
        with drawing_from(Randomness(0)):
            model(ids).sum().backward()
            gradients.append(([p.grad.clone() for p in model.parameters() if p.grad is not None], random_state(CPU)))
    assert torch.equal(torch.get_rng_state(), before)
    for plain, checkpointed in zip(*(found for found, _ in gradients), strict=True):
        assert torch.equal(plain, checkpointed)
    assert torch.equal(gradients[0][1][0], gradients[1][1][0])


def test_a_repeated_call_leaves_the_generators_as_they_were():
    with drawing_from(Randomness(0)):
        draw = repeatable(lambda: dropout(torch.ones(50), 0.5), CPU)
        first, other = draw(), dropout(torch.ones(50), 0.5)
        state = random_state(CPU)
        with ThreadPoolExecutor(1) as pool:
            assert torch.equal(pool.submit(draw).result(), first)
        assert torch.equal(random_state(CPU)[0], state[0]) and not torch.equal(first, other)


def test_states_are_put_back():
    with drawing_from(Randomness(0)):
        state = random_state(CPU)
        first = dropout(torch.ones(50), 0.5)
        set_random_state(CPU, state)
        assert torch.equal(dropout(torch.ones(50), 0.5), first)


@pytest.fixture
def gpu(monkeypatch):
    """Torch's global generator in the part of a GPU's own."""
    monkeypatch.setattr(module_of, "_new_generator", lambda device: torch.Generator("cpu"))
    monkeypatch.setattr(module_of, "_device_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(module_of, "_set_device_state", lambda device, state: torch.set_rng_state(state))
    with torch.random.fork_rng():
        yield GPU


def test_a_gpu_s_generator_is_lent_for_each_step_alone(gpu):
    expected = torch.rand(3, 5, generator=torch.Generator().manual_seed(7))
    with drawing_from(Randomness(7)):
        found = []
        for _ in range(3):
            before = torch.get_rng_state()
            with drawing_on(gpu):
                found.append(torch.rand(5))  # as a kernel of the GPU draws
                inside = random_state(gpu)
            assert torch.equal(torch.get_rng_state(), before)
            assert torch.equal(inside[1], random_state(gpu)[1])
            torch.rand(3)  # somebody else
        assert torch.equal(torch.stack(found).flatten(), expected.flatten())
        with drawing_on(gpu):
            set_random_state(gpu, inside)
            again = torch.rand(5)
            set_random_state(gpu, inside)
            assert torch.equal(torch.rand(5), again)
        set_random_state(gpu, inside)
        with drawing_on(gpu):
            assert torch.equal(torch.rand(5), again)


def fail():
    raise ArithmeticError


def test_a_gpu_s_generator_comes_back_after_a_failure(gpu):
    before = torch.get_rng_state()
    with drawing_from(Randomness(7)):
        for _ in range(2):
            with pytest.raises(ArithmeticError), drawing_on(gpu):
                torch.rand(5).numpy()[0] = fail()
    assert torch.equal(torch.get_rng_state(), before)


def test_one_fit_at_a_time_draws_on_a_gpu(gpu):
    def draws(seed):
        with drawing_from(Randomness(seed)):
            found = []
            for _ in range(20):
                with drawing_on(gpu):
                    found.append([torch.rand(1).item() for _ in range(3)])
            return found

    expected = [draws(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(draws, range(4))) == expected
