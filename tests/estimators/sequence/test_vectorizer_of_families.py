"""Features of each family of models: layers against transformers, poolings against sentence-transformers."""

import numpy as np
import pytest
import torch

from skxlmr import CheckpointError, XLMRobertaMaskedLM, XLMRobertaVectorizer, save
from skxlmr.checkpoints import read_model, write_folder
from skxlmr.nn import FAMILIES, XLMConfig
from tests.estimators.conftest import padded
from tests.sentence_encoders import flags, write
from tests.tiny import sentences, write_checkpoint

TEXTS = [*sentences(6), "", "a b " * 40]
MODEL_TYPES = ["xlm-roberta", "xlm-roberta-xl", "bert", "distilbert"]


@pytest.fixture(scope="module", params=MODEL_TYPES)
def checkpoint(request, tmp_path_factory, tiny_tokenizer):
    """Of three layers, 32 wide, with XLM-R's vocabulary."""
    folder = tmp_path_factory.mktemp(request.param) / "checkpoint"
    write_checkpoint(folder, tiny_tokenizer, model_type=request.param, num_hidden_layers=3, pad_token_id=1)
    tiny_tokenizer.save_conversion(folder)  # transformers reads the tokenizer of some types from this file only
    return folder


def test_every_family_is_here():
    known = {family.name for family in FAMILIES.values() if family.config is not XLMConfig}
    assert {FAMILIES[model_type].name for model_type in MODEL_TYPES} == known


@pytest.mark.filterwarnings("ignore::skxlmr.TruncationWarning")
def test_layers_are_the_hidden_states_of_the_reference(checkpoint, reference):
    """With layer norms before each half of a layer, only the last one is normalised."""
    vectorizer = XLMRobertaVectorizer(checkpoint, pooling="mean", dtype="float32").fit(TEXTS)
    rows = padded(vectorizer.tokenizer_, TEXTS, max_length=64)
    with torch.no_grad():
        states = reference("AutoModel", checkpoint)(**rows, output_hidden_states=True).hidden_states
    mask = rows["attention_mask"][..., None]
    for layers in (-1, 3, 2, 1, 0, -3, [1, -1], [0, 1, 2, 3]):
        wanted = [states[i] for i in ([layers] if isinstance(layers, int) else layers)]
        expected = torch.cat([(x * mask).sum(1) / mask.sum(1) for x in wanted], 1)
        found = vectorizer.set_params(layers=layers).transform(TEXTS)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=str(layers))


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize(
    "words", [["mean"], ["cls", "max"], ["weightedmean", "lasttoken"], ["mean_sqrt_len_tokens"]], ids=str
)
def test_poolings_are_those_of_sentence_transformers(checkpoint, tmp_path, words):
    theirs = pytest.importorskip("sentence_transformers")
    settings = {"max_seq_length": 20, "do_lower_case": False}
    write(tmp_path / "theirs", checkpoint, flags(*words), [("Normalize", {})], settings)
    vectorizer = XLMRobertaVectorizer(tmp_path / "theirs", dtype="float32").fit(TEXTS)
    assert (vectorizer.normalize_, vectorizer.max_length_) == (True, 20)
    save(vectorizer, tmp_path / "ours")
    for folder in ("theirs", "ours"):
        expected = theirs.SentenceTransformer(str(tmp_path / folder), device="cpu").encode(TEXTS)
        np.testing.assert_allclose(vectorizer.transform(TEXTS), expected, atol=1e-5, err_msg=folder)


def test_advice_where_the_checkpoint_lacks_a_head(tiny_checkpoint, tmp_path):
    """Only where a fit trains the head is that the advice."""
    stored = read_model(tiny_checkpoint)
    tensors = {name: each for name, each in stored.tensors().items() if "pooler" not in name and "lm_head" not in name}
    folder = tmp_path / "encoder"
    write_folder(folder, config=stored.raw, tensors=tensors, tokenizer=stored.tokenizer())
    vectorizer = XLMRobertaVectorizer(folder, pooling="pooler")
    for open_it in (vectorizer.fit, vectorizer.transform):
        with pytest.raises(
            CheckpointError, match=r"missing .*\); the checkpoint has no pooler: choose another pooling$"
        ):
            open_it(TEXTS)
    with pytest.raises(CheckpointError, match=r"these are the whole head, which fit can train from scratch$"):
        XLMRobertaMaskedLM.from_checkpoint(folder)
