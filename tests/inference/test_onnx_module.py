"""Graphs in files: which are refused and why, what a pickle holds, and other processes."""

import copy
import multiprocessing
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from onnx import TensorProto, helper, save_model

from skxlmr import CheckpointError
from skxlmr.checkpoints import external_files
from skxlmr.inference import OnnxModule, _onnx_session, onnx_module
from tests.onnx_graphs import INPUTS, graph, mean_of, write

FEED = {name: np.array([[5, 6, 7]] if name == "input_ids" else [[1, 1, 1]]) for name in INPUTS}


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "model.onnx", ["sentence_embedding"])


def run(module):
    return module.run(["sentence_embedding"], FEED)[0][0]


def opened(file):
    return OnnxModule(file, threads=1).session


def test_a_graph_is_opened_at_first_use(file):
    module = OnnxModule(file, threads=1)
    assert module._session is None
    np.testing.assert_allclose(run(module), mean_of([5, 6, 7]), atol=1e-6)
    assert module.session is module.session
    assert list(module.inputs) == list(INPUTS) and module.outputs == {"sentence_embedding": "sentence_embedding"}


def test_threads_wait_for_the_one_that_opens_the_graph(file, monkeypatch):
    sessions, first_two = [], threading.Barrier(2)

    def opening(*args):
        with suppress(threading.BrokenBarrierError):
            first_two.wait(0.3)  # for another one that opens it too
        sessions.append(_onnx_session.open_session(*args))
        return sessions[-1]

    monkeypatch.setattr(onnx_module, "open_session", opening)
    module = OnnxModule(file, threads=1)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(run, [module, module]))
    assert len(sessions) == 1
    np.testing.assert_allclose(found, [mean_of([5, 6, 7])] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": (*INPUTS, "pixel_values")}, "has the input 'pixel_values', expected input_ids, attention_mask"),
        ({"inputs": INPUTS, "kinds": ["other"]}, "makes other, expected one or more of last_hidden_state"),
        ({"shape": ("batch", 128)}, r"takes input_ids in the shape \(batch, 128\)"),
        ({"shape": ("batch", "choices", "sequence")}, "expected a dynamic batch and length"),
        ({"kind": TensorProto.INT8}, "takes input_ids as"),
    ],
)
def test_other_graphs_are_refused(options, message, tmp_path):
    file = tmp_path / "model.onnx"
    model = graph(**{"kinds": ["sentence_embedding"], **options})
    if len(options.get("shape", ())) == 3 or "kind" in options:  # the nodes would not fit
        del model.graph.node[:]
        model.graph.node.append(helper.make_node("Identity", ["table"], ["sentence_embedding"]))
    save_model(model, file)
    with pytest.raises(CheckpointError, match=message) as caught:
        opened(file)
    assert caught.value.file == str(file)


def test_a_graph_without_a_mask_is_refused(tmp_path):
    model = graph(["sentence_embedding"])
    del model.graph.input[1]
    model.graph.node[1].input[0] = "input_ids"
    save_model(model, tmp_path / "model.onnx")
    with pytest.raises(CheckpointError, match="has no input attention_mask"):
        opened(tmp_path / "model.onnx")


def test_narrow_ids_are_taken(tmp_path):
    module = OnnxModule(write(tmp_path / "model.onnx", ["logits"], kind=TensorProto.INT32), threads=1)
    assert module.session is not None and module.inputs["input_ids"] == np.int32


def test_ids_beyond_the_vocabulary_blame_the_graph(file):
    with pytest.raises(CheckpointError, match=r"model\.onnx: fails in ONNX Runtime"):
        OnnxModule(file, threads=1).run(["sentence_embedding"], {**FEED, "input_ids": np.array([[5, 6, 700]])})


# Weights beside the graph


def test_weights_beside_the_graph(tmp_path):
    file = write(tmp_path / "model.onnx", ["sentence_embedding"], external="model.onnx_data")
    assert external_files(file) == ["model.onnx_data"]
    assert external_files(write(tmp_path / "one" / "model.onnx", ["logits"])) == []
    np.testing.assert_allclose(run(OnnxModule(file, threads=1)), mean_of([5, 6, 7]), atol=1e-6)
    (tmp_path / "model.onnx_data").unlink()
    with pytest.raises(CheckpointError, match=r"model\.onnx_data: is missing: model\.onnx keeps its weights in it"):
        opened(file)


def in_an_attribute(tensor):
    node = helper.make_node("Constant", [], ["c"])
    node.attribute.append(helper.make_attribute("value", helper.make_tensor("c", TensorProto.FLOAT, [1], [0.0])))
    node.attribute[0].t.CopyFrom(tensor)
    return node


def in_a_branch(tensor):
    inner = helper.make_graph([in_an_attribute(tensor)], "then", [], [])
    return helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)


@pytest.mark.parametrize("where", ["initializer", "attribute", "branch", "function"])
@pytest.mark.parametrize("place", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", ""])
def test_weights_outside_the_folder_are_refused_before_anything_opens_them(place, where, tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(b"1234" * 1000)
    model = graph(["sentence_embedding"])
    tensor = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1000])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=place)
    if where == "initializer":
        model.graph.initializer.append(tensor)
    elif where == "function":
        model.functions.add(name="f", domain="d").node.append(in_an_attribute(tensor))
    else:
        model.graph.node.append(in_an_attribute(tensor) if where == "attribute" else in_a_branch(tensor))
    file = tmp_path / "inner" / "model.onnx"
    file.parent.mkdir()
    file.write_bytes(model.SerializeToString())
    monkeypatch.setattr("onnxruntime.InferenceSession", None)  # never reached
    with pytest.raises(CheckpointError, match="which is not a file of its own folder"):
        opened(file)


@contextmanager
def _blaming(file):
    try:
        yield
    except CheckpointError as error:
        assert error.file == str(file)  # noqa: PT017
        raise


def test_damaged_files_are_refused(file, tmp_path):
    """Cut short or changed anywhere: an error that names the file, or a graph that still runs."""
    content, rng, still_run = file.read_bytes(), np.random.default_rng(0), []
    damaged = [content[: int(n)] for n in rng.integers(0, len(content) - 500, 25)]
    for place in rng.integers(0, min(len(content), 1500), 60):
        changed = bytearray(content)
        changed[place] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(changed))
    for i, changed in enumerate([b"", b"\n", b"not a graph", *damaged]):
        other = tmp_path / f"{i}.onnx"
        other.write_bytes(changed)
        with suppress(CheckpointError), _blaming(other):
            run(OnnxModule(other, threads=1))
            still_run.append(i)
    assert 0 < len(still_run) < 60


def test_a_graph_of_graphs_without_end_is_refused(tmp_path):
    message = b""
    for _ in range(100):  # a node with an attribute that holds a graph
        for field in (b"\x32", b"\x2a", b"\x0a"):
            length, size = len(message), b""
            while length > 127:
                size, length = size + bytes([length & 127 | 128]), length >> 7
            message = field + size + bytes([length]) + message
    (tmp_path / "model.onnx").write_bytes(b"\x3a" + bytes([len(message) & 127 | 128, len(message) >> 7]) + message)
    with pytest.raises(CheckpointError, match="without end"):
        external_files(tmp_path / "model.onnx")


# Settings, pickles, processes


def test_providers_and_threads(file):
    with pytest.raises(ValueError, match=r"'CUDAExecutionProvider' is not one of this onnxruntime, which has .*CPU"):
        OnnxModule(file, ["CUDAExecutionProvider", "CPUExecutionProvider"]).session  # noqa: B018
    module = OnnxModule(file, [("CPUExecutionProvider", {})], threads=3)
    assert module.session.get_session_options().intra_op_num_threads == 3
    assert module.session.get_providers() == ["CPUExecutionProvider"]


def test_threads_are_as_many_as_the_process_may_use(file, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert OnnxModule(file).session.get_session_options().intra_op_num_threads == 3
    for other in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", other)
        assert 1 <= _onnx_session.n_threads() <= os.cpu_count()


def test_a_pickle_holds_the_path_and_the_settings(file):
    module = OnnxModule(file, threads=1)
    module.sentence, module.layer = (("mean",), 1), 2
    expected = run(module)
    packed = pickle.dumps(module)
    assert len(packed) < 1000
    again = pickle.loads(packed)
    assert again._session is None and (again.threads, again.sentence, again.layer) == (1, (("mean",), 1), 2)
    np.testing.assert_array_equal(run(again), expected)
    assert pickle.loads(pickle.dumps(pickle.loads(packed)))._expected == again._expected
    assert copy.deepcopy(module) is module


@pytest.mark.parametrize("external", [None, "model.onnx_data"])
def test_a_pickle_of_other_weights_is_refused(external, tmp_path):
    write(tmp_path / "model.onnx", ["sentence_embedding"], external=external)
    module = OnnxModule(tmp_path / "model.onnx", threads=1)
    run(module)
    packed = pickle.dumps(module)
    data = tmp_path / (external or "model.onnx")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not the graph that was pickled"):
        run(pickle.loads(packed))
    other = OnnxModule(tmp_path / "model.onnx", threads=1)
    run(other)
    os.utime(data, ns=(1, 1))
    with pytest.raises(CheckpointError, match="was changed after it was opened"):
        pickle.dumps(other)


def test_what_torch_modules_have_is_an_error_that_says_so(file):
    with pytest.raises(
        AttributeError, match=r"model\.onnx is an ONNX graph, and this needs the weights in torch \(state_dict\)"
    ):
        OnnxModule(file).state_dict()


def child(module, queue):
    parents, opened_by = module._session, module._opened_by
    found = run(module).tolist()
    queue.put((found, module._session is not parents, opened_by != module._opened_by))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork")
def test_a_fork_opens_the_graph_anew(file):
    """ONNX Runtime's threads do not survive a fork: the parent's session would wait for them forever."""
    module = OnnxModule(file, threads=2)
    expected = run(module)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=child, args=(module, queue))
    with onnx_module._opening:  # another thread opens a graph meanwhile
        process.start()
    found, *is_new = queue.get(timeout=60)
    process.join(60)
    assert process.exitcode == 0
    assert is_new == [True, True]
    np.testing.assert_array_equal(np.float32(found), expected)
    np.testing.assert_array_equal(run(module), expected)


def test_the_package_onnx_is_not_needed(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    np.testing.assert_allclose(run(OnnxModule(file, threads=1)), mean_of([5, 6, 7]), atol=1e-6)


def test_without_onnxruntime_the_error_says_what_to_install(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"load_onnx needs onnxruntime.*skxlmr\[onnx\]"):
        opened(file)
