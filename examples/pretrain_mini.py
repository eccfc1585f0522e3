"""Pretrain ``skxlmr-mini``, the checkpoint that ships with the package, with the library's own ``XLMRobertaMaskedLM``.

Two steps, each a command of its own with a fixed seed::

    python examples/pretrain_mini.py vocabulary --corpus PRETRAIN_FOLDER --out build/mini
    python examples/pretrain_mini.py pretrain   --corpus PRETRAIN_FOLDER --out build/mini

``PRETRAIN_FOLDER`` holds ``raw.jsonl.gz`` ({lang, source, text}) and ``pairs.jsonl.gz`` ({lang_a, lang_b, text_a, text_b,
source}). Only the sources in ``SOURCES`` are read: public domain, CC0, and licences that require only attribution.
"""

import argparse
import gzip
import io
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

SEED = 20261127
VOCABULARY = 18_000
# Characters of everyday messages that get ids although they are rare in the corpus. First and last of each run.
RUNS = ["😀🙏", "🤐🤯", "🥰🥺", "💓💟", "👀👐", "🏻🏿", "٠٩", "۰۹", "ًْ"]  # the last run: Arabic vowel signs
SYMBOLS = "❤♥♡💔💋💃💐💥💦💩💪💯☀☹☺✨✅✔❌❗❓⭐🌹🌟🌸🌞🌚🌙🎉🎊🎁🎂🎵🎶♪♫🏆⚽🔥🔴🔵🚀👑☝✊✋✌✍🧡🤍🤎🖤📷📹►•°×€£ـ"

# name -> (licence, origin). Other sources are not read: share-alike, non-commercial and unclear licences, and the FLORES
# sentences, so that scores on SIB-200 stay uncontaminated.
SOURCES = {
    "common-voice": ("CC0-1.0", "mozilla/common-voice, sentence prompts"),
    "bible": ("CC0-1.0 and public domain", "christos-c/bible-corpus, seven1m/open-bibles; without fi and eo"),
    "udhr": ("public domain", "Universal Declaration of Human Rights, nltk/nltk_data"),
    "nltk-inaugural-sotu": ("public domain", "US inaugural and State of the Union addresses, nltk/nltk_data"),
    "python-docs": ("CC0-1.0 contributions, PSF licence", "python/python-docs-* translations"),
    "wikipedia-android": ("Apache-2.0", "wikimedia/apps-android-wikipedia"),
    "tldr-pages": ("CC BY 4.0", "tldr-pages/tldr"),
    "react-dev": ("CC BY 4.0", "reactjs/*.react.dev"),
    "tatoeba": ("CC BY 2.0 FR", "Tatoeba sentence pairs through facebookresearch/LASER"),
}
# Few enough for 5 M parameters: the languages of XNLI, and nine more for which the sources have a lot of text.
LANGUAGES = set("ar bg de el en es fr hi id it ja ko nl pl pt ro ru sw th tr uk ur vi zh".split())
# There are a thousand short rows of spoken Arabic: useful for the vocabulary, too few to learn from.
DIALECTS = dict.fromkeys("acm acq aeb ajp apc arq ars ary arz".split(), "ar")
# Many of the Arabic prompts are vocalised poetry; everyday Arabic is written without vowel signs and stretched letters.
ARABIC_SIGNS = dict.fromkeys([*range(0x064B, 0x0653), 0x0670, 0x0640])


def read_rows(path, sides, dialects):
    """Yield (language, text) of each side for the rows of a gzipped JSON Lines file with a source in ``SOURCES``."""
    known = {lang: lang for lang in LANGUAGES} | (DIALECTS if dialects else {})
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            languages = [known.get(row[f"lang{side}"]) for side in sides]
            if row["source"] in SOURCES and None not in languages:
                texts = (row[f"text{side}"] for side in sides)
                yield [
                    (lang, text.translate(ARABIC_SIGNS) if lang == "ar" else text)
                    for lang, text in zip(languages, texts, strict=True)
                ]


def read_raw(corpus, dialects=False):
    """Texts by language."""
    texts = defaultdict(list)
    for ((lang, text),) in read_rows(Path(corpus) / "raw.jsonl.gz", [""], dialects):
        texts[lang].append(text)
    return texts


def read_pairs(corpus, dialects=False):
    """Aligned pairs by language pair."""
    pairs = defaultdict(list)
    for (lang_a, text_a), (lang_b, text_b) in read_rows(Path(corpus) / "pairs.jsonl.gz", ["_a", "_b"], dialects):
        pairs[lang_a, lang_b].append((text_a, text_b))
    return pairs


def share(sizes, exponent):
    """Sampling probabilities ``size ** exponent``, normalised (Conneau et al. 2020, section 3.1)."""
    weights = {name: size**exponent for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def train_vocabulary(corpus, out, characters=20_000_000):
    """Train the SentencePiece unigram model on a language-balanced sample of the corpus."""
    import sentencepiece

    rng = np.random.default_rng(SEED)
    texts = read_raw(corpus, dialects=True)
    for (_, lang_b), rows in read_pairs(corpus, dialects=True).items():
        texts[lang_b].extend(text for _, text in rows)
    sizes = {lang: sum(map(len, rows)) for lang, rows in texts.items()}
    sample = []
    for lang, probability in share(sizes, 0.5).items():
        rows, budget = texts[lang], probability * characters
        for index in rng.permutation(len(rows)):
            if budget <= 0:
                break
            sample.append(rows[index])
            budget -= len(rows[index])
    out.mkdir(parents=True, exist_ok=True)
    model = io.BytesIO()  # a file name would be written into the model
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sample),
        model_writer=model,
        model_type="unigram",
        vocab_size=VOCABULARY - 2,  # <pad> and <mask> are outside the model file, as in XLM-R
        character_coverage=0.9993,
        required_chars=SYMBOLS
        + "".join(chr(code) for first, last in RUNS for code in range(ord(first), ord(last) + 1)),
        normalization_rule_name="nmt_nfkc",
        unk_id=0,
        bos_id=1,
        eos_id=2,
        max_sentence_length=8192,
        num_threads=1,  # the result depends on the number of threads
        shuffle_input_sentence=False,
    )
    (out / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    print(f"{len(sample):,} sentences, {len(texts)} languages -> {out / 'sentencepiece.bpe.model'}")


def draw(rng, rows_by_language, exponent):
    """As many rows as there are, drawn so that the share of each language is proportional to ``size ** exponent``."""
    total = sum(map(len, rows_by_language.values()))
    drawn = []
    for name, probability in share({name: len(rows) for name, rows in rows_by_language.items()}, exponent).items():
        rows, wanted = rows_by_language[name], round(probability * total)
        repeats = -(-wanted // len(rows))
        order = np.concatenate([rng.permutation(len(rows)) for _ in range(repeats)])[:wanted]
        drawn.extend(rows[i] for i in order)
    return drawn


def training_rows(corpus, n_validation=2000):
    """Training and validation rows: (text, "") for raw text, (text, translation) for pairs."""
    rng = np.random.default_rng(SEED)
    raw = {lang: [(text, "") for text in texts] for lang, texts in read_raw(corpus).items()}
    rows = draw(rng, raw, 0.7) + [row for _ in range(2) for row in draw(rng, read_pairs(corpus), 0.7)]
    # One row in twenty joins six texts of one language, so that late positions are trained too.
    for texts in raw.values():
        for _ in range(len(texts) // 120):
            chosen = rng.choice(len(texts), 6)
            rows.append((" ".join(texts[i][0] for i in chosen), ""))
    rows = [rows[i] for i in rng.permutation(len(rows))]
    held_out = set(rows[:n_validation])
    return [row for row in rows if row not in held_out], sorted(held_out)


def new_checkpoint(out):
    """Write a folder with random weights in the geometry of the checkpoint."""
    import torch

    from skxlmr.checkpoints import write_folder
    from skxlmr.nn import ModelConfig, XLMRobertaForMaskedLM
    from skxlmr.nn.xlm_roberta import init_weights
    from skxlmr.text import load_tokenizer

    # No dropout: the model is too small to memorise the texts. The config of the finished checkpoint says 0.1.
    config = ModelConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=6,
        intermediate_size=768,
        max_position_embeddings=258,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    module = XLMRobertaForMaskedLM(config)
    init_weights(module, 0.02, torch.Generator().manual_seed(SEED))
    folder = out / "random"
    write_folder(folder, config=config.to_dict(), tensors=module.state_dict(), tokenizer=load_tokenizer(out))
    return folder


def pretrain(corpus, out, epochs):
    """Masked language modelling on all texts, and alignment of translations."""
    import torch

    from skxlmr import XLMRobertaMaskedLM
    from skxlmr.checkpoints import write_folder

    rows, held_out = training_rows(corpus)
    print(f"{len(rows):,} training rows, {sum(bool(b) for _, b in rows):,} of them pairs", flush=True)
    lm = XLMRobertaMaskedLM(
        new_checkpoint(out),
        pair_objective="alignment",
        max_epochs=epochs,
        batch_size=512,
        learning_rate=2e-3,
        warmup_ratio=0.03,
        random_state=SEED,
        verbose=1,
    )
    lm.fit(rows, X_val=held_out)
    folder = out / "skxlmr-mini"
    config = lm.config_.to_dict() | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    write_folder(folder, config=config, tensors=lm.module_.state_dict(), tokenizer=lm.tokenizer_, dtype=torch.float16)
    curve = {"loss": lm.loss_curve_, "validation_loss": [-score for score in lm.validation_scores_]}
    Path(f"{folder}.curve.json").write_text(json.dumps(curve, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["vocabulary", "pretrain"])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=22)
    args = parser.parse_args()
    if args.step == "vocabulary":
        train_vocabulary(args.corpus, args.out)
    else:
        pretrain(args.corpus, args.out, args.epochs)


if __name__ == "__main__":
    main()
