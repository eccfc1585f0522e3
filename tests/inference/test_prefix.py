"""States of frozen layers that are kept: each row's are computed once, and nothing that matters is left out of the key."""

import numpy as np
import pytest
import torch

from skxlmr import Cache, XLMRobertaMaskedLM, cache_info, clear_cache
from skxlmr.checkpoints import moved
from skxlmr.inference import FrozenPrefix, prefix
from skxlmr.nn import TokenLayout
from skxlmr.nn.backbone import lowest_states
from skxlmr.utils._devices.device import fast_half

LENGTHS = [5, 9, 3, 9]
IDS = torch.randint(5, 200, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
LAYOUT = TokenLayout(LENGTHS)
N_BYTES = sum(LENGTHS) * 32 * 4


@pytest.fixture(autouse=True)
def _cache(with_cache):
    """All tests here are with the cache."""


@pytest.fixture(scope="module")
def module(tiny_checkpoint):
    """Opens the checkpoint again."""

    def module(checkpoint=tiny_checkpoint):
        return XLMRobertaMaskedLM.from_checkpoint(checkpoint).module_

    return module


@pytest.fixture
def computed(monkeypatch):
    """The number of rows of each call that computes; what the check of the process computes is not counted."""
    counts = []

    def counting(backbone, ids, layout, n_layers):
        counts.append(len(layout.lengths))
        return lowest_states(backbone, ids, layout, n_layers)

    monkeypatch.setattr("skxlmr.nn.backbone.lowest_states", counting)
    monkeypatch.setattr(FrozenPrefix, "_check", lambda *_: None)
    return counts


def test_states_are_those_of_the_layers_found_or_computed(module, computed):
    one = module()
    expected = lowest_states(one.backbone, IDS, LAYOUT, 1)
    kept = FrozenPrefix(one, 1, Cache())
    for _ in range(3):
        assert torch.equal(kept.states(IDS, LAYOUT), expected)
    assert torch.equal(FrozenPrefix(one, 1).states(IDS, LAYOUT), expected)
    assert computed == [4, 4]
    assert kept.states(IDS, LAYOUT).is_contiguous() and kept.states(IDS, LAYOUT).numpy().flags.writeable


def test_rows_are_found_one_by_one_in_any_order(module, computed):
    kept = FrozenPrefix(module(), 1, Cache())
    rows = IDS.split(LENGTHS)
    together = kept.states(IDS, LAYOUT).split(LENGTHS)
    for some in ([2], [3, 1, 0], [1, 1], [0, 2, 2, 1]):
        found = kept.states(torch.cat([rows[i] for i in some]), TokenLayout([LENGTHS[i] for i in some]))
        assert torch.equal(found, torch.cat([together[i] for i in some]))
    assert computed == [4]
    new = torch.arange(10, 16)
    kept.states(torch.cat([rows[0], new]), TokenLayout([5, 6]))
    assert computed == [4, 1]


def other_texts(one):
    return {"ids": IDS.flip(0)}


def second_texts(one):
    return {"layout": TokenLayout(LENGTHS, second_starts=[2, 3, 1, 4])}


def other_lengths(one):
    return {"layout": TokenLayout([9, 5, 3, 9])}


@pytest.mark.parametrize("change", [other_texts, second_texts, other_lengths])
def test_other_rows_have_other_keys(module, computed, change):
    one = module()
    about = {"ids": IDS, "layout": LAYOUT}
    kept = FrozenPrefix(one, 1, Cache())
    kept.states(**about)
    kept.states(**about | change(one))
    assert sum(computed) > len(LENGTHS)


def test_how_the_process_rounds_matters(module, computed):
    one = module()
    before = torch.get_float32_matmul_precision()
    FrozenPrefix(one, 1, Cache()).states(IDS, LAYOUT)
    torch.set_float32_matmul_precision("medium")
    try:
        FrozenPrefix(one, 1, Cache()).states(IDS, LAYOUT)
    finally:
        torch.set_float32_matmul_precision(before)
    assert computed == [4, 4]
    FrozenPrefix(one, 1, Cache()).states(IDS, LAYOUT)
    assert computed == [4, 4]


@pytest.mark.parametrize("change", ["layers", "language", "precision", "weights", "rounding"])
def test_each_part_of_the_key_matters(module, computed, change, tiny_xlm_languages):
    one = module()
    FrozenPrefix(one, 1, Cache(), ("en",)).states(IDS, LAYOUT)
    other = FrozenPrefix(
        one if change != "weights" else module(checkpoint="skxlmr-mini"),
        2 if change == "layers" else 1,
        Cache(dtype="bfloat16") if change == "rounding" else Cache(),
        ("de",) if change == "language" else ("en",),
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "precision"):
        found = other.states(IDS, LAYOUT)
        assert computed == [4, 4]
        expected = lowest_states(other.backbone, IDS, LAYOUT, other.n_layers)
    if change == "rounding":
        expected = expected.bfloat16().float()
    assert torch.equal(found, expected)


def test_a_wrong_number_of_layers_in_the_key_would_be_seen(module, monkeypatch):
    """So that the tests would see it."""
    one = module()
    FrozenPrefix(one, 1, Cache()).states(IDS, LAYOUT)
    two = FrozenPrefix(one, 2, Cache())
    two._about = FrozenPrefix(one, 1, Cache())._about
    assert not torch.equal(two.states(IDS, LAYOUT), lowest_states(one.backbone, IDS, LAYOUT, 2))


def test_weights_that_were_changed_are_not_kept(module, computed):
    one = module()
    FrozenPrefix(one, 1, Cache()).states(IDS, LAYOUT)
    with torch.no_grad():
        one.backbone.encoder.layer[1].output.dense.weight.mul_(2)  # not one of the lowest
    FrozenPrefix(one, 1, Cache()).states(IDS, LAYOUT)
    assert computed == [4]
    with torch.no_grad():
        one.backbone.encoder.layer[0].output.dense.weight.mul_(2)
    changed = FrozenPrefix(one, 1, Cache())
    assert torch.equal(changed.states(IDS, LAYOUT), lowest_states(one.backbone, IDS, LAYOUT, 1))
    changed.states(IDS, LAYOUT)
    assert computed == [4, 4, 4]
    assert cache_info().entries == 4


def test_a_folder_keeps_them_too(module, computed, tmp_path):
    for _ in range(2):
        clear_cache()
        kept = FrozenPrefix(module(), 1, Cache(tmp_path / "kept"))
        assert torch.equal(kept.states(IDS, LAYOUT), lowest_states(kept.backbone, IDS, LAYOUT, 1))
    assert computed == [4]


def test_layers_that_were_not_trained_stay_known_on_another_device(module, computed):
    """A move gives each weight another place in memory; here it is one to another type and back."""
    one = module()
    FrozenPrefix(one, 1, Cache()).states(IDS, LAYOUT)
    with torch.no_grad():
        one.backbone.encoder.layer[1].output.dense.weight.mul_(2)  # as a fit trains it
    moved(one, lambda: one.double().float())
    FrozenPrefix(one, 1, Cache()).states(IDS, LAYOUT)
    assert computed == [4]
    FrozenPrefix(one, 2, Cache()).states(IDS, LAYOUT)
    assert cache_info().entries == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_of_rows_that_do_not_fit_the_same_are_kept_each_time(module, computed, dtype):
    lengths = [5] * 60
    ids, layout = torch.arange(300) + 1, TokenLayout(lengths)
    n_bytes = 300 * 32 * (2 if dtype == "bfloat16" else 4)
    cache = Cache(max_bytes=n_bytes // 2, dtype=dtype)
    kept = FrozenPrefix(module(), 1, cache)
    kept.expect(300)
    expected = lowest_states(kept.backbone, ids, layout, 1)
    if dtype == "bfloat16":
        expected = expected.bfloat16().float()
    assert torch.equal(kept.states(ids, layout), expected)
    n_kept = cache_info(cache).entries
    assert 10 <= n_kept <= 30 and cache_info(cache).n_bytes <= n_bytes // 2
    computed.clear()
    order = np.random.default_rng(0).permutation(60)
    shuffled = torch.cat([ids.split(lengths)[i] for i in order])
    assert torch.equal(kept.states(shuffled, layout), torch.cat([expected.split(lengths)[i] for i in order]))
    assert sum(computed) == 60 - n_kept and cache_info(cache).entries == n_kept


def test_what_does_not_fit_is_said_to_those_who_asked(module):
    small = Cache(max_bytes=N_BYTES // 2)
    FrozenPrefix(module(), 1, small).expect(sum(LENGTHS))
    FrozenPrefix(module(), 1, Cache(max_bytes=2 * N_BYTES), is_asked_for=True).expect(sum(LENGTHS))
    with pytest.warns(UserWarning, match=r"those of 33% of the rows are kept, .*max_bytes"):
        FrozenPrefix(module(), 1, small, is_asked_for=True).expect(sum(LENGTHS))


@pytest.mark.parametrize("is_asked_for", [False, True])
def test_on_a_processor_where_rows_depend_on_each_other(module, monkeypatch, is_asked_for):
    """Then nothing is kept, or, for those who asked, a warning says that results are equal up to rounding only."""
    monkeypatch.setattr(prefix, "_are_alone", {})

    def dependent(backbone, ids, layout, n_layers):
        return lowest_states(backbone, ids, layout, n_layers) + 1e-7 * len(layout.lengths)

    monkeypatch.setattr("skxlmr.nn.backbone.lowest_states", dependent)
    kept = FrozenPrefix(module(), 1, Cache(), is_asked_for=is_asked_for)
    if is_asked_for:
        with pytest.warns(UserWarning, match="equal up to rounding, not to the last bit"):
            kept.states(IDS, LAYOUT)
    else:
        kept.states(IDS, LAYOUT)
    before = cache_info().hits
    kept.states(IDS, LAYOUT)
    assert cache_info().hits - before == (4 if is_asked_for else 0)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_check_passes_here(module, monkeypatch, dtype):
    if dtype is not None and fast_half(torch.device("cpu")) is None:
        pytest.skip("no estimator computes in bfloat16 on this processor")
    monkeypatch.setattr(prefix, "_are_alone", {})
    for one, n_layers, lengths in [(module(), 1, LENGTHS), (module("skxlmr-mini"), 5, [9, 70, 3, 100, 22])]:
        ids = torch.randint(5, 200, (sum(lengths),), generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", dtype, enabled=dtype is not None):
            FrozenPrefix(one, n_layers, Cache()).states(ids, TokenLayout(lengths))
    assert list(prefix._are_alone.values()) == [True, True]


def test_states_of_another_number_of_threads_are_others_where_it_changes_sums(module, computed, monkeypatch):
    """With AMX, in bfloat16."""
    monkeypatch.setattr("skxlmr.nn.kernels.onednn.sums_by_rows", lambda: True)
    kept, before = FrozenPrefix(module(), 1, Cache()), torch.get_num_threads()
    try:
        for n_threads in (before, before + 1):
            torch.set_num_threads(n_threads)
            for dtype in (None, torch.bfloat16):
                with torch.autocast("cpu", dtype, enabled=dtype is not None):
                    kept.states(IDS, LAYOUT)
    finally:
        torch.set_num_threads(before)
    assert computed == [4, 4, 4]
