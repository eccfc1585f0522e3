"""Tags of words: the schemes that mark where entities begin and end, and the entities that a row of tags describes."""

from collections.abc import Sequence
from typing import Any

from skxlmr.utils._tables import plain

# What the prefixes of each scheme mean: B begins an entity, I continues it, E ends it, S is an entity of one word.
# "BIO" is read leniently, as the CoNLL script does, with any of the four.
PREFIXES = {
    "BIO": {"B": "B", "I": "I", "E": "E", "S": "S"},
    "IOB2": {"B": "B", "I": "I"},
    "IOBES": {"B": "B", "I": "I", "E": "E", "S": "S"},
    "BILOU": {"B": "B", "I": "I", "L": "E", "U": "S"},
    "BMES": {"B": "B", "M": "I", "E": "E", "S": "S"},
}
CLOSED = ("IOBES", "BILOU", "BMES")  # an entity counts only if it has an end
IGNORED = -100  # instead of a tag: the word is left out


def refuse_ignored_text(tags: Sequence[Any], where: str) -> None:
    """Refuse "-100" as a tag: NumPy makes it of -100 in an array with texts."""
    if str(IGNORED) in list(tags):
        raise ValueError(
            f"{where} has the text '{IGNORED}' as a tag, which NumPy makes of the number where texts are beside it: pass "
            "lists, or an array of dtype=object"
        )


def split_tag(tag: Any, scheme: str = "BIO") -> tuple[str, str]:
    """Meaning of a tag's prefix, and its type: ``("B", "PER")``, and ``("O", "")`` outside of entities.

    The meanings are ``B`` (begins), ``I`` (continues), ``E`` (ends) and ``S`` (one word) in every scheme, so that ``L-PER`` of
    ``"BILOU"`` is ``("E", "PER")``. Under ``"plain"``, any tag except ``"O"`` is a type, and neighbours of the same type form
    one entity.

    Parameters
    ----------
    tag : str
        A tag, such as ``"B-PER"``.
    scheme : {"BIO", "IOB2", "IOBES", "BILOU", "BMES", "plain"}
        How tags are read, see :func:`entities`.

    Returns
    -------
    meaning : {"B", "I", "E", "S", "O"}
        What the prefix says.
    type : str
        Type of the entity, ``""`` outside of entities.

    Raises
    ------
    ValueError
        If the scheme has no such tag.

    See Also
    --------
    entities : The entities of a row of tags.

    Examples
    --------
    >>> from skxlmr.metrics import split_tag
    >>> split_tag("B-PER"), split_tag("O")
    (('B', 'PER'), ('O', ''))
    >>> split_tag("L-PER", scheme="BILOU")
    ('E', 'PER')
    """
    if scheme != "plain" and scheme not in PREFIXES:
        raise ValueError(f"scheme must be one of {', '.join([*PREFIXES, 'plain'])}; found {scheme!r}")
    if tag == "O":
        return "O", ""
    if scheme == "plain":
        return "I", tag
    prefixes = PREFIXES[scheme]
    if not isinstance(tag, str) or tag[1:2] != "-" or tag[0] not in prefixes or not tag[2:]:
        expected = ", ".join(f"'{prefix}-...'" for prefix in prefixes)
        raise ValueError(f"{tag!r} is not a tag of the scheme {scheme!r}: expected 'O' or {expected}{_other(tag)}")
    return prefixes[tag[0]], tag[2:]


def tag_of(meaning: str, type_: str, scheme: str) -> str:
    """The tag with this meaning (``B``, ``I``, ``E`` or ``S``); schemes without ends have only ``B`` and ``I``."""
    if scheme == "plain":
        return type_
    if scheme not in CLOSED:
        meaning = {"E": "I", "S": "B"}.get(meaning, meaning)
    prefix = next(prefix for prefix, means in PREFIXES[scheme].items() if means == meaning)
    return f"{prefix}-{type_}"


def _other(tag: Any) -> str:
    """For an error: the schemes that have such a tag."""
    if not isinstance(tag, str) or tag[1:2] != "-" or not tag[2:]:
        return ""
    schemes = [repr(name) for name, prefixes in PREFIXES.items() if tag[0] in prefixes and name != "BIO"]
    return f"; it is one of {' and '.join(schemes)}" if schemes else ""


def entities(tags: Sequence[str], scheme: str = "BIO") -> list[tuple[str, int, int]]:
    """Entities of one row of tags.

    Parameters
    ----------
    tags : sequence of str
        One tag per word.
    scheme : {"BIO", "IOB2", "IOBES", "BILOU", "BMES", "plain"}
        ``"BIO"`` is lenient: an entity begins at any tag that does not continue the previous one, as in the CoNLL script. The
        others are strict: an entity begins with ``B-`` (or is a single ``S-``), and in IOBES it counts only if it ends with
        ``E-``. BILOU and BMES are IOBES in other letters. ``"plain"``: neighbours of the same type form one entity.

    Returns
    -------
    list of (type, start, end)
        Words ``start`` to ``end - 1``, in order.

    Raises
    ------
    ValueError
        If a tag is not in the scheme.

    See Also
    --------
    split_tag : What a single tag means.
    entity_f1_score : Compares the entities of true and predicted tags.

    Examples
    --------
    >>> from skxlmr.metrics import entities
    >>> words = ["Anna", "Meier", "lebt", "in", "Rom"]
    >>> found = entities(["B-PER", "I-PER", "O", "O", "B-LOC"])
    >>> found
    [('PER', 0, 2), ('LOC', 4, 5)]
    >>> [(kind, " ".join(words[start:end])) for kind, start, end in found]
    [('PER', 'Anna Meier'), ('LOC', 'Rom')]
    """
    found = []
    start: int | None = None
    prefix_before, type_before = "O", ""
    for i, tag in enumerate([*map(plain, tags), "O"]):
        prefix, type_ = split_tag(tag, scheme)
        if not (prefix in "IE" and type_ == type_before and prefix_before in "BI"):  # an entity ends before this word
            if start is not None and (scheme not in CLOSED or prefix_before in "ES"):
                found.append((type_before, start, i))
            begins = prefix in "BS" or (scheme in ("BIO", "plain") and prefix in "IE")
            start = i if begins else None
        prefix_before, type_before = prefix, type_
    return found
