"""Steps of a tokenizer.json must end, and must not make texts much longer."""

import base64
import json
from pathlib import Path

import pytest
from tokenizers import normalizers

from skxlmr.text._fast.steps import _GROWTH, MOST_STEPS, check_steps
from skxlmr.utils._errors import CheckpointError
from tests.text.sentencepiece.test_model_file import charsmap

FILE = Path("folder/tokenizer.json")


def replace(pattern, content=" ", kind="Regex"):
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(*steps):
    return {"normalizer": {"type": "Sequence", "normalizers": list(steps)}}


PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap()).decode()}
BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False}


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"normalizer": None},
        sequence(PRECOMPILED, replace(" {2,}")),  # XLM-R
        sequence({"type": "Nmt"}, {"type": "NFKC"}, replace("\\s+"), replace("\n", "", "String")),
        {"pre_tokenizer": BYTE_LEVEL, "decoder": BYTE_LEVEL},  # RoBERTa
        {
            "normalizer": BERT,
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "WordPiece", "prefix": "##"},
        },
        sequence(BERT, BERT, {"type": "NFC"}),
        {"post_processor": {"type": "TemplateProcessing", "single": [{}] * 3, "pair": [{}] * 6}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "[^\\p{L}\\p{N}]+"}}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"}}},
    ],
)
def test_steps_of_real_tokenizers_are_allowed(content):
    check_steps(FILE, json.loads(json.dumps(content)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (sequence(*[{"type": "NFC"}] * MOST_STEPS), "at most 32 steps in normalizer"),
        (sequence(*[replace("a", "aaaaaaaaaa", "String")] * 9), "more than 10000 times as long"),
        (sequence(*[{"type": "Prepend", "prepend": "a" * 200}] * 2), "more than 10000 times as long"),
        (sequence(PRECOMPILED, PRECOMPILED), "more than 10000 times as long"),
        (sequence(*[BYTE_LEVEL] * 20), "more than 10000 times as long"),
        (sequence(*[BERT] * 3), "more than 10000 times as long"),
        (sequence(BERT, PRECOMPILED, {"type": "NFC"}), "more than 10000 times as long"),
        ({"post_processor": [{"type": "TemplateProcessing", "single": [{}] * 200}] * 2}, "more than 10000 times"),
        (
            {"post_processor": {"type": "X", "single": [{}] * 200, "special_tokens": {"<s>": {"ids": [0] * 100}}}},
            "more than 10000 times",
        ),
        (sequence(replace("(a+)+$")), r"without groups, found '\(a\+\)\+\$'"),
        (sequence(replace(".*.*.*x")), "at most one repetition"),
        (sequence(replace("a?" * 30)), "at most one repetition"),
        (sequence(replace("a" * 200)), "a pattern of at most 100 characters"),
        (sequence(replace("a" * 200, kind="String")), "a pattern of at most 100 characters"),  # n * m in a text of n
        # quadratic: tried from every place of a text
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"[^\d]*[\d]"}}}, "one repetition, at its end"),
        (sequence(replace(r"\s+$")), "one repetition, at its end"),
        (sequence(replace("a{1000,}")), "one repetition, at its end"),
        (sequence(replace(r"\X")), "one repetition, at its end"),  # counts the flags before a place
        (
            sequence(PRECOMPILED | {"precompiled_charsmap": "AAAA"}),
            "Precompiled normalizer cannot be used .*truncated or damaged",
        ),
        (sequence(PRECOMPILED | {"precompiled_charsmap": "é"}), "Precompiled normalizer cannot be used"),
    ],
    ids=range(20),
)
def test_dangerous_steps_are_refused(content, message):
    with pytest.raises(CheckpointError, match=rf"^folder/tokenizer\.json: .*{message}"):
        check_steps(FILE, content)


def test_bert_makes_no_character_longer_than_the_check_allows():
    step = normalizers.BertNormalizer(lowercase=True)
    longest = max(len(step.normalize_str(chr(code))) for code in range(0x30000) if not 0xD800 <= code < 0xE000)
    assert 3 == longest <= _GROWTH["BertNormalizer"]
