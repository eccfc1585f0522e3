"""A tiny model with heads of the families, by the name of its architecture, for tests of formats."""

import h5py
import torch

from skxlmr.nn import (
    ModelConfig,
    XLMConfig,
    XLMForMaskedLM,
    XLMForMultipleChoice,
    XLMForQuestionAnswering,
    XLMForQuestionAnsweringSimple,
    XLMForSequenceClassification,
    XLMForTokenClassification,
    XLMModel,
    XLMRobertaForCausalLM,
    XLMRobertaForMaskedLM,
    XLMRobertaForMultipleChoice,
    XLMRobertaForQuestionAnswering,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)
from skxlmr.nn.bert import bert, distilbert
from skxlmr.nn.bert.config import BertConfig, DistilBertConfig

GEOMETRY = {
    "vocab_size": 29,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
}
CONFIG = ModelConfig(**GEOMETRY)
UNTIED = ModelConfig(**GEOMETRY, tie_word_embeddings=False)
DECODER = ModelConfig(**GEOMETRY, is_decoder=True, add_cross_attention=True)
XLM_GEOMETRY = {"vocab_size": 29, "emb_dim": 8, "n_layers": 2, "n_heads": 2, "max_position_embeddings": 16}
BERT_CONFIG = BertConfig(**GEOMETRY)
DISTILBERT_CONFIG = DistilBertConfig(**GEOMETRY)
XLM_CONFIG = XLMConfig(**XLM_GEOMETRY, n_langs=2, lang2id={"de": 0, "en": 1})
XLM_UNTIED = XLMConfig(**XLM_GEOMETRY, tie_word_embeddings=False)

MODELS = {
    "XLMRobertaModel": lambda: XLMRobertaModel(CONFIG, add_pooler=True),
    "XLMRobertaForMaskedLM": lambda: XLMRobertaForMaskedLM(CONFIG),
    "XLMRobertaForCausalLM": lambda: XLMRobertaForCausalLM(DECODER),
    "XLMRobertaForSequenceClassification": lambda: XLMRobertaForSequenceClassification(CONFIG, 3),
    "XLMRobertaForTokenClassification": lambda: XLMRobertaForTokenClassification(CONFIG, 5),
    "XLMRobertaForQuestionAnswering": lambda: XLMRobertaForQuestionAnswering(CONFIG),
    "XLMRobertaForMultipleChoice": lambda: XLMRobertaForMultipleChoice(CONFIG),
    "BertModel": lambda: bert.BertModel(BERT_CONFIG, add_pooler=True),
    "BertForMaskedLM": lambda: bert.BertForMaskedLM(BERT_CONFIG),
    "BertForSequenceClassification": lambda: bert.BertForSequenceClassification(BERT_CONFIG, 3),
    "DistilBertModel": lambda: distilbert.DistilBertModel(DISTILBERT_CONFIG),
    "DistilBertForMaskedLM": lambda: distilbert.DistilBertForMaskedLM(DISTILBERT_CONFIG),
    "DistilBertForSequenceClassification": lambda: distilbert.DistilBertForSequenceClassification(DISTILBERT_CONFIG, 3),
    "XLMModel": lambda: XLMModel(XLM_CONFIG),
    "XLMWithLMHeadModel": lambda: XLMForMaskedLM(XLM_CONFIG),
    "XLMForSequenceClassification": lambda: XLMForSequenceClassification(XLM_CONFIG, 3),
    "XLMForTokenClassification": lambda: XLMForTokenClassification(XLM_CONFIG, 5),
    "XLMForMultipleChoice": lambda: XLMForMultipleChoice(XLM_CONFIG),
    "XLMForQuestionAnswering": lambda: XLMForQuestionAnswering(XLM_CONFIG),
    "XLMForQuestionAnsweringSimple": lambda: XLMForQuestionAnsweringSimple(XLM_CONFIG),
}


def make_model(architecture, make=None):
    """The config.json and the tensors of a model, none of which keeps its initial value."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = (make or MODELS[architecture])()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_()
    backbone = getattr(module, module.backbone_name)
    config = {**backbone.config.to_dict(), "architectures": [architecture]}
    return config, {name: tensor.detach() for name, tensor in module.state_dict().items()}


def h5_content(file):
    """Everything in a TensorFlow checkpoint that a reader can see, except layers without weights."""
    with h5py.File(file) as opened:
        arrays, weights = {}, {}

        def visit(group, path):
            for name in group:
                entry = group[name]
                if isinstance(entry, h5py.Group):
                    visit(entry, f"{path}/{name}")
                else:
                    arrays[f"{path}/{name}"] = (entry.shape, entry.dtype, entry[...].tobytes())

        visit(opened, "")
        for layer in opened:
            weights[layer] = sorted(opened[layer].attrs["weight_names"])
        order = [layer for layer in opened.attrs["layer_names"] if weights[layer]]
        about = opened.attrs["backend"], opened.attrs["keras_version"]
        return arrays, {layer: names for layer, names in weights.items() if names}, order, about
