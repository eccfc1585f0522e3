"""What a folder of a cross-encoder says and can't be reproduced is an error that names it; other heads are told apart."""

import json

import pytest
import torch

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaVectorizer
from tests.cross_encoders import IDENTITY, MODULE, SCORES, labels, write
from tests.estimators.sequence.cross_encoders.layouts import PAIRS, QUERY, ours, says

SETTINGS, OWN = "sentence_bert_config.json", "config_sentence_transformers.json"


def old(name):
    return {"sbert_ce_default_activation_function": name}


def new(about):
    return {"sentence_transformers": about}


# What the folder says, the file that the error names, and the rest of the message
ACTIVATIONS = {
    "Tanh": (old("torch.nn.modules.activation.Tanh"), "config.json", "as sbert_ce_default_activation_function, found"),
    "Softmax": (
        new({"activation_fn": "torch.nn.modules.activation.Softmax"}),
        "config.json",
        "as sentence_transformers.activation_fn, found 'torch.nn.modules.activation.Softmax'",
    ),
    "code of its own": (new({"activation_fn": "my_module.Sigmoid"}), "config.json", "found 'my_module.Sigmoid'"),
    "our own word": (new({"activation_fn": "sigmoid"}), "config.json", "found 'sigmoid'"),
    "a wrong place": (new({"activation_fn": "torch.nn.modules.linear.Sigmoid"}), "config.json", "no other function"),
    "a function": (old("torch.sigmoid"), "config.json", "Pass activation='identity' for the logits"),
    "empty": (old(""), "config.json", "found ''"),
    "modules": ({"own": says("torch.nn.modules.activation.Tanh")}, OWN, "expected PyTorch's .* as activation_fn"),
}
OTHERS = {
    "a number as the activation": (old(1), "config.json", "expected a text as sbert_ce_default_activation_function"),
    "a list as the activation": (new({"activation_fn": ["x"]}), "config.json", "expected a text as activation_fn"),
    "a text as the object": (new("activation_fn"), "config.json", "expected an object as sentence_transformers"),
    "an unknown key": (new({"temperature": 2}), "config.json", "the key 'temperature', which may change results"),
    "an unknown key, modules": ({"own": says(temperature=2)}, OWN, "the key 'temperature'"),
    "a number, modules": ({"own": says(2)}, OWN, "expected a text as activation_fn"),
    "prompts in a list": ({"own": says(IDENTITY) | {"prompts": ["a"]}}, OWN, "expected an object of texts as prompts"),
    "no such prompt": ({"own": says(IDENTITY, QUERY, "passage")}, OWN, "'passage', which is none of the prompts"),
    "an empty prompt that is not listed": ({"own": says(IDENTITY, QUERY, "d")}, OWN, "default_prompt_name is 'd'"),
    "a long prompt": ({"own": says(IDENTITY, {"q": "river " * 99}, "q")}, "", "leaves no room for a text"),
    "rows that are too short": (
        {"own": says(), "settings": {**SCORES, "max_seq_length": 2}},
        SETTINGS,
        "a whole number from 4 as max_seq_length",
    ),
    "features": (
        {"own": says(), "settings": {"transformer_task": "feature-extraction"}},
        SETTINGS,
        "expected 'sequence-classification' as transformer_task",
    ),
    "no task": ({"own": says(), "settings": {"max_seq_length": 64}}, SETTINGS, "has no transformer_task"),
    "no settings": ({"own": says(), "settings": None}, SETTINGS, "is missing, expected it with transformer_task"),
    "other outputs": (
        {"own": says(), "settings": {**SCORES, "module_output_name": "logits"}},
        SETTINGS,
        "expected 'scores' as module_output_name",
    ),
}


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_an_unknown_activation(tiny_checkpoint, tmp_path, case):
    said, file, reason = ACTIVATIONS[case]
    folder = write(tmp_path / "published", tiny_checkpoint, **said)
    with pytest.raises(CheckpointError, match=reason) as caught:
        ours(folder)
    assert str(folder / file) in str(caught.value)
    logits = ours(folder, activation="identity")  # which says what is wanted
    with pytest.raises(CheckpointError, match=reason):
        logits.set_params(activation="auto").predict(PAIRS[:1])
    assert ours(folder, XLMRobertaClassifier, problem_type="multi_label_classification").classes_.tolist() == [
        "LABEL_0"
    ]


@pytest.mark.parametrize("kind", [XLMRobertaRegressor, XLMRobertaClassifier])
@pytest.mark.parametrize("case", OTHERS)
def test_what_cannot_be_reproduced(tiny_checkpoint, tmp_path, case, kind):
    said, file, reason = OTHERS[case]
    folder = write(tmp_path / "published", tiny_checkpoint, n_outputs=1 + (kind is XLMRobertaClassifier), **said)
    with pytest.raises(CheckpointError, match=reason) as caught:
        ours(folder, kind)
    assert str(folder / file) in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (
            [MODULE, "sentence_transformers.models.Pooling"],
            "expected one Transformer in a cross-encoder, found .*Pooling",
        ),
        ([], "expected one Transformer in a cross-encoder, found nothing"),
        (["sentence_transformers.cross_encoder.modules.logit_score.LogitScore"], "LogitScore', which is not one of"),
        (["my_module.Transformer"], "no code of a checkpoint is run"),
    ],
)
def test_other_modules(tiny_checkpoint, tmp_path, entries, reason):
    folder = write(tmp_path / "published", tiny_checkpoint, own=says())
    listed = [{"idx": i, "name": str(i), "path": "", "type": kind} for i, kind in enumerate(entries)]
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(CheckpointError, match=reason):
        ours(folder)


def test_features_of_a_cross_encoder_are_not_those_of_a_sentence_encoder(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, own=says())
    with pytest.raises(CheckpointError, match=r"expected a Transformer, one Pooling, .* found Transformer"):
        XLMRobertaVectorizer(folder).transform(["дом"])
    plain = write(tmp_path / "plain", tiny_checkpoint)
    assert XLMRobertaVectorizer(plain).transform(["дом"]).shape == (1, 32)


# Heads of other models ------------------------------------------------------------------------------------------------

HEADS = {
    "BERT's": {"classifier.weight": (1, 32), "classifier.bias": (1,)},
    "score": {"score.weight": (1, 32)},
    "classification_head": {
        "classification_head.dense.weight": (32, 32),
        "classification_head.dense.bias": (32,),
        "classification_head.out_proj.weight": (1, 32),
        "classification_head.out_proj.bias": (1,),
    },
    "two outputs, one label": {
        "classifier.dense.weight": (32, 32),
        "classifier.dense.bias": (32,),
        "classifier.out_proj.weight": (2, 32),
        "classifier.out_proj.bias": (2,),
    },
    "none": {},
}


@pytest.mark.parametrize("case", HEADS)
def test_heads_of_other_models(tiny_checkpoint, tmp_path, case):
    """The reference would draw a head at random, and say so in its log."""
    head = {name: torch.ones(shape) for name, shape in HEADS[case].items()}
    folder = write(tmp_path / "published", tiny_checkpoint, head=head)
    with pytest.raises(CheckpointError, match=r"classifier|score|classification_head") as caught:
        ours(folder)
    assert str(folder) in str(caught.value)


def test_code_of_its_own(tiny_checkpoint, tmp_path):
    """As jina-reranker-v2-base-multilingual: no model_type, and an encoder of other names."""
    folder = write(
        tmp_path / "published",
        tiny_checkpoint,
        auto_map={"AutoModelForSequenceClassification": "modeling_xlm_roberta.XLMRobertaForSequenceClassification"},
    )
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"config\.json: model_type is missing"):
        ours(folder)


@pytest.mark.parametrize(
    ("said", "n_classes"),
    [
        ({"num_labels": 5}, 1),  # the labels count, as in the reference
        ({"id2label": None, "label2id": None, "num_labels": 3}, 3),
        (labels("only"), 1),
    ],
)
def test_the_number_of_outputs(tiny_checkpoint, tmp_path, said, n_classes):
    folder = write(tmp_path / "published", tiny_checkpoint, n_outputs=n_classes, **said)
    assert ours(folder, problem_type="regression").n_outputs_ == n_classes
