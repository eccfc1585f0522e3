import itertools

import numpy as np
import onnx
import pytest
import torch

from skxlmr.export._graphs.features import Features
from skxlmr.nn import TokenLayout
from skxlmr.nn.sentence import ACTIVATIONS, Dense, Dropout, LayerNorm, Normalize
from skxlmr.nn.sentence.layers import SentenceLayers
from skxlmr.nn.sentence.pooling import POOLINGS, pool
from tests.export import graphs

TOLERANCE = 1e-5


def pooled(module, inputs, how):
    """What the estimators compute: packed rows, pooled, and put through the further layers."""
    mask = inputs["attention_mask"].bool()
    layout = TokenLayout(mask.sum(1).tolist())
    with torch.no_grad():
        return pool(module.backbone, inputs["input_ids"][mask], layout, how.pooling, how.layers, how.n_skipped)


@pytest.fixture(scope="module")
def encoder():
    config = graphs.config_of("xlm-roberta")
    return config, graphs.module_of(config, "Model", add_pooler=True)


@pytest.mark.parametrize("word", POOLINGS)
@pytest.mark.parametrize("n_skipped", [0, 4])
@pytest.mark.parametrize("opset", [17, 18])
def test_every_pooling(tmp_path, encoder, word, n_skipped, opset):
    """One row has fewer tokens than are left out: its last one stays."""
    config, module = encoder
    how = Features((word,), (2,), n_skipped)
    file = graphs.write(tmp_path, module, config, None, how, opset=opset)
    onnx.checker.check_model(str(file), full_check=True)
    inputs = graphs.batch(config)
    found = graphs.run(file, inputs)
    np.testing.assert_allclose(found["sentence_embedding"], pooled(module, inputs, how), atol=TOLERANCE, rtol=0)
    real = inputs["attention_mask"].bool().numpy()
    expected = graphs.reference(module, inputs).last_hidden_state.numpy()
    np.testing.assert_allclose(found["last_hidden_state"][real], expected[real], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("model_type", ["xlm-roberta-xl", "bert", "distilbert"])
@pytest.mark.parametrize("layers", [(1,), (2, 0, 1)])
def test_several_layers_and_poolings_stand_side_by_side(tmp_path, model_type, layers):
    config = graphs.config_of(model_type, type_vocab_size=1)
    module = graphs.module_of(config, "Model")
    how = Features(("mean", "cls"), layers)
    inputs = graphs.batch(config)
    inputs.pop("token_type_ids", None)
    found = graphs.run(graphs.write(tmp_path, module, config, None, how), inputs)["sentence_embedding"]
    expected = pooled(module, inputs, how)
    assert found.shape == expected.shape == (4, 64 * len(layers))
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


def test_no_more_layers_are_in_the_graph_than_needed(tmp_path, encoder):
    config, module = encoder
    file = graphs.write(tmp_path, module, config, None, Features(("mean",), (1,)))
    names = {weight.name for weight in onnx.load(str(file), load_external_data=False).graph.initializer}
    assert any("encoder.layer.0." in name for name in names) and not any("encoder.layer.1." in name for name in names)


FURTHER = [
    (Dense(32, 20), LayerNorm(20), Dropout(0.1)),
    (Dense(32, 32, residual=True), Normalize(), Dense(32, 12, bias=False, activation="Identity", residual=True)),
]


@pytest.mark.parametrize("layers", FURTHER)
@pytest.mark.parametrize(
    ("normalize", "truncate_dim", "again"), [(False, None, False), (True, 8, False), (True, 8, True)]
)
def test_layers_after_the_pooling(tmp_path, encoder, layers, normalize, truncate_dim, again):
    config, module = encoder
    torch.manual_seed(0)
    further = SentenceLayers(layers).eval()
    how = Features(("mean",), (2,), 0, layers, normalize, truncate_dim, again)
    inputs = graphs.batch(config)
    with torch.no_grad():
        for parameter in further.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
        expected = further(pooled(module, inputs, how))
        expected = torch.nn.functional.normalize(expected, dim=1) if normalize else expected
        expected = expected[:, :truncate_dim]
        expected = torch.nn.functional.normalize(expected, dim=1) if again else expected
    named = {f"sentence.{name}": tensor for name, tensor in further.state_dict().items()}
    file = graphs.write(tmp_path, module, config, None, how, further=named)
    found = graphs.run(file, inputs)["sentence_embedding"]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("name", "opset"), [*itertools.product(ACTIVATIONS, [17]), ("GELU", 20)])
def test_every_activation_of_dense_layers(tmp_path, name, opset):
    from skxlmr.export._graphs.activations import activate_sentence
    from skxlmr.export._graphs.file import write_graph
    from skxlmr.export._graphs.graph import Graph

    graph = Graph(opset)
    x = graph.cast(graph.input("x", ("n",)), np.float32)
    graph.output("y", activate_sentence(graph, graph.node("Div", x, graph.constant(4)), name), ("n",))
    write_graph(tmp_path, graph, {}, ("skxlmr", "0"))
    numbers = torch.arange(-40, 41)
    found = graphs.run(tmp_path / "model.onnx", {"x": numbers})["y"]
    np.testing.assert_allclose(found, getattr(torch.nn, name)()(numbers / 4), atol=2e-6, rtol=1e-6)


def test_an_unknown_pooling(tmp_path, encoder):
    config, module = encoder
    with pytest.raises(ValueError, match=r"pooling must be one of mean, .*, got 'middle'"):
        graphs.write(tmp_path, module, config, None, Features(("middle",), (2,)))
