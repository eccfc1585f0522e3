"""Which files make up a checkpoint, and where in a folder they lie.

A model lies in the folder itself. Beside it, a sentence encoder has ``modules.json``, settings, and a folder for each further
part, such as ``1_Pooling``. Early ones have the model in a folder too, ``0_Transformer``.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from skxlmr.checkpoints._formats.table import FORMATS, WEIGHT_FILES
from skxlmr.utils._errors import CheckpointError

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"  # of PEFT
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
# apart from the weights
CONTENT_FILES = [CONFIG, "sentencepiece.bpe.model", "tokenizer.json", "vocab.json", "vocab.txt", "merges.txt"]
CONTENT_FILES += ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", ADAPTER_CONFIG]
DESCRIPTION = "skxlmr.json"  # of a saved estimator
ONNX_FOLDER, ONNX_FILES = "onnx", ("model.onnx", "model.onnx_data")  # of a graph, its config and its tokenizer

VOCABULARIES = ("sentencepiece.bpe.model", "tokenizer.json", "vocab.json", "vocab.txt")


MODULES = "modules.json"
SENTENCE_CONFIG = "config_sentence_transformers.json"
# Settings of the transformer; the first file that is there counts
TRANSFORMER_CONFIGS = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
SENTENCE_FILES = [MODULES, SENTENCE_CONFIG, *TRANSFORMER_CONFIGS]
# Layers beside the model that make further outputs of the vectors of tokens, by name
OUTPUT_LAYERS = {name: f"{name}.pt" for name in ("sparse_linear", "colbert_linear")}
PART = re.compile(r"[0-9]{1,2}_[A-Za-z]\w{0,40}", re.ASCII)  # folder of a part
PART_PATTERN = "[0-9]*_*"
PART_WEIGHTS = [FORMATS[name].file for name in ("safetensors", "bin")]


def is_adapter(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds an adapter, not a model.

    Raises
    ------
    CheckpointError
        If it holds both: nobody can tell whether the model is the adapter's base, or has it merged already.
    """
    if not os.path.lexists(os.path.join(folder, ADAPTER_CONFIG)):
        return False
    if _has_weights(Path(folder)):
        raise CheckpointError(
            folder,
            f"holds a whole model and {ADAPTER_CONFIG}, and does not say whether the adapter is merged into the model already: "
            f"remove {ADAPTER_CONFIG} to open the model alone, or move the adapter's files to a folder of their own",
        )
    return True


def weight_patterns(weights: str) -> list[str]:
    """Patterns of the file names of one format: the single file ``weights``, its shards and their index."""
    stem, ending = os.path.splitext(weights)
    return [weights, f"{stem}-*{ending}", f"{weights}.index.json"]


def download_patterns(weights: str) -> list[str]:
    """Patterns of the files of a checkpoint whose weights have one format."""
    own = [*CONTENT_FILES, *TRANSFORMER_CONFIGS, *weight_patterns(weights)]
    parts = [f"{PART_PATTERN}/{name}" for name in (CONFIG, *PART_WEIGHTS)]
    beside = [DESCRIPTION, *SENTENCE_FILES, *OUTPUT_LAYERS.values()]
    return [*CONTENT_FILES, *beside, *weight_patterns(weights), *parts, *(f"0_*/{n}" for n in own)]


def graph_patterns(graph: str) -> list[str]:
    """Patterns of the files that an estimator on an ONNX graph of this name needs."""
    own = [*CONTENT_FILES, f"{graph}*"]
    parts = [f"{PART_PATTERN}/{CONFIG}", DESCRIPTION, *SENTENCE_FILES, *OUTPUT_LAYERS.values(), "README.md"]
    return [*own, *(f"{ONNX_FOLDER}/{name}" for name in own), *parts]


# Patterns of all files that make up a checkpoint, in any format, or an adapter
CHECKPOINT_FILES = [*dict.fromkeys(pattern for name in WEIGHT_FILES for pattern in download_patterns(name))]
CHECKPOINT_FILES += ADAPTER_WEIGHTS


def model_place(folder: str | os.PathLike[str]) -> str:
    """Where in a checkpoint folder the model lies: ``""`` for the folder itself, else the name of a folder in it."""
    folder = Path(folder)
    if not (folder / MODULES).is_file() or _has_weights(folder):
        return ""
    found = [name for name in part_names(folder) if name.startswith("0_") and (folder / name / CONFIG).is_file()]
    return found[0] if len(found) == 1 else ""


def part_names(folder: Path) -> list[str]:
    """Names of the folders of a sentence encoder's parts, sorted."""
    with suppress(OSError):
        return sorted(name for name in os.listdir(folder) if PART.fullmatch(name) and (folder / name).is_dir())
    return []


def text_files(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the files of a checkpoint that are there, apart from the weights of the model."""
    folder = Path(folder)
    names = list(CONTENT_FILES)
    if (folder / MODULES).is_file():
        place, parts = model_place(folder), part_names(folder)
        if place:
            names = [f"{place}/{name}" for name in (*CONTENT_FILES, *TRANSFORMER_CONFIGS)]
        names += [*SENTENCE_FILES, *(f"{part}/{CONFIG}" for part in parts if part != place)]
    names += OUTPUT_LAYERS.values()
    return [name for name in names if (folder / name).is_file()]


def weight_files(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the files with weights that are read: in the first format there is, one file before shards."""
    folder = Path(folder)
    place = model_place(folder)
    names = _weights(folder, place)
    if not names:
        expected = ADAPTER_WEIGHTS if is_adapter(folder) else (*WEIGHT_FILES, "an index of shards")
        raise CheckpointError(folder, f"holds no weights: expected {' or '.join(expected)}{instead_of_weights(folder)}")
    if (folder / MODULES).is_file():
        names += [name for part in part_names(folder) if part != place for name in _weights(folder, part)]
    return names


def instead_of_weights(folder: Path) -> str:
    """What to say of a folder without weights that has a model for ONNX Runtime."""
    file = f"{ONNX_FOLDER}/{ONNX_FILES[0]}"
    return f"; its {file} is for skxlmr.load_onnx" if (folder / file).is_file() else ""


def _weights(folder: Path, place: str) -> list[str]:
    start = f"{place}/" if place else ""
    if not place and is_adapter(folder):
        return [name for name in ADAPTER_WEIGHTS if (folder / name).is_file()][:1]
    for name in WEIGHT_FILES:
        if (folder / place / name).is_file():
            return [start + name]
        if (folder / place / f"{name}.index.json").is_file():
            found = [path.name for pattern in weight_patterns(name) for path in (folder / place).glob(pattern)]
            return [start + each for each in found]
    return []


def _has_weights(folder: Path) -> bool:
    return any((folder / (name + ending)).is_file() for name in WEIGHT_FILES for ending in ("", ".index.json"))
