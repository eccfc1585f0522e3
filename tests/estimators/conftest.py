"""A toy task, estimators on the tiny checkpoint, and transformers on the same folder."""

import inspect

import numpy as np
import pytest
import torch

from skxlmr import XLMRobertaClassifier
from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.text import load_tokenizer
from skxlmr.training.step import TrainStep
from tests.tiny import WORDS, sentences, write_checkpoint
from tests.tiny_wordpiece import write_files

FAST = {
    "max_epochs": 1,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "warmup_ratio": 0.0,
    "dtype": "float32",
    "random_state": 0,
}


LANGUAGES = np.array(sorted(WORDS))


@pytest.fixture(scope="session")
def texts():
    """48 sentences in four languages in turn."""
    return sentences(48)


@pytest.fixture(scope="session")
def languages(texts):
    """The toy task: a class that the words show."""
    return LANGUAGES[np.arange(len(texts)) % 4]


@pytest.fixture(scope="session")
def many():
    """128 sentences and their languages: enough to learn the toy task from, in five epochs with LEARNS."""
    return sentences(128), LANGUAGES[np.arange(128) % 4]


@pytest.fixture(scope="session")
def unseen():
    """64 other sentences and their languages."""
    return sentences(64, seed=3), LANGUAGES[np.arange(64) % 4]


LEARNS = {"max_epochs": 5, "batch_size": 8, "learning_rate": 3e-3}


@pytest.fixture(scope="session")
def make(tiny_checkpoint):
    """Make an estimator on the tiny checkpoint: one fast epoch, float32, a fixed seed, unless said otherwise."""

    def make(estimator, checkpoint=tiny_checkpoint, **params):
        known = inspect.signature(estimator).parameters
        return estimator(checkpoint, **{name: FAST[name] for name in FAST if name in known} | params)

    return make


@pytest.fixture(scope="session")
def reference():
    """Load a folder with transformers: reference(class name, folder) -> module in eval mode."""
    transformers = pytest.importorskip("transformers")

    def load(name, folder):
        return getattr(transformers, name).from_pretrained(folder).eval()

    return load


@pytest.fixture(scope="session")
def bodies(tmp_path_factory, tiny_tokenizer):
    """Folders of checkpoints of BERT and DistilBERT, two layers, 32 wide, by what they are like; never write to them."""
    root = tmp_path_factory.mktemp("bodies")

    def with_wordpiece(model_type):
        files = root / f"{model_type}_files"
        files.mkdir()
        tokenizer = load_tokenizer(write_files(files, model_type=model_type, model_max_length=64))
        sizes = {"vocab_size": tokenizer.vocab_size + 3, "max_position_embeddings": 64}
        return write_checkpoint(root / model_type, tokenizer, model_type=model_type, **sizes)

    multilingual = write_checkpoint(
        root / "minilm", tiny_tokenizer, model_type="bert", max_position_embeddings=64, pad_token_id=0
    )
    return {"bert": with_wordpiece("bert"), "distilbert": with_wordpiece("distilbert"), "minilm": multilingual}


@pytest.fixture
def make_xlm(tiny_xlm):
    """The same for estimators of the original XLM."""

    def make(estimator, checkpoint=tiny_xlm, **params):
        known = {name: value for name, value in FAST.items() if name in estimator._parameter_constraints}
        return estimator(checkpoint, **known | params)

    return make


@pytest.fixture
def watched(monkeypatch):
    """What a fit starts from, the rows of its batches and the loss of its steps."""
    seen = {"start": [], "batches": [], "losses": []}

    def watch(owner, name, key, read):
        method = getattr(owner, name)

        def watching(*args, **kwargs):
            result = method(*args, **kwargs)
            seen[key].append(read(result))
            return result

        monkeypatch.setattr(owner, name, watching)

    watch(
        XLMRobertaClassifier,
        "_load_module",
        "start",
        lambda module: {k: v.clone() for k, v in module.state_dict().items()},
    )
    watch(SequenceTask, "collate", "batches", lambda batch: batch.rows["loss"])
    watch(TrainStep, "run", "losses", lambda result: result[0])
    return seen


def padded(tokenizer, texts, pairs=None, **options):
    """Padded ids and attention mask of texts, as transformers takes them."""
    encoded = tokenizer.encode_batch(texts, pairs, **options)
    rows = [torch.from_numpy(encoded.row(i).astype(np.int64)) for i in range(len(encoded))]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    return {"input_ids": ids, "attention_mask": (ids != tokenizer.pad_token_id).long()}


def weights_of(estimator):
    """Copy of the fitted weights."""
    return {name: tensor.detach().clone() for name, tensor in estimator.module_.state_dict().items()}


def differing(found, expected):
    """Names of the weights that are not equal bit by bit."""
    assert found.keys() == expected.keys()
    return {name for name in found if not torch.equal(found[name], expected[name])}


def close(found, expected, tolerance=1e-5):
    """Whether all weights are equal but for rounding."""
    return all(torch.allclose(found[name], expected[name], atol=tolerance, rtol=0) for name in expected)
