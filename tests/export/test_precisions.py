import dataclasses

import numpy as np
import onnx
import pytest
import torch

from skxlmr.export._graphs.build import build
from skxlmr.export._graphs.features import Features
from skxlmr.export._graphs.file import write_graph
from skxlmr.export._graphs.graph import Graph
from skxlmr.export._graphs.precisions import WEIGHTS
from skxlmr.export._graphs.precisions.int8 import FLOORS
from skxlmr.nn import FAMILIES, ModelConfig
from skxlmr.nn.kernels.linear import ACTIVATIONS
from tests.export import graphs
from tests.export.test_heads import outputs_of

FAR = {"float16": 0.01, "int8": 0.2}  # of logits of this size, in networks 32 wide


def dense_layer(folder, precision, x_NSD, weight_ED, bias_E):
    """Outputs of one dense layer, and the outputs of a head with the same weights."""
    tensors = {"a.weight": weight_ED, "a.bias": bias_E, "b.weight": weight_ED, "b.bias": bias_E}
    weights = WEIGHTS[precision](
        Graph(17), {k: v.shape for k, v in tensors.items()}, lambda name, rows: tensors[name][rows]
    )
    graph = weights.graph
    x = graph.node("Mul", graph.cast(graph.input("x", ("n", "s", x_NSD.shape[2])), np.float32), graph.constant(1 / 64))
    graph.output("y", weights.dense(x, "a")[0], ("n", "s", len(bias_E)))
    graph.output("head", weights.head(x, "b"), ("n", "s", len(bias_E)))
    write_graph(folder, graph, {}, ("skxlmr", "0"))
    found = graphs.run(folder / "model.onnx", {"x": torch.from_numpy(x_NSD)})
    return found["y"], found["head"]


@pytest.fixture
def layer():
    rng = np.random.default_rng(0)
    x = rng.integers(-200, 200, (3, 5, 48))
    x[1] *= 1000  # a row far larger than its neighbours
    x[2, 3] = 0
    return x, rng.standard_normal((7, 48)).astype(np.float32), rng.standard_normal(7).astype(np.float32)


def test_a_dense_layer_in_int8_is_a_product_of_whole_numbers(tmp_path, layer):
    x, weight, bias = layer
    found, head = dense_layer(tmp_path, "int8", *layer)
    x = x.astype(np.float32) / 64
    in_float = x @ weight.T + bias
    np.testing.assert_allclose(head, in_float, rtol=1e-5, atol=1e-4)
    scale_E = np.abs(weight).max(1) / 127
    scale_NS1 = np.maximum(np.abs(x).max(-1, keepdims=True), np.float32(1e-30)) / np.float32(127)
    whole_NSD = np.rint(x / scale_NS1).astype(np.int64)
    whole = whole_NSD @ np.rint(weight / scale_E[:, None]).astype(np.int64).T
    np.testing.assert_allclose(found, whole * scale_NS1 * scale_E + bias, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(found[2, 3], bias)
    size_NS1 = np.linalg.norm(x, axis=-1, keepdims=True) * np.linalg.norm(weight, axis=1)
    assert 1e-4 < (np.abs(found - in_float) / np.maximum(size_NS1, 1)).max() < 0.01


@pytest.mark.parametrize("opset", [17, 23])
def test_tokens_are_rounded_more_finely_for_queries_keys_and_values(tmp_path, layer, opset):
    """So that only the rounding of the weights is left."""
    x, weight, bias = layer
    tensors = {f"{name}.{kind}": value for name in "qkv" for kind, value in (("weight", weight), ("bias", bias))}
    shapes = {name: value.shape for name, value in tensors.items()}
    weights = WEIGHTS["int8"](Graph(opset), shapes, lambda name, rows: tensors[name][rows])
    graph = weights.graph
    taken = graph.node("Mul", graph.cast(graph.input("x", ("n", "s", 48)), np.float32), graph.constant(1 / 64))
    for name, value in zip("qkv", weights.projections(taken, "q", "k", "v"), strict=True):
        graph.output(f"{name}_out", value, ("n", "s", 7))
    write_graph(tmp_path, graph, {}, ("skxlmr", "0"))
    found = graphs.run(tmp_path / "model.onnx", {"x": torch.from_numpy(x)})
    x = x.astype(np.float32) / 64
    scale_E1 = np.abs(weight).max(1, keepdims=True) / 127
    rounded = np.rint(weight / scale_E1) * scale_E1
    expected = x @ rounded.T + bias
    size_NS1 = np.linalg.norm(x, axis=-1, keepdims=True) * np.linalg.norm(weight, axis=1) + 1
    errors = {name: (np.abs(values - expected) / size_NS1).max() for name, values in found.items()}
    assert max(errors.values()) < 1e-5


@pytest.mark.parametrize("activation", FLOORS)
def test_floors_are_below_what_activations_return_but_not_far(activation):
    x = torch.linspace(-20, 20, 400_001, dtype=torch.float64)
    lowest = float(ACTIVATIONS[activation][0](x).min())
    assert lowest - 2e-4 < FLOORS[activation] <= lowest


def two_layers(folder, activation, x_NSD, wide_ED, narrow_DE):
    """Outputs of a wide layer with an activation, and those of a narrow one after it."""
    tensors = {"a.weight": wide_ED, "b.weight": narrow_DE}
    tensors |= {"a.bias": np.zeros(len(wide_ED), np.float32), "b.bias": np.ones(len(narrow_DE), np.float32)}
    shapes = {name: value.shape for name, value in tensors.items()}
    weights = WEIGHTS["int8"](Graph(17), shapes, lambda name, rows: tensors[name][rows])
    graph = weights.graph
    x = graph.node("Mul", graph.cast(graph.input("x", ("n", "s", x_NSD.shape[2])), np.float32), graph.constant(1 / 64))
    (wide,) = weights.dense(x, "a", activation=activation)
    graph.output("wide", wide, ("n", "s", len(wide_ED)))
    graph.output("narrow", weights.dense(wide, "b")[0], ("n", "s", len(narrow_DE)))
    write_graph(folder, graph, {}, ("skxlmr", "0"))
    found = graphs.run(folder / "model.onnx", {"x": torch.from_numpy(x_NSD)})
    return found["wide"], found["narrow"]


@pytest.mark.parametrize("activation", FLOORS)
def test_after_an_activation_numbers_are_counted_from_its_floor(tmp_path, activation):
    rng = np.random.default_rng(0)
    x = rng.integers(-100, 100, (4, 5, 48))
    x[1] *= 1000  # more than 255 steps of the floor
    x[2, 3] = 0
    wide_ED, narrow_DE = (rng.standard_normal(shape).astype(np.float32) for shape in ((96, 48), (7, 96)))
    wide, narrow = two_layers(tmp_path, activation, x, wide_ED, narrow_DE)
    floor = FLOORS[activation]
    scale_NS1 = np.maximum(wide.max(-1, keepdims=True) - floor, 1e-30) / 255
    if floor:
        scale_NS1 = np.maximum(scale_NS1, -floor / np.maximum(np.floor(-floor / scale_NS1), 1))
    scale_D1 = np.abs(narrow_DE).max(1, keepdims=True) / 127
    rounded_DE = np.rint(narrow_DE / scale_D1) * scale_D1
    counted = np.rint((wide - floor) / scale_NS1) * scale_NS1 + floor
    expected = counted @ rounded_DE.T + 1
    size_NS1 = np.linalg.norm(wide, axis=-1, keepdims=True) * np.linalg.norm(narrow_DE, axis=1) + 1
    assert (np.abs(narrow - expected) / size_NS1).max() < 2e-3  # a quotient next to a half may go either way
    np.testing.assert_allclose(narrow[2, 3], 1, atol=1e-4)  # nothing becomes nothing


@pytest.mark.parametrize("activation", FLOORS)
def test_zeros_after_an_activation_stay_zeros_beside_a_large_number(tmp_path, activation):
    """Most inputs are next to 0: if 0 fell between two steps, they would all be off by the same, and add up."""
    x = np.full((1, 1, 48), -100 * 64)
    x[..., 0] = 8 * 64
    narrow_DE = np.random.default_rng(2).uniform(0.5, 1, (7, 48)).astype(np.float32)
    wide, narrow = two_layers(tmp_path, activation, x, np.eye(48, dtype=np.float32), narrow_DE)
    assert wide[0, 0, 0] > 7 and not wide[0, 0, 1:].any()
    np.testing.assert_allclose(narrow[0, 0], 1 + wide[0, 0, 0] * narrow_DE[:, 0], atol=0.06)


def test_the_rounding_after_an_activation_takes_half_of_what_signed_numbers_take(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.integers(-100, 100, (8, 16, 48))
    wide_ED, narrow_DE = (rng.standard_normal(shape).astype(np.float32) for shape in ((96, 48), (7, 96)))
    wide, narrow = two_layers(tmp_path, "gelu", x, wide_ED, narrow_DE)
    scale_D1 = np.abs(narrow_DE).max(1, keepdims=True) / 127
    exact = wide @ (np.rint(narrow_DE / scale_D1) * scale_D1).T + 1
    scale_NS1 = np.abs(wide).max(-1, keepdims=True) / 127
    signed = np.rint(wide / scale_NS1) * scale_NS1 @ (np.rint(narrow_DE / scale_D1) * scale_D1).T + 1
    assert np.linalg.norm(narrow - exact) < 0.65 * np.linalg.norm(signed - exact)


@pytest.mark.parametrize(("width", "is_tied", "size"), [(128, False, 64), (128, True, 128), (100, False, 100)])
def test_word_embeddings_in_int8_have_a_scale_for_64_numbers(tmp_path, width, is_tied, size):
    table = np.random.default_rng(0).standard_normal((9, width)).astype(np.float32)
    table[3, :64] *= 100
    table[5] = 0
    weights = WEIGHTS["int8"](Graph(17), {"words.weight": table.shape}, lambda name, rows: table[rows])
    weights.projects_words = is_tied
    ids = weights.graph.input("ids", ("n", "s"))
    weights.graph.output("y", weights.words("words", ids), ("n", "s", width))
    write_graph(tmp_path, weights.graph, {}, ("skxlmr", "0"))
    found = graphs.run(tmp_path / "model.onnx", {"ids": torch.tensor([[3, 0, 5], [8, 3, 3]])})["y"]
    blocks = table.reshape(9, -1, size)
    scale = np.maximum(np.abs(blocks).max(-1, keepdims=True), 1e-30) / 127
    expected = (np.rint(blocks / scale) * scale).reshape(9, width)
    assert np.abs(expected - table)[3, 64:].max() < 0.05 or size > 64
    np.testing.assert_allclose(found, expected[[[3, 0, 5], [8, 3, 3]]], rtol=1e-6)


def test_a_row_in_int8_does_not_depend_on_its_neighbours(tmp_path, layer):
    x, *others = layer
    together, _ = dense_layer(tmp_path, "int8", x, *others)
    for i in range(3):
        alone, _ = dense_layer(tmp_path, "int8", x[i : i + 1], *others)
        np.testing.assert_array_equal(alone[0], together[i])


@pytest.mark.parametrize("precision", FAR)
@pytest.mark.parametrize(
    ("model_type", "task"),
    [
        ("xlm-roberta", "ForSequenceClassification"),
        ("xlm-roberta", "ForMaskedLM"),
        ("xlm-roberta", "ForCausalLM"),
        ("xlm-roberta-xl", "ForTokenClassification"),
        ("bert", "ForQuestionAnswering"),
        ("distilbert", "ForMaskedLM"),
        ("xlm", "ForMaskedLM"),
        ("xlm", "ForSequenceClassification"),
    ],
)
def test_logits_are_near_those_of_float32(tmp_path, precision, model_type, task):
    config = graphs.config_of(model_type, **({"is_decoder": True} if task == "ForCausalLM" else {}))
    module = graphs.module_of(config, task)
    file = graphs.write(tmp_path, module, config, task, precision=precision)
    onnx.checker.check_model(str(file), full_check=True)
    matrices = [
        node.input[1]
        for node in onnx.load(file, load_external_data=False).graph.node
        if node.op_type == "MatMulInteger"
    ]
    assert len(set(matrices)) == len(matrices)  # ONNX Runtime can make none unsigned that two products share
    inputs = graphs.batch(config)
    found, real = graphs.run(file, inputs), inputs["attention_mask"].bool().numpy()
    for name, values in outputs_of(module, inputs, task).items():
        ours, theirs = found[name], values.numpy()
        assert ours.dtype == np.float32
        if theirs.shape[:2] == real.shape:
            ours, theirs = ours[real], theirs[real]
        error = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
        assert 1e-6 < error < FAR[precision]


@pytest.mark.parametrize("precision", FAR)
def test_features_are_near_those_of_float32(tmp_path, precision):
    config = graphs.config_of("xlm-roberta")
    module = graphs.module_of(config, "Model")
    file = graphs.write(tmp_path, module, config, None, Features(("mean",), (2,), normalize=True), precision)
    inputs = graphs.batch(config)
    with torch.no_grad():
        x, mask = module(**inputs).last_hidden_state, inputs["attention_mask"][..., None]
        expected = torch.nn.functional.normalize((x * mask).sum(1), dim=1).numpy()
    found = graphs.run(file, inputs)["sentence_embedding"]
    assert ((found * expected).sum(1) > 1 - FAR[precision] ** 2).all()


def bytes_of(config, precision, task=None):
    """Bytes of the weights in the graph of a model that is never made."""
    with torch.device("meta"):
        module = FAMILIES[config.model_type].modules[task or "Model"](
            config, *((3,) if task == "ForSequenceClassification" else ())
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    weights = WEIGHTS[precision](Graph(17), shapes, None)
    features = None if task else Features(("mean",), (config.num_hidden_layers,))
    build(weights, config, task, features)
    return sum(weight.n_bytes for weight in weights.graph.weights.values())


@pytest.mark.parametrize("task", [None, "ForSequenceClassification", "ForMaskedLM"])
def test_sizes_at_the_geometry_of_xlm_r(task):
    config = ModelConfig()
    whole = bytes_of(config, "float32", task)
    assert whole == pytest.approx(277_450_000 * 4, rel=0.01)
    assert bytes_of(config, "float16", task) / whole < 0.51
    assert bytes_of(config, "int8", task) / whole < 0.27
    large = dataclasses.replace(
        config, hidden_size=1024, num_hidden_layers=24, intermediate_size=4096, num_attention_heads=16
    )
    assert (
        bytes_of(large, "float32", task) > 2**31
        and bytes_of(large, "int8", task) / bytes_of(large, "float32", task) < 0.27
    )
