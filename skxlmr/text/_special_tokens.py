"""Special and added tokens: what a checkpoint's files say about them, and where a text spells them."""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from skxlmr.text._surrogates import without_surrogates
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json

CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
ADDED_TOKENS_FILE = "added_tokens.json"
ADDITIONAL = ("additional_special_tokens", "extra_special_tokens")  # in transformers before version 5, and since
LONGEST_TOKEN = 1024  # characters; searching texts for a token takes time and memory per character
MOST_CHARACTERS = 2**20  # of all added tokens together
DEFAULT_MAX_LENGTH = 512  # tokens, of a tokenizer that is made without a checkpoint
NO_LIMIT = int(1e30)  # how transformers writes that there is none; it takes everything above 1e20 for it


@dataclass(frozen=True)
class AddedToken:
    """A token that is cut out of a text before the tokenizer's model reads the rest.

    Parameters
    ----------
    content : str
        Its spelling.
    lstrip, rstrip : bool
        Whether it swallows white space before it, or after it.
    single_word : bool
        Whether it is found only where no letter or digit touches it.
    special : bool
        Whether it is special: found in texts only with ``parse_special=True``, and not decoded.
    normalized : bool
        Whether it is looked for in the normalised text, for example in lower case. Only `FastTokenizer` does that.
    """

    content: str
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    special: bool = True
    normalized: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return it as the JSON files hold it."""
        flags = {"lstrip": self.lstrip, "rstrip": self.rstrip, "single_word": self.single_word}
        return {"content": self.content, **flags, "normalized": self.normalized, "special": self.special}


# the roles that a token may have, and XLM-R's token for each
DEFAULT_ROLES = {
    "bos_token": AddedToken("<s>"),
    "eos_token": AddedToken("</s>"),
    "sep_token": AddedToken("</s>"),
    "cls_token": AddedToken("<s>"),
    "unk_token": AddedToken("<unk>"),
    "pad_token": AddedToken("<pad>"),
    "mask_token": AddedToken("<mask>", lstrip=True),
}


@dataclass(frozen=True)
class TokenizerSettings:
    """What ``tokenizer_config.json`` and its companions say.

    Attributes
    ----------
    options : mapping
        Content of ``tokenizer_config.json``.
    roles : mapping of str to AddedToken
        Tokens by their role, such as ``mask_token``; roles that are not named have their usual token.
    additional : sequence of AddedToken
        Additional special tokens, and others without an id.
    added : mapping of int to AddedToken
        Added tokens by their ids.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    roles: Mapping[str, AddedToken] = field(default_factory=dict)
    additional: Sequence[AddedToken] = ()
    added: Mapping[int, AddedToken] = field(default_factory=dict)

    def with_added(self, added: Mapping[int, AddedToken]) -> "TokenizerSettings":
        """Return settings with these added tokens: special if a role or `additional` names them so."""
        special = {token.content for token in (*self.roles.values(), *self.additional) if token.special}
        added = {i: replace(token, special=token.special or token.content in special) for i, token in added.items()}
        flags = {token.content: token for token in added.values()}  # a role is often named by its content only
        roles = {role: flags.get(token.content, token) for role, token in self.roles.items()}
        return replace(self, roles=roles, added=added)

    def with_further(
        self, placed: Mapping[int, AddedToken], contents: Sequence[str], special: bool
    ) -> "TokenizerSettings":
        """Return the settings with further tokens, special or not; the same object if nothing changes.

        Parameters
        ----------
        placed : mapping of int to AddedToken
            All existing tokens by their ids, from `place_tokens`.
        contents : sequence of str
            Spelling of each token. A token that has a role stays as it is.
        special : bool
            Whether they are special.

        Raises
        ------
        ValueError
            If a token is empty or has a lone surrogate, as no file can hold it and no text is read with it.
        """
        if not all(contents):
            raise ValueError(f"expected the spelling of each token, found {list(contents)}")
        for content in contents:
            if without_surrogates(content) != content:
                raise ValueError(
                    f"expected tokens that UTF-8 can spell, found {content!r:.80}, which has a lone surrogate"
                )
        in_a_role = {token.content for token in self.roles.values()}
        named = [content for content in dict.fromkeys(contents) if content not in in_a_role]
        known = {token.content: token for token in placed.values()}
        if all(content in known and known[content].special == special for content in named):
            return self
        others = [token for token in self.additional if token.content not in named]
        additional = [replace(known.get(content, AddedToken(content)), special=special) for content in named]
        added = {i: replace(token, special=special) if token.content in named else token for i, token in placed.items()}
        # these lists in the options would contradict the new tokens
        options = {name: value for name, value in self.options.items() if name not in ADDITIONAL}
        return TokenizerSettings(options, self.roles, (*others, *additional), added)

    def to_config(self, roles: Mapping[str, AddedToken]) -> dict[str, Any]:
        """Return the entries of ``tokenizer_config.json`` that name the special tokens; `roles` has all of them."""
        config: dict[str, Any] = {}
        for role, token in roles.items():
            plain = token == AddedToken(token.content)
            config[role] = token.content if plain else {"__type": "AddedToken", **token.to_dict()}
        special = [token.content for token in self.additional if token.special]
        if special:
            config["additional_special_tokens"] = special
        return config


def read_settings(folder: Path, mask_lstrip: bool = True, normalized: bool = False) -> tuple[TokenizerSettings, int]:
    """Read the files next to a vocabulary that describe its special and added tokens.

    ``tokenizer_config.json`` takes precedence. Without ``added_tokens_decoder``, which files older than 2023 lack,
    ``special_tokens_map.json`` overrides the tokens that it names, and ``added_tokens.json`` holds the ids of added tokens.
    If `mask_lstrip`, a mask token that is given as a plain string swallows the white space before it. Unless `normalized`, no
    token is looked for in the normalised text.

    Returns
    -------
    settings : TokenizerSettings
    model_max_length : int

    Raises
    ------
    CheckpointError
        If a file is broken, describes a token in an unknown way, or wants long texts to lose their beginning.
    """
    token_of = partial(_token, may_be_normalized=normalized)
    file = folder / CONFIG_FILE
    options = read_json(file) if os.path.lexists(file) else {}
    check_truncation(file, "truncation_side", options.get("truncation_side"))
    named = [(file, key, value) for key, value in options.items()]
    added: dict[int, AddedToken] = {}
    decoder = options.get("added_tokens_decoder")
    if decoder is not None:
        if not isinstance(decoder, dict) or not all(i.isdecimal() and len(i) < 10 for i in decoder):
            raise CheckpointError(file, f"expected ids and their tokens as added_tokens_decoder, found {decoder!r:.80}")
        added = {int(i): token_of(file, "added_tokens_decoder", token, False) for i, token in decoder.items()}
    else:
        special_file, added_file = folder / SPECIAL_TOKENS_FILE, folder / ADDED_TOKENS_FILE
        if os.path.lexists(special_file):
            named += [(special_file, key, value) for key, value in read_json(special_file).items()]
        if os.path.lexists(added_file):
            for content, i in read_json(added_file).items():
                if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < 10**9:
                    raise CheckpointError(added_file, f"expected an id for the token {content!r:.80}, found {i!r:.80}")
                added[i] = token_of(added_file, f"token {i}", content, False)
    roles: dict[str, AddedToken] = {}
    additional: dict[str, AddedToken] = {}
    for source, key, value in named:
        if key in DEFAULT_ROLES and value is not None:
            roles[key] = token_of(source, key, value, True, lstrip=key == "mask_token" and mask_lstrip)
        elif key in ADDITIONAL and value is not None:
            if not isinstance(value, list | dict):
                raise CheckpointError(source, f"expected a list of tokens as {key}, found {value!r:.80}")
            for item in value.values() if isinstance(value, dict) else value:
                token = token_of(source, key, item, True)
                additional[token.content] = token
    if decoder is None:  # added_tokens.json does not say which of its tokens are special
        special = {token.content for token in (*roles.values(), *additional.values())}
        added = {i: replace(t, normalized=t.normalized and t.content not in special) for i, t in added.items()}
    settings = TokenizerSettings(options, roles, tuple(additional.values())).with_added(added)
    return settings, _max_length(file, options)


def check_truncation(file: Path, key: str, side: Any) -> None:
    """Raise CheckpointError if long texts are to lose anything but their end; None says nothing."""
    if side is None or side == "right":
        return
    reason = (
        f"expected 'right' as {key}, found {side!r:.80}, and texts that are too long lose their end here: if no text is, or "
        f"their end may go, set truncation_side to 'right' in {CONFIG_FILE}"
    )
    raise CheckpointError(file, reason)


def check_prefix_space(file: Path, options: Mapping[str, Any], default: bool, found: bool | None) -> None:
    """Raise CheckpointError if ``add_prefix_space`` is not what the vocabulary's file says; None says nothing."""
    wanted = checked_flag(file.parent, options, "add_prefix_space", default)
    if found in (None, wanted):
        return
    words = {False: "no space", True: "a space"}
    reason = (
        f"add_prefix_space is {str(wanted).lower()}, but {file.name} puts {words[not wanted]} before each text, and versions "
        f"of transformers obey one or the other: ids would differ. If {file.name} is right, set it to {str(found).lower()}"
    )
    raise CheckpointError(file.parent / CONFIG_FILE, reason)


def check_row_ends(folder: Path, settings: TokenizerSettings) -> None:
    """Raise CheckpointError if the tokens at the ends of XLM-R's rows have two names with different values."""
    for ours, theirs in (("cls_token", "bos_token"), ("sep_token", "eos_token")):
        found = [settings.roles.get(role, DEFAULT_ROLES[role]).content for role in (ours, theirs)]
        if found[0] != found[1]:
            reason = (
                f"{ours} is {found[0]!r:.80}, but {theirs} is {found[1]!r:.80}, and versions of transformers put one or the "
                f"other around a text: set {theirs} to {found[0]!r:.80} if the model was trained with that"
            )
            raise CheckpointError(folder / CONFIG_FILE, reason)


def checked_flag(folder: Path, options: Mapping[str, Any], key: str, default: bool) -> bool:
    """Return an option of ``tokenizer_config.json``, or its default; CheckpointError if it is not a bool."""
    value = options.get(key)
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(folder / CONFIG_FILE, f"expected true or false as {key}, found {value!r:.80}")
    return default if value is None else value


def _max_length(file: Path, options: Mapping[str, Any]) -> int:
    """Return ``model_max_length``: none, numbers below 1, above 1e20 and infinity mean that there is no limit."""
    key = "model_max_length" if "model_max_length" in options else "max_len"  # its name in the first versions
    value = options.get(key)
    if value is None:
        return NO_LIMIT
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError):
            number = float(value if not isinstance(value, int) else max(-1, min(value, NO_LIMIT)))  # or it overflows
    if math.isnan(number):
        raise CheckpointError(file, f"expected a number of tokens as {key}, found {value!r:.80}")
    return int(number) if 1 <= number <= 1e20 else NO_LIMIT


def place_tokens(
    settings: TokenizerSettings, default_roles: Mapping[str, AddedToken], lookup: Callable[[str], int | None], size: int
) -> tuple[dict[str, AddedToken], dict[int, AddedToken]]:
    """Give every special and added token its id: the one in the vocabulary, or the next one after it.

    Parameters
    ----------
    settings : TokenizerSettings
        The tokens of the checkpoint.
    default_roles : mapping of str to AddedToken
        Tokens of the roles that the checkpoint does not name.
    lookup : callable
        Returns the id of a token in the vocabulary, None if it is not there.
    size : int
        Ids of the vocabulary are 0 ... `size` - 1.

    Returns
    -------
    roles : dict of str to AddedToken
        Token of every role.
    placed : dict of int to AddedToken
        All tokens by their ids.

    Raises
    ------
    ValueError
        If the id of a token does not fit the vocabulary or is not certain, or the tokens are too long together.
    """
    roles = {**default_roles, **settings.roles}
    placed: dict[int, AddedToken] = {}
    seen: set[str] = set()
    of_roles, end, n_characters = set(roles.values()), size, 0
    two_lists = all(settings.options.get(key) for key in ADDITIONAL)
    named = [(None, token) for token in (*roles.values(), *settings.additional)]
    for i, token in [*sorted(settings.added.items()), *named]:
        if token.content in seen:
            continue
        known = lookup(token.content)
        own = end if known is None else known
        if i not in (None, own):
            raise ValueError(f"expected the added token {token.content!r:.80} at id {own}, found it at {i}")
        if two_lists and known is None and i is None and token not in of_roles:
            raise ValueError(
                f"{CONFIG_FILE} has {' and '.join(ADDITIONAL)}, of which versions of transformers read one or both, and no id "
                f"for {token.content!r:.80}: write its id into added_tokens_decoder, or all tokens into one of the lists"
            )
        n_characters += len(token.content)
        if n_characters > MOST_CHARACTERS:
            raise ValueError(f"expected added tokens of at most {MOST_CHARACTERS} characters together, found more")
        seen.add(token.content)
        end = max(end, own + 1)
        placed[own] = replace(token, special=True) if token in of_roles else token
    return roles, placed


class TextSplitter:
    """Splits texts at the added tokens that they spell, the longest one at each place.

    Parameters
    ----------
    tokens : iterable of AddedToken
        The tokens to look for.
    """

    def __init__(self, tokens: Iterable[AddedToken]):
        self._tokens = {token.content: token for token in tokens if token.content}
        lengths: dict[str, set[int]] = {}
        for content in self._tokens:
            lengths.setdefault(content[0], set()).add(len(content))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}
        # a pattern of all tokens would try each of them at every place, and take long to compile
        self._first = re.compile(f"[{''.join(map(re.escape, lengths))}]") if lengths else None

    def finds(self, text: str) -> bool:
        """Whether `text` spells any of the tokens."""
        return self._next(text, 0) is not None

    def split(self, text: str) -> list[tuple[str, int, bool]]:
        """Return the parts of `text`, each with its place in `text` and whether it is one of the tokens."""
        parts: list[tuple[str, int, bool]] = []
        end = behind = 0  # of the part before, with and without the white space that it swallows
        while (found := self._next(text, behind)) is not None:
            start, token = found
            before = text[end:start]
            parts.append((before.rstrip() if token.lstrip else before, end, False))
            parts.append((token.content, start, True))
            end = behind = start + len(token.content)
            if token.rstrip:
                end = len(text) - len(text[end:].lstrip()) if text[end : end + 1].isspace() else end
        parts.append((text[end:], end, False))
        return [part for part in parts if part[0]]

    def _next(self, text: str, place: int) -> tuple[int, AddedToken] | None:
        """Return the first token from a place on, the longest one there, and where it starts."""
        while self._first is not None and (match := self._first.search(text, place)) is not None:
            start = match.start()
            for n in self._lengths[text[start]]:
                token = self._tokens.get(text[start : start + n])
                if token is not None and (not token.single_word or _stands_alone(text, start, start + n)):
                    return start, token
            place = start + 1
        return None


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether no letter, digit or underscore touches the text between two places."""
    around = text[max(start - 1, 0) : start] + text[end : end + 1]
    return not any(character.isalnum() or character == "_" for character in around)


def _token(
    file: Path, key: str, value: Any, special: bool, lstrip: bool = False, *, may_be_normalized: bool
) -> AddedToken:
    content = value.get("content") if isinstance(value, dict) else value
    if isinstance(content, str) and len(content) > LONGEST_TOKEN:
        raise CheckpointError(file, f"{key} has {len(content)} characters, expected at most {LONGEST_TOKEN}")
    if isinstance(value, str) and value:
        return AddedToken(value, lstrip=lstrip, special=special, normalized=may_be_normalized and not special)
    if isinstance(value, dict) and isinstance(value.get("content"), str) and value["content"]:
        flags = {name: value.get(name, False) for name in ("lstrip", "rstrip", "single_word")}
        flags["special"] = value.get("special", special) or special
        flags["normalized"] = may_be_normalized and value.get("normalized", not flags["special"])
        if all(isinstance(flag, bool) for flag in flags.values()):
            return AddedToken(value["content"], **flags)
    raise CheckpointError(file, f"expected a token as {key}, found {value!r:.80}")
