"""Which names an adapter's config has for the modules that are adapted: the shortest that match no other."""

import pytest

from skxlmr.checkpoints._adapters.patterns import ends_with
from skxlmr.checkpoints._adapters.write import target_modules

LINEAR = [
    "attention.self.query",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
]
NAMES = [f"roberta.encoder.layer.{i}.{name}" for i in range(12) for name in LINEAR]
POOLER = "roberta.pooler.dense"


@pytest.mark.parametrize(
    ("adapted", "others", "expected"),
    [
        ([n for n in NAMES if n.endswith("query")], [n for n in NAMES if not n.endswith("query")], ["query"]),
        (NAMES, [], ["dense", "query", "value"]),
        (NAMES, [POOLER], ["intermediate.dense", "output.dense", "self.query", "self.value"]),
        (["layer.1.output.dense"], ["layer.1.attention.output.dense"], ["1.output.dense"]),
        ([NAMES[-1]], NAMES[:-1], ["11.output.dense"]),
        (["layer.1.query"], ["layer.11.query"], ["1.query"]),  # ends are whole parts of names
        (["query"], ["layer.query"], ["query"]),  # nothing tells it from the other: as it is called
    ],
)
def test_target_modules(adapted, others, expected):
    assert target_modules(adapted, others) == expected


@pytest.mark.parametrize("n_frozen", [0, 1, 6, 11])
def test_they_match_what_is_adapted_and_nothing_else(n_frozen):
    adapted = {name for name in NAMES if int(name.split(".")[3]) >= n_frozen and not name.endswith("value")}
    ends = tuple(target_modules(adapted, {*NAMES, POOLER} - adapted))
    assert {name for name in [*NAMES, POOLER] if ends_with(name, ends)} == adapted
