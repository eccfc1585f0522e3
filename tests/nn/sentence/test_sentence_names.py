"""Names of activations, which are known without torch."""

import pytest
from torch import nn

from skxlmr.nn.sentence import ACTIVATIONS


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_classes_of_torch(name):
    found = getattr(nn, name)
    assert (found.__name__, found.__module__) == (name, ACTIVATIONS[name])
