"""Our outputs equal those that transformers 4.46 recorded with the checkpoints that it wrote."""

import numpy as np
import pytest
import torch

from skxlmr.checkpoints import assign_weights, on_meta, read_model, read_tensors
from tests.nn.reference import KINDS, TASK_FAULTS, assert_near

RECORDED = ["base", "mlm", "seqcls", "tokcls", "qa", "mc"]


def load(folder, kind):
    """Our module with the weights of a folder: every tensor is used, and every parameter has one."""
    model = read_model(folder)
    with on_meta():
        module = KINDS[kind][0](model.config)
    if kind == "base":
        tensors = {name.removeprefix("roberta."): tensor for name, tensor in read_tensors(folder).items()}
    else:
        tensors = model.tensors()
    assert assign_weights(module, tensors, source=folder) == []
    return module.eval()


def run(module, kind, ids, mask):
    """Our outputs with the names and shapes of the reference."""
    with torch.no_grad():
        output = module(ids.view(-1, ids.shape[-1]), attention_mask=mask.view(-1, mask.shape[-1]))
    if kind == "base":
        return {"last_hidden_state": output.last_hidden_state, "pooler_output": output.pooler_output}
    if kind == "qa":
        return {"start_logits": output[..., 0], "end_logits": output[..., 1]}
    return {"logits": output.view(ids.shape[:2]) if kind == "mc" else output}


def assert_outputs_recorded(module, kind, file):
    recorded = {name: torch.from_numpy(array) for name, array in np.load(file).items()}
    outputs = run(module, kind, recorded.pop("input_ids"), recorded.pop("attention_mask"))
    assert outputs.keys() == recorded.keys()
    for name, expected in recorded.items():
        assert_near(outputs[name], expected, 1e-5, name)


@pytest.mark.parametrize("kind", RECORDED)
@pytest.mark.parametrize("part", [".", "bin", "tf", "flax"], ids=["safetensors", "bin", "h5", "msgpack"])
def test_outputs_recorded_from_transformers_4_46(shared_data, kind, part):
    folder = shared_data / "checkpoints" / kind
    assert_outputs_recorded(load(folder / part, kind), kind, folder / "golden.npz")


@pytest.mark.parametrize(("kind", "fault"), TASK_FAULTS)
def test_the_comparison_finds_planted_faults(shared_data, kind, fault):
    folder = shared_data / "checkpoints" / kind
    module = load(folder, kind)
    with torch.no_grad():
        fault(module)
    with pytest.raises(AssertionError, match="differs by"):
        assert_outputs_recorded(module, kind, folder / "golden.npz")
