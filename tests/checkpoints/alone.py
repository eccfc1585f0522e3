"""What tests run in a process of its own, which has imported nothing but the library."""

import sys

from torch import nn

from skxlmr.checkpoints import on_meta, resolve_checkpoint


def resolve(names):
    """Print the folder of each name, or the error."""
    for name in names:
        try:
            print(resolve_checkpoint(name))
        except ValueError as error:
            print(error)


def resolve_a_folder(folder):
    """Print whether that imports the hub's package."""
    resolve_checkpoint(folder)
    print("huggingface_hub" in sys.modules)


def build_a_layer():
    """Print whether that imports torch's compiler."""
    with on_meta():
        layer = nn.Embedding(5, 4, padding_idx=1)
    print(layer.weight.is_meta, "torch._dynamo" in sys.modules)
