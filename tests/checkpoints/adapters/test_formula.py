"""The arithmetic of a merge beside the published formulas, computed apart from it in float64; peft is not needed."""

import math

import pytest
import torch

from skxlmr.checkpoints import read_model
from skxlmr.checkpoints._adapters.config import read_lora
from skxlmr.checkpoints._adapters.merge import merge
from skxlmr.checkpoints._adapters.patterns import matches, value_of
from skxlmr.checkpoints._adapters.tensors import read_adapter
from skxlmr.nn import XLM_ROBERTA
from tests import adapters
from tests.adapters import PREFIX, QUERY

WORDS = "roberta.embeddings.word_embeddings"
NORM = "roberta.embeddings.LayerNorm.bias"


def numbers(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def merged_by_hand(base, tensors, module, scale, magnitude=None):
    """``W + scale * B A`` of a linear module, with DoRA's magnitudes if there are some."""
    weight = base[f"{module}.weight"].double()
    a, b = (tensors[f"{PREFIX}{module}.lora_{which}.weight"].double() for which in "AB")
    merged = weight + scale * torch.einsum("or,ri->oi", b, a)
    if magnitude is not None:
        merged = merged * (magnitude.double() / merged.pow(2).sum(1).sqrt())[:, None]
    return merged


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"r": 3, "lora_alpha": 7}, (7 / 3, 7 / 3)),
        ({"r": 3, "lora_alpha": 7, "use_rslora": True}, (7 / math.sqrt(3), 7 / math.sqrt(3))),
        ({"r": 3, "lora_alpha": 6, "alpha_pattern": {r"layer\.1.*": 4}}, (2, 4 / 3)),
        ({"r": 8, "lora_alpha": 6, "rank_pattern": {"query": 3}}, (2, 2)),
        ({"r": 3, "lora_alpha": 6, "fan_in_fan_out": True}, (2, 2)),
    ],
)
@pytest.mark.parametrize("in_autocast", [False, True])
def test_linear(config, scale, in_autocast, tmp_path, tiny_checkpoint):
    """In the precision of the weights, also inside an autocast block of the caller."""
    base, tensors = read_model(tiny_checkpoint).tensors(), adapters.matrices(r=3)
    with torch.autocast("cpu", torch.bfloat16, enabled=in_autocast):
        found = read_model(adapters.write(tmp_path / "a", tiny_checkpoint, tensors, **config)).tensors()
    for i in range(2):
        expected = merged_by_hand(base, tensors, QUERY.format(i), scale[i])
        torch.testing.assert_close(found[f"{QUERY.format(i)}.weight"].double(), expected, rtol=0, atol=1e-5)
    changed = {f"{QUERY.format(i)}.weight" for i in range(2)}
    assert {name for name in base if not torch.equal(base[name], found[name])} == changed


def test_magnitudes(tmp_path, tiny_checkpoint):
    base, tensors = read_model(tiny_checkpoint).tensors(), adapters.matrices()
    magnitudes = {f"{PREFIX}{QUERY.format(i)}.lora_magnitude_vector": numbers(32, seed=i).abs() for i in range(2)}
    folder = adapters.write(tmp_path / "a", tiny_checkpoint, tensors | magnitudes, use_dora=True)
    found = read_model(folder).tensors()
    for i in range(2):
        magnitude = magnitudes[f"{PREFIX}{QUERY.format(i)}.lora_magnitude_vector"]
        expected = merged_by_hand(base, tensors, QUERY.format(i), 4, magnitude)
        torch.testing.assert_close(found[f"{QUERY.format(i)}.weight"].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dora", [False, True])
def test_embeddings(dora, tmp_path, tiny_checkpoint):
    base = read_model(tiny_checkpoint).tensors()
    words = base[f"{WORDS}.weight"]
    a, b, magnitude = numbers(2, len(words)), numbers(32, 2, seed=2), numbers(32, seed=3).abs()
    tensors = {f"{PREFIX}{WORDS}.lora_embedding_A": a, f"{PREFIX}{WORDS}.lora_embedding_B": b}
    tensors |= {f"{PREFIX}{WORDS}.lora_magnitude_vector": magnitude} if dora else {}
    folder = adapters.write(tmp_path / "a", tiny_checkpoint, tensors, target_modules=["word_embeddings"], use_dora=dora)
    expected = words.double() + 4 * (b.double() @ a.double()).T
    if dora:
        expected = expected * magnitude.double() / expected.norm(dim=0)
    torch.testing.assert_close(read_model(folder).tensors()[f"{WORDS}.weight"].double(), expected, rtol=0, atol=1e-5)


def test_biases(tmp_path, tiny_checkpoint):
    base = read_model(tiny_checkpoint).tensors()
    of_b = {f"{PREFIX}{QUERY.format(i)}.lora_B.bias": numbers(32, seed=i) for i in range(2)}
    own = {f"{PREFIX}{QUERY.format(i)}.base_layer.bias": numbers(32, seed=9 + i) for i in range(2)}
    folder = adapters.write(
        tmp_path / "a", tiny_checkpoint, adapters.matrices() | of_b | own, bias="lora_only", lora_bias=True
    )
    found = read_model(folder).tensors()
    for i in range(2):
        name = PREFIX + QUERY.format(i)
        expected = own[f"{name}.base_layer.bias"] + 4 * of_b[f"{name}.lora_B.bias"]
        torch.testing.assert_close(found[f"{QUERY.format(i)}.bias"], expected, rtol=0, atol=1e-6)
    assert torch.equal(found[NORM], base[NORM])


def test_trained_rows_change_no_other_and_not_the_file(tmp_path, tiny_checkpoint):
    file = tiny_checkpoint / "model.safetensors"
    before, words = file.read_bytes(), read_model(tiny_checkpoint).tensors()[f"{WORDS}.weight"]
    rows = {f"{PREFIX}{WORDS}.token_adapter.trainable_tokens_delta": numbers(2, 32)}
    folder = adapters.write(
        tmp_path / "a", tiny_checkpoint, adapters.matrices() | rows, trainable_token_indices=[250, 7]
    )
    expected = words.clone()
    expected[[250, 7]] = next(iter(rows.values()))
    assert torch.equal(read_model(folder).tensors()[f"{WORDS}.weight"], expected)
    assert file.read_bytes() == before


def test_only_what_changes_is_copied(tmp_path, tiny_checkpoint):
    stored = read_model(adapters.write(tmp_path / "a", tiny_checkpoint))
    base = stored.base.tensors()
    merged = merge(stored.lora, base, read_adapter(stored.folder, XLM_ROBERTA), XLM_ROBERTA, True, True)
    copied = {name for name, tensor in merged.items() if tensor is not base[name]}
    assert copied == {f"{QUERY.format(i)}.weight" for i in range(2)}


# Names that peft matches and names that it does not, one line for each rule of its matching
NAMES = [
    "encoder.layer.0.attention.self.query",
    "encoder.layer.10.attention.self.query",
    "encoder.layer.1.output.dense",
    "encoder.layer.1.attention.output.dense",
    "pooler.dense",
    "dense",
]


@pytest.mark.parametrize(
    ("config", "matched"),
    [
        ({"target_modules": ["query"]}, [0, 1]),
        ({"target_modules": ["uery"]}, []),
        ({"target_modules": ["output.dense"]}, [2, 3]),
        ({"target_modules": ["dense"]}, [2, 3, 4, 5]),
        ({"target_modules": ["pooler.dense", "query"], "layers_to_transform": [10]}, [1, 4]),
        ({"target_modules": ["dense"], "layers_to_transform": [1], "layers_pattern": ["layer"]}, [2, 3, 5]),
        ({"target_modules": ["dense"], "layers_to_transform": [1], "layers_pattern": ["block"]}, [5]),
        ({"target_modules": r".*query"}, [0, 1]),
        ({"target_modules": r"query"}, []),
        ({"target_modules": r"encoder\.layer\.\d\..*"}, [0, 2, 3]),
        ({"target_modules": ["query"], "exclude_modules": ["0.attention.self.query"]}, [1]),
        ({"target_modules": ["dense"], "exclude_modules": r".*output\.dense"}, [4, 5]),
        ({"target_modules": ["dense"], "modules_to_save": ["pooler"]}, [2, 3, 5]),
        ({"target_modules": ["dense"], "modules_to_save": ["layer.1"]}, [4, 5]),
    ],
)
def test_which_modules_are_adapted(config, matched, tmp_path):
    lora = read_lora(adapters.write(tmp_path / "a", "skxlmr-mini", {"x": torch.zeros(1)}, **config))
    assert [i for i, name in enumerate(NAMES) if matches(lora, name)] == matched


def test_the_first_pattern_counts():
    assert value_of({"query": 3, "self.query": 4}, NAMES[0], 8) == 3
    assert value_of({"self.que": 3, "self.query": 4}, NAMES[0], 8) == 4
    assert value_of({"uery": 3, "^attention.self.query": 4}, NAMES[0], 8) == 8
    assert value_of({r"encoder\.layer\.(1|10)\..*": 3}, NAMES[1], 8) == 3
    assert value_of({"encoder.layer.0.attention.self.query": 3}, f"roberta.{NAMES[0]}", 8) == 3
