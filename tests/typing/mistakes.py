"""What people get wrong: type checkers find an error in each line that ends in ``# error``, and nowhere else."""

import skxlmr
from skxlmr import (
    XLMClassifier,
    XLMMaskedLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    load,
    save,
)
from skxlmr.metrics import recall_at_k

texts = ["a text", "another one"]

XLMRobertaVectorizer("skxlmr-mini", "cls")  # error
XLMRobertaVectorizer(checkpont="skxlmr-mini")  # error
XLMRobertaVectorizer(batch_size=1.5)  # error
XLMRobertaVectorizer(normalize="yes")  # error
XLMRobertaVectorizer(max_epochs=3)  # error
vectorizer = XLMRobertaVectorizer("skxlmr-mini", pooling="cls")
vectorizer.fitt(texts)  # error
vectorizer.fit(texts).transfrom(texts)  # error
vectorizer.predict(texts)  # error
print(vectorizer.set_params(pooling="mean").n_features)  # error
print(vectorizer.transform(texts).shape)

XLMRobertaClassifier("skxlmr-mini", 3)  # error
XLMRobertaClassifier(checkpont="skxlmr-mini")  # error
XLMRobertaClassifier(lr=1e-5)  # error
XLMRobertaClassifier(learning_rate="x")  # error
XLMRobertaClassifier(max_epochs=1.5)  # error
XLMRobertaClassifier(head_learning_rate="fast")  # error
classifier = XLMRobertaClassifier("skxlmr-mini", max_epochs=3)
classifier.fitt(texts, [0, 1])  # error
classifier.fit(texts)  # error
classifier.fit(texts, [0, 1], epochs=3)  # error
classifier.transform(texts)  # error
classifier.predict_probs(texts)  # error
print(classifier.coef_)  # error
print(classifier.max_epoch)  # error
classifier.max_epochs = "many"  # error
print(classifier.max_epochs.upper())  # error
print(classifier.score(texts, [0, 1]).upper())  # error
print(XLMRobertaClassifier.from_checkpoint("folder").coef_)  # error
print(XLMRobertaClassifier.from_pretrained("folder"))  # error
print(classifier.fit(texts, [0, 1]).predict(texts))

XLMRobertaZeroShotClassifier("skxlmr-mini", ["food", "weather"])  # error
XLMRobertaZeroShotClassifier(candidate_label=["food", "weather"])  # error
XLMRobertaZeroShotClassifier(vectorizer)  # error
XLMRobertaZeroShotClassifier(threshold="x")  # error
zero_shot = XLMRobertaZeroShotClassifier(classifier, candidate_labels=["food", "weather"])
zero_shot.fitt()  # error
zero_shot.partial_fit(texts, [0, 1])  # error
print(zero_shot.n_iter_)  # error
print(zero_shot.fit().predict(texts))

XLMClassifier("xlm-mlm-en-2048", "en")  # error
XLMClassifier(language="en")  # error
XLMClassifier(lang=1)  # error
XLMClassifier(max_epochs=1.5)  # error
XLMClassifier(subword_sampling=0.1)  # error
XLMClassifier().fitt(texts, [0, 1])  # error
print(XLMClassifier().coef_)  # error
print(XLMClassifier(lang="en").fit(texts, [0, 1]).predict(texts))

XLMRobertaRegressor().predict_proba(texts)  # error
XLMRobertaMaskedLM(pair_objectiv="alignment")  # error
XLMRobertaMaskedLM().fill_mask(texts, top_k="five")  # error
XLMMaskedLM(lang=2)  # error
save(classifier)  # error
save([classifier], "folder")  # error
load("folder", devise="cpu")  # error
recall_at_k([0], [[0, 1]], k="one")  # error
skxlmr.XLMRobertaTokenClasifier()  # error
