"""The published checkpoints of the page "Which checkpoint?", by their names on the hub.

What each folder holds and says was looked up on the hub; only sizes, vocabularies and weights are made up.
"""

from typing import Any

import torch

from tests.published.files import LATER, LATEST, MODULES, TOKENIZER, VERSIONS, encoder, labels, length, pooling
from tests.published.stand_ins import WIDTH, StandIn, with_pooler, with_position_ids
from tests.published.vocabularies import (
    MASK,
    N_TOKENS,
    N_XLM_TOKENS,
    byte_pairs,
    fast_only,
    sentencepiece,
    special_tokens,
    tokenizer_config,
)

XLMR: dict[str, Any] = {
    "architectures": ["XLMRobertaModel"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "classifier_dropout": None,
    "eos_token_id": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 514,
    "model_type": "xlm-roberta",
    "output_past": True,
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "type_vocab_size": 1,
    "use_cache": True,
}
XLM: dict[str, Any] = {
    "architectures": ["XLMWithLMHeadModel"],
    "asm": False,
    "attention_dropout": 0.1,
    "bos_index": 0,
    "bos_token_id": 0,
    "causal": False,
    "dropout": 0.1,
    "end_n_top": 5,
    "eos_index": 1,
    "gelu_activation": True,
    "init_std": 0.02,
    "is_encoder": True,
    "layer_norm_eps": 1e-12,
    "mask_index": 5,
    "mask_token_id": 0,
    "max_position_embeddings": 512,
    "model_type": "xlm",
    "pad_index": 2,
    "pad_token_id": 2,
    "sinusoidal_embeddings": False,
    "start_n_top": 5,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "first",
    "summary_use_proj": True,
    "unk_index": 3,
}
XLM_SIZES = {"emb_dim": WIDTH, "n_layers": 2, "n_heads": 2}
XL = XLMR | {
    "architectures": ["XLMRobertaXLForMaskedLM"],
    "model_type": "xlm-roberta-xl",
    "tokenizer_class": "XLMRobertaTokenizer",
    "torch_dtype": "float32",
    "transformers_version": "4.17.0.dev0",
}
MASKED_LM = XLMR | {"architectures": ["XLMRobertaForMaskedLM"]}


def with_head(architecture: str, **more: Any) -> dict[str, Any]:
    return XLMR | {"architectures": [architecture], **more}


E5 = TOKENIZER | encoder("Pooling", "Normalize", pooling=pooling("mean"), sentence_bert_config=length(512))
BGE_M3 = {
    "tokenizer_config.json": tokenizer_config(8192, clean_up_tokenization_spaces=True),
    "special_tokens_map.json": special_tokens(MASK),
}


def with_dialogue_tokens(folder: Any) -> None:
    """SentencePiece alone; the speakers' tokens are in ``added_tokens.json``."""
    sentencepiece(folder, fast=False)


XLM_STAND_INS: dict[str, StandIn] = {
    "FacebookAI/xlm-roberta-base": StandIn(
        config=MASKED_LM | {"transformers_version": "4.17.0.dev0"},
        files={"tokenizer_config.json": {"model_max_length": 512}},
        more=with_pooler,
    ),
    "FacebookAI/xlm-roberta-large": StandIn(
        config=MASKED_LM | {"transformers_version": "4.17.0.dev0"},
        files={"tokenizer_config.json": {"model_max_length": 512}},
        more=with_pooler,
    ),
    "facebook/xlm-roberta-xl": StandIn(
        config=XL,
        files=TOKENIZER,
        vocab_size=N_TOKENS + 8,  # rows that no token uses
        more=with_position_ids("roberta."),
    ),
    "facebook/xlm-roberta-xxl": StandIn(
        config=XL,
        files=TOKENIZER,
        vocab_size=N_TOKENS + 8,
        weights="pytorch_model.bin",
        more=with_position_ids("roberta."),
    ),
    "Davlan/afro-xlmr-base": StandIn(
        config=MASKED_LM | {"torch_dtype": "float32", "transformers_version": "4.14.0"},
        files=TOKENIZER,
        more=with_position_ids("roberta."),
    ),
    "intfloat/multilingual-e5-base": StandIn(
        config=XLMR | {"_name_or_path": "tmp/", "torch_dtype": "float32", "transformers_version": "4.29.0.dev0"},
        files=E5,
        more=with_position_ids(""),
    ),
    "intfloat/multilingual-e5-large": StandIn(
        config=XLMR | {"_name_or_path": "tmp/", "torch_dtype": "float32", "transformers_version": "4.29.0"},
        files=E5,
        more=with_position_ids(""),
    ),
    "intfloat/multilingual-e5-large-instruct": StandIn(
        config=XLMR | {"torch_dtype": "float16", "transformers_version": "4.39.3"},
        files=TOKENIZER
        | encoder(
            *("Pooling", "Normalize"),
            pooling=pooling("mean", **LATEST),
            config_sentence_transformers=VERSIONS,
            **{"sentence_xlm-roberta_config": length(512)},
        ),
        dtype=torch.float16,
    ),
    "BAAI/bge-m3": StandIn(
        config=XLMR | {"max_position_embeddings": 8194, "torch_dtype": "float32", "transformers_version": "4.33.0"},
        files=BGE_M3
        | encoder(
            *("Pooling", "Normalize"),
            pooling=pooling("cls", **LATER),
            sentence_bert_config=length(8192),
            config_sentence_transformers=VERSIONS,
        ),
        beside={"sparse_linear.pt": 1, "colbert_linear.pt": WIDTH},
        weights="pytorch_model.bin",
    ),
    "Snowflake/snowflake-arctic-embed-l-v2.0": StandIn(
        config=XLMR
        | {
            "matryoshka_dimensions": [256],
            "max_position_embeddings": 8194,
            "torch_dtype": "float32",
            "transformers_version": "4.39.3",
        },
        files={
            "tokenizer_config.json": tokenizer_config(
                8192, max_length=512, stride=0, truncation_side="right", truncation_strategy="longest_first"
            ),
            "special_tokens_map.json": special_tokens(MASK),
        }
        | encoder(
            *("Pooling", "Normalize"),
            pooling=pooling("cls", **LATEST),
            config_sentence_transformers={
                "__version__": {"sentence_transformers": "2.7.0.dev0", "transformers": "4.39.3", "pytorch": "2.1.0"},
                "prompts": {"query": "query: "},
                "default_prompt_name": None,
            },
        ),
        tokenizer=fast_only,
    ),
    "ibm-granite/granite-embedding-107m-multilingual": StandIn(
        config=XLMR
        | {"layer_norm_eps": 1e-12, "type_vocab_size": 2, "torch_dtype": "bfloat16", "transformers_version": "4.15.0"},
        files=TOKENIZER
        | encoder("Pooling", "Normalize", pooling=pooling("cls", **LATER), sentence_bert_config=length(512)),
        dtype=torch.bfloat16,
    ),
    "ibm-granite/granite-embedding-278m-multilingual": StandIn(
        config=XLMR | {"torch_dtype": "bfloat16", "transformers_version": "4.15.0"},
        files=TOKENIZER
        | encoder("Pooling", "Normalize", pooling=pooling("cls", **LATER), sentence_bert_config=length(512)),
        dtype=torch.bfloat16,
    ),
    "sentence-transformers/paraphrase-multilingual-mpnet-base-v2": StandIn(
        config=XLMR
        | {"_name_or_path": "old_models/paraphrase-multilingual-mpnet-base-v2/0_Transformer"}
        | {"gradient_checkpointing": False, "transformers_version": "4.7.0"},
        files=TOKENIZER
        | encoder(
            "Pooling",
            pooling=pooling("mean"),
            sentence_bert_config=length(128),
            config_sentence_transformers={
                "__version__": {"sentence_transformers": "2.0.0", "transformers": "4.7.0", "pytorch": "1.9.0+cu102"}
            },
        ),
        more=with_position_ids(""),
    ),
    "BAAI/bge-reranker-base": StandIn(
        config=with_head("XLMRobertaForSequenceClassification", **labels("LABEL_0"))
        | {"torch_dtype": "float32", "transformers_version": "4.30.0"},
        files=TOKENIZER,
        more=with_position_ids("roberta."),
    ),
    "BAAI/bge-reranker-v2-m3": StandIn(
        config=with_head("XLMRobertaForSequenceClassification", **labels("LABEL_0"))
        | {"max_position_embeddings": 8194, "torch_dtype": "float32", "transformers_version": "4.38.1"},
        files=BGE_M3,
    ),
    "cross-encoder/mmarco-mMiniLMv2-L12-H384-v1": StandIn(
        config=with_head("XLMRobertaForSequenceClassification", **labels("LABEL_0"))
        | {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}
        | {"torch_dtype": "float32", "transformers_version": "4.18.0"},
        files=TOKENIZER,
        more=with_position_ids("roberta."),
    ),
    "papluca/xlm-roberta-base-language-detection": StandIn(
        config=with_head(
            "XLMRobertaForSequenceClassification",
            **labels(*"ja nl ar pl de it pt tr es hi el ur bg en fr zh ru th sw vi".split()),
        )
        | {"problem_type": "single_label_classification", "torch_dtype": "float32", "transformers_version": "4.12.5"},
        files=TOKENIZER,
        more=with_position_ids("roberta."),
    ),
    "cardiffnlp/twitter-xlm-roberta-base-sentiment": StandIn(
        config=with_head("XLMRobertaForSequenceClassification", **labels("negative", "neutral", "positive"))
        | {"gradient_checkpointing": False, "transformers_version": "4.5.1"},
        files={"special_tokens_map.json": special_tokens()},
        tokenizer=lambda folder: sentencepiece(folder, fast=False),
        weights="pytorch_model.bin",
        more=with_position_ids("roberta."),
    ),
    "unitary/multilingual-toxic-xlm-roberta": StandIn(
        config=with_head("XLMRobertaForSequenceClassification", **labels("toxic")),
        files={"special_tokens_map.json": special_tokens()},
        tokenizer=lambda folder: sentencepiece(folder, fast=False),
        weights="pytorch_model.bin",
        more=with_position_ids("roberta."),
    ),
    "joeddav/xlm-roberta-large-xnli": StandIn(
        config=with_head("XLMRobertaForSequenceClassification", **labels("contradiction", "neutral", "entailment"))
        | {"gradient_checkpointing": False},
        files={"tokenizer_config.json": {"model_max_length": 512}, "special_tokens_map.json": special_tokens()},
        tokenizer=lambda folder: sentencepiece(folder, fast=False),
        more=with_position_ids("roberta."),
    ),
    "MoritzLaurer/multilingual-MiniLMv2-L6-mnli-xnli": StandIn(
        config=with_head("XLMRobertaForSequenceClassification", **labels("entailment", "neutral", "contradiction"))
        | {"problem_type": "single_label_classification", "torch_dtype": "float32", "transformers_version": "4.26.0"},
        files=TOKENIZER,
    ),
    "Davlan/xlm-roberta-base-ner-hrl": StandIn(
        config=with_head(
            "XLMRobertaForTokenClassification",
            **labels("O", "B-DATE", "I-DATE", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"),
        )
        | {"adapters": {"adapters": {}, "config_map": {}, "fusion_config_map": {}, "fusions": {}}}
        | {"gradient_checkpointing": False, "torch_dtype": "float32", "transformers_version": "4.10.0.dev0"},
        files=TOKENIZER,
        more=with_position_ids("roberta."),
    ),
    "FacebookAI/xlm-roberta-large-finetuned-conll03-english": StandIn(
        config=with_head(
            "XLMRobertaForTokenClassification",
            **labels("B-LOC", "B-MISC", "B-ORG", "I-LOC", "I-MISC", "I-ORG", "I-PER", "O"),
        )
        | {"_num_labels": 8},
        files={"tokenizer_config.json": {"model_max_length": 512}},
        more=with_position_ids("roberta."),
    ),
    "deepset/xlm-roberta-base-squad2": StandIn(
        config=with_head("XLMRobertaForQuestionAnswering")
        | {"gradient_checkpointing": False, "language": "english", "name": "XLMRoberta"},
        files={
            "tokenizer_config.json": {"do_lower_case": False, "model_max_length": 512},
            "special_tokens_map.json": special_tokens(),
        },
        tokenizer=lambda folder: sentencepiece(folder, fast=False),
        more=with_position_ids("roberta."),
    ),
    "umanlp/TOD-XLMR": StandIn(
        config=MASKED_LM
        | {"_name_or_path": "xlm-roberta-base", "adapters": {"adapters": {}, "config_map": {}}}
        | {"gradient_checkpointing": True, "transformers_version": "2.0.1"},
        files={
            "added_tokens.json": {"[SYS]": N_TOKENS, "[USR]": N_TOKENS + 1},
            "special_tokens_map.json": special_tokens() | {"additional_special_tokens": ["[SYS]", "[USR]"]},
            "tokenizer_config.json": {"model_max_length": 512, "tokenizer_class": "XLMRobertaTokenizer"},
        },
        tokenizer=with_dialogue_tokens,
        vocab_size=N_TOKENS + 2,
        weights="pytorch_model.bin",
        more=with_position_ids("roberta."),
    ),
    "FacebookAI/xlm-mlm-en-2048": StandIn(
        config=XLM | {"embed_init_std": 0.02209708691207961, "lang_id": 0, "n_langs": 1, "use_lang_emb": True},
        files={"tokenizer_config.json": {"model_max_length": 512, "do_lowercase_and_remove_accent": True}},
        tokenizer=byte_pairs,
        weights="pytorch_model.bin",
        vocab_size=N_XLM_TOKENS,
        sizes=XLM_SIZES,
    ),
    "FacebookAI/xlm-mlm-100-1280": StandIn(
        config=XLM
        | {"embed_init_std": 0.02795084971874737, "lang_id": 0, "n_langs": 3, "use_lang_emb": False}
        | {"lang2id": {"de": 0, "en": 1, "ru": 2}, "id2lang": {"0": "de", "1": "en", "2": "ru"}},
        files={"tokenizer_config.json": {"model_max_length": 512, "do_lowercase_and_remove_accent": False}},
        tokenizer=byte_pairs,
        weights="pytorch_model.bin",
        vocab_size=N_XLM_TOKENS,
        sizes=XLM_SIZES,
    ),
}


class Closed(StandIn):
    """A folder whose model only its own code knows; the names of its tensors are that code's."""

    def tensors(self, config: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {name: torch.zeros(WIDTH, WIDTH) for name in ("encoder.layers.0.Wqkv.weight", "emb_ln.weight")}


CLOSED: dict[str, StandIn] = {
    "Alibaba-NLP/gte-multilingual-base": Closed(
        config={
            "architectures": ["NewModel"],
            "auto_map": {"AutoConfig": "configuration.NewConfig", "AutoModel": "modeling.NewModel"},
            "model_type": "new",
            "position_embedding_type": "rope",
            "rope_theta": 20000,
            "type_vocab_size": 1,
        },
        files=TOKENIZER
        | encoder("Pooling", "Normalize", pooling=pooling("cls", **LATEST), sentence_bert_config=length(8192)),
        tokenizer=fast_only,
    ),
    "jinaai/jina-embeddings-v3": Closed(
        config=XLMR
        | {
            "auto_map": {
                "AutoConfig": "jinaai/xlm-roberta-flash-implementation--configuration_xlm_roberta.XLMRobertaFlashConfig",
                "AutoModel": "jinaai/xlm-roberta-flash-implementation--modeling_lora.XLMRobertaLoRA",
            },
            "lora_adaptations": ["retrieval.query", "retrieval.passage"],
            "matryoshka_dimensions": [32],
            "max_position_embeddings": 8194,
        },
        files=TOKENIZER
        | {
            "modules.json": [
                {
                    "idx": 0,
                    "name": "transformer",
                    "path": "",
                    "type": "custom_st.Transformer",
                    "kwargs": ["task"],
                },
                {"idx": 1, "name": "pooler", "path": "1_Pooling", "type": f"{MODULES}.Pooling"},
                {"idx": 2, "name": "normalizer", "path": "2_Normalize", "type": f"{MODULES}.Normalize"},
            ],
            "1_Pooling/config.json": pooling("mean", **LATER),
        },
        tokenizer=fast_only,
    ),
    "nomic-ai/nomic-embed-text-v2-moe": Closed(
        config={
            "architectures": ["NomicBertModel"],
            "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
            "model_type": "nomic_bert",
            "num_experts": 8,
        },
        files=TOKENIZER
        | encoder("Pooling", "Normalize", pooling=pooling("mean", **LATEST), sentence_bert_config=length(512)),
        tokenizer=fast_only,
    ),
}
