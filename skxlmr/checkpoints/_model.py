"""A checkpoint folder as a model: its configuration, and its weights under the names of the modules."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._adapters.base import base_folder
from skxlmr.checkpoints._adapters.config import Lora, read_lora
from skxlmr.checkpoints._adapters.described import described
from skxlmr.checkpoints._adapters.merge import merge
from skxlmr.checkpoints._adapters.names import Names
from skxlmr.checkpoints._adapters.tensors import ENDING, A, B, read_adapter
from skxlmr.checkpoints._folder import read_config
from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.read import read_tensors
from skxlmr.checkpoints._hub import BUILTIN
from skxlmr.checkpoints._identity import Identity, identity
from skxlmr.checkpoints._layout import CONFIG, DESCRIPTION, MODULES, VOCABULARIES, model_place
from skxlmr.checkpoints._mapped_files import MappedFiles
from skxlmr.checkpoints._opened.tokenizers import open_tokenizer
from skxlmr.checkpoints._sentence.cross_encoder import CrossEncoder, read_cross_encoder
from skxlmr.checkpoints._sentence.outputs import output_layers, read_output_layer
from skxlmr.checkpoints._sentence.reader import read_parts, read_sentence_encoder
from skxlmr.checkpoints._tensor_names import normalize_names
from skxlmr.nn import ModelConfig, XLMConfig, config_of, family_of
from skxlmr.nn.sentence import SentenceEncoder
from skxlmr.text import Tokenizer
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import read_json


@dataclass(frozen=True)
class StoredModel:
    """A checkpoint folder: its configuration, and its weights when asked for.

    Attributes
    ----------
    folder : Path
        The folder.
    raw : dict
        Content of ``config.json``.
    config : ModelConfig or XLMConfig
        The same as typed and checked fields.
    place : str
        Where in it the model lies: ``""``, or the name of a folder in it, as early sentence encoders have it.
    identity : tuple
        Of the folder, before anything was read.
    base : StoredModel or None
        The base model of an adapter: the folder then holds only what is merged into it.
    lora : Lora or None
        What the adapter's config says.
    """

    folder: Path
    raw: dict[str, Any]
    config: ModelConfig | XLMConfig
    place: str = ""
    identity: Identity = field(default=(), compare=False, repr=False)
    base: StoredModel | None = None
    lora: Lora | None = None

    @property
    def model_folder(self) -> Path:
        """The folder with ``config.json``, the tokenizer and the weights; an adapter's only if it has a tokenizer."""
        if self.base is not None and not any((self.folder / name).is_file() for name in VOCABULARIES):
            return self.base.model_folder
        return self.folder / self.place

    @property
    def sentence_folder(self) -> Path:
        """The folder that says how vectors of texts are made, if any does: an adapter leaves it to its base model."""
        if self.base is not None and not (self.folder / MODULES).is_file():
            return self.base.sentence_folder
        return self.folder

    def folders(self) -> list[Path]:
        """What is read from: the folder, and that of an adapter's base model."""
        return [self.folder] if self.base is None else [self.folder, *self.base.folders()]

    @property
    def files(self) -> Hashable:
        """Tells the files of this folder, as they were before anything was read, from others and from what they become."""
        return os.path.abspath(self.folder), self.identity

    @property
    def remark(self) -> str:
        """What the message about weights that do not fit ends with: the model may be another one than its type says."""
        names_code = "auto_map" in self.raw
        return "; config.json names code for this model (auto_map), which is never run here" if names_code else ""

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Around reading files of the folder.

        Raises
        ------
        CheckpointError
            If a file was replaced meanwhile, so that what was read, or the reason why it cannot be, may be that of two
            models.
        """
        error: Exception | None = None
        try:
            yield
        except (CheckpointError, OSError) as raised:
            error = raised
        if identity(self.folder) != self.identity:
            raise CheckpointError(self.folder, "was replaced or changed while it was being read: try again") from error
        if error is not None:
            raise error

    def tensors(self) -> Tensors:
        """Map the weights, under the names that the modules use.

        Returns
        -------
        dict of str to Tensor
            As from :func:`read_tensors`, with the names of :func:`normalize_names`.

        Raises
        ------
        CheckpointError
            If there are no weights, a file of them is missing or broken, or two names mean the same tensor.
        ImportError
            If they are TensorFlow's, and h5py is not installed.
        """
        tied, source = self.config.tie_word_embeddings, str(self.folder)
        if self.base is not None and self.lora is not None:
            family = family_of(self.config)
            was_tied = self.base.config.tie_word_embeddings
            return merge(self.lora, self.base.tensors(), read_adapter(self.folder, family), family, was_tied, tied)
        return normalize_names(read_tensors(self.model_folder), family_of(self.config), tied=tied, source=source)

    @property
    def base_name(self) -> str:
        """The base model of an adapter: its folder, or its name on the hub."""
        assert self.base is not None and self.lora is not None, "it is an adapter"
        name = str(self.lora.base_name)
        places = (os.path.expanduser(name), os.path.join(self.folder, name))
        return str(self.base.folder) if name != BUILTIN and any(map(os.path.isdir, places)) else name

    def matrices(self) -> Tensors:
        """The matrices of an adapter in memory: ``<module>.lora_A.weight`` and ``<module>.lora_B.weight``, in float32."""
        adapted = read_adapter(self.folder, family_of(self.config)).adapted
        ends = {kind: ENDING[kind] for kind in (A, B)}
        return {
            module + end: parts[kind].float().clone() for module, parts in adapted.items() for kind, end in ends.items()
        }

    def mapped_tensors(self) -> tuple[Tensors, MappedFiles]:
        """The same, and the files of which the module that uses them must know."""
        files = MappedFiles.of_folder(self.folder)
        if self.base is not None:
            files |= MappedFiles.of_folder(self.base.folder)
        tensors = self.tensors()
        return tensors, files.with_tensors(tensors)

    def tokenizer(self) -> Tokenizer:
        """Load the tokenizer, or take the one that was loaded from the same unchanged files, with settings of its own.

        Raises
        ------
        CheckpointError
            If the files are not those of one tokenizer that this library reads, or broken.
        """
        if self.base is not None and self.model_folder == self.base.model_folder:
            return self.base.tokenizer()
        files = self.identity
        tokenizer = open_tokenizer(
            self.model_folder, self.config.model_type, files, lambda: identity(self.folder) == files
        )
        limit = self._tokenizer_limit()
        if limit is not None:
            tokenizer.model_max_length = limit
        return tokenizer

    def _tokenizer_limit(self) -> int | None:
        """Most tokens of a row, as the tokenizer had it of which a saved estimator was made; None of other folders.

        The file of a saved tokenizer names the estimator's limit instead, at which other tools cut. Of folders that earlier
        versions wrote it is that of the model, as the tokenizer's was not read then.

        Raises
        ------
        CheckpointError
            If ``skxlmr.json`` is broken.
        """
        file = self.folder / DESCRIPTION
        if not file.exists():
            return None
        limit = read_json(file).get("tokenizer_max_length", self.config.max_length)
        if type(limit) is not int or limit < 1:
            raise CheckpointError(file, f"expected a number of tokens as tokenizer_max_length, found {limit!r:.80}")
        return limit

    def sentence_encoder(self) -> SentenceEncoder | None:
        """How the folder makes vectors of texts; None if it does not say so, as a plain model.

        Raises
        ------
        CheckpointError
            If a file that says so is broken, or says something that the library can't reproduce.
        """
        return read_sentence_encoder(self.sentence_folder, self.config.hidden_size)

    def cross_encoder(self) -> CrossEncoder:
        """How the folder says that a cross-encoder reads texts and what becomes of its outputs.

        Raises
        ------
        CheckpointError
            If a file that says so is broken, or says something of texts that the library can't reproduce.
        """
        return read_cross_encoder(self.sentence_folder, self.place, self.raw)

    def sentence_tensors(self, encoder: SentenceEncoder) -> Tensors:
        """Map the weights of the layers after the pooling; each name begins with the number of the layer."""
        tensors: Tensors = {}
        folder = self.sentence_folder
        for i, (layer, part) in enumerate(zip(encoder.layers, read_parts(folder)[2:], strict=False)):
            if layer in encoder.sized():
                tensors |= {f"{i}.{name}": tensor for name, tensor in read_tensors(folder / part.place).items()}
        return tensors

    def output_layers(self) -> list[str]:
        """Names of the layers that make further outputs of the vectors of tokens."""
        theirs = [] if self.base is None else self.base.output_layers()
        return list(dict.fromkeys([*output_layers(self.folder), *theirs]))

    def output_layer(self, name: str) -> Tensors:
        """Weight and bias of such a layer, in memory.

        Raises
        ------
        CheckpointError
            If the folder has no such layer, or its file is broken.
        """
        if self.base is not None and name not in output_layers(self.folder):  # an adapter leaves it to its base model
            return self.base.output_layer(name)
        return read_output_layer(self.folder, name, self.config.hidden_size)


def read_model(folder: str | os.PathLike[str]) -> StoredModel:
    """Read what ``config.json`` says of the model in a checkpoint folder. The weights are not opened yet.

    Parameters
    ----------
    folder : str or path
        A checkpoint folder.

    Returns
    -------
    StoredModel

    Raises
    ------
    CheckpointError
        If ``config.json`` is missing or broken, or describes a model that this library does not know.

    Examples
    --------
    >>> from skxlmr.checkpoints import read_model, resolve_checkpoint
    >>> model = read_model(resolve_checkpoint("skxlmr-mini"))
    >>> model.config.hidden_size
    192
    >>> tuple(model.tensors()["roberta.encoder.layer.0.output.dense.bias"].shape)
    (192,)
    """
    before = identity(folder)
    if (base := base_folder(folder)) is not None:
        return _read_adapted(Path(folder), read_model(base), before)
    place = model_place(folder)
    raw = read_config(Path(folder, place))
    with blaming(Path(folder, place, CONFIG), "{}", ValueError):
        config = config_of(raw)
    return StoredModel(Path(folder), raw, config, place, before)


def _read_adapted(folder: Path, base: StoredModel, before: Identity) -> StoredModel:
    """A base model with an adapter: its config is the base's, apart from what the adapter changes."""
    lora, family = read_lora(folder), family_of(base.config)
    adapter = read_adapter(folder, family)
    raw = described(folder, lora, base.raw, adapter, Names({}, family, adapter.is_bare))
    with blaming(lora.file, "{}", ValueError):
        config = config_of(raw)
    return StoredModel(folder, raw, config, "", before, base, lora)
