import numpy as np
import onnx
import pytest
import torch

from skxlmr import CheckpointError
from skxlmr.export._graphs.features import Features
from skxlmr.export._graphs.file import LARGE, PAGE, write_graph
from skxlmr.export._graphs.graph import Graph
from skxlmr.export._graphs.precisions import weights as weights_module
from tests.export import graphs

HOW = Features(("mean",), (2,))


@pytest.fixture
def encoder():
    config = graphs.config_of("xlm-roberta")
    return config, graphs.module_of(config, "Model")


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_equal_models_make_equal_files(tmp_path, encoder, precision):
    config, module = encoder
    for name in "ab":
        graphs.write(tmp_path / name, module, config, None, HOW, precision)
    for file in ("model.onnx", "model.onnx_data"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_weights_have_hugging_faces_names_and_lie_in_the_second_file(tmp_path, encoder):
    config, module = encoder
    file = graphs.write(tmp_path, module, config, None, HOW)
    made = onnx.load(str(file), load_external_data=False)
    assert (made.producer_name, made.producer_version, made.opset_import[0].version) == ("skxlmr", "0", 17)
    assert {item.key: item.value for item in made.metadata_props} == {"precision": "float32"}
    tensors = module.state_dict()
    found = {item.name: item for item in made.graph.initializer if not item.name.startswith("constant_")}
    assert found.keys() == tensors.keys()
    outside = {name for name, item in found.items() if item.external_data}
    assert outside == {name for name, tensor in tensors.items() if tensor.numel() * 4 >= 1024}
    onnx.load_external_data_for_model(made, str(tmp_path))
    for name, item in found.items():
        array, expected = onnx.numpy_helper.to_array(item), tensors[name].numpy()
        is_dense = array.ndim == 2 and "embeddings" not in name
        np.testing.assert_array_equal(array, expected.T if is_dense else expected)


def test_large_weights_begin_at_a_page_and_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_module, "ROWS", 1000)
    read = []

    def pieces(name, rows):
        read.append(rows.stop - rows.start)
        return np.full((rows.stop - rows.start, 64), rows.start, np.float32)

    n_rows = LARGE // 256 + 5
    made = weights_module.Weights(Graph(17), {"a.weight": (300, 64), "b.weight": (n_rows, 64)}, pieces)
    ids = made.graph.input("ids", ("n",))
    made.graph.output("a", made.rows("a", ids), ("n", 64))
    late = made.graph.node("Add", ids, made.graph.constant(n_rows - 300, np.int64))
    made.graph.output("b", made.rows("b", late), ("n", 64))
    write_graph(tmp_path, made.graph, {}, ("skxlmr", "0"))
    assert max(read) == 1000 and sum(read) == n_rows + 300
    file = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False)
    (where,) = [{e.key: e.value for e in i.external_data} for i in file.graph.initializer if i.name == "b.weight"]
    assert int(where["offset"]) % PAGE == 0 and int(where["length"]) == n_rows * 256
    ids = torch.tensor([0, 299])
    found = graphs.run(tmp_path / "model.onnx", {"ids": ids})
    assert found["a"][:, 0].tolist() == [0, 0]
    assert found["b"][:, 0].tolist() == [(n_rows - 300) // 1000 * 1000, (n_rows - 1) // 1000 * 1000]


def test_a_weight_too_large_for_float16(tmp_path, encoder):
    config, module = encoder
    with torch.no_grad():
        module.get_parameter("roberta.encoder.layer.1.output.dense.weight")[3, 2] = 1e5
    with pytest.raises(CheckpointError, match=r"cannot hold 'roberta.encoder.layer.1.output.dense.weight' in float16"):
        graphs.write(tmp_path, module, config, None, HOW, "float16")


def test_one_name_for_two_weights():
    graph = Graph(17)
    graph.weight("w", (4,), np.float32, None)
    assert graph.weight("w", (4,), np.float32, None) == "w"
    with pytest.raises(ValueError, match=r"w is float32 of shape \(4,\), and int8 of shape \(4,\)"):
        graph.weight("w", (4,), np.int8, None)


def test_pieces_that_are_not_the_weight(tmp_path):
    graph = Graph(17)
    graph.output("y", graph.weight("w", (400,), np.float32, lambda: iter([np.zeros(399, np.float32)])), (400,))
    with pytest.raises(CheckpointError, match="wrote 1596 bytes of 'w', not 1600"):
        write_graph(tmp_path, graph, {}, ("skxlmr", "0"))
    graph.weights.clear()
    graph.weight("w", (400,), np.float32, lambda: iter([np.zeros(400, np.float64)]))
    with pytest.raises(CheckpointError, match="as float64, expected float32"):
        write_graph(tmp_path, graph, {}, ("skxlmr", "0"))
