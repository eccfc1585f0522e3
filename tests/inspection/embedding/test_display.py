"""Maps of vectors: where the points lie, how they look, and what is refused."""

import re
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skxlmr import XLMRobertaVectorizer
from skxlmr.inspection import EmbeddingDisplay
from skxlmr.inspection._embedding.categories import LOOKS, SHAPES, categories, color_at, colors, is_scale
from tests.contract import TEXTS

N = 40


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(N, 5)) * [3, 2, 1, 1, 1]


@pytest.fixture
def pyplot():
    pytest.importorskip("matplotlib", reason="needs the extra plot").use("Agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


def test_pca_and_its_shares(vectors):
    display = EmbeddingDisplay.from_embeddings(vectors)
    pca = PCA(2).fit(vectors)
    np.testing.assert_allclose(display.points, pca.transform(vectors), atol=1e-9)
    shares = [100 * share for share in pca.explained_variance_ratio_]
    assert display.axis_names == tuple(
        f"component {k} ({share:.1f} % of the variance)" for k, share in enumerate(shares, 1)
    )


def test_tsne_is_repeatable(vectors):
    display = EmbeddingDisplay.from_embeddings(vectors, method="tsne", random_state=0)
    expected = TSNE(2, perplexity=13, random_state=0).fit_transform(vectors.astype(np.float32))
    np.testing.assert_allclose(display.points, expected, rtol=1e-3, atol=1e-3)
    assert display.axis_names == ("t-SNE 1", "t-SNE 2")


def test_any_transformer_makes_the_points(vectors):
    display = EmbeddingDisplay.from_embeddings(vectors, method=TruncatedSVD(2, random_state=0))
    assert display.points.shape == (N, 2) and display.axis_names[0] == "TruncatedSVD 1"
    with pytest.raises(ValueError, match=r"method must make 2 columns of 40 rows, PCA made the shape \(40, 3\)"):
        EmbeddingDisplay.from_embeddings(vectors, method=PCA(3))


def test_umap_is_asked_for_where_it_is_missing(vectors, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ImportError, match="needs umap-learn, which is not installed: pip install umap-learn"):
        EmbeddingDisplay.from_embeddings(vectors, method="umap")


@pytest.mark.filterwarnings("ignore")  # of umap-learn and numba
@pytest.mark.slow
def test_umap(vectors):
    pytest.importorskip("umap", reason="needs umap-learn")
    a, b = (EmbeddingDisplay.from_embeddings(vectors, method="umap", random_state=0).points for _ in range(2))
    assert a.shape == (N, 2) and (a == b).all()


def test_estimators(tiny_checkpoint):
    frame = pd.DataFrame({"text": TEXTS, "language": ["en", "de", "ru", "el", "en", "de"], "y": [0, 1] * 3})
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint)
    features = vectorizer.fit_transform(frame["text"])
    display = EmbeddingDisplay.from_estimator(vectorizer, frame["text"], labels=frame["y"], groups=frame["language"])
    expected = EmbeddingDisplay.from_embeddings(features)
    np.testing.assert_allclose(display.points, expected.points, atol=1e-5)
    assert display.texts == TEXTS and (display.label_name, display.group_name) == ("y", "language")
    pipeline = make_pipeline(vectorizer, StandardScaler(), LogisticRegression()).fit(frame["text"], frame["y"])
    scaled = EmbeddingDisplay.from_embeddings(StandardScaler().fit_transform(features))
    np.testing.assert_allclose(EmbeddingDisplay.from_estimator(pipeline, TEXTS).points, scaled.points, atol=1e-4)
    search = GridSearchCV(pipeline, {"logisticregression__C": [1.0]}, cv=2).fit(frame["text"], frame["y"])
    np.testing.assert_allclose(EmbeddingDisplay.from_estimator(search, TEXTS).points, scaled.points, atol=1e-4)
    with pytest.raises(TypeError, match="LogisticRegression has no transform"):
        EmbeddingDisplay.from_estimator(LogisticRegression(), TEXTS)


def test_columns_of_X_by_name(vectors):
    frame = pd.DataFrame(vectors).assign(language=["de", "en"] * 20)
    numbers = make_pipeline(Numbers(), PCA(3)).fit(frame)
    display = EmbeddingDisplay.from_estimator(numbers, frame, groups="language")
    assert display.group_name == "language" and list(display.groups) == ["de", "en"] * 20
    assert display.texts is None and "<title>row 7</title>" in display.to_html()
    with pytest.raises(ValueError, match="labels='topic' is no column of X"):
        EmbeddingDisplay.from_estimator(numbers, frame, labels="topic")


class Numbers(StandardScaler):
    def fit(self, X, y=None, sample_weight=None):
        return super().fit(X.iloc[:, :5].to_numpy())

    def transform(self, X, copy=None):
        return super().transform(X.iloc[:, :5].to_numpy())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": np.zeros((0, 3))}, "embeddings has no rows"),
        ({"embeddings": np.zeros(3)}, r"embeddings must have the shape .n_points, n_features., got \(3,\)"),
        ({"embeddings": [["a"]]}, "embeddings must be a matrix of numbers"),
        ({"embeddings": [[0, 1], [np.nan, 2]]}, "embeddings row 1 has a value that is not finite"),
        ({"embeddings": np.zeros((3, 3)), "method": "tsne"}, "method='tsne' needs at least 4 points"),
        ({"embeddings": np.zeros((3, 1))}, "method='pca' needs at least 2 points of 2 features, got 3 of 1"),
        ({"embeddings": np.ones((40, 3)), "method": "tsne"}, "t-SNE needs vectors that differ, and all 40 are equal"),
        ({"embeddings": np.ones((40, 3)), "method": TSNE()}, "TSNE needs vectors that differ, and all 40 are equal"),
        ({"method": "mds"}, "method must be one of 'pca', 'tsne', 'umap' or a transformer, got 'mds'"),
        ({"labels": [1]}, "labels has 1 values, and there are 40 points"),
        ({"groups": "de"}, "groups must have a value for each of the 40 points, got the text 'de'"),
        ({"texts": ["a"] * 41}, "texts has 41 values"),
        ({"labels": ["a"] * 39 + [["a", "b"]]}, r"labels row 39: expected a name or a number, got \['a', 'b'\]"),
        ({"labels": [*range(39), np.inf]}, "labels row 39: a scale needs finite numbers, got inf"),
        ({"labels": np.zeros((40, 2))}, r"labels must have one dimension, got the shape \(40, 2\)"),
    ],
)
def test_bad_input_is_refused(vectors, change, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingDisplay.from_embeddings(**{"embeddings": vectors} | change)


def test_equal_vectors_lie_in_the_middle():
    display = EmbeddingDisplay.from_embeddings(np.ones((3, 4)))
    assert "(0.0 % of the variance)" in display.axis_names[0]
    assert display.to_html().count('transform="translate(500 360)"') == 3


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series(
            ["high", "low", None, "mid"], dtype=pd.CategoricalDtype(["low", "mid", "high", "none"], ordered=True)
        ),
        pd.Categorical(["high", "low", None, "mid"], ["low", "mid", "high"]),
        pl.Series(["high", "low", None, "mid"], dtype=pl.Enum(["low", "mid", "high"])),
    ],
    ids=["Series", "Categorical", "Enum"],
)
def test_categories_have_an_order(labels):
    marks = EmbeddingDisplay(np.eye(4, 2), labels=labels, groups=labels)._read()
    assert marks.labels.names == marks.groups.names == ["low", "mid", "high", "(missing)"]
    assert marks.labels.codes.tolist() == [2, 0, 3, 1]
    unordered = EmbeddingDisplay(
        np.eye(4, 2), labels=pl.Series(["high", "low", None, "mid"], dtype=pl.Categorical)
    )._read()
    assert unordered.labels.names == ["high", "low", "mid", "(missing)"]


def test_categories_and_their_colours():
    found = categories(["b", None, "a", np.nan, "b"], None)
    assert found.names == ["a", "b", "(missing)"] and found.codes.tolist() == [1, 2, 0, 2, 1]
    palette = colors(found.names)
    assert palette[2] == "#9a9a9a" and palette[0] == color_at(0)
    light = [
        np.dot([int(color_at(k / 10)[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114]) for k in range(11)
    ]
    assert (np.diff(light) > 8).all()  # in order also in greyscale
    matplotlib = pytest.importorskip("matplotlib", reason="needs the extra plot")
    for place in np.linspace(0, 1, 33):
        known = np.array(matplotlib.colormaps["viridis"](place)[:3]) * 255
        assert np.abs(known - [int(color_at(place)[i : i + 2], 16) for i in (1, 3, 5)]).max() < 6
    assert categories([3, "a"], None).names == ["3", "a"]
    assert is_scale(range(11)) and not is_scale(range(10)) and not is_scale(["1"] * 20) and not is_scale([None])


def test_the_rarest_of_many_groups_share_a_shape(vectors):
    groups = [*(f"g{k:02}" for k in range(26)), *(["big"] * 14)]
    page = EmbeddingDisplay.from_embeddings(vectors, groups=groups).to_html()
    assert page.count("<button") == len(LOOKS) == 24
    assert ">4 others<" in page and page.count('data-g="23"') == 4
    assert len({tuple(corners) for corners in SHAPES.values()}) == len(SHAPES) == 12


def test_pictures(vectors, pyplot):
    from matplotlib.colors import to_hex

    labels, groups = np.array(["b", "a"])[np.arange(N) % 2], np.array(["de", "العربية", "ru"])[np.arange(N) % 3]
    display = EmbeddingDisplay.from_embeddings(vectors, labels=labels, groups=groups)
    assert not hasattr(display, "ax_")
    assert display.plot() is display
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()][:4] == ["label", "a", "b", "group"]
    assert display.ax_.get_xlabel() == display.axis_names[0]
    drawn = np.concatenate([scatter.get_offsets() for scatter in display.scatters_])
    assert len(display.scatters_) == 6 and sorted(map(tuple, drawn)) == sorted(map(tuple, display.points))
    of_a_ru = display.points[(labels == "a") & (groups == "ru")]
    (found,) = [each for each in display.scatters_ if each.get_offsets().tolist() == of_a_ru.tolist()]
    assert {to_hex(color) for color in found.get_facecolors()} == {colors(["a", "b"])[0]}
    _, ax = pyplot.subplots()
    assert EmbeddingDisplay.from_embeddings(vectors, ax=ax).ax_ is ax
    assert ax.get_legend() is None


def test_labels_that_begin_with_an_underscore_are_in_the_legend(vectors, pyplot):
    """Before 3.10 matplotlib left them out."""
    display = EmbeddingDisplay.from_embeddings(vectors, labels=["_a", "b"] * (N // 2)).plot()
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert [label.strip() for label in labels] == ["label", "_a", "b"]
    assert not any(label.startswith("_") for label in labels)


def test_numbers_are_a_scale(vectors, pyplot):
    from matplotlib.colors import to_hex

    values = np.arange(N, dtype=float)
    values[3] = np.nan
    display = EmbeddingDisplay.from_embeddings(vectors, labels=pd.Series(values, name="price in $a$")).plot()
    assert display.figure_.axes[1].get_xlabel() == r"price in \$a\$"
    assert display.figure_.axes[1].get_xlim() == (0, N - 1)
    shown = [to_hex(color) for color in display.scatters_[0].get_facecolors()]
    assert shown == ["#9a9a9a" if np.isnan(value) else color_at(value / (N - 1)) for value in values]
    page = display.to_html()
    assert 'data-v="missing"' in page and 'data-v="39"' in page and "<button" not in page


def test_a_page_holds_nothing_that_a_text_could_run(vectors):
    text = '</title><script>alert("x")</script>&amp;'
    page = EmbeddingDisplay.from_embeddings(
        vectors, texts=[text] * N, labels=[text] * N, groups=[f"{text}{k}" for k in range(N)]
    ).to_html()
    assert page.count("<script") == 1 and "alert(" in page and not re.search(r"(src|href)\s*=", page)


def test_halves_of_surrogate_pairs_can_be_written(vectors, tmp_path):
    torn = "a \ud83d b"
    display = EmbeddingDisplay.from_embeddings(vectors, texts=[torn] * N, labels=[torn] * N)
    display.to_html(tmp_path / "map.html")
    assert (tmp_path / "map.html").read_text("utf-8").count("a \ufffd b") == N + 1


def test_long_texts_are_cut_and_say_so(vectors):
    page = EmbeddingDisplay.from_embeddings(vectors[:2], texts=["a" * 700, "b"]).to_html()
    assert "a" * 600 + "… (700 characters)" in page and "a" * 601 not in page


def test_a_category_called_missing_is_that_of_missing_values():
    found = categories(["(missing)", None, "a", np.nan], None)
    assert found.names == ["a", "(missing)"] and found.codes.tolist() == [1, 1, 0, 1]
    days = np.array(["2026-01-01", "NaT"], "datetime64[D]")
    assert categories(list(days), None).names == ["2026-01-01", "(missing)"]
    assert "<title>(missing)</title>" in EmbeddingDisplay([[0, 1], [1, 0]], texts=["a", None]).to_html()


def test_large_numbers_of_a_scale_have_all_digits():
    page = EmbeddingDisplay(np.zeros((12, 2)), labels=[20260101 + k for k in range(11)] + [0.125]).to_html()
    assert 'data-v="20260103"' in page and 'data-v="0.125"' in page and "</span> 20260111</div>" in page
