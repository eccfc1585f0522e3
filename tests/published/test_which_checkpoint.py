"""Every call on the page "Which checkpoint?", against a stand-in of the published folder on a stand-in of the hub."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import skxlmr
from skxlmr import CheckpointError, load, save
from tests import hub as stand_in_hub

transformers = pytest.importorskip("transformers")
pytest.importorskip("sentence_transformers")
pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")

from tests.published import references  # noqa: E402
from tests.published.bert_bodies import BERT_STAND_INS  # noqa: E402
from tests.published.checkpoints import CLOSED, XLM_STAND_INS  # noqa: E402
from tests.published.stand_ins import WIDTH  # noqa: E402

STAND_INS = {**XLM_STAND_INS, **BERT_STAND_INS}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "which_checkpoint.md"
LINK = re.compile(r"\[([^]]*)\]\(https://huggingface\.co/([^)]*)\)")
CODE = re.compile(r"`([^`]*)`")


@dataclass
class Row:
    """A row of a table: the name on the hub, and the other cells by their column."""

    name: str
    cells: dict[str, str]

    @property
    def call(self):
        (call,) = CODE.findall(self.cells["Call"])
        return call

    @property
    def prompts(self):
        """The texts and names in the column of prompts."""
        return [ast.literal_eval(code) for code in CODE.findall(self.cells.get("Prompts", ""))]


def read_page():
    """The rows with a call, by name; those that do not open apart."""
    opens, closed, columns = {}, {}, []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| Checkpoint"):
            columns = cells
        elif (found := LINK.fullmatch(cells[0])) is not None:
            assert found[2].endswith(f"/{found[1]}")
            (closed if "Why" in columns else opens)[found[2]] = Row(found[2], dict(zip(columns, cells, strict=True)))
    return opens, closed


ROWS, CLOSED_ROWS = read_page()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Write the folder of a name once."""
    root = tmp_path_factory.mktemp("published")

    def published(name):
        folder = root / name
        return folder if folder.exists() else {**STAND_INS, **CLOSED}[name].write(folder)

    return published


@pytest.fixture(scope="module")
def on_hub(tmp_path_factory, published):
    """Put the folder of a name on the stand-in of the hub; whatever is then opened by name is downloaded from there."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as monkeypatch, stand_in_hub.running(monkeypatch, cache) as hub:

        def put(name):
            folder = published(name)
            files = [file for file in folder.rglob("*") if file.is_file()]
            contents = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
            hub.repositories[name] = {"main": contents | {"README.md": b"A card.", "onnx/model.onnx": b"not ours"}}
            return folder

        yield put


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr("skxlmr.checkpoints._folder.flush", lambda path: None)
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def test_every_row_has_a_stand_in_and_every_stand_in_a_row():
    assert ROWS.keys() == STAND_INS.keys()
    assert CLOSED_ROWS.keys() == CLOSED.keys()
    assert len(ROWS) >= 20 and all(f'"{row.name}"' in row.call for row in (ROWS | CLOSED_ROWS).values())


def limit_of(estimator):
    return getattr(estimator, "max_length_", None) or estimator._limit()


@pytest.mark.filterwarnings("ignore")  # theirs, and about truncation
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_call_gives_what_others_give(on_hub, tmp_path, row):
    folder = on_hub(row.name)
    estimator = eval(row.call, vars(skxlmr).copy())
    expected_of = references.EXPECTED_OF.get(row.name, references.EXPECTED[type(estimator).__name__])
    found, expected = expected_of(folder, estimator)
    assert np.std(expected) > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert limit_of(estimator) == int(row.cells["Tokens"])
    if (pooling := row.cells.get("Pooling")) and hasattr(estimator, "pooling_"):
        assert pooling == estimator.pooling_ + ", unit length" * estimator.normalize_

    save(estimator, tmp_path / "saved")
    again = load(tmp_path / "saved")
    np.testing.assert_allclose(expected_of(tmp_path / "saved", again), [expected] * 2, rtol=0, atol=1e-5)

    for prompt in row.prompts:
        np.testing.assert_allclose(*expected_of(folder, estimator.set_params(prompt=prompt)), rtol=0, atol=1e-5)
    if "truncate_dim" in row.cells.get("Features", ""):
        np.testing.assert_allclose(*expected_of(folder, estimator.set_params(truncate_dim=8)), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_further_outputs(on_hub):
    """The files of bge-m3's other outputs are downloaded too; what they make is tested elsewhere."""
    on_hub("BAAI/bge-m3")
    words = skxlmr.XLMRobertaVectorizer("BAAI/bge-m3", output="sparse")
    tokens = skxlmr.XLMRobertaVectorizer("BAAI/bge-m3").fit(["a"]).transform_tokens(references.TEXTS[:2])
    assert words.fit_transform(references.TEXTS[:2]).nnz > 0
    assert {len(vector) for vectors in tokens for vector in vectors} == {WIDTH}


@pytest.mark.parametrize("row", CLOSED_ROWS.values(), ids=CLOSED_ROWS)
def test_what_does_not_open_says_why(on_hub, row):
    on_hub(row.name)
    (named,) = re.findall(r'"(\w+)"|`(\w+\.\w+)`', row.cells["Why"])
    with pytest.raises(CheckpointError, match="".join(named)):
        eval(row.call, vars(skxlmr).copy()).fit(["a text"])


@pytest.mark.filterwarnings("ignore")
def test_copies_of_a_checkpoint_that_name_the_wrong_tokenizer(tmp_path):
    """As the page says: an error here, every word unknown there; with another class both are right."""
    published = BERT_STAND_INS["sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"]
    folder = published.write(tmp_path / "copy")
    file = folder / "tokenizer_config.json"
    right = file.read_text()
    assert '"PreTrainedTokenizerFast"' in right
    file.write_text(right.replace("PreTrainedTokenizerFast", "BertTokenizer"))
    ids = transformers.AutoTokenizer.from_pretrained(folder)("the red house")["input_ids"]
    assert set(ids[1:-1]) == {3}  # <unk>
    for without in ("nothing", "sentencepiece.bpe.model"):
        (folder / without).unlink(missing_ok=True)
        with pytest.raises(CheckpointError, match="BertTokenizer"):
            skxlmr.XLMRobertaVectorizer(folder).fit(["a text"])
    file.write_text(right)
    vectorizer = skxlmr.XLMRobertaVectorizer(folder).fit(["a text"])
    np.testing.assert_allclose(*references.features(folder, vectorizer), rtol=0, atol=1e-5)
