"""From the name of a checkpoint, a folder or a repository on the Hugging Face hub, to a local folder."""

import errno
import os
import re
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

from skxlmr.checkpoints._atomic_replace import surviving
from skxlmr.checkpoints._formats.table import WEIGHT_FILES
from skxlmr.checkpoints._layout import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    download_patterns,
    graph_patterns,
    weight_patterns,
)
from skxlmr.checkpoints._secrets import fault_of_known_token, without_secrets
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import check_utf8, is_path
from skxlmr.utils._tables import describe, plain_str

BUILTIN = "skxlmr-mini"  # the small checkpoint that comes with the package
LOG_IN = "log in (hf auth login, or HF_TOKEN)"
COPY = "or pass the folder of a copy"
BUILTIN_INSTEAD = f"or use the built-in {BUILTIN!r}"
# what a misspelt name may have meant; the first of equally near ones counts
FAMOUS = [BUILTIN, "FacebookAI/xlm-roberta-base", "FacebookAI/xlm-roberta-large", "facebook/xlm-roberta-xl"]
FAMOUS += ["facebook/xlm-roberta-xxl", "facebook/xlm-v-base", "facebook/xmod-base", "FacebookAI/roberta-base"]
FAMOUS += ["FacebookAI/roberta-large", "FacebookAI/xlm-mlm-en-2048", "FacebookAI/xlm-mlm-100-1280"]
# Which sentence-transformers opens without its organisation in front.
SHORT_NAME = re.compile(r"((all|distiluse|msmarco|multi-qa|nli|paraphrase|stsb)-[^/]+|labse)(@|$)", re.IGNORECASE)
NEAR = 0.87  # similarity; lower ones also suggest checkpoints of other models
LONGEST_SHOWN = 200  # characters of a path in an error

# (repository, revision) -> folder: a grid search asks the hub once per process, and all its fits start from the same weights.
_downloaded: dict[tuple[str, str | None, str | None], Path] = {}


def resolve_checkpoint(name: str | os.PathLike[str], revision: str | None = None, graph: str | None = None) -> Path:
    """Find the local folder of a checkpoint, downloading it on first use.

    Parameters
    ----------
    name : str or path
        ``"skxlmr-mini"`` (inside the package), a local folder, or a name on the Hugging Face hub: ``"org/name"`` or
        ``"org/name@revision"``. The hub's own cache and its ``HF_HOME``, ``HF_TOKEN``, ``HF_HUB_OFFLINE`` are honoured.
    revision : str, optional
        Branch, tag or commit on the hub.
    graph : str, optional
        Name of the file of an ONNX graph, which is downloaded in the place of the weights, with its own.

    Returns
    -------
    Path
        An existing folder. Only the configuration, the tokenizer, one format of the weights (those of an adapter, if it is
        one) and ``skxlmr.json``, if there is one, are downloaded.

    Raises
    ------
    CheckpointError
        If there is no such folder, or the hub cannot deliver it.
    """
    name = plain_str(name) if isinstance(name, str) else name
    if not is_path(name):
        raise TypeError(f"the checkpoint must be a folder (str or path) or a name, got {describe(name)}")
    path = os.path.expanduser(os.fspath(name))
    if not path:
        raise CheckpointError("''", "the checkpoint must be a folder or a name, got an empty string")
    check_utf8(path)
    if "://" in path:
        reason = "is an address: pass a folder, or the name on the Hugging Face hub (org/name)"
        raise CheckpointError(without_secrets(path), reason)
    try:
        os.stat(os.path.join(path, os.curdir) if os.path.isdir(path) else path)  # fails if it may not be entered
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) not in (errno.ENOENT, errno.ENOTDIR):  # perhaps a text passed by mistake
            said = getattr(error, "strerror", None) or error
            shown = path if isinstance(error, OSError) and len(path) < LONGEST_SHOWN else f"{path!r:.{LONGEST_SHOWN}}"
            raise CheckpointError(shown, f"cannot be opened as a folder or name a repository ({said})") from error
    while name != BUILTIN and not os.path.isdir(path):
        if os.path.exists(path) and not os.path.isdir(path):
            pickled = path.lower().endswith((".joblib", ".pickle", ".pkl"))
            hint = ": joblib.load opens pickles" if pickled else ""
            raise CheckpointError(
                path, f"is a file, expected a checkpoint folder (with config.json and the weights){hint}"
            )
        if (moved := surviving(Path(os.path.realpath(path)))) is not None:
            return moved
        if os.path.isdir(path):  # a save has just put the new folder there
            break
        if isinstance(name, str) and not looks_like_path(name):
            return _download(name, revision, graph)
        hint = (
            "" if isinstance(name, str) else " (only a str can name the built-in checkpoint or a repository on the hub)"
        )
        raise CheckpointError(path, f"no such folder{did_you_mean(path)}{hint}")
    if revision is not None:
        raise CheckpointError(name, f"revision={revision!r} applies to names on the hub, but this is a local folder")
    if name != BUILTIN:
        return _without_links(path)
    folder = Path(str(resources.files("skxlmr.checkpoints") / BUILTIN))
    if not folder.is_dir():
        raise CheckpointError(folder, f"the built-in checkpoint {BUILTIN!r} is not part of this installation")
    return folder


def _without_links(path: str) -> Path:
    """The folder itself: a link to it may lead to another one before all files are read. Without links, as it was given."""
    real = os.path.realpath(path)
    return Path(path) if os.path.normcase(real) == os.path.normcase(os.path.abspath(path)) else Path(real)


def did_you_mean(name: str) -> str:
    """Return " (did you mean ...?)" if a name is nearly that of a well-known checkpoint, otherwise nothing."""
    if SHORT_NAME.match(name[:LONGEST_SHOWN]):
        return f" (did you mean 'sentence-transformers/{name}'?)"
    repo = re.sub(r"[_ ]", "-", name.partition("@")[0].lower())[:LONGEST_SHOWN]
    repo = re.sub(r"^xlm-?r(oberta)?(?=-|$)", "xlm-roberta", repo)
    known = {whole.lower(): whole for whole in FAMOUS} | {"xlm-roberta": FAMOUS[1]}
    known |= {whole.partition("/")[2].lower(): whole for whole in FAMOUS if "/" in whole}
    near = get_close_matches(repo, known, n=1, cutoff=NEAR)
    return f" (did you mean {known[near[0]]!r}?)" if near and known[near[0]] != name else ""


def looks_like_path(name: str) -> bool:
    """Whether a name can only be a folder, not a repository on the hub."""
    repo = name.partition("@")[0]  # a branch may have slashes
    return name.startswith((".", "/", "~", os.sep)) or repo.count("/") > 1 or "\\" in name


def _download(name: str, revision: str | None, graph: str | None) -> Path:
    from huggingface_hub import constants, errors, snapshot_download

    repo, _, pinned = name.partition("@")
    if pinned and revision not in (None, pinned):
        raise CheckpointError(name, f"the name asks for revision {pinned!r}, but revision={revision!r} for another")
    revision = pinned or revision
    known = _downloaded.get((repo, revision, graph))
    if known is not None and known.is_dir():
        return known
    # huggingface_hub reads the variable once, when it is imported; a notebook may set it later.
    set_later = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    offline = constants.HF_HUB_OFFLINE or set_later
    reason = None
    try:
        if graph is not None:
            files = graph_patterns(graph)
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=files, local_files_only=offline))
        for weights in WEIGHT_FILES if graph is None else ():
            files = download_patterns(weights)
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=files, local_files_only=offline))
            places = [*weight_patterns(weights), *(f"0_*/{name}" for name in weight_patterns(weights))]
            if any(path for pattern in places for path in folder.glob(pattern)):
                break
            if (folder / ADAPTER_CONFIG).exists():
                for adapter in ADAPTER_WEIGHTS:
                    snapshot_download(repo, revision=folder.name, allow_patterns=[adapter], local_files_only=offline)
                    if (folder / adapter).exists():
                        break
                break
    except (OSError, errors.HTTPError, errors.EntryNotFoundError, ValueError, KeyError) as error:
        reason = _why(error, repo, revision, offline)
    if reason is not None:  # not in the `except`: errors of the client may hold the token, and would be shown with it
        raise CheckpointError(without_secrets(name), without_secrets(reason))
    if not folder.is_dir():
        at = f" at revision {revision}" if revision else ""
        raise CheckpointError(name, f"the repository has no file of a checkpoint{at}, such as config.json and weights")
    _downloaded[repo, revision, graph] = folder
    return folder


def _why(error: Exception, repo: str, revision: str | None, offline: bool) -> str:
    """What to say of an error of the hub's client."""
    from huggingface_hub import constants, errors

    guess = did_you_mean(repo)
    if isinstance(error, errors.HFValidationError):
        return (
            f"is neither an existing folder nor a name on the Hugging Face hub (org/name or org/name@revision){guess}"
        )
    if isinstance(error, errors.GatedRepoError):
        return f"access to {repo} is gated: accept its terms on https://huggingface.co/{repo} and {LOG_IN}, {COPY}"
    if isinstance(error, errors.RepositoryNotFoundError):
        reason = f"is neither an existing folder nor a repository on the Hugging Face hub{guess}: check the spelling"
        return f"{reason}, or {LOG_IN} if it is private, {BUILTIN_INSTEAD}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no revision {revision!r}: pass one of its branches, tags or commits"
    if not offline and (fault := fault_of_known_token()):
        return fault
    cause = error.__cause__ or error
    status = getattr(getattr(cause, "response", None), "status_code", None)
    if status in (401, 403):
        reason = f"the Hugging Face hub refused access to {repo} ({status}): {LOG_IN} with a token that may read it"
        return f"{reason}, {COPY}"
    wanted = f"{repo} (revision {revision or 'main'})"
    if offline:
        where = f"is not in the cache {constants.HF_HUB_CACHE}"
        tried = f"no such folder{guess}, {wanted} {where}, and HF_HUB_OFFLINE is set: unset it"
    else:
        where = "neither from the Hugging Face hub nor from its cache"
        detail = f"{type(cause).__name__}: {(str(cause).strip() or 'no details').splitlines()[0]}"
        tried = f"no such folder{guess}, and {wanted} could be fetched {where} ({detail}): check the network"
    download = f"run `hf download {repo} --local-dir FOLDER` on a machine with a network and pass that folder"
    return f"{tried}, or {download}, {BUILTIN_INSTEAD}"
