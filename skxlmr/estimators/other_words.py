"""Names of parameters that a class does not have: those of other libraries, and misspelt ones."""

from difflib import get_close_matches
from inspect import Parameter, signature

# What other libraries call our parameters: transformers, sentence-transformers, setfit, simpletransformers, spaCy,
# keras, lightning, skorch, scikit-learn.
_THEIR_WORDS = {
    "activation": "activation_fn activation_function default_activation_function function_to_apply",
    "accumulate": "accumulate_grad_batches accumulate_gradient gradient_accumulation_steps",
    "allow_no_answer": "handle_impossible_answer",
    "batch_size": "eval_batch_size mini_batch_size per_device_eval_batch_size per_device_train_batch_size train_batch_size",
    "candidate_labels": "labels",
    "checkpoint": "adapter adapter_name_or_path base_model ckpt model model_body model_id model_name "
    "model_name_or_path model_path module name_or_path path pretrained pretrained_model_name_or_path tokenizer "
    "tokenizer_name",
    "class_weight": "class_weights weight",
    "device": "accelerator cuda_device device_map no_cuda use_cpu use_cuda use_gpu",
    "dtype": "amp bf16 bf16_full_eval fp16 fp16_full_eval mixed_precision precision torch_dtype use_amp use_fp16",
    "early_stopping": "load_best_model_at_end restore_best_weights use_early_stopping",
    "gradient_checkpointing": "activation_checkpointing",
    "label_all_subwords": "label_all_tokens",
    "label_smoothing": "label_smoothing_factor",
    "lang": "language src_lang",
    "layer_decay": "layerwise_lr_decay llrd lr_decay",
    "learning_rate": "body_learning_rate encoder_learning_rate eta0 initial_rate learning_rate_init lr",
    "long_question": "max_query_length",
    "long_text": "sliding_window truncation",
    "loss": "criterion loss_class loss_fct loss_fn loss_function",
    "lora_alpha": "alpha",
    "lora_rank": "lora lora_r r rank use_lora use_peft",
    "lora_targets": "lora_target_modules target_modules",
    "mask_probability": "mlm_probability",
    "matryoshka_dims": "matryoshka_dimensions",
    "max_answer_length": "max_answer_len",
    "max_epochs": "epochs max_iter max_steps n_epochs n_iter num_epochs num_iterations num_train_epochs",
    "max_grad_norm": "clipnorm grad_clip gradient_clip_val gradient_clip_value",
    "max_length": "max_len max_seq_len max_seq_length model_max_length sequence_length",
    "multi_label": "multi_class",
    "n_frozen_layers": "freeze freeze_encoder freeze_layers frozen",
    "n_iter_no_change": "early_stopping_patience patience",
    "no_answer_threshold": "null_score_diff_threshold",
    "normalize": "normalize_embeddings",
    "pooling": "pooling_mode",
    "prompt": "default_prompt_name instruction prompt_name prompts query_instruction",
    "random_state": "data_seed manual_seed random_seed seed",
    "resume_dir": "default_root_dir output_dir resume_from_checkpoint",
    "resume_every": "save_steps save_strategy",
    "schedule": "lr_scheduler lr_scheduler_type scheduler",
    "scoring": "compute_metrics early_stopping_metric eval_metric metric metric_for_best_model monitor",
    "stride": "doc_stride",
    "tol": "early_stopping_delta early_stopping_threshold min_delta",
    "truncate_dim": "dimensions matryoshka_dim output_dimension",
    "validation_fraction": "train_split validation_size validation_split",
    "verbose": "disable_tqdm enable_progress_bar show_progress_bar silent",
    "warmup_ratio": "num_warmup_steps warmup warmup_proportion warmup_steps",
    "weight_decay": "L2 l2_weight",
}
NEAR = 0.75  # similarity; lower ones also take words of another meaning for misspelt ones
OTHER_WORDS = {word: name for name, words in _THEIR_WORDS.items() for word in words.split()}

# What is a parameter elsewhere and none here: those that estimators take from y, and the others, with the reason.
FROM_Y = frozenset("id2label label2id labels labels_list labels_map n_classes num_classes num_labels".split())
_NO_PARAMETER = {
    "code that comes with a checkpoint is never run": "trust_remote_code",
    "set the environment variable HF_TOKEN, or run hf auth login": "hub_token token use_auth_token",
    "the environment variable HF_HOME says where downloads are kept": "cache_dir cache_folder",
    "set the environment variable HF_HUB_OFFLINE to 1": "local_files_only",
    "every fit uses AdamW": "optim optimizer",
    "for ONNX Runtime, see export_onnx and load_onnx": "backend",
    "pass each setting as a parameter of its own": "args arguments model_args training_args",
    "XLMRobertaEmbedder divides cosines by temperature, which is 1 / scale": "scale",
    "XLMRobertaEmbedder learns a layer to the width of y where one is needed": "projection_dim",
    "pass X_val and y_val to fit": "eval_dataset eval_strategy evaluation_strategy evaluator",
    "it is what the checkpoint's config.json says (lora_dropout is that of adapters alone)": "attention_dropout "
    "classifier_dropout dropout dropout_rate hidden_dropout hidden_dropout_prob",
    "set lora_rank, lora_alpha, lora_dropout and lora_targets": "lora_config peft_config",
}
NO_PARAMETER = {word: why for why, words in _NO_PARAMETER.items() for word in words.split()}


def misspelt(cls: type, name: str, known: list[str]) -> str:
    """Error message about a parameter that a class does not have; names the nearest one that it has."""
    has_not = f"{cls.__name__} has no parameter {name!r}"
    opening = getattr(cls, "from_checkpoint", None)
    taken = signature(opening).parameters.get(name) if opening else None
    if taken is not None and taken.kind is Parameter.KEYWORD_ONLY:
        return f"{has_not}: pass it to {cls.__name__}.from_checkpoint"
    nearest = OTHER_WORDS.get(name)
    if nearest not in known and name in FROM_Y and hasattr(cls, "predict") and "max_epochs" in known:
        return f"{has_not}: it follows from y in fit"
    if name in NO_PARAMETER:
        return f"{has_not}: {NO_PARAMETER[name]}"
    if nearest not in known:
        nearest = next(iter(get_close_matches(name, known, n=1, cutoff=NEAR)), None)
    return f"{has_not}: it has {', '.join(known)}" if nearest is None else f"{has_not}: did you mean {nearest!r}?"
