"""Values that hostile files put in the place of others."""

from typing import Any

NUMBERS = [0, 1, -1, 2, 3, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63)]
NUMBERS += [0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), -float("inf")]
TEXTS = ["", " ", "a\0b", "\ud800", "é" * 300, "a" * 20_000, *".. /etc/passwd ../../x <s> float64 __class__".split()]
VALUES: list[Any] = [*NUMBERS, *TEXTS, None, True, False, [], {}, [[]], [None] * 1000, {"": ""}, {"type": "X"}]
# For descriptions of estimators.
VALUES += ["XLMRobertaRegressor", {"items": [[[], 1]]}]
VALUES += [{"array": ["a"] * 9, "dtype": "<U999999999"}, {"array": [1], "dtype": "O8"}]
VALUES += [[{"array": ["a"], "dtype": "<U8000000"}] * 9]  # 32 MB each
