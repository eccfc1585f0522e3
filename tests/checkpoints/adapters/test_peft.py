"""Adapters that peft made, with every option that changes weights: merged as peft merges them, to the last bit."""

import random
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer, convert
from skxlmr.checkpoints import read_model
from skxlmr.checkpoints._adapters.config import read_lora
from skxlmr.checkpoints._adapters.patterns import matches
from skxlmr.nn import family_of
from tests import adapters, sentence_encoders
from tests.tiny import write_checkpoint

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
    convert(tiny_checkpoint, tmp_path / "half", dtype="bfloat16")
    folder, _ = make(tmp_path / "adapter", tmp_path / "half", MODEL, {"target_modules": ["query", WORDS]})
    reference = adapters.merged(folder, tmp_path / "half", MODEL, dtype=torch.float32)
    assert_equal(read_model(folder).tensors(), reference.state_dict())


BASES = {"XLMRobertaXL": "xlm-roberta-xl", "Bert": "bert", "DistilBert": "distilbert", "XLM": None}


@pytest.mark.parametrize(
    ("family", "head", "options"),
    [
        (
            "XLMRobertaXL",
            "ForSequenceClassification",
            {"target_modules": ["query", "output.dense"], "bias": "lora_only"},
        ),
        (
            "XLMRobertaXL",
            "Model",
            {"target_modules": r"encoder\.layer\.1\..*(?:query|dense)", "modules_to_save": ["encoder.LayerNorm"]},
        ),
        ("Bert", "ForSequenceClassification", {"target_modules": ["query", "output.dense"], "bias": "all"}),
        ("Bert", "Model", {"target_modules": "all-linear", "use_rslora": True}),
        ("Bert", "ForTokenClassification", {"target_modules": ["value"], "task_type": "TOKEN_CLS"}),
        ("Bert", "ForMaskedLM", {"target_modules": ["query", "transform.dense", "word_embeddings"]}),
        ("DistilBert", "ForSequenceClassification", {"target_modules": ["q_lin", "lin2"]}),
        ("DistilBert", "Model", {"target_modules": ["word_embeddings", "out_lin"], "use_dora": True}),
        ("DistilBert", "ForMaskedLM", {"target_modules": ["k_lin"], "modules_to_save": ["word_embeddings"]}),
        (
            "XLM",
            "ForSequenceClassification",
            {"target_modules": ["q_lin", "lin2"], "modules_to_save": ["sequence_summary"]},
        ),
        ("XLM", "Model", {"target_modules": ["embeddings", "attentions.1.v_lin"], "use_dora": True}),
        ("XLM", "WithLMHeadModel", {"target_modules": ["out_lin"], "trainable_token_indices": {"embeddings": [5]}}),
    ],
)
def test_other_families(family, head, options, tmp_path, tiny_tokenizer, request):
    base, kind = tmp_path / "base", family + head
    if BASES[family] is None:
        base = request.getfixturevalue("tiny_xlm")
    else:
        write_checkpoint(base, tiny_tokenizer, model_type=BASES[family])
    model = {"num_labels": 3} if head.endswith("Classification") else {}
    options = {"task_type": "SEQ_CLS" if head == "ForSequenceClassification" else None, **options}
    folder = adapters.made(tmp_path / "adapter", base, kind, model=model, **options)
    reference, found = adapters.merged(folder, base, kind, **model).state_dict(), read_model(folder).tensors()
    prefix = f"{family_of(read_model(folder).config).prefix}." if head == "Model" else ""
    shared = {name for name in reference if prefix + name not in found}
    assert all(
        name.endswith(("decoder.weight", "projector.weight", "proj.weight", "decoder.bias", "_ids")) for name in shared
    )
    for name in reference.keys() - shared:
        assert torch.equal(found[prefix + name], reference[name]), name


# Names of modules, and settings that may contradict one another
SHORT = ["query", "dense", "output.dense", "1.output.dense", "layer.0", "attention", "pooler", "uery", "self.query"]


def test_modules_match_as_in_peft(tmp_path):
    """Random settings beside peft's own matching of names."""
    from types import SimpleNamespace

    from peft.tuners.tuners_utils import check_target_module_exists

    rng = random.Random(0)
    names = [f"encoder.layer.{i}.{end}" for i in (0, 1, 10) for end in ("attention.self.query", "output.dense")]
    names += ["encoder.layer.1.attention.output.dense", "pooler.dense", "dense", "roberta.pooler.dense"]
    folder = adapters.write(tmp_path / "a", "skxlmr-mini", {"x": torch.zeros(1)})
    n_matched = 0
    for _ in range(300):
        config = {
            "target_modules": rng.choice([rng.sample(SHORT, 3), r".*query", r".*(1|10)\.(output|attention).*", r"\w+"]),
            "exclude_modules": rng.choice([None, rng.sample(SHORT, 1), r".*0.*"]),
            "modules_to_save": rng.choice([None, None, rng.sample(SHORT, 1)]),
        }
        if isinstance(config["target_modules"], list) and rng.random() < 0.5:
            config["layers_to_transform"] = rng.choice([1, [0, 10], []])
            config["layers_pattern"] = (
                rng.choice([None, "layer", ["x", "layer"]]) if config["layers_to_transform"] else None
            )
        lora = read_lora(adapters.change_config(folder, **adapters.CONFIG | config))
        theirs = SimpleNamespace(**adapters.CONFIG | {"target_parameters": None} | config)
        for name in names:
            expected = bool(check_target_module_exists(theirs, name))
            assert matches(lora, name) == expected, (config, name)
            n_matched += expected
    assert 300 < n_matched < 0.9 * 300 * len(names)


def test_a_sentence_encoder_whose_transformer_is_an_adapter(tmp_path, tiny_checkpoint):
    """As sentence-transformers writes it: no model in the folder, but its pooling, its prompts and a tokenizer."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from peft import LoraConfig

    base, folder, texts = tmp_path / "base", tmp_path / "adapter", ["das Haus", "a small bird sings.", "дом"]
    sentence_encoders.write(base, tiny_checkpoint, sentence_encoders.flags("cls"), [("Normalize", {})])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sentence_transformers.SentenceTransformer(str(base), device="cpu")
        model.add_adapter(LoraConfig(r=2, target_modules=["query", "value"], task_type="FEATURE_EXTRACTION"))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.add_(torch.ones_like(parameter), alpha=0.1)
        model.save(str(folder))
        expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
        plain = sentence_transformers.SentenceTransformer(str(base), device="cpu").encode(texts)
    assert not (folder / "model.safetensors").exists()
    for place in (folder, adapters.without_settings(folder, tmp_path / "bare")):
        found = XLMRobertaVectorizer(place, dtype="float32").fit_transform(texts)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected - plain).max() > 1e-2


def test_an_adapter_that_transformers_saved(tmp_path, tiny_checkpoint):
    """It names neither a task nor a class."""
    from peft import LoraConfig

    model = adapters.opened(tiny_checkpoint, SEQ, num_labels=3)
    model.add_adapter(LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.ones_like(parameter), alpha=0.1)
    model.save_pretrained(tmp_path / "a")
    fitted = XLMRobertaClassifier.from_checkpoint(tmp_path / "a", dtype="float32")
    ids = torch.tensor([[0, 5, 6, 7, 2]])
    torch.testing.assert_close(fitted.module_(ids), model.eval()(ids).logits, rtol=0, atol=1e-5)
