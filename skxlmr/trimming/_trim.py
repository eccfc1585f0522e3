"""Write a copy of a checkpoint with the part of its vocabulary that some texts use."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.checkpoints import (
    StoredModel,
    check_source_stays,
    read_model,
    resolve_checkpoint,
    target_folder,
    weight_files,
    write_folder,
)
from skxlmr.conversion import Copies, files_of_sentence_encoder
from skxlmr.persistence._save import check_card
from skxlmr.text import Tokenizer, load_tokenizer
from skxlmr.trimming._corpus import Corpus, columns_of
from skxlmr.trimming._report import TrimReport
from skxlmr.trimming._saved import saved_in
from skxlmr.trimming._tokenizer_files import Reader, readers_of, referenced_ids, write_trimmed
from skxlmr.trimming._usage import count_ids, measure, prepared, used_ids
from skxlmr.trimming._vocabulary import Bools
from skxlmr.trimming._weights import named_ids, rows_of, trimmed_config, trimmed_tensors
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json

if TYPE_CHECKING:
    from skxlmr.nn.sentence import TextSettings

GENERATION = "generation_config.json"
KEEP = ("characters", "used")


def trim_vocabulary(
    source: str | os.PathLike[str],
    texts: Any,
    folder: str | os.PathLike[str],
    *,
    min_count: int = 1,
    keep: str = "characters",
    keep_texts: Any = (),
) -> TrimReport:
    """Write a copy of a checkpoint whose vocabulary has only what some texts use.

    Two thirds of XLM-R are the word embeddings of 250,002 tokens of a hundred languages. Texts of a few languages use a small
    part of them. The tokenizer's files, the word embeddings and the language modelling head are cut down to that part; all else
    is copied. A text all of whose tokens stay gets the same tokens, and so the same vectors to the last bit.

    Read more in :doc:`/small_models`.

    Parameters
    ----------
    source : str or path
        A checkpoint: ``"skxlmr-mini"``, a folder, or a name on the Hugging Face hub; or the folder of a saved estimator, which
        gives one that `load` opens. The adapter of a LoRA checkpoint is merged.
    texts : list, array, Series, DataFrame or iterable, or mapping of str to one of these
        Texts such as the model will read. All columns of a DataFrame and both texts of pairs count. For a tagger also rows of
        words, each of which counts as a text. An iterator of texts, or
        of batches of texts, can be larger than the memory: while it is read, it is copied to a temporary file. A mapping has
        the texts of each language, and the report then tells languages apart. The original XLM reads texts by the rules of
        their language, and takes its code from the mapping; without one, from ``lang`` of a saved estimator, or reads English.
    folder : str or path
        The folder to write, as a whole or not at all. A checkpoint that is already there is replaced.
    min_count : int, default=1
        A token stays if it occurs so often. With 1, all texts keep their tokens.
    keep : {"characters", "used"}, default="characters"
        ``"characters"`` also keeps every single character of the vocabulary, so that other texts can still be spelled, in
        smaller pieces. ``"used"`` gives the smallest vocabulary; characters that the texts lack become unknown.
    keep_texts : list, array, Series or DataFrame of str, optional
        Further texts whose tokens stay, however rare: names, labels, words that are expected. The original XLM reads them by
        the rules of each language of ``texts``.

    Returns
    -------
    TrimReport
        Rows and bytes before and after, how each language reads, and the map of the ids.

    Raises
    ------
    CheckpointError
        If the source is missing or broken, is a folder of ONNX alone or a pipeline, or has a tokenizer that cannot be trimmed;
        or if the target holds something else, is the source, or cannot be written.
    TypeError
        If ``texts`` is a single string, or ``folder`` is no path.
    ValueError
        If a text is not a str, there are none, no token occurs ``min_count`` times, or a parameter is invalid.

    See Also
    --------
    skxlmr.convert : Copy a checkpoint in another format or dtype.

    Notes
    -----
    Special and added tokens always stay, the bytes of a model that falls back to them, and what the segmentation of the texts
    that stay depends on: of a Unigram model the pieces with the lowest and highest score, of byte-pair encoding what a token is
    merged from. Prompts of a sentence encoder stay too, and the hypotheses of a saved zero-shot classifier. Ids up to that of
    the padding token do not change, since XLM-R counts positions from it.

    Drawn segmentations (``subword_sampling``) are drawn from fewer pieces, probabilities of a language model
    are over fewer tokens, and features that are weights of words have fewer columns.

    Weights are written as safetensors, in one file. Only the rows that stay are read.

    References
    ----------
    Abdaoui, Pradel and Sigel, Load What You Need: Smaller Versions of Multilingual BERT, https://arxiv.org/abs/2010.05609

    Ushio, Zhou and Camacho-Collados, Efficient Multilingual Language Model Compression through Vocabulary Trimming,
    https://arxiv.org/abs/2305.15020

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skxlmr import XLMRobertaVectorizer, trim_vocabulary
    >>> texts = ["Das Zimmer war sauber.", "Das Frühstück war gut."]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = trim_vocabulary("skxlmr-mini", {"de": texts}, folder + "/german")
    ...     small = XLMRobertaVectorizer(folder + "/german").transform(texts)
    >>> np.array_equal(small, XLMRobertaVectorizer("skxlmr-mini").transform(texts))
    True
    >>> report.n_rows_after < report.n_rows_before, report.coverage["de"].identical
    (True, 1.0)
    """
    _check_parameters(min_count, keep)
    place = resolve_checkpoint(source)
    target = target_folder(folder)
    further = [text for column in columns_of(keep_texts, "keep_texts") for text in column]
    saved, model = saved_in(place), read_model(place)
    check_source_stays(target, model.folders(), "trim")
    before = _bytes_of_weights(model)
    how, tokenizer, as_tagger = _settings(model), model.tokenizer(), _is_tagger(model)
    if saved is not None:
        tokenizer = saved.reading(tokenizer, model.config)
        further += saved.own_texts()
    further += [text for _, text in how.prompts]
    with Corpus(texts) as corpus, model.unchanged(), TemporaryDirectory() as scratch:
        converted, files = Path(scratch, "converted"), Path(scratch, "trimmed")
        for made in (converted, files):
            made.mkdir()
        readers = readers_of(model.model_folder, tokenizer, converted)
        counts = count_ids(corpus, readers, how, as_tagger)
        if counts.max() < min_count:
            raise ValueError(_too_rare(int(counts.max()), min_count))
        always = _always(model, tokenizer) | used_ids(readers, prepared(further, how, ""), corpus, as_tagger)
        kept = _kept(readers, counts >= min_count, always, keep == "characters")
        ids = np.flatnonzero(kept)
        write_trimmed(model.model_folder, files, ids, readers[0].vocabulary)
        after = load_tokenizer(files, model.config.model_type)
        after = after if saved is None else saved.reading(after, model.config)
        coverage, wrong = measure(corpus, tokenizer, after, how, as_tagger, ids)
        if wrong is not None:
            reason = (
                f"cannot be trimmed: its tokenizer would read {wrong!r:.80} otherwise although all of its tokens stay"
            )
            raise CheckpointError(model.model_folder, reason)
        tensors = model.tensors()
        n_rows = rows_of(model, tensors)
        rows = ids[ids < n_rows]
        new = {int(old): i for i, old in enumerate(rows)}
        _write_settings(model, files, new)
        trimmed = trimmed_tensors(model, tensors, rows)
        if saved is not None:
            check_card(target)
        try:
            write_folder(
                target,
                config=trimmed_config(model.raw, new),
                tensors=trimmed,
                tokenizer=Copies(files),
                extra_files=files_of_sentence_encoder(model) | (saved.files() if saved is not None else {}),
            )
        except OSError as error:
            raise CheckpointError(target, f"cannot be written ({error})") from error
    n_bytes = sum((target / name).stat().st_size for name in weight_files(target))
    return TrimReport(target, n_rows, len(rows), before, n_bytes, coverage, rows)


def _check_parameters(min_count: int, keep: str) -> None:
    if isinstance(min_count, bool) or not isinstance(min_count, int | np.integer) or min_count < 1:
        raise ValueError(f"min_count must be a whole number from 1, got {min_count!r:.80}")
    if keep not in KEEP:
        raise ValueError(
            f"keep must be one of {', '.join(KEEP)}, got {keep!r:.80}; for texts whose tokens stay there is keep_texts"
        )


def _too_rare(most: int, min_count: int) -> str:
    if not most:
        return "texts has no tokens: there is no text in it, or only empty ones"
    return f"min_count={min_count} would leave nothing: no token occurs in texts more than {most} times"


def _bytes_of_weights(model: StoredModel) -> int:
    """Size of the files with the weights, those of an adapter's base included."""
    try:
        names = weight_files(model.folder)
    except CheckpointError as error:
        if (model.folder / "onnx").is_dir() or any(model.folder.glob("*.onnx")):
            reason = "holds an ONNX model and no other weights: trim the checkpoint that it was exported from, then export that"
            raise CheckpointError(model.folder, reason) from error
        raise
    return sum((model.folder / name).stat().st_size for name in names) + (
        _bytes_of_weights(model.base) if model.base else 0
    )


def _settings(model: StoredModel) -> "TextSettings":
    """How the checkpoint reads texts before they are tokenised."""
    file = model.sentence_folder / "config_sentence_transformers.json"
    if file.is_file() and read_json(file).get("model_type") == "CrossEncoder":
        return model.cross_encoder()
    return model.sentence_encoder() or model.cross_encoder()


def _is_tagger(model: StoredModel) -> bool:
    """Whether the checkpoint has the head of a tagger, which reads words."""
    architectures = model.raw.get("architectures")
    return isinstance(architectures, list) and any(
        str(each).endswith("ForTokenClassification") for each in architectures
    )


def _always(model: StoredModel, tokenizer: Tokenizer) -> Bools:
    """Which ids stay whatever the texts are."""
    ids = {*tokenizer.added_tokens, *tokenizer.all_special_ids, tokenizer.unk_token_id, *named_ids(model.raw)}
    ids |= referenced_ids(model.model_folder, tokenizer)
    file = model.model_folder / GENERATION
    ids.update(named_ids(read_json(file)) if file.is_file() else ())
    if model.config.max_length < model.config.max_position_embeddings:  # positions are counted from the padding token
        ids |= set(range(model.config.pad_token_id + 1))
    always = np.zeros(tokenizer.vocab_size, bool)
    always[[i for i in ids if 0 <= i < tokenizer.vocab_size]] = True
    return always


def _kept(readers: list[Reader], used: Bools, always: Bools, with_characters: bool) -> Bools:
    kept = used | always
    for reader in readers:
        kept |= reader.vocabulary.characters() & with_characters
    for reader in readers:
        kept |= reader.vocabulary.needed(kept)
    return kept


def _write_settings(model: StoredModel, files: Path, new: dict[int, int]) -> None:
    """Write the settings of generation, with new ids, beside the files of the tokenizer."""
    if (model.model_folder / GENERATION).is_file():
        content = trimmed_config(read_json(model.model_folder / GENERATION), new)
        (files / GENERATION).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
