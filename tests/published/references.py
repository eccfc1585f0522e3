"""What transformers and sentence-transformers make of a folder, for each kind of estimator.

Each function takes the folder and the estimator, whose parameters say what is asked for, and returns what the estimator answers
and what it should.
"""

from functools import cache

import numpy as np
import sentence_transformers
import torch
import transformers

from tests.tiny import sentences

TEXTS = [*sentences(5), "ΣΑΣ Дом HOUSE", "the", "  two  spaces ", " ".join(sentences(52))]  # the last one is cut
PAIRS = [(TEXTS[0], TEXTS[1]), (TEXTS[2], "дом"), ("the river", TEXTS[3])]
WORDS = [TEXTS[0].split(), TEXTS[2].split(), ["HOUSE"]]
CONTEXTS = [{"question": "Where is the bird?", "context": " ".join(sentences(6, seed))} for seed in range(3)]
DIALOGUES = [[("user", TEXTS[0]), ("system", TEXTS[1]), ("user", "the river")], [("system", TEXTS[2])]]
LENGTH = 512  # of models that are no sentence encoders


def opened(name, folder):
    """A model of transformers in float32, and the tokenizer of the folder."""
    model = getattr(transformers, name).from_pretrained(folder, dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def run(model, tokenizer, texts, pairs=None, **options):
    """Output of the model for padded rows, and their mask."""
    how = {"padding": True, "truncation": True, "max_length": LENGTH, "return_tensors": "pt"}
    inputs = tokenizer(texts, pairs, **how | options)
    return model(**inputs), inputs["attention_mask"]


@cache
def sentence_encoder(folder):
    return sentence_transformers.SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )


def features(folder, vectorizer):
    given = vectorizer.transform(TEXTS)
    if (folder / "modules.json").exists():
        prompt = vectorizer.prompt_ if vectorizer.prompt_ is not None else ""
        expected = sentence_encoder(folder).encode(TEXTS, prompt=prompt, truncate_dim=vectorizer.truncate_dim)
    else:
        output, mask = run(*opened("AutoModel", folder), TEXTS)
        weights = mask[..., None].float()
        expected = ((output.last_hidden_state * weights).sum(1) / weights.sum(1)).numpy()
    return given, expected


def xlm_features(folder, vectorizer):
    """Means over the texts' tokens, which the reference's public methods cut by the rules of English only."""
    model, tokenizer = opened("AutoModel", folder)
    expected = []
    for text in TEXTS:
        ids = tokenizer.convert_tokens_to_ids(tokenizer._tokenize(text, lang=vectorizer.lang or "en"))[: LENGTH - 2]
        with torch.no_grad():
            output = model(torch.tensor([[tokenizer.bos_token_id, *ids, tokenizer.sep_token_id]]))
        expected.append(output.last_hidden_state[0].mean(0).numpy())
    return vectorizer.transform(TEXTS), np.array(expected)


def classes(folder, classifier):
    model, tokenizer = opened("AutoModelForSequenceClassification", folder)
    assert [model.config.id2label[i] for i in range(len(classifier.classes_))] == classifier.classes_.tolist()
    expected = run(model, tokenizer, TEXTS)[0].logits
    return classifier.predict_proba(TEXTS), expected.softmax(1).numpy()


def scores(folder, regressor):
    reranker = sentence_transformers.CrossEncoder(
        str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
    )
    return regressor.predict(PAIRS), reranker.predict(PAIRS)


def scores_of_texts(folder, regressor):
    """What the pipeline answers, which knows no pairs without a second text; one label has the sigmoid there."""
    model, tokenizer = opened("AutoModelForSequenceClassification", folder)
    pipeline = transformers.TextClassificationPipeline(model=model, tokenizer=tokenizer, device="cpu")
    expected = [answer["score"] for answer in pipeline(TEXTS, truncation=True, max_length=LENGTH)]
    return regressor.predict(TEXTS), np.array(expected)


def entailments(folder, zero_shot):
    model, tokenizer = opened("AutoModelForSequenceClassification", folder)
    hypotheses = [zero_shot.hypothesis_template.format(label) for label in zero_shot.classes_]
    rows = [(text, hypothesis) for text in TEXTS for hypothesis in hypotheses]
    logits = run(model, tokenizer, *map(list, zip(*rows, strict=True)), truncation="only_first")[0].logits
    entailment = logits[:, model.config.label2id["entailment"]].reshape(len(TEXTS), -1)
    return zero_shot.predict_proba(TEXTS), entailment.softmax(1).numpy()


def tags(folder, tagger):
    model, tokenizer = opened("AutoModelForTokenClassification", folder)
    assert [model.config.id2label[i] for i in range(len(tagger.classes_))] == tagger.classes_.tolist()
    expected = []
    for words in WORDS:
        output, _ = run(model, tokenizer, words, is_split_into_words=True)
        word_ids = tokenizer(words, is_split_into_words=True).word_ids()
        firsts = [word_ids.index(i) for i in range(len(words))]
        expected.append(output.logits[0, firsts].softmax(1).numpy())
    return np.concatenate(tagger.predict_proba(WORDS)), np.concatenate(expected)


def answers(folder, answerer):
    """The best answer's score and the characters between which it stands."""
    model, tokenizer = opened("AutoModelForQuestionAnswering", folder)
    expected = []
    for row in CONTEXTS:
        inputs = tokenizer(row["question"], row["context"], return_offsets_mapping=True, return_tensors="pt")
        places = inputs.pop("offset_mapping")[0]
        pieces = zip(inputs.sequence_ids(), inputs.tokens(), strict=True)
        of_context = torch.tensor([kind == 1 and piece != "▁" for kind, piece in pieces])
        may_be = torch.tensor([kind == 1 for kind in inputs.sequence_ids()])
        may_be[0] = True  # <s>, which means no answer
        with torch.no_grad():
            output = model(**inputs)
        start, end = (
            logits[0].masked_fill(~may_be, -torch.inf).softmax(0) for logits in (output.start_logits, output.end_logits)
        )
        both = (start[:, None] * end[None]).triu().tril(answerer.max_answer_length - 1)
        both[~of_context] = both[:, ~of_context] = 0  # an answer begins and ends with a character
        score, place = both.flatten().max(0)
        first, last = divmod(place.item(), len(both))
        expected.append([score.item(), places[first, 0].item(), places[last, 1].item()])
    found = [best[0] for best in answerer.predict_spans(CONTEXTS, n_best=1)]
    return np.array([[best["score"], best["start"], best["end"]] for best in found]), np.array(expected)


def fillings(folder, lm):
    model, tokenizer = opened("AutoModelForMaskedLM", folder)
    texts = [f"{text} {tokenizer.mask_token}" for text in TEXTS[:4]]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[inputs["input_ids"] == tokenizer.mask_token_id]
    best = logits.softmax(1).topk(3)
    found = [[(filling["token"], filling["score"]) for filling in mask] for (mask,) in lm.fill_mask(texts, top_k=3)]
    return np.array(found), torch.stack([best.indices, best.values], 2).numpy()


def dialogues(folder, lm):
    model, tokenizer = opened("AutoModel", folder)
    speakers = {"user": "[USR]", "system": "[SYS]"}
    expected = []
    for turns in DIALOGUES:
        ids = [tokenizer.cls_token_id]
        for speaker, text in turns:
            ids.append(tokenizer.convert_tokens_to_ids(speakers[speaker]))
            ids += tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            output = model(torch.tensor([[*ids, tokenizer.sep_token_id]]))
        expected.append(output.last_hidden_state[0, 0].numpy())
    return lm.transform(DIALOGUES), np.array(expected)


EXPECTED = {
    "XLMRobertaVectorizer": features,
    "XLMVectorizer": xlm_features,
    "XLMRobertaClassifier": classes,
    "XLMRobertaRegressor": scores,
    "XLMRobertaZeroShotClassifier": entailments,
    "XLMRobertaTokenClassifier": tags,
    "XLMRobertaQuestionAnswerer": answers,
    "XLMRobertaMaskedLM": fillings,
    "XLMRobertaDialogueLM": dialogues,
}
EXPECTED_OF = {"unitary/multilingual-toxic-xlm-roberta": scores_of_texts}  # not what its estimator is otherwise for
