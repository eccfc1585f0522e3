"""Estimators fitted with LoRA on the tiny checkpoint, one for each task that trains, and what peft makes of their adapters."""

import warnings

import numpy as np
import torch

import skxlmr
from tests.contract import SPANS, TEXTS, Y

# Every weight of the adapters is far from its start after these steps
FIT = {
    "max_epochs": 2,
    "warmup_ratio": 0.0,
    "learning_rate": 3e-2,
    "batch_size": 2,
    "dtype": "float32",
    "random_state": 0,
}
LORA = {"lora_rank": 3, "lora_alpha": 5.0}
ROWS = {
    "XLMRobertaClassifier": (TEXTS, list("abcabc")),
    "XLMRobertaRegressor": (TEXTS, np.arange(6.0)),
    "XLMRobertaTokenClassifier": (TEXTS, np.fromiter(SPANS, object)),
    "XLMRobertaQuestionAnswerer": ([(text, TEXTS[0]) for text in TEXTS], ["bird"] * 6),
    "XLMRobertaMultipleChoiceClassifier": ([(text, TEXTS[:2]) for text in TEXTS], Y),
    "XLMRobertaMaskedLM": (TEXTS, None),
    "XLMClassifier": (TEXTS, list("abcabc")),
}


def fitted(name, checkpoint, **params):
    """An estimator of this class with adapters."""
    estimator = getattr(skxlmr, name)(checkpoint, **{**FIT, **LORA, **params})
    return estimator.fit(*(part for part in ROWS[name] if part is not None))


def save(estimator, folder):
    """Save as an adapter; its base is a folder of this machine."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*names its base model by a folder")
        skxlmr.save(estimator, folder, adapter=True)
    return folder


def tokens(folder):
    """Ids and mask of the texts, padded, from the tokenizer in a folder."""
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")


@torch.no_grad()
def logits(estimator, inputs):
    """What the estimator's module computes."""
    return estimator.module_(inputs["input_ids"], attention_mask=inputs["attention_mask"])


@torch.no_grad()
def theirs(model, inputs, is_choice=False):
    """The same of a model of transformers or peft; each text is the only choice of its row."""
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    made = model.eval()(**({name: each[:, None] for name, each in inputs.items()} if is_choice else inputs))
    if "start_logits" in made:
        return torch.stack([made.start_logits, made.end_logits], -1)
    return made.logits.squeeze(1) if is_choice else made.logits


def opened(cls, *args, **options):
    """``cls.from_pretrained`` of peft or transformers, without what they say."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        return cls.from_pretrained(*args, **options)
