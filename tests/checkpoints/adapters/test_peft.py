"""Adapters that peft made, with every option that changes weights: merged as peft merges them, to the last bit."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from skxlmr.checkpoints import read_model
from tests import adapters

pytest.importorskip("peft", reason="compares with peft")

SEQ, MODEL, LM = "XLMRobertaForSequenceClassification", "XLMRobertaModel", "XLMRobertaForMaskedLM"
TOKEN, QA, CHOICE = "XLMRobertaForTokenClassification", "XLMRobertaForQuestionAnswering", "XLMRobertaForMultipleChoice"
ATTENTION, WORDS = r".*attention\.self\.(query|key)", "word_embeddings"
ROWS = {
    "query and value": (SEQ, {"target_modules": ["query", "value"]}),
    "scale": (SEQ, {"target_modules": ["query"], "lora_alpha": 7}),
    "rslora": (SEQ, {"target_modules": ["query"], "r": 3, "lora_alpha": 5, "use_rslora": True}),
    "all-linear": (SEQ, {"target_modules": "all-linear"}),
    "expression": (SEQ, {"target_modules": ATTENTION}),
    "expression with the whole name": (SEQ, {"target_modules": r"roberta\.encoder\.layer\.1\..*dense"}),
    "expression of a bare encoder": (MODEL, {"target_modules": r"encoder\.layer\.\d\.attention.*(?:key|value)"}),
    "rank pattern": (MODEL, {"target_modules": ["query", "key"], "rank_pattern": {r"layer\.0\..*query": 5, "key": 3}}),
    "alpha pattern": (MODEL, {"target_modules": ["query", "key"], "alpha_pattern": {"1.attention.self.key": 3}}),
    "both patterns with rslora": (
        MODEL,
        {
            "target_modules": ["query"],
            "use_rslora": True,
            "rank_pattern": {"^encoder.layer.1.attention.self.query": 4},
            "alpha_pattern": {".*query": 3.5},
        },
    ),
    "some layers": (MODEL, {"target_modules": ["query"], "layers_to_transform": [1]}),
    "one layer": (MODEL, {"target_modules": ["dense"], "layers_to_transform": 0, "layers_pattern": "layer"}),
    "excluded": (MODEL, {"target_modules": ["query", "dense"], "exclude_modules": ["pooler.dense", "0.output.dense"]}),
    "excluded by an expression": (MODEL, {"target_modules": ["query"], "exclude_modules": r".*layer\.0.*"}),
    "pooler": (MODEL, {"target_modules": ["pooler.dense", "query"]}),
    "all biases": (SEQ, {"target_modules": ["query"], "bias": "all"}),
    "biases of adapted modules": (SEQ, {"target_modules": ["query", "dense"], "bias": "lora_only"}),
    "bias of B": (SEQ, {"target_modules": ["query"], "lora_bias": True, "use_rslora": True}),
    "all biases and bias of B": (MODEL, {"target_modules": ["query"], "bias": "all", "lora_bias": True}),
    "DoRA": (SEQ, {"target_modules": ["query", "dense"], "use_dora": True, "lora_alpha": 3}),
    "DoRA with rslora": (MODEL, {"target_modules": ["query"], "use_dora": True, "use_rslora": True}),
    "DoRA of embeddings": (MODEL, {"target_modules": [WORDS, "query"], "use_dora": True}),
    "word embeddings": (MODEL, {"target_modules": [WORDS, "query"]}),
    "position embeddings": (
        MODEL,
        {"target_modules": ["position_embeddings", "token_type_embeddings"], "use_rslora": True},
    ),
    "only word embeddings of a head": (SEQ, {"target_modules": [WORDS]}),
    "tokens": (MODEL, {"target_modules": ["query"], "trainable_token_indices": [3, 5, 250]}),
    "tokens by name": (SEQ, {"target_modules": ["query"], "trainable_token_indices": {WORDS: [7]}}),
    "tokens of a language model": (LM, {"target_modules": ["query"], "trainable_token_indices": [7, 9]}),
    "whole pooler": (MODEL, {"target_modules": ["query"], "modules_to_save": ["pooler"]}),
    "whole attention": (
        MODEL,
        {"target_modules": ["dense"], "modules_to_save": ["embeddings.LayerNorm", "layer.1.output"]},
    ),
    "whole word embeddings": (SEQ, {"target_modules": ["query"], "modules_to_save": [WORDS]}),
    "whole layer": (MODEL, {"target_modules": ["query"], "modules_to_save": ["layer.1"]}),
    "whole word embeddings of a language model": (LM, {"target_modules": ["query"], "modules_to_save": [WORDS]}),
    "whole head of a language model": (LM, {"target_modules": ["query"], "modules_to_save": ["lm_head"]}),
    "word embeddings of a language model": (LM, {"target_modules": [WORDS]}),
    "head of a language model": (LM, {"target_modules": "all-linear"}),
    "causal": ("XLMRobertaForCausalLM", {"target_modules": ["value"], "task_type": "CAUSAL_LM"}),
    "resized": (MODEL, {"target_modules": ["query"], "model": {"resize": 320}}),
    "resized and adapted": (
        SEQ,
        {"target_modules": [WORDS], "model": {"resize": 320}, "modules_to_save": ["classifier"]},
    ),
    "resized with tokens": (
        MODEL,
        {"target_modules": ["query"], "model": {"resize": 320}, "trainable_token_indices": [4, 310]},
    ),
    "resized and adapted language model": (LM, {"target_modules": [WORDS], "model": {"resize": 320}}),
    "resized and whole language model": (
        LM,
        {"target_modules": ["key"], "model": {"resize": 320}, "modules_to_save": [WORDS]},
    ),
    "resized language model": (LM, {"target_modules": ["query"], "model": {"resize": 320}}),
    "transposed": (MODEL, {"target_modules": ["query"], "fan_in_fan_out": True}),
    "gaussian": (MODEL, {"target_modules": ["query"], "init_lora_weights": "gaussian"}),
    "orthogonal": (MODEL, {"target_modules": ["query"], "init_lora_weights": "orthogonal"}),
    "MiCA": (MODEL, {"target_modules": ["query"], "init_lora_weights": "mica"}),
    "tokens of words": (TOKEN, {"target_modules": ["query"], "task_type": "TOKEN_CLS", "model": {"num_labels": 5}}),
    "questions": (QA, {"target_modules": ["query"], "task_type": "QUESTION_ANS"}),
    "choices": (CHOICE, {"target_modules": ["query"], "modules_to_save": ["classifier", "pooler"]}),
    "torch's format": (SEQ, {"target_modules": ["query"], "bin": True}),
}
# No task: the config names the class instead
UNTASKED = {LM, CHOICE}
TASKS = {SEQ: "SEQ_CLS", MODEL: "FEATURE_EXTRACTION"}


def make(folder, base, kind, options):
    options = {"task_type": TASKS.get(kind), **options}
    if kind == SEQ:
        options["model"] = {"num_labels": 3, **options.get("model", {})}
    return adapters.made(folder, base, kind, **options), options.get("model", {})


def assert_equal(found, reference, tolerance=0.0):
    """``found`` are the tensors of a folder, ``reference`` those of a module of transformers."""
    for name, expected in reference.items():
        full = name if name.startswith(("roberta.", "lm_head.", "classifier.", "qa_outputs.")) else f"roberta.{name}"
        shared = {"lm_head.decoder.bias": "lm_head.bias"}
        if full not in found:
            shared["lm_head.decoder.weight"] = "roberta.embeddings.word_embeddings.weight"
        tensor = found[shared.get(full, full)]
        assert torch.allclose(tensor.float(), expected.float(), rtol=0, atol=tolerance), name


@pytest.mark.parametrize("row", ROWS)
def test_matrix(row, tmp_path, tiny_checkpoint):
    kind, options = ROWS[row]
    folder, model = make(tmp_path / "adapter", tiny_checkpoint, kind, options)
    reference = adapters.merged(folder, tiny_checkpoint, kind, **model)
    stored = read_model(folder)
    assert_equal(stored.tensors(), reference.state_dict())
    assert stored.config.vocab_size == reference.config.vocab_size
    assert stored.raw.get("architectures") == [kind]
    plain = read_model(tiny_checkpoint).tensors()
    changed = [
        name for name, tensor in stored.tensors().items() if name in plain and not torch.equal(tensor, plain[name])
    ]
    assert changed or options["target_modules"] == ["value"]


def test_half_precision_of_the_adapter(tmp_path, tiny_checkpoint):
    folder, _ = make(tmp_path / "adapter", tiny_checkpoint, MODEL, {"target_modules": ["query"]})
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(file).items()}, file)
    reference = adapters.merged(folder, tiny_checkpoint, MODEL)
    assert_equal(read_model(folder).tensors(), reference.state_dict())


def test_half_precision_of_the_base(tmp_path, tiny_checkpoint):
    from skxlmr import convert

    convert(tiny_checkpoint, tmp_path / "half", dtype="bfloat16")
    folder, _ = make(tmp_path / "adapter", tmp_path / "half", MODEL, {"target_modules": ["query", WORDS]})
    reference = adapters.merged(folder, tmp_path / "half", MODEL, dtype=torch.float32)
    assert_equal(read_model(folder).tensors(), reference.state_dict())
