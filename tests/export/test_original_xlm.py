"""Checkpoints of the original XLM as others write them: beams of any width, summaries without weights, causal models."""

import json

import numpy as np
import pytest
import torch

import skxlmr.nn
from skxlmr import CheckpointError, XLMClassifier, XLMMaskedLM, export_onnx, load_onnx
from skxlmr.checkpoints import read_tensors, write_folder
from skxlmr.nn import FAMILIES
from tests.contract import TEXTS
from tests.export import graphs
from tests.tiny import write_xlm_checkpoint, xlm_tokenizer


@pytest.fixture
def tokenizer():
    return xlm_tokenizer(model_max_length=64, lang2id={"de": 0, "en": 1})


def with_head(folder, tokenizer, head, *arguments, **config):
    """A module with this head, of random weights, and the folder of its checkpoint."""
    raw = json.loads((write_xlm_checkpoint(folder / "xlm", tokenizer) / "config.json").read_text()) | config
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = getattr(skxlmr.nn, f"XLM{head}")(FAMILIES["xlm"].config.from_dict(raw), *arguments).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    raw["architectures"] = [f"XLM{head}"]
    write_folder(folder / "source", config=raw, tensors=module.state_dict(), tokenizer=tokenizer)
    return module, folder / "source"


def run(folder, inputs):
    export_onnx(folder, folder.parent / "out")
    return graphs.run(folder.parent / "out" / "onnx" / "model.onnx", inputs)


@pytest.mark.parametrize(("n_starts", "n_ends"), [(3, 2), (8, 1), (50, 60)])
def test_beams_are_as_wide_as_the_config_says(tmp_path, tokenizer, n_starts, n_ends):
    module, folder = with_head(tmp_path, tokenizer, "ForQuestionAnswering", start_n_top=n_starts, end_n_top=n_ends)
    inputs = graphs.batch(module.transformer.config, lengths=(9, 9))
    with torch.no_grad():
        expected = module(**inputs)
    found = run(folder, inputs)
    assert found["start_top_index"].shape == (2, min(n_starts, 9))
    np.testing.assert_array_equal(found["start_top_index"], expected.starts_NK)
    np.testing.assert_array_equal(found["end_top_index"], expected.ends_NEK.flatten(1))
    np.testing.assert_allclose(found["start_top_log_probs"], expected.start_proba_NK, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["end_top_log_probs"], expected.end_proba_NEK.flatten(1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["cls_logits"], expected.no_answer_N, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["start_n_top", "end_n_top"])
@pytest.mark.parametrize("width", [0, -1, "3", 3.0, True])
def test_a_beam_has_a_width(name, width):
    """Only where there is a search: other models read the file."""
    config = skxlmr.nn.XLMConfig.from_dict(
        {"model_type": "xlm", "vocab_size": 9, "emb_dim": 32, "n_layers": 1, "n_heads": 2, name: width}
    )
    skxlmr.nn.XLMForMaskedLM(config)
    with pytest.raises(ValueError, match=f"{name} must be a whole number from 1 on, got {width!r}"):
        skxlmr.nn.XLMForQuestionAnswering(config)


def test_no_width_is_five():
    assert skxlmr.nn.XLMConfig(extra={"start_n_top": None, "end_n_top": 100_000}).beam == (5, 100_000)


def test_a_summary_without_weights(tmp_path, tokenizer):
    module, folder = with_head(tmp_path, tokenizer, "ForMultipleChoice", 32, summary_use_proj=False)
    assert not any("summary" in name for name in read_tensors(folder))
    inputs = graphs.batch(module.transformer.config, lengths=(9, 6))
    with torch.no_grad():
        expected = module(**inputs)
    np.testing.assert_allclose(run(folder, inputs)["logits"][:, 0], expected, rtol=0, atol=1e-5)


def foreign(estimator, folder):
    """The folder of an exported estimator as other tools write it."""
    export_onnx(estimator, folder)
    (folder / "skxlmr.json").unlink()
    return folder


@pytest.mark.parametrize("is_foreign", [True, False])
def test_an_objective_that_the_graph_is_not_for_is_refused(tmp_path, tokenizer, is_foreign):
    for name in ("mlm", "clm"):
        write_xlm_checkpoint(tmp_path / name, tokenizer, causal=name == "clm")
    lms = {name: XLMMaskedLM.from_checkpoint(tmp_path / name, objective=name) for name in ("mlm", "clm")}
    write = foreign if is_foreign else export_onnx
    for name, lm in lms.items():
        write(lm, tmp_path / f"{name}-onnx")
        loaded = load_onnx(tmp_path / f"{name}-onnx", objective=name)
        np.testing.assert_allclose(loaded.score_samples(TEXTS), lm.score_samples(TEXTS), rtol=1e-5)
    with pytest.raises(ValueError, match="predicts from the tokens before, but the graph looks at later ones too"):
        load_onnx(tmp_path / "mlm-onnx", objective="clm")
    with pytest.raises(ValueError, match="objective='mlm' looks at later tokens, but the graph is causal: pass 'clm'"):
        load_onnx(tmp_path / "clm-onnx", objective="mlm")
    with pytest.raises(ValueError, match="objective='mlm' looks at later tokens, but the checkpoint is causal"):
        XLMMaskedLM.from_checkpoint(tmp_path / "clm")
    assert np.abs(lms["mlm"].score_samples(TEXTS) - lms["clm"].score_samples(TEXTS)).max() > 0.1


def test_a_causal_checkpoint_is_exported_as_what_it_is(tmp_path, tokenizer):
    folder = write_xlm_checkpoint(tmp_path / "clm", tokenizer, causal=True)
    export_onnx(folder, tmp_path / "out")
    expected = XLMMaskedLM.from_checkpoint(folder, objective="clm").score_samples(TEXTS)
    loaded = load_onnx(tmp_path / "out")
    assert loaded.objective == "clm"
    np.testing.assert_allclose(loaded.score_samples(TEXTS), expected, rtol=1e-5)


def test_nobody_is_sent_to_an_estimator_of_another_family(tmp_path, tokenizer):
    _, folder = with_head(tmp_path, tokenizer, "ForSequenceClassification", 1, num_labels=1)
    with pytest.raises(
        CheckpointError, match=r"a regression, which no estimator of this family reads: pass problem_type="
    ):
        XLMClassifier.from_checkpoint(folder)
    with pytest.raises(CheckpointError, match="a regression, which no estimator of this family reads"):
        export_onnx(folder, tmp_path / "out")
