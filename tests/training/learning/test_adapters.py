"""Adapters beside those of peft: outputs, gradients and merged weights; and what the block leaves of a module."""

import warnings
from dataclasses import replace

import pytest
import torch

from skxlmr.nn.lora import lora_layers
from skxlmr.training import LoraSettings, freeze, training_adapters
from skxlmr.training._optimizer import train_mode
from tests.nn import reference
from tests.nn.bert import reference as bert
from tests.nn.reference import TINY, XL, assert_near, make_rows

peft = pytest.importorskip("peft", reason="compares with peft")

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
LENGTHS = [11, 4, 8, 11, 2]
DROPOUT = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.3, "classifier_dropout": 0.5}
AUTO = LoraSettings(rank=4, alpha=6.0, dropout=0.0, targets=("auto",))


def make_pair(family, dtype, **changes):
    """A classifier with our encoder and that of transformers, with the same perturbed weights."""
    if family in ("bert", "distilbert"):
        return bert.make_pair(family, "seqcls", dtype, **changes)
    config = replace({"xlm-roberta": TINY, "xlm-roberta-xl": XL}[family], **changes)
    return reference.make_pair("seqcls", config, dtype)


def in_peft(theirs, settings, **config):
    """The module with peft's adapters, A and B drawn at random."""
    targets = list(settings.targets)
    if targets == ["auto"]:  # peft knows what it is of XLM-R and BERT, not of XLM-R-XL
        targets = None if theirs.config.model_type in ("xlm-roberta", "bert") else ["query", "value"]
    config = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        **config,
    )
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        adapted = peft.get_peft_model(theirs, config)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.2)
    return adapted


def adapters_of(adapted):
    """Parameters of peft's adapters, and of what it trains in full, under our names."""
    return {
        name.removeprefix("base_model.model.").replace(".default", "").replace(".modules_to_save", ""): parameter
        for name, parameter in adapted.named_parameters()
        if parameter.requires_grad
    }


def take_over(ours, adapted):
    """Put peft's adapters into ours; those that train are the same."""
    theirs, found = adapters_of(adapted), {name: p for name, p in ours.named_parameters() if p.requires_grad}
    assert found.keys() == theirs.keys() and any("lora_B" in name for name in found)
    with torch.no_grad():
        for name, parameter in found.items():
            parameter.copy_(theirs[name])


def assert_same_steps(ours, adapted, dtype):
    """Logits, and gradients of all that trains, of one batch in the mode that both are in, with the same draws."""
    tolerance = TOLERANCE[dtype]
    ids, mask = make_rows(TINY, LENGTHS)
    logits = []
    for module in ours, adapted:
        torch.manual_seed(3)
        output = module(ids, attention_mask=mask)
        logits.append(output if module is ours else output.logits)
        weights = torch.linspace(-1, 1, logits[-1].numel(), dtype=dtype).reshape(logits[-1].shape)
        (logits[-1] * weights).sum().backward()
    assert_near(*logits, tolerance, "logits")
    expected = {name: parameter.grad for name, parameter in adapters_of(adapted).items()}
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    for name, parameter in ours.named_parameters():
        assert (parameter.grad is None) == (name not in expected), name
        if name in expected:
            assert_near(parameter.grad, expected[name], tolerance * max(1, largest), f"gradient of {name}")
    for module in ours, adapted:
        module.zero_grad()


ALL = replace(AUTO, targets=("all-linear",), dropout=0.2)
SOME = replace(AUTO, rank=3, alpha=5.0, dropout=0.5, targets=("1.attention.self.key", "output.dense"))
F32, F64 = TOLERANCE


@pytest.mark.parametrize(
    ("family", "settings", "dtype"),
    [
        ("xlm-roberta", AUTO, F32),
        ("xlm-roberta", ALL, F32),
        ("xlm-roberta", AUTO, F64),
        ("xlm-roberta", SOME, F64),
        ("xlm-roberta-xl", AUTO, F64),
        ("xlm-roberta-xl", ALL, F64),
        ("bert", AUTO, F64),
        ("bert", ALL, F64),
        ("distilbert", replace(AUTO, targets=("q_lin", "v_lin")), F64),
        ("distilbert", ALL, F64),
    ],
)
def test_outputs_gradients_and_merged_weights_are_pefts(family, settings, dtype):
    changes = {} if family == "distilbert" else DROPOUT
    ours, theirs = make_pair(family, dtype, **changes)
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    whole = ["pre_classifier", "classifier"] if family == "distilbert" else None
    adapted = in_peft(theirs, settings, modules_to_save=whole)
    freeze(ours, 0)
    with training_adapters(ours, settings):
        take_over(ours, adapted)
        assert_same_steps(ours.eval(), adapted.eval(), dtype)
        train_mode(ours)
        assert_same_steps(ours, adapted.train(), dtype)
        ids, mask = make_rows(TINY, LENGTHS)
        with torch.no_grad():
            unmerged = ours.eval()(ids, attention_mask=mask)
    assert not lora_layers(ours) and ours.state_dict().keys() == before.keys()
    merged = adapted.eval().merge_and_unload()
    for name, parameter in merged.named_parameters():
        assert torch.equal(ours.get_parameter(name), parameter), name
    assert {name for name, tensor in ours.state_dict().items() if not torch.equal(tensor, before[name])} == {
        f"{name}.weight" for name in ours.lora.modules
    }
    with torch.no_grad():
        found = ours(ids, attention_mask=mask)
        assert_near(found, unmerged, TOLERANCE[dtype], "merged and unmerged")
        assert_near(found, merged(ids, attention_mask=mask).logits, TOLERANCE[dtype], "merged")
        for name in ours.lora.modules:  # what is kept says how the weight came about
            update = ours.lora.update(name, ours.lora.base[f"{name}.weight"])
            assert torch.equal(ours.lora.base[f"{name}.weight"] + update, ours.get_parameter(f"{name}.weight"))
