"""Convert weights from one format to another, without TensorFlow or JAX."""

import os
import shutil
from pathlib import Path

from skxlmr.checkpoints import (
    SENTENCE_FILES,
    StoredModel,
    check_source_stays,
    model_place,
    output_layer_files,
    read_model,
    resolve_checkpoint,
    sentence_files,
    target_folder,
    text_files,
    weight_files,
    write_folder,
)
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_bytes

# Files of a checkpoint apart from config and weights. They do not depend on the format of the weights.
COPIED = (
    *("sentencepiece.bpe.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "generation_config.json"),
)


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    format: str = "safetensors",
    *,
    dtype: str | None = None,
    max_shard_size: int | str | None = None,
) -> None:
    """Write a copy of a checkpoint with its weights in another format, dtype or number of files.

    TensorFlow's and Flax's files are read and written with the names and orientation of the classes of ``transformers`` 4,
    without either framework. The configuration and the tokenizer's files are copied, and
    those of a sentence encoder. What else ``save`` writes into a folder
    (``skxlmr.json``, the model card) is not.

    Read more in :doc:`/formats`.

    Parameters
    ----------
    source : str or path
        A checkpoint: ``"skxlmr-mini"``, a folder, or a name on the Hugging Face hub.
    target : str or path
        The folder to write, as a whole or not at all. A checkpoint that is already there is replaced.
    format : {"safetensors", "bin", "h5", "msgpack"}, default="safetensors"
        Format of the weights: safetensors, PyTorch's ``pytorch_model.bin``, TensorFlow's ``tf_model.h5`` (extra ``tf``) or
        Flax's ``flax_model.msgpack`` (extra ``flax``).
    dtype : {"float32", "bfloat16", "float16"}, optional
        Dtype of the weights; by default each tensor keeps its own. TensorFlow's format has no bfloat16 and uses float32
        instead.
    max_shard_size : int or str, optional
        Most bytes of weights per file, such as 2_000_000_000 or ``"2GB"``; by default they are in one file.

    Raises
    ------
    CheckpointError
        If the source is missing, broken or does not fit the format, or the target holds something else, is the source, or
        cannot be written.
    TypeError
        If ``source`` or ``target`` is no path.
    ValueError
        If ``format``, ``dtype`` or ``max_shard_size`` is not one of these, or the format does not have the dtype.
    ImportError
        If the format needs a package that is not installed.

    See Also
    --------
    export_onnx : Writes a model for ONNX Runtime.
    trim_vocabulary : Writes a copy with the part of the vocabulary that some texts use.
    save : Writes a fitted estimator, also with its weights in another dtype.

    Notes
    -----
    TensorFlow's classes always project on the vocabulary with the word embeddings: a language model head with weights of
    its own (``tie_word_embeddings`` false) cannot be written for them. Flax has no class for the original XLM; the file
    follows Flax's general rules, and this library can read it.

    Examples
    --------
    >>> import tempfile
    >>> from skxlmr import XLMRobertaVectorizer, convert
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     convert("skxlmr-mini", folder + "/half", dtype="float16", max_shard_size="1MB")
    ...     XLMRobertaVectorizer(folder + "/half").fit_transform(["Hallo!"]).shape
    (1, 192)
    """
    folder = resolve_checkpoint(source)
    written = target_folder(target, "target")
    model = read_model(folder)
    check_source_stays(written, model.folders(), "convert")
    tensors = model.tensors()
    try:
        write_folder(
            written,
            config=model.raw,
            tensors=tensors,
            tokenizer=Copies(model.model_folder),
            extra_files=files_of_sentence_encoder(model),
            format=format,
            dtype=dtype,
            max_shard_size=max_shard_size,
        )
    except OSError as error:
        raise CheckpointError(written, f"cannot be written ({error})") from error


def files_of_sentence_encoder(model: StoredModel) -> dict[str, str | bytes]:
    """Its files apart from the model: as they are, but with the place of the model where that changes."""
    outputs: dict[str, str | bytes] = dict(
        output_layer_files({n: model.output_layer(n) for n in model.output_layers()})
    )
    folder = model.sentence_folder
    if model_place(folder):
        encoder = model.sentence_encoder()
        assert encoder is not None  # other folders have the model in no folder of its own
        return outputs | sentence_files(encoder, model.config.hidden_size, model.sentence_tensors(encoder))
    names = (*text_files(folder), *weight_files(folder))
    return outputs | {name: read_bytes(folder / name) for name in names if "/" in name or name in SENTENCE_FILES}


class Copies:
    """In place of a tokenizer: copies the files of one."""

    def __init__(self, source: Path):
        self.source = source

    def save(self, folder: Path) -> None:
        """Copy those that are there into an existing folder."""
        for name in COPIED:
            if (self.source / name).is_file():
                shutil.copyfile(self.source / name, folder / name)
