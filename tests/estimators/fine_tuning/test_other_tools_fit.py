"""Whole fits beside those of the Trainer and of skorch, as docs/coming_from says: same losses, same probabilities.

A batch holds all rows, so that the order in which the tools draw them does not matter.
"""

import numpy as np
import pytest
import torch

from skxlmr import XLMRobertaClassifier, save

N_EPOCHS, N_ROWS, RATE = 6, 24, 1e-3


@pytest.fixture(scope="module")
def start(make, still_checkpoint, many, tmp_path_factory):
    """A folder with a head, no dropout, and the rows to learn."""
    texts, labels = (values[:N_ROWS] for values in many)
    classifier = XLMRobertaClassifier(still_checkpoint, max_epochs=1, dtype="float32", random_state=0)
    folder = tmp_path_factory.mktemp("start") / "saved"
    save(classifier.fit(texts, labels), folder)
    return folder, list(texts), labels


def ours(start, **params):
    folder, texts, labels = start
    settings = {"max_epochs": N_EPOCHS, "batch_size": N_ROWS, "learning_rate": RATE, "dtype": "float32"}
    return XLMRobertaClassifier.from_checkpoint(folder, warm_start=True, **settings | params).fit(texts, labels)


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize(
    ("their_settings", "our_settings"),
    [
        ({"warmup_steps": 0.3, "weight_decay": 0.3}, {"warmup_ratio": 0.3, "weight_decay": 0.3}),
        (
            {"lr_scheduler_type": "cosine", "label_smoothing_factor": 0.1, "max_grad_norm": 0.1},
            {
                "warmup_ratio": 0.0,
                "weight_decay": 0.0,
                "schedule": "cosine",
                "label_smoothing": 0.1,
                "max_grad_norm": 0.1,
            },
        ),
    ],
    ids=["linear", "cosine"],
)
def test_the_trainer(start, tmp_path, their_settings, our_settings):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    folder, texts, labels = start
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = [
        {**tokenizer(text), "labels": model.config.label2id[label]} for text, label in zip(texts, labels, strict=True)
    ]
    arguments = transformers.TrainingArguments(
        str(tmp_path),
        num_train_epochs=N_EPOCHS,
        per_device_train_batch_size=N_ROWS,
        learning_rate=RATE,
        logging_steps=1,
        save_strategy="epoch",
        save_total_limit=1,
        use_cpu=True,
        disable_tqdm=True,
        **their_settings,
    )
    collate = transformers.DataCollatorWithPadding(tokenizer)
    trainer = transformers.Trainer(model, arguments, collate, train_dataset=rows, processing_class=tokenizer)
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

    fitted = ours(start, **our_settings)
    np.testing.assert_allclose(fitted.loss_curve_, losses, rtol=0, atol=1e-5)
    assert losses[-1] < 0.9 * losses[0]
    kept = XLMRobertaClassifier.from_checkpoint(tmp_path / f"checkpoint-{N_EPOCHS}")  # its folder opens here
    assert kept.classes_.tolist() == fitted.classes_.tolist()
    np.testing.assert_allclose(kept.predict_proba(texts), fitted.predict_proba(texts), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_skorch(start):
    transformers = pytest.importorskip("transformers")
    skorch = pytest.importorskip("skorch")
    from skorch.callbacks import GradientNormClipping
    from skorch.hf import HuggingfacePretrainedTokenizer

    class Module(torch.nn.Module):
        def __init__(self, name):
            super().__init__()
            self.model = transformers.AutoModelForSequenceClassification.from_pretrained(name)

        def forward(self, **inputs):
            return self.model(**inputs).logits

    folder, texts, labels = start
    net = skorch.NeuralNetClassifier(
        Module,
        module__name=folder,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=0.0,
        lr=RATE,
        max_epochs=N_EPOCHS,
        batch_size=N_ROWS,
        train_split=None,
        callbacks=[GradientNormClipping(1.0)],
        verbose=0,
    )
    encoded = HuggingfacePretrainedTokenizer(folder, max_length=64).fit_transform(texts)
    codes = np.unique(labels, return_inverse=True)[1]
    net.fit(encoded, codes)

    fitted = ours(start, schedule="constant", warmup_ratio=0.0, weight_decay=0.0)
    np.testing.assert_allclose(fitted.loss_curve_, net.history[:, "train_loss"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(fitted.predict_proba(texts), net.predict_proba(encoded), atol=1e-5)
