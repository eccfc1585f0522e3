"""Read, check and rewrite the content of a ``tokenizer.json`` before the `tokenizers` package loads it."""

import copy
import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skxlmr.text._bpe_files import MOST_IDS, check_count, check_ids, check_lengths
from skxlmr.text._fast.wordpiece import check_model
from skxlmr.text._special_tokens import AddedToken
from skxlmr.utils._errors import CheckpointError

if TYPE_CHECKING:
    import tokenizers

# texts on which a broken file fails at once
_PROBES = ["", "Hello worlds", " <s>\0\n", "γνῶθι σεαυτόν", "漢字\u3000①", "\U0001f469\u200d\ufffd"]
BARE: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None}
_OUTSIDE = "\uffff \n"  # put around a token, so that no text can spell it: normalisers split or drop it


def byte_level_json(vocab: dict[str, int], merges: list[tuple[str, str]], add_prefix_space: bool) -> dict[str, Any]:
    """Return the ``tokenizer.json`` that stands for RoBERTa's ``vocab.json`` and ``merges.txt``."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}
    special = [token for token in ("<s>", "</s>") if token in vocab]
    processor = {"type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": add_prefix_space}
    if len(special) == 2:
        processor |= {"cls": ["<s>", vocab["<s>"]], "sep": ["</s>", vocab["</s>"]]}
    return BARE | {
        "pre_tokenizer": byte_level,
        "post_processor": processor if len(special) == 2 else None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocab,
            "merges": [f"{left} {right}" for left, right in merges],
        },
    }


def vocabulary_of(file: Path, content: dict[str, Any]) -> dict[str, int]:
    """Return the vocabulary of a ``tokenizer.json``; CheckpointError unless the model is Unigram, BPE or WordPiece."""
    model = content.get("model")
    if not isinstance(model, dict):
        raise CheckpointError(file, f"expected an object as model, found {model!r:.80}")
    vocab, kind = model.get("vocab"), kind_of(content)
    if kind == "Unigram" and isinstance(vocab, list):
        check_count(file, len(vocab))
        pairs = [entry for entry in vocab if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)]
        if len(pairs) != len(vocab) or not vocab:
            raise CheckpointError(file, "expected pieces with their scores as vocab of the model, found something else")
        check_lengths(file, [piece for piece, _ in pairs])
        return {piece: i for i, (piece, _) in enumerate(pairs)}
    if kind == "BPE" and isinstance(vocab, dict):
        if model.get("dropout"):
            raise CheckpointError(file, "expected a model without dropout, found dropout, which makes ids random")
        if not isinstance(model.get("unk_token"), str | None):
            raise CheckpointError(file, f"expected a token as unk_token, found {model['unk_token']!r:.80}")
        check_ids(file, vocab)
        return vocab
    if kind == "WordPiece" and isinstance(vocab, dict):
        check_model(file, model)
        return vocab
    found = f"{kind!r:.80} with a vocab of {type(vocab).__name__}"
    raise CheckpointError(file, f"expected a Unigram, BPE or WordPiece model, found {found}")


def prefix_space(content: dict[str, Any]) -> bool | None:
    """Return whether the pre-tokenizer puts a space before each text; None if it has no step that could."""
    whole = content.get("pre_tokenizer")
    parts = whole.get("pretokenizers", [whole]) if isinstance(whole, dict) else []
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict) and part.get("type") in ("ByteLevel", "Metaspace"):
            scheme, flag = part.get("prepend_scheme"), part.get("add_prefix_space", True)
            return bool(flag) if scheme is None else scheme != "never"
    return None


def truncation_side(truncation: Any) -> Any:
    """Return where a ``truncation`` cuts texts, as ``tokenizer_config.json`` would say it; None if it does not say."""
    side = truncation.get("direction") if isinstance(truncation, dict) else None
    return side.lower() if isinstance(side, str) else side


def kind_of(content: dict[str, Any]) -> Any:
    """Return the type of the model, which early files leave out; None if it is not known."""
    model = content.get("model")
    if not isinstance(model, dict) or "type" in model:
        return model.get("type") if isinstance(model, dict) else None
    marks = {"BPE": "merges", "WordPiece": "max_input_chars_per_word"}
    return (
        "Unigram" if isinstance(model.get("vocab"), list) else next((k for k, m in marks.items() if m in model), None)
    )


def added_tokens_of(file: Path, content: dict[str, Any]) -> dict[int, AddedToken]:
    """Return the added tokens of a ``tokenizer.json`` by their ids."""
    added: dict[int, AddedToken] = {}
    entries = content.get("added_tokens") or []
    if not isinstance(entries, list):
        raise CheckpointError(file, f"expected a list as added_tokens, found {entries!r:.80}")
    for entry in entries:
        flags = ("lstrip", "rstrip", "single_word", "special", "normalized")
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("content"), str)
            and type(entry.get("id")) is int
            and 0 <= entry["id"] < MOST_IDS
            and all(isinstance(entry.get(flag, False), bool) for flag in flags)
        ):
            raise CheckpointError(file, f"expected added tokens with content, id and flags, found {entry!r:.80}")
        added[entry["id"]] = AddedToken(entry["content"], **{flag: entry.get(flag, False) for flag in flags})
    check_lengths(file, [token.content for token in added.values()])
    return added


def with_tokens(content: dict[str, Any], tokens: Mapping[int, AddedToken], literal: bool) -> dict[str, Any]:
    """Return the file's content with these added tokens, and without the steps that this library does itself.

    If `literal`, no text can spell a special token, not even one that the model's vocabulary contains.
    """
    content = content | {"truncation": None, "padding": None, "post_processor": None}
    hidden = {token.content: hide(token.content) for token in tokens.values() if literal and token.special}
    content["added_tokens"] = [
        {"id": i} | token.to_dict() | {"content": hidden.get(token.content, token.content)}
        for i, token in sorted(tokens.items())
    ]
    model = content["model"]
    if hidden and isinstance(model["vocab"], list):
        pieces = [[hidden[entry[0]], entry[1]] if entry[0] in hidden else entry for entry in model["vocab"]]
        content["model"] = model | {"vocab": pieces}
    elif hidden:
        vocab = {hidden.get(piece, piece): i for piece, i in model["vocab"].items()}
        unknown = model.get("unk_token")
        content["model"] = model | {"vocab": vocab, "unk_token": hidden.get(unknown, unknown) if unknown else unknown}
        if isinstance(merges := model.get("merges"), list):
            content["model"]["merges"] = [merge for merge in merges if not _goes_through(hidden, merge)]
    return content


def _goes_through(tokens: Container[str], merge: Any) -> bool:
    """Whether a merge of BPE joins or makes one of these; one that is malformed is for the `tokenizers` package to refuse."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    is_read = isinstance(parts, list) and all(isinstance(part, str) for part in parts)
    return is_read and any(part in tokens for part in (*parts, "".join(parts)))


def hide(token: str) -> str:
    """Return a name for `token` that no text can spell."""
    return f"{_OUTSIDE}{token}{_OUTSIDE}"


def with_prefix_space(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return content that reads a first word as if a space preceded it; None if the content does so already."""
    content = copy.deepcopy({key: content[key] for key in content if key != "model"}) | {"model": content["model"]}
    changed = False
    pre_tokenizer = content.get("pre_tokenizer") or {}
    for part in pre_tokenizer.get("pretokenizers") or [pre_tokenizer]:
        if isinstance(part, dict) and part.get("type") == "ByteLevel" and not part.get("add_prefix_space"):
            part["add_prefix_space"] = changed = True
    return content if changed else None


def load(
    file: Path, content: dict[str, Any], tokens: Mapping[int, AddedToken], literal: bool
) -> "tokenizers.Tokenizer":
    """Load content after `with_tokens` with the `tokenizers` package; CheckpointError if that fails."""
    import tokenizers

    if literal and kind_of(content) == "BPE" and not content["model"].get("unk_token"):
        letters = [t.content for t in tokens.values() if t.special and t.content in content["model"]["vocab"]]
        if lost := [letter for letter in letters if len(letter) == 1]:
            reason = f"the special token {lost[0]!r} is a character of the vocabulary too, which texts would lose"
            raise CheckpointError(file, reason)
    content = with_tokens(content, tokens, literal)
    tokenizer = guarded(file, tokenizers.Tokenizer.from_str, json.dumps(content))
    tokenizer.encode_special_tokens = literal
    guarded(file, tokenizer.encode_batch, _PROBES)
    for token in content["added_tokens"]:
        found = tokenizer.token_to_id(token["content"])
        if found != token["id"]:
            reason = f"expected the added token {token['content']!r:.80} at id {found}, found {token['id']}"
            raise CheckpointError(file, reason)
    return tokenizer


def pair_layout(
    file: Path, content: dict[str, Any], start: int, separator: int, has_types: bool
) -> tuple[int, int | None]:
    """Return how the file's own post-processor lays out the texts of a pair.

    Parameters
    ----------
    file : path
        Name of the file in errors.
    content : dict
        Its content.
    start, separator : int
        Ids of the token at the beginning of a row, and of the one after each text.
    has_types : bool
        Whether the model reads the token types that the post-processor gives.

    Returns
    -------
    n_between : int
        Separators between the texts, 1 or 2.
    n_before_second_type : int or None
        How many of them have token type 0, where what follows has type 1; None if all tokens have type 0.

    Raises
    ------
    CheckpointError
        If it lays texts out in any other way than ``<s> A </s>`` and ``<s> A </s></s> B </s>`` or ``<s> A </s> B </s>``, or
        gives other token types.
    """
    import tokenizers

    a, b = MOST_IDS, MOST_IDS + 1
    model = {"type": "WordLevel", "vocab": {"a": a, "b": b}, "unk_token": "a"}
    parts = {"pre_tokenizer": None, "decoder": None, "model": model, "post_processor": content.get("post_processor")}
    tokenizer = guarded(file, tokenizers.Tokenizer.from_str, json.dumps(BARE | parts))
    single, pair = guarded(file, lambda: [tokenizer.encode("a"), tokenizer.encode("a", "b")])
    layouts = {n: [start, a, *[separator] * n, b, separator] for n in (1, 2)}
    n_between = next((n for n, ids in layouts.items() if pair.ids == ids and single.ids == [start, a, separator]), None)
    if n_between is None:
        shown = [" ".join({a: "A", b: "B"}.get(i, str(i)) for i in row.ids) for row in (single, pair)]
        raise CheckpointError(
            file,
            "expected the layout <s> A </s> and <s> A </s></s> B </s> (with BERT [CLS] A [SEP] B [SEP]), "
            f"{start} A {separator} and {start} A {separator} {separator} B {separator} in ids; "
            f"found {shown[0]:.100} and {shown[1]:.100}",
        )
    types = pair.type_ids
    if not has_types or not any(types + single.type_ids):
        return n_between, None
    n_first = types.count(0)
    if (
        any(single.type_ids)
        or types != [0] * n_first + [1] * (len(types) - n_first)
        or not 2 <= n_first <= 2 + n_between
    ):
        reason = "expected token type 0 for a text on its own, and for pairs 0, then 1 from the second text on"
        raise CheckpointError(file, f"{reason}; found {single.type_ids} and {types}")
    return n_between, n_first - 2


def with_two_separators(content: dict[str, Any], start: tuple[str, int], separator: tuple[str, int]) -> dict[str, Any]:
    """Return content whose post-processor lays pairs out as ``<s> A </s></s> B </s>``."""
    tokens = {token: {"id": token, "ids": [i], "tokens": [token]} for token, i in (start, separator)}
    begin, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token, _ in (start, separator))
    first, second = ({"Sequence": {"id": text, "type_id": 0}} for text in "AB")
    template = {"type": "TemplateProcessing", "single": [begin, first, end], "special_tokens": tokens}
    return content | {"post_processor": template | {"pair": [begin, first, end, end, second, end]}}


def guarded(file: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the `tokenizers` package; whatever it raises on a broken file becomes a CheckpointError.

    It raises plain Exception and, from Rust, PanicException, which is not an Exception and cannot be imported.
    """
    try:
        return function(*arguments)
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(file, f"the tokenizers package cannot use it ({str(error)[:200]})") from error
