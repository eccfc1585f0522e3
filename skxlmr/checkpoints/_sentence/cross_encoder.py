"""What a folder says of how a cross-encoder scores texts and pairs, read and written as ``sentence-transformers`` does it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._layout import CONFIG, MODULES, SENTENCE_CONFIG, TRANSFORMER_CONFIGS
from skxlmr.checkpoints._sentence import checks
from skxlmr.checkpoints._sentence.reader import SCORES, read_entries, read_prompts, read_transformer
from skxlmr.nn.sentence import TextSettings
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json

KIND = "CrossEncoder"
# What becomes of the outputs, by our words for it; the first name of each is written
ACTIVATIONS = {
    "identity": ("torch.nn.modules.linear.Identity", "torch.nn.Identity"),
    "sigmoid": ("torch.nn.modules.activation.Sigmoid", "torch.nn.Sigmoid"),
}
_WORDS = {name: word for word, names in ACTIVATIONS.items() for name in names}
NEW_KEY, OLD_KEY = "sentence_transformers", "sbert_ce_default_activation_function"  # in config.json


@dataclass(frozen=True, kw_only=True)
class CrossEncoder(TextSettings):
    """How a cross-encoder reads texts and what becomes of its outputs.

    Attributes
    ----------
    activation : str or None
        A word of ``ACTIVATIONS``; None if no file says it.
    unknown : tuple of str, or None
        File, key and name of an activation that is not one of these.
    """

    activation: str | None = None
    unknown: tuple[str, str, str] | None = None

    @property
    def function(self) -> str | None:
        """The activation's name in the files."""
        if self.unknown is not None:
            return self.unknown[2]
        return None if self.activation is None else ACTIVATIONS[self.activation][0]

    def check_activation(self, folder: str | os.PathLike[str]) -> None:
        """Check that the activation is one that is known here.

        Raises
        ------
        CheckpointError
            If it is another function.
        """
        if self.unknown is None:
            return
        file, key, name = self.unknown
        raise CheckpointError(
            Path(folder, file),
            f"expected PyTorch's Identity or Sigmoid as {key}, found {name!r:.80}; no other function is applied. Pass "
            "activation='identity' for the logits",
        )


def read_cross_encoder(folder: Path, place: str, config: dict[str, Any]) -> CrossEncoder:
    """What the folder says; a folder of any other tool says nothing.

    Parameters
    ----------
    folder : Path
    place : str
        Where in it the model lies.
    config : dict
        Content of its ``config.json``.

    Raises
    ------
    CheckpointError
        If a file is broken, or says something of texts or modules that can't be reproduced.
    """
    own = _read_own_settings(folder)
    if not own.keys() & {"activation", "unknown"}:
        own = own | _read_config(Path(folder, place, CONFIG), config)
    return CrossEncoder(**own)


def _read_own_settings(folder: Path) -> dict[str, Any]:
    """What the files say that later versions put beside the model; they count where there is ``modules.json``."""
    file = folder / SENTENCE_CONFIG
    if not os.path.lexists(folder / MODULES) or not os.path.lexists(file):
        return {}
    if read_json(file).get("model_type") != KIND:  # of features, which have nothing to do with a head
        return {}
    prompts, values = read_prompts(folder, KIND, activation_fn=checks.text, keep_in_fp32_modules=checks.anything)
    parts = read_entries(folder)
    if [part.kind for part in parts] != ["Transformer"]:
        found = ", ".join(part.kind for part in parts) or "nothing"
        raise CheckpointError(folder / MODULES, f"expected one Transformer in a cross-encoder, found {found:.200}")
    settings = {**read_transformer(folder / parts[0].place, SCORES), **prompts}
    if "activation_fn" not in values:
        return settings
    return settings | _named(values["activation_fn"], SENTENCE_CONFIG, "activation_fn")


def _read_config(file: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The activation that ``config.json`` names, under the key of version 4 and later, or else that of earlier ones."""
    about = config.get(NEW_KEY)
    if about is not None:
        if not isinstance(about, dict):
            raise CheckpointError(file, f"expected an object as {NEW_KEY}, found {about!r:.80}")
        values = checks.known(file, about, version=checks.anything, activation_fn=checks.text)
        if "activation_fn" in about:
            name = values.get("activation_fn")
            return {} if name is None else _named(name, file.name, f"{NEW_KEY}.activation_fn")
    values = checks.known(file, {OLD_KEY: config.get(OLD_KEY)}, **{OLD_KEY: checks.text})
    return _named(values[OLD_KEY], file.name, OLD_KEY) if OLD_KEY in values else {}


def _named(name: str, file: str, key: str) -> dict[str, Any]:
    word = _WORDS.get(name)
    return {"unknown": (file, key, name)} if word is None else {"activation": word}


def activation_config(said: CrossEncoder | None, config: dict[str, Any]) -> dict[str, Any]:
    """Content of ``config.json`` that names the activation under the keys of all versions; none if the head is another."""
    content = {name: value for name, value in config.items() if name not in (NEW_KEY, OLD_KEY)}
    if said is None or said.function is None:
        return content
    return content | {NEW_KEY: {"activation_fn": said.function}, OLD_KEY: said.function}


def cross_encoder_files(settings: CrossEncoder | None, limit: int) -> dict[str, str | bytes]:
    """Content, by name, of the files that say how texts are read; none where a plain folder says it all.

    ``limit`` is the most tokens of a row.
    """
    if settings is None or not (settings.prompts or settings.lower_case or settings.max_length):
        return {}
    task, modalities, output = SCORES
    contents: dict[str, Any] = {
        MODULES: [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}],
        TRANSFORMER_CONFIGS[0]: {
            "transformer_task": task,
            "modality_config": modalities,
            "module_output_name": output,
            "max_seq_length": limit,
            "do_lower_case": settings.lower_case,
        },
        SENTENCE_CONFIG: {
            "model_type": KIND,
            "prompts": dict(settings.prompts),
            "default_prompt_name": settings.default_prompt,
        },
    }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in contents.items()}
