"""The different names that files use for the same tensor."""

from __future__ import annotations

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.nn import XLM_ROBERTA, ModelFamily, language_models
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch

LEGACY_ENDINGS = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # from TensorFlow
# What wrappers put before all names: torch.compile, DataParallel, sentence-transformers and modules that hold the model
WRAPPERS = ("_orig_mod.", "module.", "0.auto_model.", "auto_model.", "model.")
BUFFERS = ("position_ids", "token_type_ids")  # saved by transformers before 4.31; they hold no weights


def normalize_names(
    tensors: Tensors, family: ModelFamily = XLM_ROBERTA, *, tied: bool = True, source: str = "checkpoint"
) -> Tensors:
    """Rename the tensors of a file as the modules name them. Nothing is copied.

    What wrappers put before the names is taken away. Parameters of layer norms become ``weight`` and ``bias``, position and
    token type buffers are dropped, names of a bare encoder get its prefix, and a language model head keeps one bias.

    Parameters
    ----------
    tensors : dict of str to Tensor
        As read from the file.
    family : ModelFamily
        Of the model.
    tied : bool, default=True
        ``tie_word_embeddings`` of the config: whether the language model head projects with the word embeddings. If so,
        the copy of them that some files hold is dropped. A tensor with other values is kept: :func:`assign_weights` will
        refuse it.
    source : str, default="checkpoint"
        File or folder to name in errors.

    Returns
    -------
    dict of str to Tensor
        A new dict, in the order of the file.

    Raises
    ------
    CheckpointError
        If two names mean the same tensor.
    """
    from skxlmr.nn import LanguageModel

    renamed: Tensors = {}
    for name, tensor in tensors.items():
        new = normal_name(name, family)
        if new is None:
            continue
        if new in renamed:
            raise CheckpointError(source, f"holds tensor {new} twice, once under the name {name}")
        renamed[new] = tensor

    head = family.modules["ForMaskedLM"]
    if issubclass(head, LanguageModel):
        decoder, bias = f"{head.projection}.weight", f"{head.projection}.bias"
        if bias in renamed and bias != head.projection_bias:
            # If both exist, the reference computes with this one: the other is an alias of it or unused.
            renamed[head.projection_bias] = renamed.pop(bias)
        if tied and decoder in renamed:
            weight = renamed[decoder]
            # Some converted files hold the shared matrix only under the decoder's name.
            if _same_values(renamed.setdefault(family.words, weight), weight):
                del renamed[decoder]
    return renamed


def published_names(tensors: Tensors) -> Tensors:
    """Add the tensors that ``transformers`` reads and our modules do not have.

    An untied head of ``transformers`` computes with ``lm_head.decoder.bias``, and would initialise it at random.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Under the names of our modules.

    Returns
    -------
    dict of str to Tensor
        A new dict.
    """
    published = dict(tensors)
    for head in language_models():
        if f"{head.projection}.weight" in published and head.projection_bias in published:
            published.setdefault(f"{head.projection}.bias", published[head.projection_bias].clone())
    return published


def normal_name(name: str, family: ModelFamily) -> str | None:
    """The name that the modules use for a tensor of a file; None for a buffer."""
    while name.startswith(WRAPPERS):
        name = name.removeprefix(next(wrapper for wrapper in WRAPPERS if name.startswith(wrapper)))
    if name.rpartition(".")[2] in BUFFERS:
        return None
    for old, new in LEGACY_ENDINGS.items():
        if name.endswith(old):
            name = name.removesuffix(old) + new
    is_bare = name.partition(".")[0] in family.encoder.part_names
    return f"{family.prefix}.{name}" if is_bare else name


def _same_values(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    # The .bin format stores a tied matrix once: no need to compare a gigabyte.
    return a.data_ptr() == b.data_ptr() or torch.equal(a, b)
