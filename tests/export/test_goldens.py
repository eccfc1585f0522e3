"""Graphs of checkpoints that transformers wrote give what it recorded, and of real texts the features of the estimator."""

import json

import numpy as np
import pytest
import torch

from skxlmr import TruncationWarning, XLMRobertaVectorizer, export_onnx
from skxlmr.checkpoints import read_model
from skxlmr.nn import family_of
from tests.export import graphs
from tests.export.test_export import padded, rows_of

RECORDED = {
    "mlm": "ForMaskedLM",
    "clm": "ForCausalLM",
    "seqcls": "ForSequenceClassification",
    "tokcls": "ForTokenClassification",
    "qa": "ForQuestionAnswering",
    "mc": "ForMultipleChoice",
}


class Tensors:
    """What `graphs.write` needs of a module: the tensors of a file."""

    def __init__(self, tensors):
        self.tensors = tensors

    def state_dict(self):
        return self.tensors


@pytest.mark.parametrize("kind", RECORDED)
def test_outputs_recorded_from_transformers(shared_data, tmp_path, kind):
    model = read_model(shared_data / "checkpoints" / kind)
    assert RECORDED[kind] in family_of(model.config).modules
    file = graphs.write(tmp_path, Tensors(model.tensors()), model.config, RECORDED[kind])
    recorded = dict(np.load(shared_data / "checkpoints" / kind / "golden.npz").items())
    ids, mask = (torch.from_numpy(recorded.pop(name)).long() for name in ("input_ids", "attention_mask"))
    flat = {"input_ids": ids.view(-1, ids.shape[-1]), "attention_mask": mask.view(-1, mask.shape[-1])}
    found, compared = graphs.run(file, flat), 0
    for name, values in found.items():
        ours = values.reshape(recorded[name].shape)
        real = mask.bool().numpy() if ours.shape[:2] == mask.shape else slice(None)
        np.testing.assert_allclose(ours[real], recorded[name][real], atol=1e-5, rtol=0)
        compared += 1
    assert compared == (2 if kind == "qa" else 1)


def test_real_texts_in_many_languages(shared_data, tmp_path):
    """Rows of very different lengths in one padded batch, with the checkpoint of the package."""
    with (shared_data / "rawtext" / "udhr.jsonl").open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file][::60]
    vectorizer = XLMRobertaVectorizer("skxlmr-mini", memory=None, normalize=True, max_length=128).fit(texts)
    export_onnx(vectorizer, tmp_path / "out")
    with pytest.warns(TruncationWarning, match="2 of 37 texts"):
        calls, features = rows_of(vectorizer, lambda: vectorizer.transform(texts))
    lengths = [n for _, layout in calls for n in layout.lengths]
    assert len(lengths) > 30 and min(lengths) < 20 and max(lengths) == 128
    file = tmp_path / "out" / "onnx" / "model.onnx"
    found = np.concatenate(
        [graphs.run(file, padded(*call, vectorizer.config_))["sentence_embedding"] for call in calls]
    )
    order = np.argsort(-(found @ features.T), axis=1)[:, 0]  # the engine sorts the rows
    assert sorted(order) == list(range(len(texts)))
    np.testing.assert_allclose(found, features[order], atol=1e-5, rtol=0)
