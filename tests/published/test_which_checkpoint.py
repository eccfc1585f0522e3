"""Every call on the page "Which checkpoint?", against a stand-in of the published folder on a stand-in of the hub."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import skxlmr
from skxlmr import CheckpointError, load, save
from tests import hub as stand_in_hub

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
def published():
    """The stand-ins, and what other libraries make of them; imported here, not by all that collect tests."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("sentence_transformers")
    from tests.published import bert_bodies, checkpoints, references, stand_ins

    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    opening = {**checkpoints.XLM_STAND_INS, **bert_bodies.BERT_STAND_INS}
    yield SimpleNamespace(
        open=opening,
        closed=checkpoints.CLOSED,
        references=references,
        transformers=transformers,
        width=stand_ins.WIDTH,
    )
    transformers.logging.set_verbosity(before)


@pytest.fixture(scope="module")
def on_hub(tmp_path_factory, published):
    """Put the folder of a name on the stand-in of the hub; whatever is then opened by name is downloaded from there."""
    root, cache = tmp_path_factory.mktemp("published"), tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as monkeypatch, stand_in_hub.running(monkeypatch, cache) as hub:

        def put(name):
            folder = root / name
            if not folder.exists():
                (published.open | published.closed)[name].write(folder)
            files = [file for file in folder.rglob("*") if file.is_file()]
            contents = {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
            hub.repositories[name] = {"main": contents | {"README.md": b"A card.", "onnx/model.onnx": b"not ours"}}
            return folder

        yield put


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("skxlmr.checkpoints._folder.flush", lambda path: None)


def test_every_row_has_a_stand_in_and_every_stand_in_a_row(published):
    assert ROWS.keys() == published.open.keys()
    assert CLOSED_ROWS.keys() == published.closed.keys()
    assert len(ROWS) >= 20 and all(f'"{row.name}"' in row.call for row in (ROWS | CLOSED_ROWS).values())


def limit_of(estimator):
    return getattr(estimator, "max_length_", None) or estimator._limit()


@pytest.mark.filterwarnings("ignore")  # theirs, and about truncation
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_the_call_gives_what_others_give(on_hub, published, tmp_path, row):
    if row.call.startswith("XLMV"):
        pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
    folder = on_hub(row.name)
    estimator = eval(row.call, vars(skxlmr).copy())
    of_name, of_kind = published.references.EXPECTED_OF, published.references.EXPECTED
    expected_of = of_name.get(row.name, of_kind[type(estimator).__name__])
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
def test_further_outputs(on_hub, published):
    """The files of bge-m3's other outputs are downloaded too; what they make is tested elsewhere."""
    on_hub("BAAI/bge-m3")
    texts = published.references.TEXTS[:2]
    words = skxlmr.XLMRobertaVectorizer("BAAI/bge-m3", output="sparse")
    tokens = skxlmr.XLMRobertaVectorizer("BAAI/bge-m3").fit(["a"]).transform_tokens(texts)
    assert words.fit_transform(texts).nnz > 0
    assert {len(vector) for vectors in tokens for vector in vectors} == {published.width}


@pytest.mark.parametrize("row", CLOSED_ROWS.values(), ids=CLOSED_ROWS)
def test_what_does_not_open_says_why(on_hub, row):
    on_hub(row.name)
    (named,) = re.findall(r'"(\w+)"|`(\w+\.\w+)`', row.cells["Why"])
    with pytest.raises(CheckpointError, match="".join(named)):
        eval(row.call, vars(skxlmr).copy()).fit(["a text"])


@pytest.mark.filterwarnings("ignore")
def test_copies_of_a_checkpoint_that_name_the_wrong_tokenizer(published, tmp_path):
    """As the page says: an error here, every word unknown there; with another class both are right."""
    folder = published.open["sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"].write(tmp_path / "copy")
    file = folder / "tokenizer_config.json"
    right = file.read_text()
    assert '"PreTrainedTokenizerFast"' in right
    file.write_text(right.replace("PreTrainedTokenizerFast", "BertTokenizer"))
    ids = published.transformers.AutoTokenizer.from_pretrained(folder)("the red house")["input_ids"]
    assert set(ids[1:-1]) == {3}  # <unk>
    for without in ("nothing", "sentencepiece.bpe.model"):
        (folder / without).unlink(missing_ok=True)
        with pytest.raises(CheckpointError, match="BertTokenizer"):
            skxlmr.XLMRobertaVectorizer(folder).fit(["a text"])
    file.write_text(right)
    vectorizer = skxlmr.XLMRobertaVectorizer(folder).fit(["a text"])
    np.testing.assert_allclose(*published.references.features(folder, vectorizer), rtol=0, atol=1e-5)
