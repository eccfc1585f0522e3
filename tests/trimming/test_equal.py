"""What a trimmed checkpoint computes equals what the whole one does, in this library and in others."""

import json
import shutil

import numpy as np
import pytest
import tokenizers
import torch

from skxlmr import (
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaVectorizer,
    XLMVectorizer,
    trim_vocabulary,
)
from skxlmr.checkpoints import read_config, read_model, read_tensors
from skxlmr.text import AddedToken, SentencePieceTokenizer, TokenizerSettings, load_tokenizer
from skxlmr.trimming._tokenizer_files import trimmed_json, vocabulary_of
from tests import adapters, cross_encoders, sentence_encoders
from tests.tiny import write_checkpoint
from tests.trimming.kinds import KINDS, ROBERTA, sentencepiece, tokenizer_of
from tests.trimming.texts import CORPUS, OTHERS, TEXTS, back, rows

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def trimmed(checkpoints, tmp_path_factory):
    """trimmed(kind) -> the folder of the whole checkpoint, and the report of the trimmed one."""
    made = {}

    def trimmed(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("trimmed") / "checkpoint"
            made[kind] = trim_vocabulary(checkpoints(kind), CORPUS, folder)
        return checkpoints(kind), made[kind]

    return trimmed


@every_kind
@pytest.mark.parametrize("parse_special", [False, True])
def test_the_texts_have_the_same_tokens(trimmed, kind, parse_special):
    whole, report = trimmed(kind)
    before, after = load_tokenizer(whole), load_tokenizer(report.folder)
    assert type(before) is type(after)
    languages = CORPUS if kind == "xlm" else {None: TEXTS}
    for language, texts in languages.items():
        both = [each.for_language(language) if language else each for each in (before, after)]
        expected, found = (rows(each, texts, parse_special=parse_special) for each in both)
        assert back(found, report.old_ids) == expected
    assert [before.convert_ids_to_pieces(report.old_ids)] == [after.convert_ids_to_pieces(range(after.vocab_size))]


@every_kind
def test_vectors_are_the_same_bits(trimmed, kind):
    whole, report = trimmed(kind)
    vectorizer = XLMVectorizer if kind == "xlm" else XLMRobertaVectorizer
    options = {"lang": "en"} if kind == "xlm" else {}
    texts = CORPUS["en"] if kind == "xlm" else TEXTS
    expected, found = (vectorizer(each, **options).transform(texts) for each in (whole, report.folder))
    assert np.array_equal(found, expected)
    assert len(np.unique(expected, axis=0)) > 15


@every_kind
def test_tensors_are_those_rows(trimmed, kind):
    whole, report = trimmed(kind)
    before, after = read_tensors(whole), read_tensors(report.folder)
    n_cut = 0
    for name, tensor in before.items():
        is_cut = tensor.shape[:1] == (report.n_rows_before,)
        n_cut += is_cut
        assert torch.equal(after[name], tensor[report.old_ids] if is_cut else tensor), name
    assert n_cut == 2 and report.n_rows_after < report.n_rows_before
    further = {
        f"{part}.decoder.bias": f"{part}.bias" for part in ("lm_head", "cls.predictions") if f"{part}.bias" in before
    }
    assert set(after) == set(before) | set(further)  # version 4 of transformers reads the bias under the second name
    assert all(torch.equal(after[name], after[other]) for name, other in further.items())


@every_kind
def test_transformers_opens_it_and_computes_the_same(trimmed, kind):
    """Logits are a product with fewer rows, which may be summed in another order: equal to some units in the last place."""
    transformers = pytest.importorskip("transformers")
    whole, report = trimmed(kind)
    read = [transformers.AutoTokenizer.from_pretrained(each) for each in (whole, report.folder)]
    models = [transformers.AutoModelForMaskedLM.from_pretrained(each).eval() for each in (whole, report.folder)]
    texts = [text for text in (CORPUS["en"] if kind == "xlm" else TEXTS) if "\ud800" not in text]
    for text in texts:
        expected, found = (tokenizer(text).input_ids for tokenizer in read)
        assert report.old_ids[found].tolist() == expected
        with torch.no_grad():
            before, after = (
                model(torch.tensor([row]), output_hidden_states=True)
                for model, row in zip(models, (expected, found), strict=True)
            )
        for a, b in zip(before.hidden_states, after.hidden_states, strict=True):
            assert torch.equal(a, b)
        torch.testing.assert_close(after.logits, before.logits[..., report.old_ids], rtol=1e-5, atol=1e-5)
    assert [len(tokenizer) for tokenizer in read] == [report.n_rows_before, report.n_rows_after]


def test_an_untied_head_keeps_its_own_rows(tmp_path):
    transformers = pytest.importorskip("transformers")
    write_checkpoint(tmp_path / "whole", sentencepiece(), tie_word_embeddings=False)
    report = trim_vocabulary(tmp_path / "whole", TEXTS, tmp_path / "small")
    before, after = read_tensors(tmp_path / "whole"), read_tensors(tmp_path / "small")
    for name in ("lm_head.decoder.weight", "lm_head.bias", "roberta.embeddings.word_embeddings.weight"):
        assert torch.equal(after[name], before[name][report.old_ids])
    assert not torch.equal(after["lm_head.decoder.weight"], after["roberta.embeddings.word_embeddings.weight"])
    ids = torch.tensor([[0, 5, 9, 2]])
    whole, small = (
        transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / name).eval()(each).logits
        for name, each in (("whole", torch.from_numpy(report.old_ids)[ids]), ("small", ids))
    )
    torch.testing.assert_close(small, whole[..., report.old_ids], rtol=1e-5, atol=1e-5)


def test_a_fit_takes_the_same_steps(trimmed):
    """Its word embeddings are those of the texts, in the same order, so that every bit is the same."""
    whole, report = trimmed("xlm-roberta")
    y = [0] * len(CORPUS["de"]) + [1] * len(CORPUS["en"])
    fits = []
    for folder in (whole, report.folder):
        classifier = XLMRobertaClassifier(
            folder, max_epochs=8, batch_size=8, learning_rate=3e-3, weight_decay=0.1, random_state=0, dtype="float32"
        )
        fits.append(classifier.fit(TEXTS, y))
    before, after = fits
    assert after.loss_curve_ == before.loss_curve_ and before.loss_curve_[-1] < before.loss_curve_[0]
    assert np.array_equal(after.predict_proba(TEXTS), before.predict_proba(TEXTS))
    tensors = after.module_.state_dict()
    for name, tensor in before.module_.state_dict().items():
        expected = tensor[report.old_ids] if tensor.shape[:1] == (report.n_rows_before,) else tensor
        assert torch.equal(tensors[name], expected), name


def test_a_language_model_has_fewer_tokens_to_choose_from(trimmed):
    """Probabilities of the tokens that stay keep their ratios."""
    whole, report = trimmed("xlm-roberta")
    text = ["the old <mask> sings"]
    before, after = (XLMRobertaMaskedLM.from_checkpoint(folder) for folder in (whole, report.folder))
    expected = {each["token"]: each["score"] for each in before.fill_mask(text, top_k=300)[0][0]}
    found = {report.old_ids[each["token"]]: each["score"] for each in after.fill_mask(text, top_k=200)[0][0]}
    ratios = np.array([found[i] / expected[i] for i in found if i in expected])
    assert len(ratios) > 100 and ratios[0] > 1.01
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)


def test_sentence_transformers_makes_the_same_vectors(checkpoints, tmp_path):
    package = pytest.importorskip("sentence_transformers")
    prompts = {"prompts": {"query": "question:", "passage": "passage: "}, "default_prompt_name": "query"}
    layers = [("Dense", sentence_encoders.dense())]
    source = sentence_encoders.write(tmp_path / "whole", checkpoints("xlm-roberta"), layers=layers, prompts=prompts)
    report = trim_vocabulary(source, TEXTS, tmp_path / "small", keep="used")
    texts = [text for text in TEXTS if "\ud800" not in text]
    before, after = (package.SentenceTransformer(str(each), device="cpu") for each in (source, report.folder))
    for name in ("query", "passage"):
        expected, found = (each.encode(texts, prompt_name=name) for each in (before, after))
        assert np.array_equal(found, expected)
        ours = [XLMRobertaVectorizer(each, prompt=name).transform(texts) for each in (source, report.folder)]
        assert np.array_equal(*ours)
    assert (tmp_path / "small" / "2_Dense" / "model.safetensors").is_file()


@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_texts_in_lower_case_are_counted_so(checkpoints, tmp_path, place):
    settings = {"max_seq_length": 64, "do_lower_case": True}
    source = sentence_encoders.write(tmp_path / "whole", checkpoints("xlm-roberta"), settings=settings, place=place)
    report = trim_vocabulary(source, TEXTS, tmp_path / "small", keep="used")
    assert np.array_equal(*(XLMRobertaVectorizer(each).transform(TEXTS) for each in (source, report.folder)))
    plain = trim_vocabulary(checkpoints("xlm-roberta"), TEXTS, tmp_path / "plain", keep="used")
    assert plain.old_ids.tolist() != report.old_ids.tolist()


def test_prompts_of_a_cross_encoder_stay(checkpoints, tmp_path):
    own = {"prompts": {"query": "κόκκινο σπίτι: "}, "default_prompt_name": "query"}
    source = cross_encoders.write(tmp_path / "whole", checkpoints("xlm-roberta"), own=own)
    ids = rows(load_tokenizer(source), ["κόκκινο σπίτι: "])[0]
    for texts, min_count in ((CORPUS, 1), (["das " * 9], 5)):
        report = trim_vocabulary(source, texts, tmp_path / "small", min_count=min_count, keep="used")
        assert set(ids) <= set(report.old_ids.tolist())
    plain = trim_vocabulary(checkpoints("xlm-roberta"), CORPUS, tmp_path / "plain", keep="used")
    assert not set(ids) <= set(plain.old_ids.tolist())


def test_an_adapter_is_merged(checkpoints, tmp_path):
    source = adapters.write(tmp_path / "adapter", checkpoints("xlm-roberta"))
    report = trim_vocabulary(source, TEXTS, tmp_path / "small")
    assert read_model(tmp_path / "small").base is None
    expected, found = (XLMRobertaVectorizer(each).transform(TEXTS) for each in (source, report.folder))
    assert np.array_equal(found, expected)
    assert not np.array_equal(expected, XLMRobertaVectorizer(checkpoints("xlm-roberta")).transform(TEXTS))
    weights = checkpoints("xlm-roberta") / "model.safetensors"
    assert report.n_bytes_before == weights.stat().st_size + (source / "adapter_model.safetensors").stat().st_size


@every_kind
def test_other_texts_can_still_be_spelled(trimmed, kind):
    """In smaller pieces: an unknown token only where there was one."""
    whole, report = trimmed(kind)
    before, after = load_tokenizer(whole), load_tokenizer(report.folder)
    assert back(rows(after, OTHERS), report.old_ids) != rows(before, OTHERS)
    for old, new in zip(rows(before, OTHERS), rows(after, OTHERS), strict=True):
        assert new.count(after.unk_token_id) <= old.count(before.unk_token_id)
    if kind not in ROBERTA:  # whose decoder joins bytes
        for old, new in zip(rows(before, OTHERS), rows(after, OTHERS), strict=True):
            assert after.decode(new) == before.decode(old)


def test_special_ids_of_the_config_and_of_generation(checkpoints, tmp_path):
    """Ids that a config names go along with their tokens."""
    source = tmp_path / "whole"
    shutil.copytree(checkpoints("roberta with tokenizer.json"), source)
    named = {
        "bos_token_id": 0,
        "eos_token_id": [2, 590],
        "pad_token_id": 1,
        "mask_token_id": 4,
        "decoder_start_token_id": None,
    }
    (source / "generation_config.json").write_text(json.dumps(named | {"max_new_tokens": 7}))
    (source / "config.json").write_text(json.dumps(read_config(source) | {"decoder_start_token_id": 591}))
    report = trim_vocabulary(source, TEXTS, tmp_path / "small", min_count=3)
    content = json.loads((tmp_path / "small" / "generation_config.json").read_text())
    new = report.new_ids()[590]
    assert 0 < new < 590
    assert content == named | {"eos_token_id": [2, new], "max_new_tokens": 7}
    config = read_config(tmp_path / "small")
    assert config["vocab_size"] == report.n_rows_after
    assert config["decoder_start_token_id"] == report.new_ids()[591] == new + 1


def test_tokens_that_generation_forces_or_forbids(checkpoints, tmp_path):
    """Forced ones stay. What is forbidden goes with its token; a sequence that lacks a token cannot occur."""
    source = tmp_path / "whole"
    shutil.copytree(checkpoints("roberta with tokenizer.json"), source)
    used = set(load_tokenizer(source).encode_batch(TEXTS).ids.tolist())
    kept, gone = max(used), max(set(range(590)) - used)
    settings = {
        "forced_bos_token_id": 594,
        "forced_decoder_ids": [[1, 595], [596, None]],  # 596 is a place
        "force_words_ids": [[597], [[598], [2, 2]]],
        "suppress_tokens": [gone, kept],
        "begin_suppress_tokens": [gone],
        "bad_words_ids": [[kept, 2], [kept, gone], [gone], [kept]],
        "sequence_bias": [[[kept, 2], -7], [[gone, 2], 1.5]],
        "eos_token_id": [2, kept],
        "max_new_tokens": 590,
    }
    (source / "generation_config.json").write_text(json.dumps(settings))
    (source / "config.json").write_text(json.dumps(read_config(source) | {"suppress_tokens": [gone, kept]}))
    report = trim_vocabulary(source, TEXTS, tmp_path / "small")
    new = report.new_ids().tolist()
    assert new[gone] == new[596] == -1 and -1 not in (new[i] for i in (594, 595, 597, 598)) and new[kept] < kept
    assert json.loads((tmp_path / "small" / "generation_config.json").read_text()) == {
        "forced_bos_token_id": new[594],
        "forced_decoder_ids": [[1, new[595]], [596, None]],
        "force_words_ids": [[new[597]], [[new[598]], [2, 2]]],
        "suppress_tokens": [new[kept]],
        "begin_suppress_tokens": None,
        "bad_words_ids": [[new[kept], 2], [new[kept]]],
        "sequence_bias": [[[new[kept], 2], -7]],
        "eos_token_id": [2, new[kept]],
        "max_new_tokens": 590,
    }
    assert read_config(tmp_path / "small")["suppress_tokens"] == [new[kept]]


@pytest.mark.parametrize("kind", ROBERTA)
def test_words_of_a_tagger_to_be(checkpoints, kind, tmp_path):
    """The checkpoint does not say yet that it will read words, each as if a space preceded it."""
    words = sorted({word for text in CORPUS["en"] for word in text.split() if "\ud800" not in word})
    report = trim_vocabulary(checkpoints(kind), words[1:], tmp_path / "small", keep="used", keep_texts=words[:1])
    before, after = (load_tokenizer(folder) for folder in (checkpoints(kind), report.folder))
    for rows_of in (lambda each: each.encode_words([words]).row(0), lambda each: each.encode_batch([words[0]]).row(0)):
        assert report.old_ids[rows_of(after)].tolist() == rows_of(before).tolist()
    assert report.n_rows_after < report.n_rows_before


def test_a_token_that_only_a_template_names_stays(checkpoints, tmp_path):
    source = tmp_path / "whole"
    shutil.copytree(checkpoints("tokenizer.json alone"), source)
    content = json.loads((source / "tokenizer.json").read_text())
    piece = content["model"]["vocab"][250][0]
    content["post_processor"]["special_tokens"][piece] = {"id": piece, "ids": [250], "tokens": [piece]}
    (source / "tokenizer.json").write_text(json.dumps(content))
    report = trim_vocabulary(source, ["das Haus"], tmp_path / "small", keep="used")
    made = json.loads((tmp_path / "small" / "tokenizer.json").read_text())
    (new,) = made["post_processor"]["special_tokens"][piece]["ids"]
    assert report.old_ids[new] == 250 and made["model"]["vocab"][new][0] == piece


def test_another_mask_token(tmp_path):
    """The place of <mask> behind the pieces stays, since the ids of added tokens follow it."""
    settings = TokenizerSettings(roles={"mask_token": AddedToken("[M]")})
    write_checkpoint(tmp_path / "whole", sentencepiece(settings=settings))
    report = trim_vocabulary(tmp_path / "whole", TEXTS, tmp_path / "small")
    before, after = (load_tokenizer(tmp_path / name) for name in ("whole", "small"))
    assert report.old_ids[after.mask_token_id] == before.mask_token_id == before.vocab_size - 1
    texts = [*TEXTS, "a [M]"]
    assert back(rows(after, texts, parse_special=True), report.old_ids) == rows(before, texts, parse_special=True)


def test_steps_of_a_tokenizer_json_get_new_ids(tmp_path):
    """Special tokens at the end of the vocabulary change their ids."""
    from tests.tiny_wordpiece import SPECIAL, tiny_vocabulary, write_files

    tokens = [token for token in tiny_vocabulary() if token not in SPECIAL] + SPECIAL
    (tmp_path / "files").mkdir()
    write_files(tmp_path / "files", ["tokenizer.json"], tokens=tokens, model_max_length=64)
    ids = {"pad_token_id": tokens.index("[PAD]"), "max_position_embeddings": 512}
    source = write_checkpoint(tmp_path / "whole", load_tokenizer(tmp_path / "files"), model_type="bert", **ids)
    report = trim_vocabulary(source, TEXTS, tmp_path / "small")
    new, content = report.new_ids(), json.loads((tmp_path / "small" / "tokenizer.json").read_text())
    expected = {token: int(new[tokens.index(token)]) for token in SPECIAL}
    assert {entry["content"]: entry["id"] for entry in content["added_tokens"]} == expected
    assert content["post_processor"]["cls"] == ["[CLS]", expected["[CLS]"]]
    assert content["post_processor"]["sep"] == ["[SEP]", expected["[SEP]"]]
    assert read_config(tmp_path / "small")["pad_token_id"] == expected["[PAD]"] < tokens.index("[PAD]")
    before, after = (load_tokenizer(tmp_path / name) for name in ("whole", "small"))
    assert back(rows(after, TEXTS), report.old_ids) == rows(before, TEXTS)
    assert np.array_equal(*(XLMRobertaVectorizer(each).transform(TEXTS) for each in (source, report.folder)))


def test_templates_and_padding_get_new_ids(checkpoints):
    tokenizer = load_tokenizer(checkpoints("tokenizer.json alone"))
    content = tokenizer.content | {"padding": {"strategy": "BatchLongest", "pad_id": 1, "pad_token": "<pad>"}}
    new = {i: i + 10 for i in range(tokenizer.vocab_size)}
    made = trimmed_json(content, new, vocabulary_of(checkpoints("tokenizer.json alone"), tokenizer))
    assert {name: each["ids"] for name, each in made["post_processor"]["special_tokens"].items()} == {
        "<s>": [10],
        "</s>": [12],
    }
    assert made["post_processor"]["pair"] == content["post_processor"]["pair"]
    assert made["padding"]["pad_id"] == 11 and made["model"]["unk_id"] == 13
    assert content["padding"]["pad_id"] == 1 and content["model"]["unk_id"] == 3


def test_positions_are_counted_from_the_same_id(tmp_path):
    """Of the padding token, here behind tokens that no text uses: they stay, or all positions would move."""
    vocab = {piece: i for i, piece in enumerate([*"abcdef", "<pad>", "<s>", "</s>", "<unk>", "<mask>", "ef", "ab"])}
    tokenizer = tokenizer_of(vocab, "BPE", [("e", "f"), ("a", "b")])
    ids = {f"{name}_token_id": vocab[token] for name, token in (("pad", "<pad>"), ("bos", "<s>"), ("eos", "</s>"))}
    source = write_checkpoint(tmp_path / "whole", tokenizer, model_type="roberta", **ids)
    report = trim_vocabulary(source, ["ef e", "ef"], tmp_path / "small", keep="used")
    assert report.old_ids.tolist() == list(range(12))
    expected, found = (XLMRobertaVectorizer(each).transform(["ef e", "ef"]) for each in (source, report.folder))
    assert np.array_equal(found, expected)


@pytest.mark.slow
def test_real_text_with_the_real_vocabulary(shared_data, tmp_path):
    """Three languages, read by SentencePiece and by the tokenizers package."""
    tokenizer = SentencePieceTokenizer((shared_data / "tokenizer" / "xlmr.spm.model").read_bytes())
    write_checkpoint(tmp_path / "whole", tokenizer, hidden_size=4)
    tokenizer.save_conversion(tmp_path / "whole")
    texts = {language: [] for language in ("de", "en", "zh")}
    for file in (
        "seqclass/sib200_topics",
        "rawtext/flores_sib200",
        "pairreg/stsb_multi_mt",
        "rawtext/udhr",
        "qa/xquad",
    ):
        for line in (shared_data / f"{file}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["lang"] in texts:
                texts[row["lang"]] += [row[key] for key in ("text", "text_a", "text_b", "context") if key in row]
    texts["ja"] = ["ｶﾞｿﾘﾝ ﾊﾟｽﾎﾟｰﾄ ﾃﾞｰﾀﾍﾞｰｽ"]  # the package does not compose half-width characters
    report = trim_vocabulary(tmp_path / "whole", texts, tmp_path / "small", keep="used")
    assert report.n_rows_after < 0.15 * report.n_rows_before
    print(report)
    whole, small = (load_tokenizer(tmp_path / name) for name in ("whole", "small"))
    fast = [tokenizers.Tokenizer.from_file(str(tmp_path / name / "tokenizer.json")) for name in ("whole", "small")]
    for each in texts.values():
        assert len(each) > 500 or each == texts["ja"]
        assert back(rows(small, each), report.old_ids) == rows(whole, each)
        expected, found = ([encoding.ids for encoding in each_fast.encode_batch(each)] for each_fast in fast)
        assert back(found, report.old_ids) == expected
    assert expected != rows(whole, texts["ja"])
