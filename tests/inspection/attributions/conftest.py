"""Checkpoints of the relatives."""

from tests.estimators.conftest import bodies  # noqa: F401  # a fixture
