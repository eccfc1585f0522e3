"""The public function that writes a model for ONNX Runtime."""

import os
from functools import partial
from typing import Any

from skxlmr.export._precision import check_opset, check_precision


def export_onnx(
    source: Any,
    folder: str | os.PathLike[str],
    *,
    precision: str = "float32",
    opset: int | None = None,
) -> None:
    """Write a model for ONNX Runtime to a folder, completely or not at all.

    The folder is what :func:`skxlmr.save` writes, with the model as ``onnx/model.onnx`` and ``onnx/model.onnx_data`` in the
    place of ``model.safetensors``, and ``config.json`` and the tokenizer's files beside them once more, as other tools expect
    them. :func:`skxlmr.load_onnx` opens it as the same estimator, without PyTorch. ``save(..., onnx=True)`` writes both.

    Read more in :doc:`/onnx`.

    Parameters
    ----------
    source : fitted estimator, str or path
        An estimator of this library; or a checkpoint (``"skxlmr-mini"``, a folder, or a name on the Hugging Face hub), which
        is opened as the estimator that its ``config.json`` names, and as a vectorizer if it names no head. Heads of the
        original XLM that no estimator reads (tags, answers, choices) are written for other tools.
    folder : str or path
        Created if it does not exist; an existing checkpoint folder is replaced.
    precision : {"float32", "float16", "int8"}, default="float32"
        How the matrices of the encoder and the word embeddings are stored. ``"float16"`` halves the size. ``"int8"`` is
        about a quarter of it and the fastest on CPUs with 8-bit instructions: products of whole numbers, with a scale for
        each output of the weights and for each token, so that no row depends on its neighbours. Heads, norms and attention
        are float32 in all of them, and so are the outputs.
    opset : int, optional
        Version of ONNX's standard operators, 17 by default. A later one is for runtimes that ask for it.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If ``source`` is something else, such as a pipeline.
    ValueError
        If ``precision`` or ``opset`` is not one of these, or the estimator computes what the graph has no form for.
    ImportError
        If the package onnx is not installed (extra ``onnx``).
    CheckpointError
        If the checkpoint cannot be read, or has a head that no estimator reads; if the folder holds something else or what
        is read, or cannot be written; or if a weight is too large for float16.

    See Also
    --------
    skxlmr.save : Writes PyTorch's weights, and with ``onnx=True`` this model beside them.

    Notes
    -----
    The graph takes ``input_ids`` and ``attention_mask``, whole numbers of 64 bits of shape (batch, sequence), padded on the
    right; ``token_type_ids`` where the model has two types, ``langs`` where the original XLM has embeddings of languages, and
    ``position_ids`` for its ``objective='tlm'``.
    It gives ``logits``, ``start_logits`` and ``end_logits``, or ``last_hidden_state`` and ``sentence_embedding``, which
    pooling, further layers and scaling to unit length are part of. With ``long_text='window'`` the mean over the windows
    comes before the scaling, so that the scaling is left to whoever takes the mean.

    Weights are written one after another, and lie in the second file whatever their size.

    Examples
    --------
    >>> import os, tempfile
    >>> from skxlmr import XLMRobertaVectorizer, export_onnx
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(["A text."])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_onnx(vectorizer, folder + "/features", precision="int8")
    ...     sorted(os.listdir(folder + "/features/onnx"))[:3]
    ['config.json', 'model.onnx', 'model.onnx_data']
    """
    from skxlmr.checkpoints import check_source_stays, resolve_checkpoint
    from skxlmr.estimators._core.estimator import Estimator
    from skxlmr.export._from_checkpoint import estimator_of
    from skxlmr.export._model import ModelWriter, model_of
    from skxlmr.export._without_estimator import head_of_its_own, write_checkpoint
    from skxlmr.persistence._save import write_estimator

    check_precision(precision)
    number = check_opset(opset)
    sources: list[str | os.PathLike[str]] = []
    if isinstance(source, str | os.PathLike):
        if os.path.isdir(os.path.expanduser(source)):  # a name on the hub has no folder here
            sources.append(resolve_checkpoint(source))
        if (stored := head_of_its_own(source)) is not None:
            check_source_stays(folder, sources, "export")
            write_checkpoint(stored, folder, precision, number)
            return
        source = estimator_of(source)
    elif not isinstance(source, Estimator):
        raise TypeError(
            f"export_onnx(source, folder) takes an estimator of this library or a checkpoint, got a {type(source).__name__}: "
            "export each estimator in it to a folder of its own"
        )
    origin = getattr(getattr(source, "module_", None), "origin", None)
    check_source_stays(folder, sources if origin is None else [*sources, origin.folder], "export")
    write_estimator(
        source, folder, None, None, onnx=ModelWriter(partial(model_of, source), precision, number), weights=False
    )
