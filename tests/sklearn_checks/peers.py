"""Other libraries for the same checks, set up as by their users: skorch's NeuralNetClassifier, skrub's TextEncoder."""

import numpy as np
import pandas as pd
import torch
from sklearn.utils import TransformerTags
from sklearn.utils.validation import validate_data
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skrub import TextEncoder
from torch import nn

from tests.sklearn_checks.adapter import words_of


class Net(nn.Module):
    """A layer of 32 units with fixed initial weights: skorch has no ``random_state``."""

    def __init__(self, n_features=2, n_classes=2):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(n_features, 32), nn.ReLU(), nn.Linear(32, n_classes), nn.Softmax(dim=-1))

    def forward(self, X):
        return self.layers(X.float())


class ShapeSetter(Callback):
    """The recipe in skorch's documentation for a module that needs its shapes."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        net.set_params(module__n_features=np.shape(X)[-1], module__n_classes=int(np.max(y)) + 1)


def skorch_classifier():
    """A small network that learns the toy problems of the checks. It reads numbers and needs no adapter."""
    return NeuralNetClassifier(
        Net, optimizer=torch.optim.Adam, lr=0.01, max_epochs=10, batch_size=16, callbacks=[ShapeSetter()], verbose=0
    )


class NumberTextEncoder(TextEncoder):
    """Reads rows of numbers as our estimators do in these checks: scikit-learn validates them, each becomes a sentence."""

    def _check_single_column(self, column, function_name):
        if isinstance(column, pd.Series):
            return super()._check_single_column(column, function_name)
        numbers = validate_data(self, column, reset=function_name != "transform", dtype=float)
        index = column.index if isinstance(column, pd.DataFrame) else None
        return pd.Series([" ".join(words_of(row)) for row in numbers], index=index)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags = TransformerTags(
            preserves_dtype=[]
        )  # without these, scikit-learn stops at the first check of a transformer
        return tags


def write_sentence_transformer(checkpoint, folder):
    """Write the checkpoint with mean pooling as a folder for sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(str(checkpoint))
    pooling = Pooling(transformer.model.config.hidden_size, pooling_mode="mean")
    SentenceTransformer(modules=[transformer, pooling], device="cpu").save(str(folder))
    return folder


def text_encoder(folder, adapted=True):
    """skrub's encoder over such a folder."""
    encoder = NumberTextEncoder if adapted else TextEncoder
    return encoder(str(folder), n_components=None, device="cpu")
