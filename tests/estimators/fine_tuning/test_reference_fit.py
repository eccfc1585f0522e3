"""A whole fit of the classifier, from texts to the last step, beside a plain loop of PyTorch and transformers."""

import numpy as np
import pytest
import torch
import transformers

from skxlmr import XLMRobertaClassifier
from tests.estimators.conftest import padded

N_EPOCHS, RATE, DECAY = 10, 1e-3, 0.01
SCHEDULES = {
    "linear": transformers.get_linear_schedule_with_warmup,
    "cosine": transformers.get_cosine_schedule_with_warmup,
}


def parameter_groups(module, n_frozen_layers=0, layer_decay=1.0, head_learning_rate=RATE, **others):
    """A group for each parameter that learns, with the rate and the decay that it has by its name."""
    n_layers, groups = module.config.num_hidden_layers, []
    for name, parameter in module.named_parameters():
        height = 0 if "embeddings" in name else int(name.split(".")[3]) + 1 if name.startswith("roberta") else None
        parameter.requires_grad_(height is None or not n_frozen_layers or height > n_frozen_layers)
        rate = head_learning_rate if height is None else RATE * layer_decay ** (n_layers - height)
        decay = 0.0 if name.endswith("bias") or "LayerNorm" in name else DECAY
        if parameter.requires_grad:
            groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
    return groups


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"accumulate": 2, "batch_size": 8},
        {"n_frozen_layers": 1},
        {"layer_decay": 0.8, "head_learning_rate": 5e-3, "schedule": "cosine"},
    ],
    ids=str,
)
def test_fifty_steps_from_texts(make, watched, still_checkpoint, many, params):
    texts, y = (values[:80] for values in many)
    weights = np.random.default_rng(0).uniform(0.5, 2, 80)
    shared = {
        "learning_rate": RATE,
        "weight_decay": DECAY,
        "warmup_ratio": 0.1,
        "max_epochs": N_EPOCHS,
        "batch_size": 16,
    }
    classifier = make(XLMRobertaClassifier, still_checkpoint, **shared | params).fit(texts, y, sample_weight=weights)

    module = transformers.XLMRobertaForSequenceClassification(
        transformers.XLMRobertaConfig(**classifier.config_.to_dict(), num_labels=4)
    ).train()
    module.load_state_dict(watched["start"][0])
    optimizer = torch.optim.AdamW(parameter_groups(module, **params))
    scheduler = SCHEDULES[params.get("schedule", "linear")](optimizer, 5, 50)
    codes, expected = np.searchsorted(classifier.classes_, y), []
    accumulate = params.get("accumulate", 1)
    for start in range(0, len(watched["batches"]), accumulate):
        rows = np.concatenate(watched["batches"][start : start + accumulate])
        logits = module(**padded(classifier.tokenizer_, [texts[i] for i in rows])).logits
        losses = torch.nn.functional.cross_entropy(logits, torch.from_numpy(codes[rows]), reduction="none")
        of_row = torch.from_numpy(weights[rows].astype(np.float32))
        loss = (losses * of_row).sum() / of_row.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        expected.append(loss.item())

    assert len(expected) == 50
    np.testing.assert_allclose(watched["losses"], expected, rtol=0, atol=1e-5)
    assert np.mean(expected[-5:]) < 0.9 * np.mean(expected[:5])  # the fit went somewhere
    with torch.no_grad():
        found = module.eval()(**padded(classifier.tokenizer_, texts)).logits.softmax(1)
    np.testing.assert_allclose(classifier.predict_proba(texts), found, atol=1e-5)
