import pytest

from tests.trimming.kinds import write


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """checkpoints(kind) -> folder of a checkpoint; never write to it."""
    made = {}

    def checkpoints(kind):
        if kind == "xlm":
            pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
        if kind not in made:
            made[kind] = write(kind, tmp_path_factory.mktemp(kind.replace(" ", "_")) / "checkpoint")
        return made[kind]

    return checkpoints
