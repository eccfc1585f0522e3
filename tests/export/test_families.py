"""What a config may say of a family, in every precision's graph."""

import numpy as np
import onnx
import pytest
import torch

from skxlmr.export._graphs.features import Features
from skxlmr.nn import TokenLayout
from tests.export import graphs
from tests.export.test_heads import TOLERANCE, assert_equal, outputs_of

VARIANTS = [
    ("xlm-roberta", {"hidden_act": "relu"}),
    ("roberta", {"hidden_act": "gelu_new", "type_vocab_size": 2, "pad_token_id": 3}),
    ("camembert", {"hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": False}),
    ("bert", {"hidden_act": "relu", "type_vocab_size": 1, "tie_word_embeddings": False}),
    ("distilbert", {"hidden_act": "relu", "tie_word_embeddings": False}),
    ("xlm", {"sinusoidal_embeddings": True, "gelu_activation": False, "tie_word_embeddings": False}),
    ("xlm", {"causal": True}),
    ("xlm", {"use_lang_emb": False}),
]


@pytest.mark.parametrize(("model_type", "config"), VARIANTS)
@pytest.mark.parametrize("opset", [17, 20, 23])
def test_variants(tmp_path, model_type, config, opset):
    config = graphs.config_of(model_type, **config)
    module = graphs.module_of(config, "ForMaskedLM")
    file = graphs.write(tmp_path, module, config, "ForMaskedLM", opset=opset)
    onnx.checker.check_model(str(file), full_check=True)
    inputs = graphs.batch(config)
    if config.model_type == "bert":
        inputs.pop("token_type_ids")
    taken = {item.name for item in graphs.session(file).get_inputs()}
    assert taken == inputs.keys()
    assert_equal(graphs.run(file, inputs), outputs_of(module, inputs, "ForMaskedLM"), inputs["attention_mask"])


SUMMARIES = [
    {"summary_type": "mean", "summary_activation": "tanh"},
    {"summary_type": "last", "summary_activation": "gelu"},
    {"summary_type": "cls_index", "summary_activation": "relu"},
    {"summary_use_proj": False},
]


@pytest.mark.parametrize("config", SUMMARIES)
def test_summaries_of_the_original_xlm(tmp_path, config):
    config = graphs.config_of("xlm", **config)
    module = graphs.module_of(config, "ForSequenceClassification", config.emb_dim)
    inputs = graphs.batch(config)
    found = graphs.run(graphs.write(tmp_path, module, config, "ForSequenceClassification"), inputs)
    assert_equal(found, {"logits": graphs.reference(module, inputs)}, inputs["attention_mask"])


def test_padding_tokens_inside_a_text_take_no_position(tmp_path):
    """As in the packed rows of the estimators: a text may spell the padding token."""
    config = graphs.config_of("xlm-roberta")
    module = graphs.module_of(config, "ForMaskedLM")
    file = graphs.write(tmp_path, module, config, "ForMaskedLM")
    ids = torch.tensor([[0, 7, 1, 9, 1, 1, 20, 2]])
    with torch.no_grad():
        expected = module(ids[0], TokenLayout([8])).numpy()
    found = graphs.run(file, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})["logits"][0]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE * max(1, np.abs(expected).max()), rtol=0)


def test_token_types_of_bert_are_those_of_packed_pairs(tmp_path):
    config = graphs.config_of("bert")
    module = graphs.module_of(config, "ForSequenceClassification")
    file = graphs.write(tmp_path, module, config, "ForSequenceClassification")
    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    types = torch.tensor([[0] * 4 + [1] * 5, [0] * 6 + [1] * 3])
    with torch.no_grad():
        expected = module(ids.flatten(), TokenLayout([9, 9], second_starts=[4, 6])).numpy()
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    found = graphs.run(file, inputs | {"token_type_ids": types})["logits"]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    other = graphs.run(file, inputs | {"token_type_ids": torch.zeros_like(types)})["logits"]
    assert np.abs(other - expected).max() > 1e-3


@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert", "xlm"])
def test_a_row_longer_than_the_model_has_positions_for_is_an_error(tmp_path, model_type):
    config = graphs.config_of(model_type, **({"max_position_embeddings": 12} if model_type != "xlm" else {}))
    module = graphs.module_of(config, "ForMaskedLM")
    file = graphs.write(tmp_path, module, config, "ForMaskedLM")
    inputs = graphs.batch(config, lengths=(50,))
    with pytest.raises(Exception, match="Non-zero status code"):
        graphs.run(file, inputs)


@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert", "distilbert", "xlm"])
def test_onnx_runtime_merges_operators(tmp_path, model_type):
    """Norms with the residual before them, biases with the activation after them, scores with their scale."""
    import onnxruntime

    config = graphs.config_of(model_type)
    file = graphs.write(tmp_path, graphs.module_of(config, "Model"), config, None, Features(("mean",), (2,)))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "merged.onnx")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "merged.onnx")).graph.node]
    assert (
        kinds.count("SkipLayerNormalization") == 5 and kinds.count("BiasGelu") == 2 and kinds.count("FusedMatMul") == 2
    )
    assert not {"Erf", "LayerNormalization"} & set(kinds)
