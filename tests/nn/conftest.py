"""Modules of XLM-R-base's geometry, built once."""

import copy

import pytest
import torch

from .reference import BASE, TINY, make_reference

GEOMETRIES = {"tiny": TINY, "base": BASE}


def slow(*case):
    """A case of a test that runs only with ``-m slow``."""
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.fixture(scope="package")
def references():
    """A copy of the reference of a kind and a geometry."""
    built = {}

    def get(kind, geometry, dtype=torch.float32):
        if (kind, geometry) not in built:
            built[kind, geometry] = make_reference(kind, GEOMETRIES[geometry])
        return copy.deepcopy(built[kind, geometry]).to(dtype)

    return get
