"""bge-m3's further outputs: weights of words in a sparse matrix, and vectors of tokens."""

import copy
import pickle
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union

from skxlmr import CheckpointError, TruncationWarning, XLMRobertaVectorizer, convert, datasets, load, save
from skxlmr.checkpoints import content_hash
from skxlmr.datasets import load_reviews
from skxlmr.text import load_tokenizer
from tests import adapters
from tests.estimators.sequence.sentence_encoders import m3
from tests.estimators.sequence.sentence_encoders.layouts import NORMALIZE, QUERY, TEXTS, ours
from tests.sentence_encoders import add_outputs, flags, write
from tests.tiny import sentences, write_checkpoint
from tests.tiny_wordpiece import write_files

SHORT = [*TEXTS[:-1], "the The the", "漢字 the"]
N_VECTORS = 24
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def published(tiny_checkpoint, tmp_path_factory):
    """Laid out as bge-m3: the first token's vector, scaled to unit length, and two layers beside the model."""
    folder = tmp_path_factory.mktemp("m3") / "published"
    settings = {"max_seq_length": 8192, "do_lower_case": False}
    write(folder, tiny_checkpoint, pooling=flags("cls"), layers=NORMALIZE, settings=settings)
    return add_outputs(folder, N_VECTORS)


@pytest.fixture(scope="module")
def states(published):
    pytest.importorskip("transformers")
    return m3.hidden_states(published, m3.rows_of(published, SHORT)[0])


def far(a, b):
    return a.shape != b.shape or np.abs(a - b).max() > 1e-2


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_both_equal_their_formulas(published, states, precision):
    vectorizer = ours(published, output="sparse").fit(SHORT)
    vectorizer.module_.to(precision)
    found, expected = vectorizer.transform(SHORT), m3.lexical(published, states, 302)
    assert found.format == "csr" and found.has_sorted_indices and found.data.min() > 0
    close = CLOSE if precision == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(found.toarray(), expected, **close)
    np.testing.assert_allclose((found[:3] @ found.T).toarray(), expected[:3] @ expected.T, **close)
    tokens = vectorizer.transform_tokens(SHORT)
    for ours_TE, theirs_TE in zip(tokens, m3.vectors(published, states), strict=True):
        np.testing.assert_allclose(ours_TE, theirs_TE, **close)
    if precision == torch.float32:
        assert found.dtype == tokens[0].dtype == np.float32 and tokens[0].shape[1] == N_VECTORS


@pytest.mark.parametrize("fault", m3.FAULTS)
def test_faults_would_show(published, states, fault):
    lexical, vectors = m3.lexical(published, states, 302), np.concatenate(m3.vectors(published, states))
    faulty = m3.lexical(published, states, 302, fault), np.concatenate(m3.vectors(published, states, fault))
    assert [far(lexical, faulty[0]), far(vectors, faulty[1])] == [fault in m3.FAULTS[:3], fault in m3.FAULTS[3:]]


def test_of_a_long_text_all_windows_count(published):
    text = TEXTS[-1]
    rows, input_rows = m3.rows_of(published, ["the", text], stride=5)
    assert len(rows) > 2
    states = m3.hidden_states(published, rows)
    expected = m3.lexical(published, states, 302)
    vectorizer = ours(published, output="sparse", long_text="window", stride=5)
    found = vectorizer.transform(["the", text]).toarray()
    np.testing.assert_allclose(found, [expected[0], expected[1:].max(axis=0)], **CLOSE)
    tokens = vectorizer.transform_tokens(["the", text, text])
    vectors = m3.vectors(published, states)
    np.testing.assert_allclose(tokens[1], np.concatenate(vectors[1:]), **CLOSE)
    np.testing.assert_array_equal(tokens[1], tokens[2])
    assert input_rows.tolist() == [0, *[1] * (len(rows) - 1)]


def test_prompts_and_lengths_are_read_as_for_dense_features(tiny_checkpoint, published, tmp_path):
    folder = write(tmp_path / "prompts", tiny_checkpoint, prompts=QUERY, settings={"max_seq_length": 9})
    add_outputs(folder, N_VECTORS)
    prompted = ours(folder, output="sparse", prompt="query")
    plain = ours(published, output="sparse", max_length=9)
    with pytest.warns(match="longer than 9 tokens"):
        found, expected = prompted.transform(SHORT), plain.transform([f"query: {text}" for text in SHORT])
    assert abs(found - expected).max() < 1e-6


def test_pairs_and_columns(published):
    pairs = [("the bird", "das Haus"), ("a river", "das Haus")]
    vectorizer = ours(published, output="sparse")
    together = vectorizer.fit_transform(pairs)
    assert together.shape == (2, 302) and together[:, :4].nnz == 0
    assert [len(v) for v in vectorizer.transform_tokens(pairs)] == [
        len(row) - 1 for row in m3.rows_of_pairs(published, pairs)
    ]
    apart = ours(published, output="sparse", pairs=False).fit(pairs)
    expected = [
        ours(published, output="sparse").fit_transform(list(column)).toarray() for column in zip(*pairs, strict=True)
    ]
    np.testing.assert_allclose(apart.transform(pairs).toarray(), np.hstack(expected), atol=1e-6)
    names = apart.get_feature_names_out()
    assert len(set(names)) == 604 and names[302:304].tolist() == [
        "xlmrobertavectorizer1_<s>",
        "xlmrobertavectorizer1_<pad>",
    ]
    with pytest.raises(ValueError, match="transform_tokens takes one column of texts or pairs, got 2 columns"):
        apart.transform_tokens(pairs)


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_other_bodies_make_them_too(tmp_path, model_type):
    (tmp_path / "files").mkdir()
    tokenizer = load_tokenizer(write_files(tmp_path / "files", model_type=model_type, model_max_length=64))
    sizes = {"vocab_size": tokenizer.vocab_size + 3, "max_position_embeddings": 64}
    folder = write_checkpoint(tmp_path / "checkpoint", tokenizer, model_type=model_type, **sizes)
    add_outputs(folder, N_VECTORS)
    states = m3.hidden_states(folder, m3.rows_of(folder, SHORT)[0])
    vectorizer = ours(folder, output="sparse")
    expected = m3.lexical(folder, states, tokenizer.vocab_size, unused=[0, 1, 2, 3])  # [PAD], [UNK], [CLS], [SEP]
    np.testing.assert_allclose(vectorizer.transform(SHORT).toarray(), expected, **CLOSE)
    found = np.concatenate(vectorizer.transform_tokens(SHORT))
    np.testing.assert_allclose(found, np.concatenate(m3.vectors(folder, states)), **CLOSE)


def test_an_adapter_has_the_layers_of_its_base(published, tmp_path):
    pytest.importorskip("transformers")
    adapter = adapters.write(tmp_path / "adapter", published)
    vectorizer = ours(adapter, output="sparse").fit(SHORT)
    save(vectorizer, tmp_path / "saved")
    states = m3.hidden_states(tmp_path / "saved", m3.rows_of(published, SHORT)[0])
    expected = m3.lexical(published, states, 302)
    assert far(expected, ours(published, output="sparse").transform(SHORT).toarray())
    convert(adapter, tmp_path / "converted")
    for folder in (adapter, tmp_path / "saved", tmp_path / "converted"):
        found = ours(folder, output="sparse").fit(SHORT)
        found.module_.double()  # in float32 the adapter's random weights amplify rounding
        np.testing.assert_allclose(found.transform(SHORT).toarray(), expected, rtol=1e-9, atol=1e-9)
        tokens = np.concatenate(found.transform_tokens(SHORT))
        np.testing.assert_allclose(tokens, np.concatenate(m3.vectors(published, states)), **CLOSE)


def test_equal_texts_run_once_and_others_do_not_matter(published):
    vectorizer = ours(published, output="sparse").fit(SHORT)
    seen = []
    vectorizer.module_.roberta.embeddings.register_forward_pre_hook(lambda _, args: seen.append(len(args[1].lengths)))
    twice = vectorizer.transform([*SHORT, *SHORT])
    assert sum(seen) == len(set(SHORT)) and (twice[: len(SHORT)] != twice[len(SHORT) :]).nnz == 0
    alone = np.vstack([vectorizer.transform([text]).toarray() for text in SHORT])
    np.testing.assert_allclose(twice[: len(SHORT)].toarray(), alone, atol=1e-5)
    assert vectorizer.transform([]).shape == (0, 302) and vectorizer.transform_tokens([]) == []


def test_names_are_pieces(published):
    vectorizer = ours(published, output="sparse").fit(SHORT)
    names = vectorizer.get_feature_names_out()
    assert len(set(names)) == 302 and names[:5].tolist() == ["<s>", "<pad>", "</s>", "<unk>", "▁"]
    row = vectorizer.transform(["house house"])
    assert {name.replace("▁", "") for name in names[row.indices]} <= {
        "",
        *"house",
        "ho",
        "us",
        "use",
        "house",
        "se",
        "ou",
    }


def test_in_pipelines_and_searches(published):
    import pandas as pd

    texts, y = sentences(12), [0, 1] * 6
    model = make_pipeline(ours(published), LogisticRegression())
    search = GridSearchCV(model, {"xlmrobertavectorizer__output": ["dense", "sparse"]}, cv=2).fit(texts, y)
    assert search.predict(texts[:3]).shape == (3,)
    both = make_union(ours(published), ours(published, output="sparse"))
    assert both.fit_transform(texts).shape == (12, 32 + 302)
    frame = pd.DataFrame({"review": texts, "n": range(12)})
    columns = ColumnTransformer([("text", ours(published, output="sparse"), "review"), ("n", "passthrough", ["n"])])
    made = columns.fit_transform(frame)
    assert made.shape == (12, 303) and columns.get_feature_names_out()[:2].tolist() == ["text__<s>", "text__<pad>"]
    with sklearn.config_context(sparse_interface="sparray"):
        assert isinstance(ours(published, output="sparse").fit_transform(texts), __import__("scipy").sparse.csr_array)
    with pytest.raises(ValueError, match=r"sparse matrix, and set_output\(transform='pandas'\) asks for a table"):
        ours(published, output="sparse").set_output(transform="pandas").fit_transform(texts)


@pytest.mark.parametrize(
    "params",
    [{"pooling": "mean"}, {"pooling": ["cls"]}, {"layers": 1}, {"normalize": True}, {"truncate_dim": 7}],
    ids=str,
)
def test_parameters_of_dense_features_are_refused(published, params):
    (name,) = params
    vectorizer = ours(published, output="sparse", **params)
    for method in (
        vectorizer.fit,
        vectorizer.transform,
        ours(published, **params).fit(["a"]).set_params(output="sparse").transform,
    ):
        with pytest.raises(ValueError, match=rf"{name}=.* is for output='dense'"):
            method(["a"])
    with pytest.raises(ValueError, match="The 'output' parameter"):
        ours(published, output="colbert").fit(["a"])


def test_one_that_was_opened_makes_all_outputs(published):
    expected = ours(published, output="sparse").fit(["a"]).transform(SHORT)
    for vectorizer in (ours(published), ours(published).fit(["a"])):
        dense = vectorizer.transform(SHORT)
        module = vectorizer.module_
        assert not hasattr(module, "sparse_linear")
        assert (vectorizer.set_params(output="sparse").transform(SHORT) != expected).nnz == 0
        vectorizer.transform_tokens(["a"])
        np.testing.assert_array_equal(vectorizer.set_params(output="dense").transform(SHORT), dense)
        assert vectorizer.module_ is module


def test_half_precision(tiny_checkpoint, published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "half")
    add_outputs(folder, N_VECTORS, torch.float16)  # as published
    expected = ours(published, output="sparse").transform(SHORT)
    assert 0 < abs(ours(folder, output="sparse").transform(SHORT) - expected).max() < 0.01
    vectorizer = XLMRobertaVectorizer(folder, output="sparse", dtype="bfloat16", device="cpu")
    found = vectorizer.transform(SHORT)
    assert found.dtype == np.float32 and 0 < abs(found - expected).max() < 0.2
    tokens = vectorizer.transform_tokens(SHORT)
    assert tokens[0].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(tokens[0], axis=1), 1, atol=1e-6)


def test_their_layers_are_read_again_in_a_precision_that_is_set_after_fit(published):
    made = XLMRobertaVectorizer(published, output="sparse", dtype="bfloat16", device="cpu").fit(SHORT)
    made.transform_tokens(SHORT)  # reads the other layer too
    expected = outputs(ours(published, output="sparse").fit(SHORT))
    assert_same_outputs(made.set_params(dtype="float32"), expected)


# Files ------------------------------------------------------------------------------------------------------------------


def outputs(vectorizer):
    """What all three outputs of a vectorizer are."""
    params = vectorizer.get_params()
    made = [vectorizer.set_params(output=output).transform(SHORT) for output in ("dense", "sparse")]
    made += vectorizer.transform_tokens(SHORT)
    vectorizer.set_params(**params)
    return [array.toarray() if hasattr(array, "toarray") else array for array in made]


def assert_same_outputs(vectorizer, expected, atol=0.0):
    for found, wanted in zip(outputs(vectorizer), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("output", ["dense", "sparse"])
def test_copies_pickles_and_saved_folders_make_the_same(published, tmp_path, output):
    expected = outputs(ours(published))
    vectorizer = ours(published, output=output).fit(SHORT)
    assert_same_outputs(copy.deepcopy(vectorizer), expected)
    assert_same_outputs(clone(vectorizer).fit(["a"]), expected)
    packed = pickle.dumps(vectorizer)
    assert len(packed) < 20_000  # the weights are the checkpoint's
    assert_same_outputs(pickle.loads(packed), expected)
    vectorizer.set_params(store_weights_in_pickle=True)
    assert_same_outputs(pickle.loads(pickle.dumps(vectorizer)), expected)
    save(vectorizer.set_params(store_weights_in_pickle=False), tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.output == output
    assert_same_outputs(again, expected)
    save(again, tmp_path / "saved")  # replaces itself
    assert_same_outputs(ours(tmp_path / "saved"), expected)
    save(again, tmp_path / "half", dtype="bfloat16")
    assert torch.load(tmp_path / "half" / "colbert_linear.pt", weights_only=True)["weight"].dtype == torch.bfloat16
    assert_same_outputs(load(tmp_path / "half"), expected, atol=0.2)


@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_converted_folders_keep_them(tiny_checkpoint, tmp_path, place):
    folder = add_outputs(write(tmp_path / "published", tiny_checkpoint, place=place, form="bin"))
    convert(folder, tmp_path / "converted", "safetensors")
    assert_same_outputs(ours(tmp_path / "converted"), outputs(ours(folder)), atol=1e-6)


def test_dense_features_do_without_them(published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "broken")
    (folder / "sparse_linear.pt").write_bytes(b"no tensors")
    vectorizer = ours(folder).fit(SHORT)
    np.testing.assert_array_equal(vectorizer.transform(SHORT), ours(published).transform(SHORT))
    for method in (ours(folder, output="sparse").fit, vectorizer.set_params(output="sparse").transform):
        with pytest.raises(CheckpointError, match=r"sparse_linear\.pt: is not a PyTorch file"):
            method(["a"])
    with pytest.raises(CheckpointError, match=r"sparse_linear\.pt: is not a PyTorch file"):
        save(vectorizer.set_params(output="dense"), tmp_path / "saved")  # would lose it


def test_what_was_read_does_not_need_the_checkpoint(published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "copy")
    expected, vectorizer = outputs(ours(folder)), ours(folder, output="sparse").fit(SHORT)
    vectorizer.transform_tokens(["a"])
    save(vectorizer, tmp_path / "saved")
    loaded, dense = load(tmp_path / "saved"), ours(folder).fit(SHORT)
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "saved")
    assert_same_outputs(vectorizer, expected)
    np.testing.assert_array_equal(loaded.transform(SHORT).toarray(), expected[1])
    with pytest.raises(
        CheckpointError, match=r"is gone or was changed since it was opened, and its colbert_linear\.pt was not"
    ):
        loaded.transform_tokens(SHORT)
    with pytest.warns(UserWarning, match=r"its (sparse|colbert)_linear\.pt was not read: it is lost"):
        save(dense, tmp_path / "again")
    assert not list((tmp_path / "again").glob("*.pt"))


def test_their_files_are_a_part_of_the_checkpoint(tiny_checkpoint, published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "copy")
    vectorizer, digest = ours(folder, output="sparse").fit(SHORT), content_hash(folder)
    packed, dense = pickle.dumps(vectorizer), ours(folder).fit(SHORT)
    save(vectorizer, tmp_path / "saved")
    add_outputs(folder, N_VECTORS, torch.float16)
    assert content_hash(folder) != digest
    with pytest.raises(CheckpointError, match="content hash"):
        pickle.loads(packed)
    with pytest.raises(CheckpointError, match=r"its colbert_linear\.pt was not read: fit again"):
        dense.transform_tokens(["a"])
    (tmp_path / "saved" / "colbert_linear.pt").write_bytes(b"another")
    with pytest.raises(CheckpointError, match=r"colbert_linear\.pt: is not what save wrote"):
        load(tmp_path / "saved")
    save(ours(tiny_checkpoint).fit(["a"]), folder)  # takes the place of them all
    assert not list(folder.glob("*.pt"))
    add_outputs(folder)
    with pytest.raises(CheckpointError, match=r"_linear\.pt: would be read, but save did not write it"):
        load(folder)


def test_a_folder_without_them(tiny_checkpoint):
    vectorizer = ours(tiny_checkpoint, output="sparse")
    for method in (vectorizer.fit, vectorizer.transform):
        with pytest.raises(
            CheckpointError, match=r"has no sparse_linear\.pt, a layer that makes weights of words: .* BAAI/bge-m3"
        ):
            method(["a"])
    with pytest.raises(CheckpointError, match=r"has no colbert_linear\.pt, a layer that makes vectors of tokens"):
        ours(tiny_checkpoint).transform_tokens(["a"])


def test_the_page_about_hybrid_search_runs(published, monkeypatch, capsys):
    pages = Path(__file__).resolve().parents[4] / "docs"
    source = (pages / "hybrid_search.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", source, re.DOTALL)
    assert len(blocks) == 4
    reviews = load_reviews()
    reviews.frame = reviews.frame.head(12)
    monkeypatch.setattr(datasets, "load_reviews", lambda: reviews)
    namespace = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the tiny model reads 64 tokens
        for block in blocks:
            exec(block.replace("BAAI/bge-m3", str(published)), namespace)
    assert capsys.readouterr().out.splitlines()[0] == "(2, 12) (2, 12) (2, 12)"
    assert len(set(namespace["ranked"].tolist())) == 12
