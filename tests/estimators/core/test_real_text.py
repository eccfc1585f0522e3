"""Language models on real text: training lowers the perplexity of held-out sentences, at a tenth of the benchmarks' size."""

import json

import numpy as np
import pytest

from skxlmr import XLMRobertaCausalLM, XLMRobertaMaskedLM

pytestmark = pytest.mark.slow


def halves(file, language, n_train, n_test):
    """Texts of one language to train on, and others to test on."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["lang"] == language]
    train = [row["text"] for row in rows if row["split"] == "train"][:n_train]
    test = [row["text"] for row in rows if row["split"] != "train"][:n_test]
    assert len(train) == n_train and len(test) == n_test and not set(train) & set(test)
    return train, test


def test_causal_training_lowers_perplexity(shared_data):
    train, test = halves(shared_data / "seqclass" / "sib200_topics.jsonl", "es", 150, 50)
    model = XLMRobertaCausalLM("skxlmr-mini", max_epochs=1, learning_rate=1e-3, random_state=0)
    perplexities = [model.set_params(max_epochs=epochs).fit(train).perplexity(test) for epochs in (1, 4)]
    shuffled = [" ".join(np.random.default_rng(0).permutation(text.split())) for text in test]
    assert perplexities[1] < perplexities[0] / 1.5
    assert model.perplexity(shuffled) > 1.2 * perplexities[1]  # it is the order that was learnt, not words alone


def test_adapting_lowers_the_pseudo_perplexity_of_the_domain(shared_data):
    train, test = halves(shared_data / "seqclass" / "xlmt_sentiment.jsonl", "en", 300, 30)
    before = XLMRobertaMaskedLM.from_checkpoint("skxlmr-mini")
    adapted = XLMRobertaMaskedLM("skxlmr-mini", max_epochs=3, learning_rate=5e-4, random_state=0).fit(train)
    assert adapted.score(test) > before.score(test) + np.log(1.3)
