"""Parameters of functions that are either true or false."""

import numpy as np
import pytest

from skxlmr import load, load_onnx, save
from skxlmr.utils._whole_numbers import check_flags


@pytest.mark.parametrize("value", [True, False, np.True_, np.bool_(False)], ids=repr)
def test_flags(value):
    check_flags(verify=value)


@pytest.mark.parametrize("value", ["int8", "", 0, 1.0, None, [], np.array(True)], ids=repr)
def test_others(value):
    with pytest.raises(TypeError, match="verify must be True or False, got "):
        check_flags(verify=value)


@pytest.mark.parametrize(
    ("function", "names"), [(save, ("onnx", "adapter")), (load, ("verify",)), (load_onnx, ("verify",))]
)
def test_functions_refuse_others_first(function, names):
    for name in names:
        with pytest.raises(TypeError, match=f"{name} must be True or False, got 'no'"):
            function(*(("nothing", "folder") if function is save else ("folder",)), **{name: "no"})
