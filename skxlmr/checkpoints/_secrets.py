"""Tokens and passwords, which no message may hold."""

import os
import re

WITHHELD = "[withheld]"
_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_PATTERNS = (
    (re.compile(r"\bhf_\w{4,}"), WITHHELD),
    (re.compile(r"(?i)\b(bearer)\s+[^\s'\",;]+"), rf"\1 {WITHHELD}"),
    (re.compile(r"(\w://)[^/\s@]+@"), rf"\1{WITHHELD}@"),  # of a proxy or a mirror
)
_TOKEN = re.compile(r"[!-~]+")


def checked_token(token: str | bool | None) -> str | bool | None:
    """A token without white space around it, as it is copied from a file or a page.

    Raises
    ------
    TypeError, ValueError
        If it cannot be one; what it is is not said.
    """
    if token is None or isinstance(token, bool):
        return token
    if not isinstance(token, str):
        raise TypeError(f"token must be a str, a bool or None, got a {type(token).__name__}")
    token = token.strip()
    if fault := _fault(token):
        raise ValueError(f"token {fault}")
    return token


def fault_of_known_token() -> str | None:
    """Why the token of the environment, or the user's, cannot be one; None if it can, or there is none."""
    from huggingface_hub import get_token

    token = get_token()
    fault = token and _fault(token)
    return f"the token in HF_TOKEN, or that of hf auth login, {fault}: copy it again" if fault else None


def _fault(token: str) -> str | None:
    if _TOKEN.fullmatch(token):
        return None
    found = "white space, control characters or letters outside ASCII inside it" if token else "nothing"
    return f"is not one of the Hugging Face hub ('hf_' and letters and digits): it has {found}"


def without_secrets(text: str, *secrets: str | bool | None) -> str:
    """A message without these tokens, those of the environment and the user's, and passwords in addresses."""
    from huggingface_hub import get_token

    known = {secret for secret in (*secrets, get_token(), *map(os.environ.get, _VARIABLES)) if isinstance(secret, str)}
    for secret in sorted(map(str.strip, known), key=len, reverse=True):
        text = text.replace(secret, WITHHELD) if len(secret) > 3 else text
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text
