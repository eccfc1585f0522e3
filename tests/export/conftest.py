"""Every estimator fitted and exported once."""

import pytest

from skxlmr import export_onnx
from tests.estimators.conftest import bodies  # noqa: F401  # a fixture


@pytest.fixture(scope="session")
def exported(fitted, tmp_path_factory):
    """Folder with the graph of an estimator, fitted on the rows of the contract; never write to it."""
    folders = {}

    def exported(estimator):
        if estimator not in folders:
            folders[estimator] = tmp_path_factory.mktemp("exported") / "model"
            export_onnx(fitted(estimator), folders[estimator])
        return folders[estimator]

    return exported
