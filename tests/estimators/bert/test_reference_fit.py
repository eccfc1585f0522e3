"""A fit of the classifier on pairs of texts beside a plain loop of PyTorch and transformers."""

import numpy as np
import pytest
import torch

from skxlmr import XLMRobertaClassifier
from skxlmr.checkpoints import read_model
from skxlmr.text import load_tokenizer
from tests.tiny import sentences, write_checkpoint

RATE, DECAY = 1e-3, 0.01


@pytest.mark.parametrize("body", ["bert", "distilbert"])
def test_steps_from_pairs(bodies, watched, tmp_path, body):
    """With the tokenizer of transformers, which makes the token types."""
    transformers = pytest.importorskip("transformers")
    known = read_model(bodies[body]).config
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    rates |= {"seq_classif_dropout": 0.0} if body == "distilbert" else {}
    sizes = {"vocab_size": known.vocab_size, "max_position_embeddings": 64}
    folder = write_checkpoint(
        tmp_path / "still", load_tokenizer(bodies[body]), model_type=body, initializer_range=0.2, **sizes, **rates
    )
    texts, seconds = sentences(32), sentences(32, seed=1)
    y = np.arange(32) % 3
    settings = {"learning_rate": RATE, "weight_decay": DECAY, "warmup_ratio": 0.0, "schedule": "constant"}
    settings |= {"max_epochs": 4, "batch_size": 8, "dtype": "float32", "random_state": 0}
    pairs = np.array([texts, seconds], dtype=object).T
    classifier = XLMRobertaClassifier(folder, **settings).fit(pairs, y)

    config = transformers.AutoConfig.from_pretrained(folder, num_labels=3)
    module = transformers.AutoModelForSequenceClassification.from_config(config).train()
    module.load_state_dict(watched["start"][0])
    decayed = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer, expected = torch.optim.AdamW(groups, lr=RATE), []
    tokenizer = transformers.AutoTokenizer.from_pretrained(bodies[body])

    def rows_of(chosen):
        pair = [texts[i] for i in chosen], [seconds[i] for i in chosen]
        return tokenizer(*pair, padding=True, return_tensors="pt")

    for rows in watched["batches"]:
        loss = module(**rows_of(rows), labels=torch.from_numpy(y[rows])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        expected.append(loss.item())
    assert len(expected) == 16
    np.testing.assert_allclose(watched["losses"], expected, rtol=0, atol=1e-5)
    assert np.mean(expected[-4:]) < 0.95 * np.mean(expected[:4])  # the fit went somewhere
    with torch.no_grad():
        found = module.eval()(**rows_of(range(32))).logits.softmax(1)
    np.testing.assert_allclose(classifier.predict_proba(pairs), found, atol=1e-5)
