"""The original XLM's tokenizer, against transformers'."""

import gzip
import json
import pickle
import random

import pytest

from skxlmr.text import XLMTokenizer, load_tokenizer
from skxlmr.text._xlm.alignment import align
from skxlmr.utils._errors import CheckpointError
from tests.text.texts import HOSTILE, real_texts
from tests.tiny import sentences

pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]
LANGUAGES = "ar bg de el en es fr hi ru sw th tr ur vi zh".split()


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


def write_folder(folder, words, merges, **config):
    """Write a checkpoint's files from fastBPE's vocabulary (subwords without @@ end a word) and codes."""
    vocab = {token: i for i, token in enumerate(SPECIAL)}
    for word in words:
        vocab.setdefault(word[:-2] if word.endswith("@@") else word + "</w>", len(vocab))
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("".join(f"{merge}\n" for merge in merges), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": "xlm"} | config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "XLMTokenizer"} | config))
    return folder


def read_lines(file):
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return lines.read().split("\n")[:-1]


@pytest.fixture(scope="module")
def xnli(shared_data, tmp_path_factory):
    source = shared_data / "tokenizer" / "xlm_old_CC-BY-NC"
    words = [line.split(" ")[0] for line in read_lines(source / "vocab_xnli_15.gz")]
    lang2id = {language: i for i, language in enumerate(LANGUAGES)}
    folder = tmp_path_factory.mktemp("xnli")
    write_folder(folder, words, read_lines(source / "codes_xnli_15.gz"), lang2id=lang2id)
    return folder, load_tokenizer(folder), transformers.XLMTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=[True, False])
def toy_xlm(request, tmp_path_factory):
    """Random merges of neighbouring symbols in a few words, with and without lower case."""
    rng = random.Random(0)
    merges, words = [], []
    for word in sorted({word for text in sentences(100) for word in (text + " " + text.lower()).split()}):
        symbols = [*word[:-1], word[-1] + "</w>"]
        words += [symbol.removesuffix("</w>") if symbol.endswith("</w>") else symbol + "@@" for symbol in symbols]
        while len(symbols) > 1 and rng.random() < 0.8:
            i = rng.randrange(len(symbols) - 1)
            merges.append(f"{symbols[i]} {symbols[i + 1]}")
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
            words.append(symbols[i].removesuffix("</w>") if symbols[i].endswith("</w>") else symbols[i] + "@@")
    folder = tmp_path_factory.mktemp("xlm")
    write_folder(folder, words, dict.fromkeys(merges), do_lowercase_and_remove_accent=request.param)
    return load_tokenizer(folder), transformers.XLMTokenizer.from_pretrained(folder)


TEXTS = [*sentences(60), *(text for text in HOSTILE if len(text) < 1000), "“Ça va…”, said 3 ½ «men»; don't （１）"]


def ids_of(theirs, texts, language="en"):
    """Return the reference's ids, by a private method: its public ones know English only."""
    return [[0, *theirs.convert_tokens_to_ids(theirs._tokenize(text, lang=language)), 1] for text in texts]


def test_texts_and_pairs_equal_the_reference(toy_xlm):
    ours, theirs = toy_xlm
    assert isinstance(ours, XLMTokenizer)
    assert ours.vocab_size == len(theirs)
    assert ours.all_special_ids == sorted(set(theirs.all_special_ids))
    assert (ours.bos_token_id, ours.cls_token_id, ours.sep_token_id) == (0, 1, 1)
    assert (ours.pad_token_id, ours.unk_token_id, ours.mask_token_id) == (2, 3, 5)
    assert rows(ours.encode_batch(TEXTS, parse_special=True)) == theirs(TEXTS)["input_ids"]
    assert rows(ours.encode_batch(TEXTS, TEXTS[::-1], parse_special=True)) == theirs(TEXTS, TEXTS[::-1])["input_ids"]
    assert ours.n_special(pair=True) == 3
    for pair in (None, [30]):
        inputs = theirs.build_inputs_with_special_tokens([20, 21], pair)
        assert ours.build_inputs_with_special_tokens([20, 21], pair) == inputs
        assert ours.get_special_tokens_mask([20, 21], pair) == theirs.get_special_tokens_mask([20, 21], pair)


def test_words_equal_the_reference(toy_xlm):
    ours, theirs = toy_xlm
    words = [text.split() for text in sentences(20)]
    assert rows(ours.encode_words(words)) == [theirs(row, is_split_into_words=True)["input_ids"] for row in words]


def test_decode_equals_the_reference(toy_xlm):
    ours, theirs = toy_xlm
    batch = ours.encode_batch(sentences(20))
    for i in range(20):
        assert ours.decode(batch.row(i)) == theirs.decode(batch.row(i), skip_special_tokens=True)


def test_spelt_special_tokens(toy_xlm):
    ours, _ = toy_xlm
    assert ours.encode_batch(["<special1>"], parse_special=True).ids.tolist() == [0, 5, 1]
    assert 5 not in ours.encode_batch(["<special1>"]).ids


@pytest.mark.parametrize("language", ["en", "fr", "ro", "ru"])
def test_languages_of_moses_equal_the_reference(toy_xlm, language):
    ours, theirs = toy_xlm
    texts = [text for text in TEXTS if "<" not in text] + ["Știință şi țară", "l'eau, d'un", "Mr. Smith, etc. 1,5"]
    assert rows(ours.for_language(language).encode_batch(texts)) == ids_of(theirs, texts, language)


def test_real_texts_of_the_published_vocabulary(xnli, shared_data):
    _, ours, theirs = xnli
    check_languages(ours, theirs, real_texts(shared_data, step=60))


@pytest.mark.slow
def test_all_real_texts_of_the_published_vocabulary(xnli, shared_data):
    _, ours, theirs = xnli
    print(check_languages(ours, theirs, real_texts(shared_data)))


def check_languages(ours, theirs, texts):
    """Compare texts in the checkpoint's languages with the rules of each, others with those of English."""
    n_unknown = n_tokens = 0
    by_language = {}
    for language, text in texts:
        code = language[:2] if language[:2] in LANGUAGES and language[:2] not in ("th", "zh") else "en"
        by_language.setdefault(code, []).append(text)
    assert len(by_language) > 8
    for code, group in by_language.items():
        found = rows(ours.for_language(code).encode_batch(group))
        assert found == ids_of(theirs, group, code)
        n_tokens += sum(map(len, found))
        n_unknown += sum(row.count(ours.unk_token_id) for row in found)
    return f"{len(texts)} texts, {n_tokens} tokens, {n_unknown} unknown"


def test_language_ids(xnli):
    folder, ours, theirs = xnli
    assert ours.language_id("fr") == theirs.lang2id["fr"] == 6
    with pytest.raises(ValueError, match=r"language must be one of ar, bg, .*; found 'xx'"):
        ours.for_language("xx")
    with pytest.raises(ValueError, match="texts in 'zh' must be split into words first"):
        ours.for_language("zh").encode_batch(["漢字"])
    words = [["我们", "喜欢", "书。"]]
    expected = theirs.convert_tokens_to_ids(theirs._tokenize("我们 喜欢 书 .", bypass_tokenizer=True))
    assert ours.for_language("zh").encode_words(words).word_ids.max() == 2
    assert ours.for_language("zh").encode_words([["我们", "喜欢", "书", "."]]).ids.tolist()[1:-1] == expected
    (folder / "tokenizer_config.json").write_text("{}")  # older checkpoints list their languages in config.json
    assert load_tokenizer(folder).lang2id == ours.lang2id


def test_offsets_lie_on_the_words(xnli, shared_data):
    _, ours, _ = xnli
    texts = [text for _, text in real_texts(shared_data, step=300)]
    batch = ours.encode_batch(texts, return_offsets=True)
    for i, text in enumerate(texts):
        places = batch.offsets[batch.span(i)][1:-1].tolist()
        covered = set()
        for begin, end in places:
            assert 0 <= begin <= end <= len(text)
            covered |= set(range(begin, end))
        letters = {k for k, character in enumerate(text) if character.isalnum()}
        assert letters <= covered, text
    text = "“L'Éléphant” mange… 東京 cafe\u0301s!"
    batch = ours.for_language("fr").encode_batch([text], return_offsets=True)
    words = {}
    for piece, (begin, end) in zip(ours.convert_ids_to_pieces(batch.ids), batch.offsets.tolist(), strict=True):
        words.setdefault(piece, text[begin:end])
    assert {words[piece] for piece in words} >= {"“", "!"}
    assert "e\u0301s" in "".join(words.values())


def test_alignment_of_rewritten_texts():
    def slices(original, rewritten):
        return [original[begin:end] for begin, end in align(original, rewritten).tolist()]

    assert slices("Été x", "etex") == ["É", "t", "é", "x"]
    assert slices("a…b", "a...b") == ["a", "…", "…", "…", "b"]
    assert slices('say "no".', 'say"no."') == ["s", "a", "y", '"', "n", "o", '".', '".']
    assert slices("e\u0301a", "ea") == ["e\u0301", "a"]
    assert slices("", "") == [] and slices("x", "") == []


def test_save_pickle_and_load(toy_xlm, tmp_path):
    ours, _ = toy_xlm
    ours.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "xlm"}')
    for twin in (load_tokenizer(tmp_path), pickle.loads(pickle.dumps(ours))):
        assert rows(twin.encode_batch(TEXTS)) == rows(ours.encode_batch(TEXTS))
        assert (twin.lower, twin.vocab_size) == (ours.lower, ours.vocab_size)
    theirs = transformers.XLMTokenizer.from_pretrained(tmp_path)
    assert rows(ours.encode_batch(TEXTS, parse_special=True)) == theirs(TEXTS)["input_ids"]


def test_what_the_reference_saves_of_no_break_spaces(tmp_path):
    """It takes them for white space, and leaves the count of their pair, as of one in the published codes of 15 languages."""
    write_folder(tmp_path, ["ab"], ["\u00a0 \u00a0 7830", "a b</w> 5"])
    transformers.XLMTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "merges.txt").read_text().splitlines() == ["7830", "a b</w>"]
    theirs = transformers.XLMTokenizer.from_pretrained(tmp_path)
    assert rows(load_tokenizer(tmp_path).encode_batch(["ab", "a b"])) == theirs(["ab", "a b"])["input_ids"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("vocab.json", "[]", "expected a JSON object"),
        ("vocab.json", '{"a": "b"}', "expected an id within"),
        ("vocab.json", "{}", "distinct ids"),
        ("merges.txt", "a\n", "expected two tokens in line 1, found 'a'"),
        ("tokenizer_config.json", '{"lang2id": ["en"]}', "expected languages and their ids as lang2id"),
        ("tokenizer_config.json", '{"do_lowercase_and_remove_accent": 1}', "expected true or false"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, reason):
    write_folder(tmp_path, ["ab"], ["a b</w>"])
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.file == str(tmp_path / name)


def test_without_sacremoses_the_extra_is_named(tmp_path, monkeypatch):
    write_folder(tmp_path, ["ab"], ["a b</w>"])
    monkeypatch.setitem(__import__("sys").modules, "sacremoses", None)
    from skxlmr.text._xlm import moses

    moses._normalizer.cache_clear()
    with pytest.raises(ImportError, match=r'needs sacremoses, which is not installed: pip install "skxlmr\[xlm\]"'):
        load_tokenizer(tmp_path).encode_batch(["ab"])
