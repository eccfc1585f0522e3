"""The engine on ONNX Runtime: every row as if it ran alone, whatever the batch."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skxlmr import Cache, CheckpointError, clear_cache
from skxlmr.inference import Engine, OnnxEngine, OnnxModule, _arrays, onnx_engine, sentence_of
from skxlmr.inference._cached_rows import _rounded
from skxlmr.nn import ModelConfig, TokenLayout
from skxlmr.nn.sentence import Dense, SentenceEncoder
from skxlmr.nn.sentence.pooling import POOLINGS, pool
from skxlmr.text import EncodedBatch
from tests.batching.rows import PAD, random_rows
from tests.onnx_graphs import HEAD, INPUTS, TABLE, VOCABULARY, WIDTH, mean_of, write

LENGTHS = [4, 30, 2, 4, 17, 30, 9, 4, 25]
WHOLE = SentenceEncoder(("mean",))


@pytest.fixture
def make(tmp_path):
    """An engine over a graph with these outputs, and the list of the batches that it runs, as shapes."""

    def make(*kinds, batch_size=32, cache=None, config=None, **options):
        config = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48 * 1024, **(config or {})}
        config = ModelConfig(**{"num_attention_heads": 2, "num_hidden_layers": 2, **config})
        module = OnnxModule(write(tmp_path / "model.onnx", kinds, **options), threads=1)
        engine, run, shapes = OnnxEngine(module, config, batch_size, cache=cache), module.run, []

        def counting(outputs, feed):
            shapes.append(feed["input_ids"].shape)
            return run(outputs, feed)

        module.run = counting
        return engine, shapes

    return make


@pytest.mark.parametrize("batch_size", [1, 16, 100])
def test_rows_come_back_in_their_order(make, batch_size):
    engine, shapes = make("logits", batch_size=batch_size)
    encoded = random_rows(LENGTHS)
    found = engine.rows(encoded)
    expected = [mean_of(encoded.row(i)) @ HEAD for i in range(len(encoded))]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found.dtype == np.float32
    assert all(n * width <= max(engine.token_budget, 30) or n == 1 for n, width in shapes)
    assert engine.token_budget == 2 * batch_size
    assert [width for _, width in shapes] == sorted((width for _, width in shapes), reverse=True)
    assert sum(n for n, _ in shapes) == len(LENGTHS)


def test_short_rows_do_not_wait_for_a_long_one(make):
    """A budget of tokens without padding would put all of them beside the long one."""
    engine, shapes = make("logits", batch_size=50)
    engine.rows(random_rows([50, *[5] * 20]))
    assert shapes == [(2, 50), (19, 5)]


def test_equal_rows_run_once(make):
    engine, shapes = make("logits")
    encoded = random_rows(LENGTHS).take([0, 1, 0, 2, 1, 1])
    found = engine.rows(encoded)
    assert sum(n for n, _ in shapes) == 3
    np.testing.assert_array_equal(found[[0, 1, 1]], found[[2, 4, 5]])
    np.testing.assert_allclose(found[3], mean_of(encoded.row(3)) @ HEAD, atol=1e-6)


def test_rows_that_differ_in_their_second_text_are_not_equal(make):
    engine, shapes = make("logits", inputs=(*INPUTS, "token_type_ids"), config={"type_vocab_size": 2})
    encoded = replace(random_rows([6, 6]).take([0, 0]), second_starts=np.array([2, 4]))
    engine.rows(encoded)
    assert shapes == [(2, 6)]


def test_no_rows(make):
    engine, _ = make("logits")
    nothing = random_rows([3]).take([])
    assert engine.rows(nothing).shape == (0, 3) and engine.rows(nothing).dtype == np.float32


@pytest.mark.parametrize("batch_size", [1, 100])
def test_tokens_are_those_of_the_texts(make, batch_size):
    engine, _ = make("token_logits", batch_size=batch_size)
    encoded = random_rows(LENGTHS).take([*range(len(LENGTHS)), 3, 0])
    np.testing.assert_allclose(engine.tokens(encoded), TABLE[encoded.ids] @ HEAD, rtol=0, atol=1e-6)


def test_start_and_end_stand_side_by_side(make):
    engine, _ = make("start_logits")
    encoded = random_rows(LENGTHS)
    expected = np.stack([TABLE[encoded.ids].max(1), TABLE[encoded.ids].min(1)], 1)
    np.testing.assert_array_equal(engine.tokens(encoded), expected)


def test_windows_are_averaged(make):
    engine, _ = make("logits")
    encoded = replace(random_rows([5, 7, 9]), row_of_window=np.array([0, 0, 1]))
    found = engine.rows(encoded, window_weights=np.array([1.0, 3.0, 1.0]))
    of_each = engine.rows(random_rows([5, 7, 9]))
    np.testing.assert_allclose(found, [(of_each[0] + 3 * of_each[1]) / 4, of_each[2]], rtol=1e-6)


def test_logits_over_the_vocabulary_stay_few(make, monkeypatch):
    engine, shapes = make("vocabulary_logits", batch_size=1000)
    encoded = random_rows(LENGTHS)
    places = np.sort(np.random.default_rng(0).choice(len(encoded.ids), 40, replace=False))
    whole = TABLE[encoded.ids[places]] @ TABLE.T
    one_batch = engine.places(encoded, places, lambda logits, items: logits)
    assert shapes == [(len(LENGTHS), 30)]
    np.testing.assert_allclose(one_batch, whole, rtol=0, atol=1e-5)
    monkeypatch.setattr(onnx_engine, "LOGITS", 40 * VOCABULARY)
    monkeypatch.setattr(onnx_engine, "LOGIT_ROWS", 3)
    del shapes[:]
    found = engine.places(encoded, places, lambda logits, items: np.column_stack([items, logits[:, :2]]))
    assert all(n * width <= 40 for n, width in shapes) and len(shapes) > 3
    np.testing.assert_array_equal(found[:, 0], np.arange(len(places)))
    np.testing.assert_allclose(found[:, 1:], whole[:, :2], rtol=0, atol=1e-5)


def test_rows_without_places_do_not_run(make):
    engine, shapes = make("vocabulary_logits", batch_size=1)
    encoded = random_rows([5, 6, 7])
    assert engine.places(encoded, np.array([6]), lambda logits, items: logits).shape == (1, VOCABULARY)
    assert shapes == [(1, 6)]
    assert engine.places(encoded, np.array([], np.int64), lambda logits, items: logits).shape == (0,)


def test_padding_and_types(make):
    """Padding is the model's own; types are those of second texts where the model tells them apart."""
    inputs = (*INPUTS, "token_type_ids", "position_ids")
    encoded = replace(random_rows([5, 3]), second_starts=np.array([2, 3]))
    engine, _ = make("logits", inputs=inputs, config={"type_vocab_size": 2})
    feed, is_token = engine._padded(encoded)
    assert feed["input_ids"].tolist() == [encoded.row(0).tolist(), [*encoded.row(1).tolist(), PAD, PAD]]
    assert feed["attention_mask"].tolist() == is_token.astype(int).tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert feed["token_type_ids"].tolist() == [[0, 0, 1, 1, 1], [0] * 5]
    assert feed["position_ids"][0].tolist() == [2, 3, 4, 5, 6]  # those of XLM-R follow the padding index
    assert not make("logits", inputs=inputs)[0]._padded(encoded)[0]["token_type_ids"].any()
    engine, _ = make("logits", config={"type_vocab_size": 2})
    with pytest.raises(ValueError, match="no input token_type_ids"):
        engine.rows(encoded)


def test_languages_and_positions_of_the_original_xlm(make):
    engine, _ = make("logits", inputs=(*INPUTS, "langs", "position_ids"))
    engine.config = SimpleNamespace(
        model_type="xlm", pad_token_id=2, max_position_embeddings=64, max_length=64, vocab_size=100, hidden_size=8
    )
    engine.languages = (1, 2)
    feed, _ = engine._padded(replace(random_rows([5, 3]), second_starts=np.array([3, 3])))
    assert feed["langs"][0].tolist() == [1, 1, 1, 2, 2]
    assert feed["position_ids"][0].tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("word", POOLINGS[:-1])
@pytest.mark.parametrize("n_skipped", [0, 2, 50])
def test_pooling_in_numpy_is_that_of_torch(word, n_skipped):
    lengths = [7, 1, 2, 12]
    x = torch.randn(sum(lengths), 8, generator=torch.Generator().manual_seed(0))

    def encoder(ids, layout, **options):
        return SimpleNamespace(last_hidden_state=x, hidden_states=None, first=layout.first(x))

    expected = pool(encoder, torch.zeros(sum(lengths)), TokenLayout(lengths), word, [1], n_skipped)
    x_NSD = np.full((4, 12, 8), np.nan, np.float32)  # padding is never looked at
    for row, part in enumerate(x.split(lengths)):
        x_NSD[row, : lengths[row]] = part
    found = _arrays.pool_rows(x_NSD, np.array(lengths), (word,), n_skipped)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=2e-6)
    both = _arrays.pool_rows(x_NSD, np.array(lengths), (word, "cls"), n_skipped)
    np.testing.assert_array_equal(both[:, :8], found)


def test_readings_are_those_of_torch(make):
    rng = np.random.default_rng(0)
    logits, items = rng.normal(size=(9, 50)).astype(np.float32) * 10, np.arange(3, 12)
    logits[4, 7:20] = logits[4].max() + 1  # equal ones
    ours, theirs = make("vocabulary_logits")[0], Engine(torch.nn.Linear(1, 1), 1, None, "none")
    for n in (1, 5, 60):
        found = ours.best_tokens(n, 40)(logits, items)
        expected = theirs.best_tokens(n, 40)(torch.from_numpy(logits), items).numpy()
        assert found.shape == expected.shape and found.dtype == np.float64
        np.testing.assert_allclose(found[..., 0], expected[..., 0], rtol=1e-5)
        others = np.arange(9) != 4  # of equal ones, torch says nothing
        np.testing.assert_array_equal(found[others, :, 1], expected[others, :, 1])
    tokens = rng.integers(0, 50, (4, 6))
    expected = theirs.log_p_of(tokens)(torch.from_numpy(logits), items).numpy()
    np.testing.assert_allclose(ours.log_p_of(tokens)(logits, items), expected, rtol=0, atol=1e-5)


def test_bfloat16_in_numpy_is_that_of_torch():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**32, 100_000, dtype=np.uint32).view(np.float32)  # of all kinds, not-a-number included
    odd = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1 + 2**-8, 1 + 3 * 2**-8], np.float32)
    values = np.concatenate([values, odd])
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    np.testing.assert_array_equal((_rounded(values).astype(np.uint32) << 16).view(np.float32), expected)


# What features a graph has


def test_features_are_pooled_here_or_by_the_graph(make):
    encoded = random_rows(LENGTHS)
    means = np.array([mean_of(encoded.row(i)) for i in range(len(encoded))])
    for kinds in (("last_hidden_state",), ("token_embeddings",), ("sentence_embedding",)):
        engine, _ = make(*kinds)
        engine.module.sentence = sentence_of(WHOLE, [2], 0, False, False)
        np.testing.assert_allclose(engine.rows(encoded, engine.pooled(WHOLE, [2], 0, False)), means, atol=1e-6)


def test_the_pooler_is_that_of_the_graph(make):
    how, encoded = replace(WHOLE, pooling=("pooler",)), random_rows(LENGTHS)
    engine, _ = make("last_hidden_state", "pooler_output")
    engine.check_has_pooler()
    expected = [-mean_of(encoded.row(i)) for i in range(len(encoded))]
    np.testing.assert_allclose(engine.rows(encoded, engine.pooled(how, [2], 0, False)), expected, atol=1e-6)
    engine, _ = make("last_hidden_state")
    with pytest.raises(ValueError, match=r"model\.onnx was exported without the pooler: export it again"):
        engine.check_has_pooler()
    with pytest.raises(ValueError, match="of which these features can't be made"):
        engine.pooled(how, [2], 0, False)


@pytest.mark.parametrize(
    ("how", "layers", "n_skipped", "further"),
    [
        (replace(WHOLE, pooling=("max",)), [2], 0, False),
        (WHOLE, [1], 0, False),
        (WHOLE, [2], 3, False),
        (replace(WHOLE, layers=(Dense(8, 4),)), [2], 0, True),
        (replace(WHOLE, normalize=True), [2], 0, False),
        (replace(WHOLE, truncate_dim=4), [2], 0, False),
    ],
)
def test_other_features_than_those_of_the_graph_are_refused(make, how, layers, n_skipped, further):
    engine, _ = make("sentence_embedding")
    engine.module.sentence, engine.module.is_final = sentence_of(WHOLE, [2], 0, False, True), True
    with pytest.raises(ValueError, match="other features than the sentence_embedding"):
        engine.pooled(how, layers, n_skipped, further)


def test_vectors_of_unit_length_have_no_mean_over_windows(make):
    engine, _ = make("sentence_embedding")
    how = replace(WHOLE, normalize=True)
    engine.module.sentence = sentence_of(how, [2], 0, False, True)
    engine.module.is_final = engine.module.is_scaled = True
    run = engine.pooled(how, [2], 0, False)
    alone = replace(random_rows([5, 7]), row_of_window=np.array([0, 1]))
    engine.rows(alone, run, window_weights=np.ones(2))
    with pytest.raises(ValueError, match="windows"):
        engine.rows(replace(alone, row_of_window=np.array([0, 0])), run, window_weights=np.ones(2))


def test_what_the_graph_does_not_make_is_refused(make):
    engine, _ = make("logits")
    with pytest.raises(ValueError, match="makes logits, of which these features"):
        engine.pooled(WHOLE, [2], 0, False)
    with pytest.raises(CheckpointError, match="does not make last_hidden_state, only logits"):
        engine.rows(random_rows([3]), engine.first_vectors())


# Numbers, and what is kept


def test_outputs_that_are_no_numbers_are_refused(make):
    table = TABLE.copy()
    table[7] = np.nan
    engine, _ = make("logits", table=table)
    ids = np.array([0, 7, 2], np.int32)
    rows = EncodedBatch(ids, np.array([3]), np.zeros(1, np.int64))
    with pytest.raises(CheckpointError, match=r"model\.onnx: makes outputs that are not numbers"):
        engine.rows(rows)


def test_half_precision_outputs_become_float32(make):
    engine, _ = make("logits", half=True)
    encoded = random_rows(LENGTHS)
    found = engine.rows(encoded)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [mean_of(encoded.row(i)) @ HEAD for i in range(len(encoded))], atol=5e-3)


@pytest.mark.parametrize("on_disk", [False, True])
def test_outputs_are_kept_until_the_graph_changes(make, on_disk, tmp_path):
    cache = Cache(tmp_path / "cache" if on_disk else None)
    engine, shapes = make("logits", cache=cache)
    encoded = random_rows(LENGTHS)
    first = engine.rows(encoded, recipe=("logits",))
    n_run = len(shapes)
    np.testing.assert_array_equal(engine.rows(encoded, recipe=("logits",)), first)
    assert len(shapes) == n_run
    engine.rows(encoded, recipe=("others",))
    assert len(shapes) == 2 * n_run
    engine, shapes = make("logits", table=TABLE + 1, cache=cache)
    assert not np.allclose(engine.rows(encoded, recipe=("logits",)), first)
    engine, shapes = make("logits", cache=cache)  # the first graph again, in a new file
    np.testing.assert_array_equal(engine.rows(encoded, recipe=("logits",)), first)
    assert len(shapes) == (0 if on_disk else n_run)
    clear_cache()


def test_progress_counts_the_rows(make, monkeypatch, capsys):
    monkeypatch.setattr("skxlmr.inference._progress.PATIENCE", 0)
    engine, _ = make("logits", batch_size=16)
    engine.verbose = 1
    engine.rows(random_rows(LENGTHS).take([*range(9), 0]))
    assert capsys.readouterr().err.strip().splitlines()[-1].split("\r")[-1].startswith("rows 9/9")


def test_generate_needs_weights(make):
    with pytest.raises(ValueError, match=r"generate needs the weights in torch.*load"):
        make("vocabulary_logits")[0].generate([[0]], None)
