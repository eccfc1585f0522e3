"""Collect the texts that ``distil_mini.py`` trains ``skxlmr-mini`` on: English, and translations of it::

    python examples/distil_mini_texts.py --data DATA --out build/distilled

``DATA`` holds:

- ``pretrain/``: the corpus of ``pretrain_mini.py``; the sources in its ``SOURCES`` are read,
- ``wordnet/``: ``data.noun``, ... of WordNet 3.0 (Debian package ``wordnet-base``),
- ``omw/wns/``: the ``.tab`` files of the Open Multilingual Wordnet (omwn/omw-data) in ``WORDNETS``, and ``cldr/``,
- ``tatoeba/``: ``LANGUAGE.txt`` with English, a tab, a translation; see ``TATOEBA``; so too ``passages/SOURCE/`` (``PASSAGES``)
  and ``gatitos/``,
- ``english/``: ``SOURCE.txt`` with a sentence a line; see ``ENGLISH``,
- ``excluded/``: sentences that are kept for evaluation, one a line; rows with one of them are left out everywhere.
"""

import argparse
import gzip
import json
import re
import zlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pretrain_mini

SEED = 20261129
# Folder, file -> (language, licence). Share-alike, CeCILL, GPL and unclear wordnets are not read.
WORDNETS = {
    "als/wn-data-als": ("sq", "CC BY 3.0"),
    "bul/wn-data-bul": ("bg", "CC BY 3.0"),
    "cow/wn-data-cmn": ("zh", "WordNet licence"),
    "dan/wn-data-dan": ("da", "WordNet licence"),
    "ell/wn-data-ell": ("el", "Apache-2.0"),
    "heb/wn-data-heb": ("he", "WordNet licence"),
    "hrv/wn-data-hrv": ("hr", "CC BY 3.0"),
    "isl/wn-data-isl": ("is", "CC BY 3.0"),
    "ita/wn-data-ita": ("it", "CC BY 3.0"),
    "iwn/wn-data-ita": ("it", "ODC-BY 1.0"),
    "mcr/wn-data-cat": ("ca", "CC BY 3.0"),
    "mcr/wn-data-eus": ("eu", "CC BY 3.0"),
    "mcr/wn-data-glg": ("gl", "CC BY 3.0"),
    "msa/wn-data-ind": ("id", "MIT"),
    "nor/wn-data-nno": ("nn", "WordNet licence"),
    "nor/wn-data-nob": ("no", "WordNet licence"),
    "pol/wn-data-pol": ("pl", "WordNet licence"),
    "swe/wn-data-swe": ("sv", "CC BY 3.0"),
}
# Files of manythings.org/anki (Tatoeba, CC BY 2.0 FR), as these public repositories have them
TATOEBA = {
    "ar": "omnia197/eng2ara",
    "bg": "s7777/BulgarianToEnglish",
    "da": "Simogh67/NLP-seq2seq-Danish-to-English",
    "de": "rioyshky/translation",
    "el": "PaschalisAg/english_to_greek_ML_trans_project",
    "es": "Hoangduc212001/hoang",
    "fa": "irmaan/MachineTranslation",
    "fi": "7dev7/finnish_seq2seq",
    "fr": "modelexlab/data",
    "hi": "devpatel0005/Hindi-English-Language-Translation",
    "hu": "TheUsernameIsNotTaken/NMT_SentencePiece",
    "id": "AndiAlifs/DatasetRepos",
    "ja": "Torey-Clark/japn-eng-translator",
    "ko": "nate-koser/kor-eng-translator",
    "mr": "shantanuo/Word-Level-Eng-Mar-NMT",
    "nl": "BMKessels/lstm_lecture",
    "pl": "eRgo35/s2s-mt-experiment",
    "ro": "Kyle-Sang/PersonalizedFedForSeq2Seq",
    "ru": "z00logist/rust-vs-python-lstm",
    "sv": "emilolio/translation-transformer",
    "th": "Suzanoo/Thailand-Dataset",
    "tl": "s7777/TagalogToEnglish",
    "tr": "devcem/NMT-on-PHP",
    "uk": "esmira23/data-analysis",
    "ur": "bilalhameed248/Urdu-To-English-Machine-Translation",
    "vi": "sanghuynh1501/translate_machine",
    "zh": "pjgao/seq2seq_keras",
}
# Longer translations of English: folder -> (repository, licence)
PASSAGES = {
    "tico": ("tico-19/tico-19.github.io, without its rows from Wikipedia and Wikivoyage", "CC0-1.0"),
    "opensource_guide": ("github/opensource.guide", "CC BY 4.0"),
    "nextstrain_narratives": ("nextstrain/narratives", "CC BY 4.0"),
    "tata": ("google-research/url-nlp", "CC BY 4.0"),
    "talpco": ("matbahasa/TALPCo", "CC BY 4.0"),
}
# English sentences: file -> (most rows, repository, licence)
ENGLISH = {
    "18f_blog": (4_000, "18F/18f.gsa.gov", "CC0-1.0"),
    "coco_captions_csv": (15_000, "captions of COCO, Vindhyaa-Saravanan/Deep-Learning-Coursework", "CC BY 4.0"),
    "coco_captions_texygen": (15_000, "captions of COCO, geek-ai/Texygen", "CC BY 4.0"),
    "common_voice_en": (10_000, "mozilla/voice-web", "CC0-1.0"),
    "digitalgov": (6_000, "GSA/digitalgov.gov", "CC0-1.0"),
    "factbook": (3_500, "factbook/factbook.json", "public domain"),
    "factbook_older_editions": (4_000, "factbook/factbook.json", "public domain"),
    "gutenberg_american_adventures": (4_000, "GITenberg, Project Gutenberg", "public domain"),
    "gutenberg_how_to_listen_to_music": (1_500, "GITenberg, Project Gutenberg", "public domain"),
    "gutenberg_innocents_abroad": (4_000, "GITenberg, Project Gutenberg", "public domain"),
    "openstax_anthropology": (6_000, "openstax/osbooks-introduction-anthropology", "CC BY 4.0"),
    "openstax_economics": (6_000, "openstax/osbooks-principles-economics-bundle", "CC BY 4.0"),
    "openstax_life_liberty_us_history": (6_000, "openstax/osbooks-life-liberty-and-pursuit-happiness", "CC BY 4.0"),
    "openstax_nursing": (9_000, "openstax/osbooks-nursing-external-bundle", "CC BY 4.0"),
    "openstax_physics": (6_000, "openstax/osbooks-physics", "CC BY 4.0"),
    "plos_starter": (9_000, "PLOS/allofplos", "CC BY or public domain, article by article"),
    "us_state_union": (4_000, "nltk/nltk_data", "public domain"),
    "va_gov": (3_500, "department-of-veterans-affairs/vagov-content", "CC0-1.0"),
}
GATITOS = ("es", "fr", "hi")  # of google-research/url-nlp (CC BY 4.0), words and phrases
MARKS = re.compile("[\u0591-\u05c7]")  # Hebrew vowel signs: everyday Hebrew is written without them
MAX_ROWS = 25_000  # of one language from ``tatoeba/``


def held_out(english):
    """Whether pairs with this English side are kept for validation: one in a hundred."""
    return zlib.crc32(english.encode()) % 100 == 0


def read_excluded(data):
    """Sentences of evaluation sets: neither distilled nor masked."""
    files = (data / "excluded").glob("*")
    return {line for path in files for line in path.read_text(encoding="utf-8").splitlines() if line}


def corpus_pairs(corpus):
    """(English, language, translation) of the pairs, without what masked language modelling validates on.

    All languages are read, save those of which there is nothing but parts of the Bible.
    """
    with gzip.open(corpus / "pairs.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [
            row for row in map(json.loads, file) if row["source"] in pretrain_mini.SOURCES and row["lang_a"] == "en"
        ]
    languages = {row["lang_b"] for row in rows if row["source"] != "bible"}
    validation = {text for row in pretrain_mini.training_rows(corpus)[1] for text in row if text}
    for row in rows:
        language, text = row["lang_b"], row["text_b"]
        if language == "ar":
            text = text.translate(pretrain_mini.ARABIC_SIGNS)
        if language in languages and not {text, row["text_a"]} & validation:
            yield row["text_a"], language, text


def read_tsv(path):
    """(English, translation) of the lines of a file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        english, _, text = line.partition("\t")
        if english and text:
            yield english, text


def tatoeba_pairs(folder):
    """(English, language, translation) of the files of manythings.org, at most ``MAX_ROWS`` a language."""
    rng = np.random.default_rng(SEED)
    for path in sorted(folder / f"{language}.txt" for language in TATOEBA):
        rows = set()
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            english, _, rest = line.partition("\t")
            text = rest.partition("\t")[0].strip()
            english = english.strip()
            if path.stem == "ar":
                text = text.translate(pretrain_mini.ARABIC_SIGNS)
            if len(english) > 5 and text and "\ufffd" not in text:
                rows.add((english, path.stem, text))
        rows = sorted(rows)
        yield from (rows[i] for i in rng.permutation(len(rows))[:MAX_ROWS])


def read_wordnet(folder):
    """Synset -> (lemmas, gloss, example sentences) of the English WordNet."""
    synsets = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):  # the licence
                continue
            fields, _, gloss = line.partition(" | ")
            offset, _, kind, count, *rest = fields.split(" ")
            lemmas = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in rest[: 2 * int(count, 16) : 2]]
            definition = re.split(r';\s*"', gloss.strip())[0].strip()
            examples = [text.strip() for text in re.findall(r'"([^"]+)"', gloss) if " " in text.strip()]
            synsets[f"{offset}-{kind.replace('s', 'a')}"] = (lemmas, definition, examples)
    return synsets


def dictionary(folder, synsets):
    """(synset, language, text): lemmas of the synset in other languages, and definitions that are translations."""
    files = {name: language for name, (language, _) in WORDNETS.items()}
    files |= {f"cldr/{path.stem}": path.stem[-3:] for path in sorted((folder / "cldr").glob("wn-cldr-*.tab"))}
    files.pop("cldr/wn-cldr-eng", None)
    for name, language in files.items():
        lemmas = defaultdict(list)
        for line in (folder / f"{name}.tab").read_text(encoding="utf-8").splitlines():
            synset, _, rest = line.partition("\t")
            if synset not in synsets:
                continue
            kind, *values = rest.split("\t")
            text = MARKS.sub("", values[-1].strip().replace("_", " "))
            if kind.endswith("lemma") and len(text) < 60 and text not in lemmas[synset]:
                lemmas[synset].append(text)
            elif kind.endswith("def") and len(text) < 200:
                yield synset, language, text
        for synset, texts in lemmas.items():
            yield synset, language, ", ".join(texts[:4])


def collect(data, out):
    """Write ``rows.json``: English texts for the teacher, and (place of the English text, language, kind, text)."""
    excluded = read_excluded(data)
    places, rows = {}, {}

    def add(english, language, kind, text):
        if not {english, text} & excluded:
            rows[places.setdefault(english, len(places)), language, kind, text] = None

    for english, language, text in corpus_pairs(data / "pretrain"):
        add(english, language, "pair", text)
    for text in pretrain_mini.read_raw(data / "pretrain")["en"]:
        add(text, "en", "text", text)
    for english, language, text in tatoeba_pairs(data / "tatoeba"):
        add(english, language, "pair", text)
    for path in sorted(path for name in PASSAGES for path in (data / "passages" / name).glob("*.txt")):
        for english, text in read_tsv(path):
            add(english, path.stem, "passage", text)
    rng = np.random.default_rng(SEED)
    for name, (most, *_) in ENGLISH.items():
        texts = (data / "english" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        for i in rng.permutation(len(texts))[:most]:
            add(texts[i], "en", "text", texts[i])
    for language in GATITOS:
        for english, text in read_tsv(data / "gatitos" / f"{language}.txt"):
            add(english, language, "word", text)
    synsets = read_wordnet(data / "wordnet")
    full = {name: f"{', '.join(lemmas[:4])}: {gloss}" for name, (lemmas, gloss, _) in synsets.items()}
    seen = Counter()
    for synset, language, text in dictionary(data / "omw" / "wns", synsets):
        add(full[synset], language, "word", text)
        seen[synset] += 1
    for synset in seen:
        lemmas, gloss, examples = synsets[synset]
        add(full[synset], "en", "word", ", ".join(lemmas[:4]))
        add(full[synset], "en", "text", gloss)
        for text in examples:
            add(text, "en", "text", text)
    out.mkdir(parents=True, exist_ok=True)
    content = {"english": list(places), "rows": list(rows)}
    (out / "rows.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    kinds = Counter((kind, language) for _, language, kind, _ in rows)
    print(f"{len(places):,} English texts, {len(rows):,} rows")
    for kind in ("pair", "passage", "word", "text"):
        listed = sorted(((n, language) for (name, language), n in kinds.items() if name == kind), reverse=True)
        print(
            kind, sum(n for n, _ in listed), "rows,", len(listed), "languages:", *(f"{la} {n}" for n, la in listed[:60])
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    collect(args.data, args.out)


if __name__ == "__main__":
    main()
