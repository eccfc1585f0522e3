"""Read an estimator whose model is an ONNX graph, without torch."""

import os
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

from skxlmr.checkpoints import ONNX_FOLDER, external_files
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators._core.graph import FOR_TORCH, check_not_for_torch
from skxlmr.estimators._sequence.zero_shot import XLMRobertaZeroShotClassifier
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.estimators._xlm.masked_lm import XLMMaskedLM
from skxlmr.export._foreign import adopted, read_foreign
from skxlmr.inference import OnnxEngine, OnnxModule, Providers, sentence_of
from skxlmr.persistence._description import COMPOSITE, FILE, file_names, read_description
from skxlmr.persistence._load import (
    card_differs_in,
    described_by,
    read_whole,
    verify_files,
    verify_texts,
    weights_in,
    without_weights,
)
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import is_plain_name
from skxlmr.utils._whole_numbers import check_flags

GRAPH = "model.onnx"
MOST_THREADS = 2**31
MOST_BYTES = 2**40  # of a file with weights


def load_onnx(
    folder: str | os.PathLike[str],
    *,
    estimator: type[Estimator] | None = None,
    file_name: str | None = None,
    providers: Providers = None,
    threads: int | None = None,
    revision: str | None = None,
    verify: bool = True,
    **params: Any,
) -> Any:
    """Read an estimator that runs an ONNX graph with ONNX Runtime; torch is never imported.

    The folder is one that ``export_onnx`` or ``save(..., onnx=True)`` wrote, or one from elsewhere with the graph of an
    XLM-RoBERTa model, or of a relative, in the layout of the public model folders: ``onnx/model.onnx``, weights beyond it in
    ``onnx/model.onnx_data``, and ``config.json`` and the tokenizer's files in the folder or beside the graph. A flat folder
    with ``model.onnx`` opens too.

    Read more in :doc:`/onnx`.

    Parameters
    ----------
    folder : str or path
        The folder, or a name on the Hugging Face hub: ``"org/name"`` or ``"org/name@revision"``. Of the hub's files only those
        of the graph are downloaded.
    estimator : class, optional
        For folders from elsewhere: which estimator. By default what ``config.json`` and the outputs of the graph say.
    file_name : str, optional
        Name of the graph's file, such as ``"model_quantized.onnx"``; by default ``"model.onnx"``.
    providers : list of str or of (str, dict), optional
        ONNX Runtime's execution providers, the preferred one first, such as ``["CUDAExecutionProvider",
        "CPUExecutionProvider"]``; by default the CPU. One that can't be used here is an error.
    threads : int, optional
        Threads within an operator; by default ``OMP_NUM_THREADS``, or else one for each core.
    revision : str, optional
        Branch, tag or commit on the hub.
    verify : bool, default=True
        Compare each file that is read with the SHA-256 that was saved with it; a gigabyte takes about a second. Folders
        from elsewhere have none.
    **params
        Parameters of the estimator, in the place of those that were saved; for folders from elsewhere, all that are not the
        default, such as ``pooling="cls"``, and what ``from_checkpoint`` takes besides, such as ``problem_type``.

    Returns
    -------
    fitted estimator
        Of the class that was saved or chosen. It predicts, transforms and scores like one with torch, and pickles as the path
        of the graph. What needs the weights (``partial_fit``, ``save``, ``generate``) is an error; ``fit`` starts from the
        parameter ``checkpoint``, except for vectorizers, which learn nothing and keep the graph. The graph has its precision
        and ``providers`` say where it runs: ``device`` and ``dtype`` are ``"auto"``.

    Raises
    ------
    CheckpointError
        If a file is missing, broken or not what was saved, the graph has other inputs or outputs, or it keeps its weights
        outside its folder.
    ImportError
        If onnxruntime is not installed (``pip install "skxlmr[onnx]"``).
    ValueError
        If a provider or a parameter can't be used.

    See Also
    --------
    export_onnx : Writes such a folder.

    Examples
    --------
    >>> import tempfile
    >>> from skxlmr import XLMRobertaVectorizer, export_onnx, load_onnx
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(["Good morning."])
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     export_onnx(vectorizer, parent + "/features")
    ...     load_onnx(parent + "/features").transform(["Guten Morgen."]).shape
    (1, 192)
    """
    check_flags(verify=verify)
    check_not_for_torch(params)
    if threads is not None:
        if isinstance(threads, bool) or not isinstance(threads, Integral) or not 1 <= threads < MOST_THREADS:
            raise ValueError(f"threads must be a positive int or None, got {threads!r}")
        threads = int(threads)
    if providers is not None and (not isinstance(providers, list | tuple) or not providers):
        raise ValueError(f"providers must be a list of names, the preferred one first, or None, got {providers!r}")
    graph = GRAPH if file_name is None else file_name
    if not isinstance(graph, str) or not is_plain_name(graph) or not graph.endswith(".onnx"):
        raise ValueError(f"file_name must be the name of a file such as 'model_quantized.onnx', got {file_name!r}")

    def read(opened: Path) -> tuple[Any, bool]:
        module = OnnxModule(_graph(opened, graph), providers, threads)
        if not (opened / FILE).exists():
            return _from_elsewhere(opened, module, estimator, params), False
        return _saved(os.fspath(folder), revision, opened, module, estimator, params, verify)

    return read_whole(folder, revision, read, "load_onnx", graph)


def _graph(folder: Path, name: str) -> Path:
    """The graph's file."""
    places = (folder / ONNX_FOLDER, folder)
    for place in places:
        if (place / name).is_file():
            return place / name
    others = sorted(path.name for place in places for path in place.glob("*.onnx"))
    there = f": it has {', '.join(others)}, which file_name= names" if others else ": write one with export_onnx"
    raise CheckpointError(folder, f"has neither {ONNX_FOLDER}/{name} nor {name}{there}")


def _saved(
    given: str, revision: str | None, folder: Path, module: OnnxModule, kind: Any, params: dict[str, Any], verify: bool
) -> tuple[Estimator, bool]:
    """The estimator that ``skxlmr.json`` describes, and whether the model card differs."""
    about = read_description(folder / FILE, verify)
    if about["estimator"] == COMPOSITE:
        raise CheckpointError(folder / FILE, "describes a pipeline: export the estimator in it, and load that")
    if kind is not None and kind.__name__ != about["estimator"]:
        raise ValueError(f"estimator={kind.__name__}, but the folder holds a {about['estimator']}: leave it out")
    digests = file_names(about, folder / FILE)
    files = [os.path.relpath(path, folder).replace(os.sep, "/") for path in _files(module)]
    verify_texts(folder, about, digests, set(files) | weights_in(folder), verify)
    if verify:
        verify_files(folder, {name: digests[name] for name in files}, MOST_BYTES)
    for_torch = {name for name, allowed in FOR_TORCH.items() if about["params"].get(name, "auto") not in allowed}
    with described_by(folder, about):
        estimator, _ = without_weights(given, folder, about, revision, dict.fromkeys(for_torch, "auto"))
    _describe_vectors(estimator, module, is_ours=True)
    if params:
        estimator.set_params(**params)
        estimator._validate_params()
        estimator._limit()
        if isinstance(estimator, XLMRobertaZeroShotClassifier):
            _take_labels(estimator, params)
    return _with_graph(estimator, module), verify and card_differs_in(folder, digests)


def _take_labels(estimator: XLMRobertaZeroShotClassifier, params: dict[str, Any]) -> None:
    """What a ``fit`` with these parameters makes of them; it learns nothing else."""
    if estimator.candidate_labels is not None and not params.keys().isdisjoint(("candidate_labels", "multi_label")):
        estimator.classes_ = estimator._candidates(None)
    if not params.keys().isdisjoint(("entailment", "contradiction", "multi_label")):
        estimator._read_labels(estimator._nli_labels)
    estimator._check_hypotheses()


def _from_elsewhere(folder: Path, module: OnnxModule, kind: Any, params: dict[str, Any]) -> Estimator:
    """The estimator for a graph that another tool wrote."""
    stored = read_foreign(folder, Path(module.file).parent)
    estimator = adopted(stored, module, kind, params)
    _describe_vectors(estimator, module, is_ours=False)
    return _with_graph(estimator, module)


def _describe_vectors(estimator: Any, module: OnnxModule, is_ours: bool) -> None:
    """Tell the module how its graph makes vectors of texts.

    It does so as the estimator that was exported. A graph of another tool does what its folder says, whatever the parameters
    ask for; they count where the folder says nothing.
    """
    if not isinstance(estimator, Transformer):
        return
    last = estimator.config_.num_hidden_layers
    if is_ours:  # see export_onnx: the mean over windows comes before the scaling
        how, layers, further = estimator._how(), estimator._layers(), estimator._has_further_layers()
        module.is_final = getattr(estimator, "long_text", "truncate") == "truncate"
        module.layer = max(layers) if "logits" not in module.outputs else last
        module.is_scaled = how.normalize and module.is_final
    else:
        how, layers, further = estimator._said or estimator._how(), [last], True
        if "pooler" in how.pooling:  # other tools call its vector pooler_output
            return
        module.is_scaled = how.normalize
    n_skipped = estimator._n_skipped(how, pair=False)
    module.sentence = sentence_of(how, layers, n_skipped, bool(how.layers) and further, module.is_final)


def _with_graph(estimator: Any, module: OnnxModule) -> Estimator:
    """The estimator with the graph as its model, after a look at what the graph makes of a text."""
    if isinstance(estimator, XLMMaskedLM):
        estimator._check_objective("graph")
    module.checkpoint = estimator.checkpoint, estimator.revision
    estimator.module_ = module
    _check_widths(estimator, module)
    return estimator


def _check_widths(estimator: Any, module: OnnxModule) -> None:
    """Refuse a graph whose outputs are not as wide as the estimator reads them, or that can't be run."""
    config, head, who = estimator.config_, estimator._head, type(estimator).__name__
    widths: dict[str, tuple[int, int]] = {
        "last_hidden_state": (3, config.hidden_size),
        "pooler_output": (2, config.hidden_size),
    }
    needed: tuple[str, ...] = () if head.pipeline_tag == "feature-extraction" else ("logits",)
    if head.task == "ForQuestionAnswering":
        needed = ("start_logits", "end_logits")
    elif head.task in ("ForMaskedLM", "ForCausalLM"):
        widths["logits"] = 3, config.vocab_size
    elif head.task == "ForMultipleChoice":
        widths["logits"] = 2, 1
    elif head.task != "Model":
        widths["logits"] = 3 if head.task == "ForTokenClassification" else 2, *estimator._head_arguments()
    for name in needed:
        if name not in module.outputs:
            raise CheckpointError(module.file, f"makes {', '.join(module.outputs)}, and {who} needs {name}")
    names = list(module.outputs)
    engine = OnnxEngine(
        module, config, estimator.batch_size, languages=estimator._family.language_numbers(estimator, config)
    )
    for name, values in zip(names, module.run(names, engine.probe(estimator.tokenizer_)), strict=True):
        found = values.ndim, values.shape[-1]
        if found != widths.get(name, found):
            n, width = widths[name]
            reason = f"makes {name} of {found[0]} dimensions, the last {found[1]} wide, and {who} reads {n} and {width}"
            raise CheckpointError(module.file, reason)


def _files(module: OnnxModule) -> Iterable[str]:
    """Paths of the graph and of the files with its weights."""
    return [module.file, *(os.path.join(os.path.dirname(module.file), name) for name in external_files(module.file))]
