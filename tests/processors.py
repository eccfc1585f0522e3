"""Marks of tests for what not every processor or build of PyTorch has."""

import pytest
import torch

from skxlmr.nn.kernels import onednn
from skxlmr.utils._devices.device import multiplies_int8

_has_onednn = torch.backends.mkldnn.is_available()
ONEDNN = pytest.mark.skipif(not _has_onednn, reason="this build of PyTorch has no oneDNN")
BFLOAT16 = pytest.mark.skipif(
    not (_has_onednn and onednn.knows_bfloat16()), reason="oneDNN has no bfloat16 on this processor"
)
INT8 = pytest.mark.skipif(not multiplies_int8(), reason="this processor has no fast int8")
