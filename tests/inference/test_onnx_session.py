"""Products of whole numbers are exact on every processor."""

import warnings
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save_model

from skxlmr import CheckpointError
from skxlmr.inference import _onnx_session
from skxlmr.inference._onnx_session import CPU, UNSIGNED_WEIGHTS, open_session, saturates


def products(file, matrix_DE, n_products=1):
    """A graph that multiplies unsigned numbers (n, D) with a matrix, in several nodes."""
    names = [f"y{i}" for i in range(n_products)]
    nodes = [helper.make_node("MatMulInteger", ["a", "b", "zero"], [name]) for name in names]
    made = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ("n", len(matrix_DE)))],
        [helper.make_tensor_value_info(name, TensorProto.INT32, ("n", matrix_DE.shape[1])) for name in names],
        [numpy_helper.from_array(matrix_DE, "b"), numpy_helper.from_array(np.uint8(128), "zero")],
    )
    save_model(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return str(file)


def opened(file, runtime=onnxruntime):
    return open_session(runtime, file, [CPU], [CPU], 1)


@pytest.mark.parametrize("n_inputs", [2, 8, 768, 3072])
@pytest.mark.parametrize("n_rows", [1, 2, 37])
def test_sums_of_the_largest_numbers_are_exact(tmp_path, n_rows, n_inputs):
    rng = np.random.default_rng(0)
    matrix = rng.choice(np.array([-127, 126, 127], np.int8), (n_inputs, 48))
    matrix[:, 0] = 127
    rows = rng.choice(np.array([1, 254, 255], np.uint8), (n_rows, n_inputs))
    rows[0] = 255
    session = opened(products(tmp_path / "model.onnx", matrix))
    expected = (rows.astype(np.int64) - 128) @ matrix.astype(np.int64)
    np.testing.assert_array_equal(session.run(None, {"a": rows})[0], expected)


def option(session):
    try:
        return session.get_session_options().get_session_config_entry(UNSIGNED_WEIGHTS[0])
    except RuntimeError:  # not set
        return None


@pytest.mark.parametrize("overflows", [True, False])
def test_weights_become_unsigned_where_sums_saturate(tmp_path, monkeypatch, overflows):
    """Elsewhere that would take the fast instructions away."""
    monkeypatch.setattr(_onnx_session, "saturates", lambda runtime: overflows)
    session = opened(products(tmp_path / "model.onnx", np.full((8, 4), 3, np.int8)))
    assert option(session) == (UNSIGNED_WEIGHTS[1] if overflows else None)


def test_one_product_says_whether_sums_saturate():
    assert saturates(onnxruntime) is saturates(onnxruntime)
    outputs = {}

    def session(model, options, providers):
        theirs = onnxruntime.InferenceSession(model, options, providers)

        def run(names, factors):
            (found,) = theirs.run(names, factors)
            assert found.shape == (2, 16) and found.dtype == np.int32
            exact = factors["a"].astype(np.int64) @ factors["b"].astype(np.int64)
            assert exact.max() > 2 * 2**15 and (found <= exact).all()
            return [exact - 1 if outputs["are off"] else exact]

        return SimpleNamespace(run=run)

    for outputs["are off"] in (True, False):
        runtime = SimpleNamespace(SessionOptions=onnxruntime.SessionOptions, InferenceSession=session)
        assert _onnx_session.saturates.__wrapped__(runtime) is outputs["are off"]


class Unable(SimpleNamespace):
    """An ONNX Runtime that cannot rewrite a graph."""

    SessionOptions = onnxruntime.SessionOptions

    @staticmethod
    def InferenceSession(file, options, providers, **further):
        try:
            options.get_session_config_entry(UNSIGNED_WEIGHTS[0])
        except RuntimeError:
            return onnxruntime.InferenceSession(file, options, providers, **further)
        raise ValueError("Attempt to replace the existing tensor\nof this name")


def test_a_graph_that_cannot_be_rewritten_is_opened_with_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(_onnx_session, "saturates", lambda runtime: True)
    file = products(tmp_path / "model.onnx", np.full((8, 4), 3, np.int8), n_products=2)
    with pytest.warns(UserWarning, match=r"model.onnx: this processor .* \(Attempt to replace the existing tensor\)"):
        session = opened(file, Unable)
    assert session.run(None, {"a": np.full((1, 8), 130, np.uint8)})[0].tolist() == [[48] * 4]
    monkeypatch.setattr(_onnx_session, "saturates", lambda runtime: False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened(file, Unable)


@pytest.mark.parametrize("overflows", [True, False])
def test_damaged_files_are_an_error_and_no_warning(tmp_path, monkeypatch, overflows):
    monkeypatch.setattr(_onnx_session, "saturates", lambda runtime: overflows)
    file = tmp_path / "model.onnx"
    file.write_bytes(b"\0" * 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match="cannot be opened by ONNX Runtime"):
            opened(str(file))
