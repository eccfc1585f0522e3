import numpy as np
import onnx
import pytest
import torch

from skxlmr.nn import FAMILIES
from tests.export import graphs

TOLERANCE = 1e-5  # of float32 logits, times the largest if that is above 1
CASES = [
    (model_type, task)
    for model_type in ("xlm-roberta", "xlm-roberta-xl", "bert", "distilbert", "xlm")
    for task in FAMILIES[model_type].modules
    if task != "Model" and (model_type, task) != ("xlm", "ForQuestionAnswering")
]


def outputs_of(module, inputs, task):
    found = graphs.reference(module, inputs)
    if task == "ForQuestionAnswering":
        return {"start_logits": found[..., 0], "end_logits": found[..., 1]}
    return {"logits": found[:, None] if task == "ForMultipleChoice" else found}


def assert_equal(found, expected, mask, tolerance=TOLERANCE):
    assert found.keys() >= expected.keys()
    for name, values in expected.items():
        theirs = values.numpy()
        tolerance *= max(1, np.abs(theirs).max())
        assert found[name].shape == theirs.shape and found[name].dtype == np.float32
        if theirs.ndim > 1 and theirs.shape[:2] == mask.shape:  # what stands at padding means nothing
            real = mask.bool().numpy()
            np.testing.assert_allclose(found[name][real], theirs[real], atol=tolerance, rtol=0)
        else:
            np.testing.assert_allclose(found[name], theirs, atol=tolerance, rtol=0)


@pytest.mark.parametrize(("model_type", "task"), CASES)
def test_logits_equal_those_of_the_module(tmp_path, model_type, task):
    config = graphs.config_of(model_type, **({"is_decoder": True} if task == "ForCausalLM" else {}))
    module = graphs.module_of(config, task)
    file = graphs.write(tmp_path, module, config, task)
    onnx.checker.check_model(str(file), full_check=True)
    for lengths in ((11, 3, 20, 7), (1,), (5, 5)):
        inputs = graphs.batch(config, lengths=lengths)
        expected = outputs_of(module, inputs, task)
        assert min(float(values.abs().max()) for values in expected.values()) > 0.01
        assert_equal(graphs.run(file, inputs), expected, inputs["attention_mask"])


def beams_of(module, inputs):
    """What the reference calls the outputs of the search."""
    with torch.no_grad():
        found = module(**inputs)
    return {
        "start_top_log_probs": found.start_proba_NK,
        "start_top_index": found.starts_NK,
        "end_top_log_probs": found.end_proba_NEK.flatten(1),
        "end_top_index": found.ends_NEK.flatten(1),
        "cls_logits": found.no_answer_N,
    }


@pytest.mark.parametrize("lengths", [(11, 8, 20, 7), (3,), (1,), (5, 5)])
def test_answers_that_the_original_xlm_searches(tmp_path, lengths):
    config = graphs.config_of("xlm")
    module = graphs.module_of(config, "ForQuestionAnswering")
    file = graphs.write(tmp_path, module, config, "ForQuestionAnswering")
    onnx.checker.check_model(str(file), full_check=True)
    inputs = graphs.batch(config, lengths=lengths)
    expected, found = beams_of(module, inputs), graphs.run(file, inputs)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].shape == tuple(values.shape)
        if values.is_floating_point():
            np.testing.assert_allclose(found[name], values.numpy(), atol=TOLERANCE, rtol=1e-5)
        else:
            np.testing.assert_array_equal(found[name], values.numpy())


def test_starts_beyond_the_tokens_of_a_row_have_no_probability(tmp_path):
    config = graphs.config_of("xlm")
    module = graphs.module_of(config, "ForQuestionAnswering")
    file = graphs.write(tmp_path, module, config, "ForQuestionAnswering")
    found = graphs.run(file, graphs.batch(config, lengths=(9, 3)))
    assert (found["start_top_index"][1, :3] < 3).all() and not found["start_top_log_probs"][1, 3:].any()
    ends, proba = found["end_top_index"][1].reshape(5, 5), found["end_top_log_probs"][1].reshape(5, 5)
    assert (ends[:3] < 3).all() and not proba[3:].any()
