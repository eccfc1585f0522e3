"""What the folder says, unless parameters say something else: prompts, lengths, windows."""

import numpy as np
import pytest

from skxlmr import TruncationWarning
from tests.estimators.sequence.sentence_encoders.layouts import LABSE, TEXTS, ours, resolved, says
from tests.sentence_encoders import flags, write
from tests.tiny import sentences


def test_what_the_folder_says_and_what_the_parameters_say(arctic, tiny_checkpoint):
    with pytest.raises(AttributeError, match="pooling_ is known once the checkpoint is open"):
        _ = ours(arctic).pooling_
    vectorizer = ours(arctic).fit(["a"])
    assert resolved(vectorizer) == ("cls", True, None, 20)
    vectorizer.set_params(pooling=["max", "mean"], normalize=False, prompt="passage", max_length=30)
    assert resolved(vectorizer) == (("max", "mean"), False, "passage: ", 30)
    assert vectorizer.transform(["a"]).shape == (1, 64)
    assert resolved(ours(tiny_checkpoint).fit(["a"])) == ("mean", False, None, 64)  # which says nothing
    cut = ours(arctic, truncate_dim=7, normalize=True).fit(["a"])
    np.testing.assert_allclose(np.linalg.norm(cut.transform(TEXTS[:3]), axis=1), 1, atol=1e-6)
    assert cut.get_feature_names_out().tolist() == [f"xlmrobertavectorizer_{i}" for i in range(7)]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (
            {"prompt": "document"},
            r"prompt='document' is not the name of .* \(it has 'query', 'passage'\): .* 'document: '",
        ),
        ({"pooling": ["mean", "sum"]}, "pooling must be 'auto', or one or more of mean, cls"),
        ({"pooling": []}, "pooling must be 'auto'"),
        ({"truncate_dim": 33}, "truncate_dim=33 is more than the 32 features that there are"),
        ({"prompt": "query", "max_length": 4}, r"the prompt 'query: ' has \d+ tokens, and max_length=4 leaves no room"),
        ({"truncate_dim": 0}, "The 'truncate_dim' parameter"),
        ({"normalize": "yes"}, "The 'normalize' parameter"),
        ({"prompt": 3}, "The 'prompt' parameter"),
    ],
    ids=str,
)
def test_parameters_that_cannot_be(arctic, params, said):
    with pytest.raises(ValueError, match=said):
        ours(arctic, **params).fit(["a"])


def test_a_pooling_that_further_layers_cannot_take(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, layers=LABSE)
    with pytest.raises(ValueError, match="makes 64 features, but the checkpoint's layers after the pooling take 32"):
        ours(folder, pooling=["mean", "max"]).fit(["a"])
    plain = ours(tiny_checkpoint, layers=1).fit_transform(["a"])  # layers are for the vectors of the last layer
    np.testing.assert_allclose(ours(folder, layers=1, normalize=False).fit_transform(["a"]), plain, atol=1e-6)


def test_prompts_of_pairs_stand_before_the_first_text(arctic, tiny_checkpoint):
    pairs, prompted = [("the bird", "das Haus")], [("passage: the bird", "das Haus")]
    expected = ours(tiny_checkpoint, pooling="cls", normalize=True).fit_transform(prompted)
    np.testing.assert_allclose(ours(arctic, prompt="passage").fit_transform(pairs), expected, atol=1e-6)


def test_a_length_beyond_the_model_is_the_models(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, settings={"max_seq_length": 8192})
    assert ours(folder).fit(["a"]).max_length_ == 64
    with pytest.warns(TruncationWarning, match="longer than 64 tokens"):
        ours(folder).transform(TEXTS)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("include", [True, False])
def test_every_window_begins_with_the_prompt(tiny_checkpoint, tiny_tokenizer, tmp_path, pairs, include):
    layout = {"pooling": flags("mean", include_prompt=include), "prompts": says("query")}
    folder = write(tmp_path / "published", tiny_checkpoint, **layout)
    vectorizer = ours(folder, long_text="window", max_length=24, stride=2).fit([("a", "b")] if pairs else ["a"])
    seen = []
    vectorizer.module_.roberta.embeddings.register_forward_pre_hook(
        lambda _, args: seen.append((args[0], args[1].lengths))
    )
    short, long = "the bird", " ".join(sentences(5))
    X = [(short, "дом"), (long, "дом")] if pairs else [short, long]
    features = vectorizer.transform(X)
    prompt = tiny_tokenizer.encode_batch(["river: "]).ids[1:-1].tolist()
    rows = [row.tolist() for ids, lengths in seen for row in ids.split(lengths)]
    assert len(rows) > 3 and all(row[1 : 1 + len(prompt)] == prompt for row in rows) and max(map(len, rows)) == 24
    cut = ours(folder, max_length=24).fit(X[:1]).transform(X[:1])
    np.testing.assert_allclose(features[:1], cut, atol=1e-6)  # a text that fits is tokenised with its prompt
    coverage = vectorizer.coverage(X)
    assert coverage["coverage"].tolist() == [1, 1] and coverage["n_windows"].tolist() == [1, len(rows) - 1]
    n_long = (
        len(tiny_tokenizer.encode_batch([long]).ids) - 2 + pairs * len(tiny_tokenizer.encode_batch(["дом"]).ids[1:-1])
    )
    assert coverage["n_tokens"][1] == n_long
