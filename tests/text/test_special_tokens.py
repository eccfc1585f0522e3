"""Special tokens other than the usual ones, added tokens, and the layout methods of the reference."""

import json
import pickle
import random
import re

import pytest

from skxlmr.text import AddedToken, SentencePieceTokenizer, TokenizerSettings, load_tokenizer
from skxlmr.text._special_tokens import NO_LIMIT, TextSplitter
from skxlmr.utils._errors import CheckpointError

A, B = [10, 11, 12], [20, 21]


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


@pytest.fixture
def folder(tiny_proto, tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(tiny_proto)
    return tmp_path


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def test_layout_methods(tiny):
    mask = tiny.mask_token_id
    assert tiny.build_inputs_with_special_tokens(A) == [0, *A, 2]
    assert tiny.build_inputs_with_special_tokens(A, B) == [0, *A, 2, 2, *B, 2]
    assert tiny.get_special_tokens_mask(A) == [1, 0, 0, 0, 1]
    assert tiny.get_special_tokens_mask(A, B) == [1, 0, 0, 0, 1, 1, 0, 0, 1]
    assert tiny.get_special_tokens_mask([0, 10, mask, 3, 2, 1], already_has_special_tokens=True) == [1, 0, 1, 1, 1, 1]
    assert tiny.create_token_type_ids_from_sequences(A) == [0] * 5
    assert tiny.create_token_type_ids_from_sequences(A, B) == [0] * 9
    text, pair = "the house", "a bird"
    ids = [tiny.encode_batch([t]).ids[1:-1].tolist() for t in (text, pair)]
    assert rows(tiny.encode_batch([text], [pair])) == [tiny.build_inputs_with_special_tokens(*ids)]
    with pytest.raises(ValueError, match="must be one row, found pair_ids"):
        tiny.get_special_tokens_mask(A, B, already_has_special_tokens=True)


def test_layout_methods_equal_the_reference(tiny, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")
    pytest.importorskip("google.protobuf", reason="transformers reads .model files with protobuf")
    tiny.save(tmp_path)
    theirs = transformers.XLMRobertaTokenizer.from_pretrained(tmp_path)
    texts = ["the house", "a bird"]
    ids = [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    for n in (1, 2):
        expected = theirs(*texts[:n], return_special_tokens_mask=True)
        inputs = tiny.build_inputs_with_special_tokens(*ids[:n])
        assert inputs == expected["input_ids"]
        assert tiny.get_special_tokens_mask(*ids[:n]) == expected["special_tokens_mask"]
        assert tiny.get_special_tokens_mask(inputs, already_has_special_tokens=True) == expected["special_tokens_mask"]


def test_save_vocabulary(tiny, tiny_proto, tmp_path):
    (file,) = tiny.save_vocabulary(tmp_path, "my")
    assert file == str(tmp_path / "my-sentencepiece.bpe.model")
    assert (tmp_path / "my-sentencepiece.bpe.model").read_bytes() == tiny_proto
    assert tiny.save_vocabulary(tmp_path) == (str(tmp_path / "sentencepiece.bpe.model"),)


CONFIG = {
    "bos_token": "<bos>",
    "cls_token": "<bos>",
    "mask_token": {"content": "[MASK]", "lstrip": False, "rstrip": True},
    "additional_special_tokens": ["<e1>", {"content": "the", "special": True}],
}


def test_special_tokens_of_the_config(folder, tiny):
    write(folder, "tokenizer_config.json", CONFIG)
    tokenizer = load_tokenizer(folder)
    n = tiny.vocab_size
    the = tiny.convert_ids_to_pieces(range(n)).index("the") if "the" in tiny.convert_ids_to_pieces(range(n)) else n + 3
    assert (tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.mask_token_id) == (n, n, n + 1)
    assert (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id) == (
        2,
        2,
        1,
        3,
    )
    assert {n, n + 1, n + 2, the} <= set(tokenizer.all_special_ids)
    assert tokenizer.vocab_size == 1 + max(n + 2, the)
    bird = tiny.encode_batch(["bird"]).ids[1:-1].tolist()
    parsed = tokenizer.encode_batch(["<e1>[MASK]  bird<bos>"], parse_special=True, return_offsets=True)
    assert parsed.ids.tolist() == [n, n + 2, n + 1, *bird, n, 2]
    assert parsed.offsets.tolist()[1:3] == [[0, 4], [4, 10]]
    literal = tokenizer.encode_batch(["<e1>[MASK]  bird<bos>"])
    assert literal.ids.tolist() == [n, *tiny.encode_batch(["<e1>[MASK]  bird<bos>"]).ids[1:-1].tolist(), 2]
    assert tokenizer.decode(parsed.ids) == "bird"
    assert tokenizer.decode([n, n + 1, *bird], skip_special_tokens=False) == "<bos>[MASK] bird"
    assert tokenizer.convert_ids_to_pieces([n, n + 1, n + 2]) == ["<bos>", "[MASK]", "<e1>"]
    for twin in (pickle.loads(pickle.dumps(tokenizer)), _saved(tokenizer, folder / "saved")):
        assert twin.all_special_ids == tokenizer.all_special_ids
        assert twin.vocab_size == tokenizer.vocab_size
        assert rows(twin.encode_batch(["<e1>[MASK]  bird"], parse_special=True)) == rows(
            tokenizer.encode_batch(["<e1>[MASK]  bird"], parse_special=True)
        )


def _saved(tokenizer, folder):
    tokenizer.save(folder)
    return load_tokenizer(folder)


def test_two_lists_of_tokens_without_ids_are_refused(folder, tiny):
    n, lists = tiny.vocab_size, {"additional_special_tokens": ["<e1>"], "extra_special_tokens": {"m_token": "<m>"}}
    write(folder, "tokenizer_config.json", lists)  # transformers 5 gives <m> the first id, and <e1> none
    with pytest.raises(CheckpointError, match=r"tokenizer_config.json has .* no id for '<e1>': write its id"):
        load_tokenizer(folder)
    decoder = {str(n): {"content": "<m>", "special": True}, str(n + 1): {"content": "<e1>", "special": True}}
    write(folder, "tokenizer_config.json", {**lists, "added_tokens_decoder": decoder})
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.token_to_id("<m>"), tokenizer.token_to_id("<e1>")) == (n, n + 1)
    assert _saved(tokenizer, folder / "saved").token_to_id("<e1>") == n + 1
    write(folder, "tokenizer_config.json", {**lists, "extra_special_tokens": {}})  # as transformers 4.57 writes it
    assert load_tokenizer(folder).token_to_id("<e1>") == n


def test_added_tokens_are_always_found(folder, tiny):
    n = tiny.vocab_size
    decoder = {"0": {"content": "<s>", "special": True}, str(n): {"content": "houseboat"}}
    decoder[str(n + 1)] = {"content": "boat", "single_word": True}
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": decoder})
    tokenizer = load_tokenizer(folder)
    assert tokenizer.vocab_size == n + 2
    for parse in (False, True):
        batch = tokenizer.encode_batch(["houseboat", "boat", "boats"], parse_special=parse)
        assert rows(batch)[:2] == [[0, n, 2], [0, n + 1, 2]]
        assert n + 1 not in batch.row(2)
    assert tokenizer.decode([0, n, 2]) == "houseboat"
    assert n not in tokenizer.all_special_ids
    assert _saved(tokenizer, folder / "saved").encode_batch(["houseboat"]).ids.tolist() == [0, n, 2]


def test_old_companions_are_honoured(folder, tiny):
    n = tiny.vocab_size
    write(folder, "special_tokens_map.json", {"cls_token": "<cls>", "bos_token": "<cls>"})
    write(folder, "added_tokens.json", {"<cls>": n, "houseboat": n + 1})
    tokenizer = load_tokenizer(folder)
    assert tokenizer.cls_token_id == n
    assert tokenizer.encode_batch(["houseboat"]).ids.tolist() == [n, n + 1, 2]
    # a file with added_tokens_decoder is newer, and the old companions are not read
    write(folder, "tokenizer_config.json", {"added_tokens_decoder": {}})
    assert load_tokenizer(folder).cls_token_id == 0


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("tokenizer_config.json", {"cls_token": 7}, "expected a token as cls_token, found 7"),
        ("tokenizer_config.json", {"mask_token": {"content": "<m>", "lstrip": 1}}, "expected a token as mask_token"),
        ("tokenizer_config.json", {"additional_special_tokens": 1}, "expected a list of tokens"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": "a"}}, "expected ids and their tokens"),
        ("special_tokens_map.json", [], "expected a JSON object, found list"),
        ("added_tokens.json", {"a": "b"}, "expected an id for the token 'a', found 'b'"),
        ("added_tokens.json", {"": 400}, "expected a token as token 400, found ''"),
        ("added_tokens.json", {"é" * 1025: 400}, "token 400 has 1025 characters, expected at most 1024"),
        ("tokenizer_config.json", {"mask_token": {"content": "x" * 2000}}, "mask_token has 2000 characters"),
        ("special_tokens_map.json", {"additional_special_tokens": ["x" * 3_000_000]}, "has 3000000 characters"),
    ],
)
def test_broken_companions_are_named(folder, name, content, reason):
    write(folder, name, content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_tokenizer(folder)
    assert caught.value.file == str(folder / name)


def test_added_ids_that_do_not_fit_are_an_error(tiny_proto, tiny):
    for i in (5, tiny.vocab_size + 1):
        with pytest.raises(ValueError, match=f"the added token 'boat' at id {tiny.vocab_size}, found it at {i}"):
            SentencePieceTokenizer(tiny_proto, settings=TokenizerSettings(added={i: AddedToken("boat")}))


def test_many_added_tokens_are_placed_in_linear_time(folder, tiny):
    """Quadratic time would be an hour."""
    n = tiny.vocab_size
    write(folder, "added_tokens.json", {f"<{i}>": n + i for i in range(20_000)})
    tokenizer = load_tokenizer(folder)
    assert tokenizer.vocab_size == n + 20_000
    assert tokenizer.encode_batch(["<5> <19999>"]).ids.tolist() == [0, n + 5, n + 19_999, 2]


def test_all_added_tokens_together_are_bounded(folder):
    write(folder, "special_tokens_map.json", {"additional_special_tokens": [f"{i:01000}" for i in range(1200)]})
    with pytest.raises(CheckpointError, match="added tokens of at most 1048576 characters together, found more"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *(("1e30", NO_LIMIT), ("1000000000000000019884624838656", NO_LIMIT), ("1e400", NO_LIMIT)),
        *(
            ("Infinity", NO_LIMIT),
            ("-1", NO_LIMIT),
            ("0", NO_LIMIT),
            ("9" * 400, NO_LIMIT),
            ("-" + "9" * 400, NO_LIMIT),
        ),
        *(("512.0", 512), ('"512"', 512), ("12.5", 12), ("null", NO_LIMIT), ("1e20", 10**20)),
    ],
)
def test_the_most_tokens_as_people_write_them(folder, written, read):
    (folder / "tokenizer_config.json").write_text(f'{{"model_max_length": {written}}}')
    assert load_tokenizer(folder).model_max_length == read
    assert _saved(load_tokenizer(folder), folder / "saved").model_max_length == read


def test_the_most_tokens_under_their_old_name(folder):
    write(folder, "tokenizer_config.json", {"max_len": 130})
    assert load_tokenizer(folder).model_max_length == 130


@pytest.mark.parametrize("written", ["true", "NaN", "[512]", '"long"', "{}"])
def test_what_is_no_number_of_tokens_is_named(folder, written):
    (folder / "tokenizer_config.json").write_text(f'{{"model_max_length": {written}}}')
    with pytest.raises(CheckpointError, match="expected a number of tokens as model_max_length, found "):
        load_tokenizer(folder)


def test_tokens_are_found_as_by_one_pattern_of_all_of_them():
    """The first, and the longest of several at one place."""
    rng = random.Random(0)

    def draw(n):
        return "".join(rng.choice("ab <>_é1\n") for _ in range(n))

    for _ in range(500):
        tokens = {content: AddedToken(content, single_word=rng.random() < 0.3) for content in map(draw, [1, 2, 3, 4])}
        by_length = sorted(tokens, key=len, reverse=True)
        pattern = [rf"(?<!\w){re.escape(c)}(?!\w)" if tokens[c].single_word else re.escape(c) for c in by_length]
        text = draw(rng.randrange(30))
        found = [(part, start) for part, start, is_token in TextSplitter(tokens.values()).split(text) if is_token]
        assert found == [(match[0], match.start()) for match in re.finditer("|".join(pattern), text)]
        assert TextSplitter(tokens.values()).finds(text) == bool(found)
