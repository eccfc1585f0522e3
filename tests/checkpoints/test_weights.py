import pytest
import torch
from torch import nn

from skxlmr.checkpoints import assign_weights, check_finite, on_meta
from skxlmr.utils._errors import CheckpointError
from tests import processes
from tests.checkpoints import alone


class Model(nn.Module):
    """An encoder of one layer with an optional head; with ``tie`` the head projects with the words."""

    def __init__(self, head=False, tie=False):
        super().__init__()
        self.roberta = nn.ModuleDict({"words": nn.Embedding(5, 4), "dense": nn.Linear(4, 4)})
        self.roberta.register_buffer("steps", torch.zeros(2, dtype=torch.int64))
        if head:
            self.classifier = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        if tie:
            self.lm_head = nn.Linear(4, 5)
            self.tied_names = ("lm_head.weight",)
            self.tie_weights()

    def tie_weights(self):
        if hasattr(self, "lm_head"):
            self.lm_head.weight = self.roberta["words"].weight


def build(**options):
    with on_meta():
        return Model(**options)


def state(**options):
    torch.manual_seed(0)
    return {name: tensor.clone() for name, tensor in Model(**options).state_dict().items()}


def test_values_are_assigned_without_a_copy():
    module, tensors = build(head=True), state(head=True)
    module.roberta["dense"].requires_grad_(False)
    assert assign_weights(module, tensors, source="here") == []
    found = module.state_dict()
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
        assert found[name].data_ptr() == tensor.data_ptr()
    trainable = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert trainable == tensors.keys() - {"roberta.dense.weight", "roberta.dense.bias", "roberta.steps"}


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [None, torch.float64, torch.bfloat16])
def test_dtype(stored, dtype):
    module = build(head=True)
    tensors = {n: t.to(stored) if t.is_floating_point() else t for n, t in state().items()}
    assign_weights(module, tensors, source="here", dtype=dtype, new_parts=["classifier"])
    assert {parameter.dtype for parameter in module.parameters()} == {dtype or torch.float32}
    assert module.roberta.steps.dtype == torch.int64


def test_transposed_tensors_become_contiguous():
    module, tensors = build(), state()
    expected = tensors["roberta.dense.weight"].clone()
    tensors["roberta.dense.weight"] = expected.T.contiguous().T
    assign_weights(module, tensors, source="here")
    assert module.roberta["dense"].weight.is_contiguous()
    assert torch.equal(module.roberta["dense"].weight, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("roberta.dense.weight"), r"1 tensor missing \(roberta\.dense\.weight \(4, 4\)\)"),
        (lambda t: t.update(more=torch.ones(2, 3)), r"1 tensor unexpected \(more \(2, 3\)\)"),
        (
            lambda t: t.update({"roberta.dense.bias": torch.ones(5)}),
            r"1 tensor of another shape \(roberta\.dense\.bias expected \(4,\), found \(5,\)\)",
        ),
        (
            lambda t: t.update({"roberta.dense.bias": torch.ones(4, dtype=torch.int8)}),
            r"1 tensor of another dtype \(roberta\.dense\.bias expected torch\.float32, found torch\.int8\)",
        ),
        (lambda t: t.clear(), r"4 tensors missing \(roberta\.dense\.bias .*, \.\.\.\)$"),
        (
            lambda t: t.update({"roberta.dense.x": t.pop("roberta.dense.bias"), "y": torch.ones(1)}),
            r"1 tensor missing \(.*\); 2 tensors unexpected \(roberta\.dense\.x \(4,\), y \(1,\)\)",
        ),
    ],
)
def test_strict(change, message):
    module, tensors = build(), state()
    change(tensors)
    with pytest.raises(CheckpointError, match=r"folder/x: does not fit the model: " + message):
        assign_weights(module, tensors, source="folder/x")
    assert all(parameter.is_meta for parameter in module.parameters())


def test_a_checkpoint_without_the_head_is_told_apart():
    whole, encoder = state(head=True), state()
    head = whole.keys() - encoder.keys()
    parts = {"source": "here", "head_parts": ["classifier"], "absent_head": "train one"}
    with pytest.raises(CheckpointError, match=r"missing .*; train one$"):
        assign_weights(build(head=True), encoder, **parts)
    for absent in (min(head), "roberta.dense.bias"):
        given = {name: tensor for name, tensor in whole.items() if name != absent}
        with pytest.raises(CheckpointError, match=r"1 tensor missing \([^;]*\)$"):
            assign_weights(build(head=True), given, **parts)


def test_heads_that_the_module_lacks_are_skipped():
    tensors = state(head=True)
    tensors["lm_head.bias"] = torch.ones(5)
    tensors["roberta.pooler.dense.weight"] = torch.ones(4, 4)
    parts = ["classifier", "lm_head", "roberta.pooler"]
    assert assign_weights(build(), tensors, source="here", head_parts=(part for part in parts)) == []
    with pytest.raises(CheckpointError, match=r"unexpected \(classifier\.0\.bias"):
        assign_weights(build(), tensors, source="here", head_parts=["lm_head", "roberta.pooler"])
    with pytest.raises(CheckpointError, match="6 tensors unexpected"):
        assign_weights(build(), tensors, source="here")
    tensors["classifiers.bias"] = torch.ones(1)
    with pytest.raises(CheckpointError, match=r"1 tensor unexpected \(classifiers\.bias"):
        assign_weights(build(), tensors, source="here", head_parts=parts)


def test_a_head_of_the_module_is_never_skipped():
    tensors = state(head=True)
    tensors["classifier.extra"] = torch.ones(1)
    with pytest.raises(CheckpointError, match=r"unexpected \(classifier\.extra"):
        assign_weights(build(head=True), tensors, source="here", head_parts=["classifier"])


HEAD = ["classifier.0.weight", "classifier.0.bias", "classifier.1.weight", "classifier.1.bias"]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: [t.pop(name) for name in HEAD],
        lambda t: t.pop("classifier.1.bias"),
        lambda t: t.update({"classifier.1.weight": torch.ones(3, 4), "classifier.1.bias": torch.ones(3)}),
        lambda t: t.update({"classifier.weight": torch.ones(3)}),
    ],
    ids=["absent", "partly", "another shape", "more"],
)
def test_a_part_starts_from_scratch(change):
    tensors = state(head=True)
    change(tensors)
    with pytest.raises(CheckpointError, match="does not fit"):
        assign_weights(build(head=True), dict(tensors), source="here")
    module = build(head=True)
    assert assign_weights(module, tensors, source="here", new_parts=["classifier"]) == HEAD
    assert {name for name, parameter in module.named_parameters() if parameter.is_meta} == set(HEAD)
    assert torch.equal(module.roberta["dense"].weight, tensors["roberta.dense.weight"])


def test_a_part_that_fits_is_loaded():
    module, tensors = build(head=True), state(head=True)
    assert assign_weights(module, tensors, source="here", new_parts=["classifier"]) == []
    assert torch.equal(module.classifier[1].weight, tensors["classifier.1.weight"])


@pytest.mark.parametrize("in_file", [True, False])
def test_tied_names(in_file):
    tensors = state(tie=True)
    if not in_file:
        del tensors["lm_head.weight"]
    module = build(tie=True)
    assert assign_weights(module, tensors, source="here") == []
    assert module.lm_head.weight is module.roberta["words"].weight
    assert torch.equal(module.lm_head.weight, tensors["roberta.words.weight"])


def test_a_tied_head_starts_from_scratch():
    module = build(tie=True)
    assert assign_weights(module, state(), source="here", new_parts=["lm_head"]) == ["lm_head.bias"]
    assert not module.lm_head.weight.is_meta


def test_building_does_not_import_the_compiler():
    done = processes.run(alone.build_a_layer)
    assert done.stdout == "True False\n", done.stderr


def test_on_meta_has_no_lasting_effect():
    build()
    assert nn.Linear(2, 2).weight.device.type == "cpu"
    assert torch.zeros(3).normal_(5.0, 0.1).min() > 3


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["roberta.words.weight", "classifier.1.bias"])
def test_weights_that_are_not_finite(name, value):
    tensors = state(head=True)
    tensors[name].view(-1)[3 % tensors[name].numel()] = value
    with pytest.raises(CheckpointError, match=f"^here: holds weights that are NaN or infinite, in {name}$"):
        assign_weights(build(head=True), tensors, source="here")


def test_weights_that_sum_up_to_infinity():
    tensors = state()
    tensors["roberta.words.weight"].fill_(3e38)
    assert assign_weights(build(), tensors, source="here") == []


@pytest.mark.parametrize(
    ("n_rows", "part", "stored", "is_seen"),
    [
        (50, "dense", torch.float32, True),
        (2**18, "dense", torch.float32, False),  # more than a megabyte stays on disk
        (2**18, "dense", torch.float16, True),  # all of it is converted anyway
        (2**18, "classifier", torch.float32, True),
    ],
)
def test_which_weights_are_checked_when_they_are_read(n_rows, part, stored, is_seen):
    def make():
        with on_meta():
            return nn.ModuleDict({part: nn.Linear(4, n_rows, bias=False)})

    tensors = {f"{part}.weight": torch.zeros(n_rows, 4, dtype=stored)}
    tensors[f"{part}.weight"][-1, -1] = float("nan")
    if is_seen:
        with pytest.raises(CheckpointError, match=f"NaN or infinite, in {part}.weight"):
            assign_weights(make(), tensors, source="here", head_parts=["classifier"])
        return
    module = make()
    assign_weights(module, tensors, source="here", head_parts=["classifier"])
    with pytest.raises(CheckpointError, match=f"^there: .*in {part}.weight"):
        check_finite(module.state_dict(), "there")
