"""Strings to tokenize: hostile ones, and real ones in hundreds of languages."""

import itertools
import json

from tests.tiny import sentences

SPELT_SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", "<mask>"]
HOSTILE = [
    "", " ", "\n\t ", "\0", "a\0b", "\u200b\u200d", "e\u0301\u0323\u0301", "\ufeffBOM", "\u202eright to left", "ﷺ",
    "①ﬁ㍿", "▁", "▁▁ ▁", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\uffff\U0010ffff", "\x01\x1b[0m",
    "\u3000全角　空白", "İıſß", "a" * 5000, "क्ष्म्य", "ก็ที่", "\u1100\u1161\u11a8", "𝕏", *SPELT_SPECIAL,
    "<mask", "< mask>", "<MASK>", "<s></s><mask>!",
]  # fmt: skip


def real_texts(shared_data, step=1):
    """Every `step`-th real text, with its language."""
    texts = []
    for file, keys in (
        *(("rawtext/" + name, ("text", "eng")) for name in ("flores_sib200", "tatoeba_pairs", "udhr")),
        *(("seqclass/" + file.stem, ("text",)) for file in sorted((shared_data / "seqclass").glob("*.jsonl"))),
        *(("nli/" + name, ("premise", "hypothesis")) for name in ("snli_en", "indonli", "jnli", "americasnli")),
        ("pairreg/stsb_multi_mt", ("text_a", "text_b")),
        ("pairreg/jsts", ("text_a", "text_b")),
        ("slots/xsid_intents_slots", ("text",)),
        ("pos/ud_pud", ("text",)),
        ("ner/uner", ("text",)),
    ):
        with (shared_data / f"{file}.jsonl").open(encoding="utf-8") as lines:
            for line in itertools.islice(lines, 0, None, step):
                row = json.loads(line)
                texts += [(row["lang"], row[key]) for key in keys if row.get(key)]
    return texts


# For vocabularies of BERT: what spells its special tokens, cases, accents, scripts, words of the greatest length.
WORDPIECE = [
    *sentences(150), *(text for text in HOSTILE if len(text) < 1000), "[MASK] the [SEP]", "a[MASK]b [PAD][UNK] [CLS",
    "Das HAUS, İstanbul ÉCOLE naïve e\u0301", "漢字と仮名 the 中文", "ﬁn ½ \u00ad soft\u00adhyphen", "x" * 101, "x" * 100,
    "can't do not, it's . ? ! , n't", "עִבְרִית العربية 한국어 ไทย ελληνικά", "a\u2028b\u0085c\u00a0d\tz",
    "\U0001f600\U00020000\ufffd",
]  # fmt: skip
