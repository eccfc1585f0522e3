"""Published checkpoints with the body of BERT or DistilBERT, with XLM-R's vocabulary or WordPiece."""

import json
from typing import Any

import torch

from tests.published.files import TOKENIZER, encoder, labels, length, pooling
from tests.published.stand_ins import WIDTH, StandIn, with_position_ids
from tests.published.vocabularies import MASK, N_TOKENS, special_tokens
from tests.tiny_wordpiece import tiny_vocabulary, tokenizer_json

BERT: dict[str, Any] = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "pad_token_id": 0,  # of the model: the padding of XLM-R's vocabulary is 1
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "use_cache": True,
}
POOLER = {
    "directionality": "bidi",
    "pooler_fc_size": 768,
    "pooler_num_attention_heads": 12,
    "pooler_num_fc_layers": 3,
    "pooler_size_per_head": 128,
    "pooler_type": "first_token_transform",
}
SPARE_ROWS = N_TOKENS + 35  # embeddings that no token uses, as in the published models
TANH = "torch.nn.modules.activation.Tanh"
WORDPIECE = {
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
}


def wordpiece(folder: Any) -> None:
    """``vocab.txt`` and ``tokenizer.json`` of a cased vocabulary."""
    tokens = tiny_vocabulary()
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer_json(tokens, lowercase=False)), encoding="utf-8")


def lower_case_vocabulary(folder: Any) -> None:
    """``vocab.txt`` alone, without accents and capitals."""
    tokens = "".join(f"{token}\n" for token in tiny_vocabulary(lowercase=True))
    (folder / "vocab.txt").write_text(tokens, encoding="utf-8")


def wordpiece_config(name: str, **more: Any) -> dict[str, Any]:
    known = {"do_lower_case": False, "strip_accents": None, "tokenize_chinese_chars": True, "do_basic_tokenize": True}
    return WORDPIECE | known | {"model_max_length": 512, "never_split": None, "tokenizer_class": name, **more}


def pretrained_by_google(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The heads of both objectives, and the names that the first conversion from TensorFlow gave layer normalisation."""
    generator = torch.Generator().manual_seed(1)
    more = {
        "bert.pooler.dense.weight": torch.randn(WIDTH, WIDTH, generator=generator),
        "bert.pooler.dense.bias": torch.randn(WIDTH, generator=generator),
        "cls.seq_relationship.weight": torch.randn(2, WIDTH, generator=generator),
        "cls.seq_relationship.bias": torch.randn(2, generator=generator),
    }
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    for name, tensor in tensors.items():
        ending = ".".join(name.split(".")[-2:])
        more[name.removesuffix(ending) + old.get(ending, ending)] = tensor
    return more


BERT_STAND_INS: dict[str, StandIn] = {
    "intfloat/multilingual-e5-small": StandIn(
        config=BERT
        | {"_name_or_path": "tmp/", "classifier_dropout": None, "tokenizer_class": "XLMRobertaTokenizer"}
        | {"torch_dtype": "float32", "transformers_version": "4.29.0"},
        files=TOKENIZER | encoder("Pooling", "Normalize", pooling=pooling("mean"), sentence_bert_config=length(512)),
        vocab_size=SPARE_ROWS,
        more=with_position_ids(""),
    ),
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2": StandIn(
        config=BERT
        | {"_name_or_path": "old_models/paraphrase-multilingual-MiniLM-L12-v2/0_Transformer"}
        | {"gradient_checkpointing": False, "transformers_version": "4.7.0"},
        files={
            "tokenizer_config.json": special_tokens({**MASK, "__type": "AddedToken"})
            | {"do_lower_case": True, "tokenize_chinese_chars": True, "strip_accents": None, "model_max_length": 512}
            | {"tokenizer_class": "PreTrainedTokenizerFast", "special_tokens_map_file": None},
            "special_tokens_map.json": special_tokens(MASK),
        }
        | encoder(
            "Pooling",
            pooling=pooling("mean"),
            sentence_bert_config=length(128),
            config_sentence_transformers={
                "__version__": {"sentence_transformers": "2.0.0", "transformers": "4.7.0", "pytorch": "1.9.0+cu102"}
            },
        ),
        vocab_size=SPARE_ROWS,
        more=with_position_ids(""),
    ),
    "sentence-transformers/LaBSE": StandIn(
        config=BERT | POOLER | {"gradient_checkpointing": False, "transformers_version": "4.7.0"},
        files={
            "tokenizer_config.json": wordpiece_config("BertTokenizer", full_tokenizer_file=None),
            "special_tokens_map.json": WORDPIECE,
        }
        | encoder(
            *("Pooling", "Dense", "Normalize"),
            pooling=pooling("cls"),
            sentence_bert_config=length(256),
            config_sentence_transformers={
                "__version__": {"sentence_transformers": "2.0.0", "transformers": "4.7.0", "pytorch": "1.9.0+cu102"}
            },
        ),
        layers={"2_Dense": {"in_features": WIDTH, "out_features": WIDTH, "bias": True, "activation_function": TANH}},
        tokenizer=wordpiece,
        vocab_size=len(tiny_vocabulary()),
        more=with_position_ids(""),
    ),
    "sentence-transformers/distiluse-base-multilingual-cased-v2": StandIn(
        config={
            "_name_or_path": "old_models/distiluse-base-multilingual-cased-v2/0_DistilBERT",
            "activation": "gelu",
            "architectures": ["DistilBertModel"],
            "attention_dropout": 0.1,
            "dropout": 0.1,
            "initializer_range": 0.02,
            "max_position_embeddings": 512,
            "model_type": "distilbert",
            "output_hidden_states": True,
            "output_past": True,
            "pad_token_id": 0,
            "qa_dropout": 0.1,
            "seq_classif_dropout": 0.2,
            "sinusoidal_pos_embds": False,
            "tie_weights_": True,
            "transformers_version": "4.7.0",
        },
        files={
            "tokenizer_config.json": wordpiece_config("DistilBertTokenizer", full_tokenizer_file=None, max_len=512),
            "special_tokens_map.json": WORDPIECE,
        }
        | encoder("Pooling", "Dense", pooling=pooling("mean"), sentence_bert_config=length(128)),
        layers={"2_Dense": {"in_features": WIDTH, "out_features": 24, "bias": True, "activation_function": TANH}},
        sizes={"dim": WIDTH, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
        tokenizer=wordpiece,
        vocab_size=len(tiny_vocabulary()),
    ),
    "google-bert/bert-base-multilingual-cased": StandIn(
        config=BERT | POOLER | {"architectures": ["BertForMaskedLM"]},
        files={"tokenizer_config.json": {"do_lower_case": False, "model_max_length": 512}},
        tokenizer=wordpiece,
        vocab_size=len(tiny_vocabulary()),
        more=pretrained_by_google,
    ),
    "nlptown/bert-base-multilingual-uncased-sentiment": StandIn(
        config=BERT
        | POOLER
        | {"architectures": ["BertForSequenceClassification"], "_num_labels": 5, "output_past": True}
        | {"finetuning_task": "sentiment-analysis"}
        | labels("1 star", "2 stars", "3 stars", "4 stars", "5 stars"),
        files={
            "tokenizer_config.json": {"do_lower_case": True, "max_len": 512, "init_inputs": []},
            "special_tokens_map.json": WORDPIECE,
        },
        tokenizer=lower_case_vocabulary,
        vocab_size=len(tiny_vocabulary(lowercase=True)),
        weights="pytorch_model.bin",
        more=with_position_ids("bert."),
    ),
}
