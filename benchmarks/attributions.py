"""Attributions: how often each method finds the word that decides, and seconds for a text beside captum and shap.

A made-up word decides the class: ``skxlmr-mini`` is fine-tuned on reviews in five languages, in each of which one of two such
words was put at a random place. A method is right about a text if that word has the largest contribution, whatever its sign.
`--epochs` trains longer: the surer the model, the less its gradient at the text says.

Seconds are those of a whole call for some of the texts, best of several rounds in turns, with a classifier of XLM-R-base size
and random weights. captum integrates the same module over as many steps, text by text; shap calls the same ``predict_proba``.
"""

import random

import numpy as np
from _common import (
    base_folder,
    best_of,
    describe_machine,
    is_installed,
    json_line,
    make_parser,
    markdown_table,
    set_threads,
)

DECIDES = {"zorvat": "yes", "blimpu": "no"}
LANGUAGES = ("en", "de", "es", "ru", "ja")
METHODS = ("integrated_gradients", "gradient_x_input", "occlusion", "shapley")
N_TRAIN, N_TEST, PLACES = 16, 20, 4  # reviews of each language, and places of each word in each review of the training


def planted(text, word, rng):
    """The text with the word before a random one of its words, or at its end."""
    from skxlmr.utils._words import cut_words

    place = rng.choice([*(start for start, _ in cut_words(text)), len(text)])
    return f"{text[:place].rstrip()} {word} {text[place:].lstrip()}".strip()


def rows(n_train=N_TRAIN, n_test=N_TEST, places=PLACES, languages=LANGUAGES, seed=0):
    """Texts and classes of the training; texts of the test and the word that was put into each."""
    from skxlmr.datasets import load_reviews

    rng, reviews, train, test = random.Random(seed), load_reviews().frame, [], []
    for language in languages:
        texts = reviews["review"][reviews["language"] == language].tolist()
        rng.shuffle(texts)
        for text in texts[:n_train]:
            train += [(planted(text, word, rng), label) for word, label in DECIDES.items() for _ in range(places)]
        test += [(planted(text, word, rng), word) for text in texts[n_train : n_train + n_test] for word in DECIDES]
    return train, test


def fitted(train, epochs=1, learning_rate=3e-4):
    """The classifier that has learnt the rule."""
    from skxlmr import XLMRobertaClassifier

    made = XLMRobertaClassifier(
        "skxlmr-mini", learning_rate=learning_rate, max_epochs=epochs, device="cpu", random_state=0
    )
    return made.fit(*zip(*train, strict=True))


def found(classifier, test, method):
    """Share of the texts in which the word that decides has the largest contribution, and the largest gap of a sum."""
    from skxlmr.inspection import attributions

    texts, words = zip(*test, strict=True)
    made = attributions(classifier, list(texts), method, random_state=0)
    right = np.mean([row.strongest(1)[0][0] == word for row, word in zip(made, words, strict=True)])
    gap = max(abs(row.completeness_gap) / np.abs(row.values).sum() for row in made)
    return {"first": float(right), "largest_gap": float(gap)}


def contenders(classifier, texts):
    """What is timed: each explains all texts."""
    import torch

    from skxlmr.inspection import attributions

    runs = {
        f"skxlmr, {method}": lambda method=method: attributions(classifier, texts, method, random_state=0)
        for method in METHODS
    }
    if is_installed("captum"):
        from captum.attr import LayerIntegratedGradients

        module, mask = classifier.module_, classifier.tokenizer_.mask_token_id
        layer = LayerIntegratedGradients(lambda ids: module(ids), module.backbone.get_input_embeddings())
        encoded = classifier.tokenizer_.encode_batch(texts)
        rows_of_ids = [torch.as_tensor(encoded.row(i), dtype=torch.long)[None] for i in range(len(texts))]
        codes = classifier.predict_proba(texts).argmax(1).tolist()

        def captum():
            for ids, code in zip(rows_of_ids, codes, strict=True):
                baseline = ids.clone()
                baseline[:, 1:-1] = mask
                layer.attribute(ids, baseline, target=code, n_steps=32, method="gausslegendre")

        runs["captum, integrated gradients"] = captum
    if is_installed("shap"):
        import shap

        masker = shap.maskers.Text(r"\W+")
        explainer = shap.Explainer(lambda rows: classifier.predict_proba(list(rows)), masker, seed=0)
        runs["shap, partition, 500 evaluations"] = lambda: explainer(texts, max_evals=500, silent=True)
    return runs


def main():
    parser = make_parser(__doc__, data="")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the fit that learns the rule (default: 1)")
    parser.add_argument("--texts", type=int, default=8, help="texts that are timed (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the best counts (default: 3)")
    parser.add_argument("--no-times", action="store_true", help="only how often the word is found")
    args = parser.parse_args()
    set_threads(args.threads)
    from skxlmr import XLMRobertaClassifier

    machine = describe_machine("cpu", "captum", "shap")
    print(machine, flush=True)
    sizes = {"n_train": 6, "n_test": 1, "places": 2} if args.quick else {}
    train, test = rows(**sizes)
    classifier = fitted(train, args.epochs)
    score = classifier.score([text for text, _ in test], [DECIDES[word] for _, word in test])
    print(f"{len(test)} texts, accuracy {score:.3f}\n")
    shares = {method: found(classifier, test, method) for method in METHODS}
    lines = [(name, f"{of['first']:.3f}", f"{of['largest_gap']:.1e}") for name, of in shares.items()]
    print(markdown_table(("method", "finds the word", "largest gap of a sum"), lines), flush=True)

    seconds = {}
    if not args.no_times:
        texts = [text for text, _ in test][: 2 if args.quick else args.texts]
        made = XLMRobertaClassifier(base_folder(args), max_epochs=1, batch_size=8, learning_rate=1e-5, random_state=0)
        made.set_params(device="cpu", dtype="float32").fit([f"text {i}" for i in range(8)], [0, 1] * 4)
        n_tokens = made.tokenizer_.encode_batch(texts).lengths.mean()
        best, _ = best_of(contenders(made, texts), 1 if args.quick else args.rounds)
        seconds = {name: value / len(texts) for name, value in best.items()}
        print(f"\n{len(texts)} texts of {n_tokens:.0f} tokens in the mean, XLM-R-base size:\n")
        print(markdown_table(("contender", "s per text"), [(n, f"{value:.3f}") for n, value in seconds.items()]))
    print()
    print(
        json_line("attributions", machine, epochs=args.epochs, accuracy=score, found=shares, seconds_per_text=seconds)
    )


if __name__ == "__main__":
    main()
