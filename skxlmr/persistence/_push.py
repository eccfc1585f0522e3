"""Publish a fitted estimator on the Hugging Face hub."""

import tempfile
from pathlib import Path

from skxlmr._version import __version__
from skxlmr.checkpoints import CHECKPOINT_FILES, checked_token, fault_of_known_token, without_secrets
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.persistence._adapter import check_base_stays, has_adapter
from skxlmr.persistence._save import write_estimator
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._tables import describe
from skxlmr.utils._whole_numbers import check_flags


def push_to_hub(
    estimator: Estimator,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | bool | None = None,
    adapter: bool = False,
) -> str:
    """Save a fitted estimator to a repository on the Hugging Face hub; ``load(repo_id)`` reads it back.

    Read more in :doc:`/persistence`.

    Parameters
    ----------
    estimator : fitted estimator
        Of this library.
    repo_id : str
        ``"org/name"``, or ``"name"`` under your own account. Created if it does not exist.
    private : bool, optional
        Whether a new repository is private; None follows the account's settings.
    revision : str, optional
        Branch to write to, by default the main one; created if it does not exist.
    commit_message : str, optional
        By default the class and the version of the library.
    token : str or bool, optional
        By default the one of ``hf auth login`` or ``HF_TOKEN``. No message holds it.
    adapter : bool, default=False
        Publish what LoRA learnt as an adapter of PEFT, as :func:`save` writes it. The checkpoint that it was fitted from
        must be on the hub too, or the built-in one.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        If the estimator cannot be saved; see :func:`save`.
    CheckpointError
        If the hub cannot be written to: no token, no right to write, no network. With ``adapter`` also if the repository
        holds the checkpoint that the adapter needs, and no ``revision`` names another branch.

    See Also
    --------
    save : Writes to a folder.
    load : Reads from a folder or from the hub.

    Notes
    -----
    Nothing in the repository names a folder on this machine: if ``checkpoint`` is one, the repository takes its place.
    Files of an earlier checkpoint in the repository are deleted if the new one does not have them, since they would be
    read with it. Other files stay.

    Examples
    --------
    >>> from skxlmr import XLMRobertaVectorizer, load, push_to_hub
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(["A text."])
    >>> push_to_hub(vectorizer, "me/features", private=True)  # doctest: +SKIP
    >>> load("me/features").transform(["A text."])  # doctest: +SKIP

    Before anything is sent, it is checked that the estimator can be saved:

    >>> push_to_hub(XLMRobertaVectorizer("skxlmr-mini"), "me/features")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    sklearn.exceptions.NotFittedError: This XLMRobertaVectorizer instance is not fitted yet...
    """
    import huggingface_hub
    from huggingface_hub import errors

    if not isinstance(estimator, Estimator):
        raise TypeError(
            f"push_to_hub(estimator, repo_id) publishes an estimator of this library, got a {type(estimator).__name__}: push "
            "each estimator in it to a repository of its own"
        )
    for name, value in (("repo_id", repo_id), ("revision", revision), ("commit_message", commit_message)):
        if not isinstance(value, str) and (value is not None or name == "repo_id"):
            raise TypeError(f"{name} must be a str, got {describe(value)}")
    check_flags(adapter=adapter, **({} if private is None else {"private": private}))
    token = checked_token(token)
    if adapter and revision is None and has_adapter(estimator):
        check_base_stays(estimator, repo_id, on_hub=True)
    reason = None
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "estimator"
        write_estimator(estimator, folder, dtype=None, max_shard_size=None, with_paths=False, adapter=adapter)
        hub = huggingface_hub.HfApi(token=token, library_name="skxlmr", library_version=__version__)
        try:
            repo = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if revision is not None:
                hub.create_branch(repo, branch=revision, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=repo,
                folder_path=folder,
                revision=revision,
                delete_patterns=CHECKPOINT_FILES,
                commit_message=commit_message or f"{type(estimator).__name__} saved by skxlmr {__version__}",
            )
        except (OSError, errors.HTTPError, ValueError, KeyError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error  # of an upload
            detail = (str(cause).strip() or type(cause).__name__).splitlines()[0]
            remedy = "pass org/name, or name for your own account, and a branch as revision"
            if not isinstance(error, errors.HFValidationError):
                remedy = "log in (hf auth login, or HF_TOKEN) with a token that may write there, and check the network"
            reason = f"could not be written to the Hugging Face hub ({detail}): {remedy}"
            if token is None and (fault := fault_of_known_token()):
                reason = f"could not be written to the Hugging Face hub: {fault}"
    if (
        reason is not None
    ):  # not in the `except`: errors of the hub's client may hold the token, and would be shown with it
        raise CheckpointError(without_secrets(repo_id, token), without_secrets(reason, token))
    return str(commit.commit_url)
