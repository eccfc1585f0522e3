"""Folders of sentence encoders as published are equal to sentence-transformers; saved again they are too, here and there."""

import numpy as np
import pytest

from skxlmr import load, save
from tests.estimators.sequence.sentence_encoders.layouts import LABSE, NEW_SETTINGS, NORMALIZE, QUERY, TEXTS, ours, says
from tests.sentence_encoders import NEW, WIDTH, dense, flags, one_key, write

# What the folder has, what we are asked for, and what sentence-transformers is asked for
EQUAL = {
    "bge-m3": ({"pooling": flags("cls"), "layers": NORMALIZE, "settings": {"max_seq_length": 64}}, {}, {}),
    "arctic-embed": ({"pooling": flags("cls"), "layers": NORMALIZE, "prompts": QUERY}, {}, {}),
    "arctic-embed, queries": (
        {"pooling": flags("cls"), "layers": NORMALIZE, "prompts": QUERY},
        {"prompt": "query"},
        {"prompt_name": "query"},
    ),
    "multilingual-e5-base": ({"layers": NORMALIZE}, {"prompt": "query: "}, {"prompt": "query: "}),
    "multilingual-e5-large": ({"pooling": flags("mean", n_flags=4), "layers": NORMALIZE, "form": "bin"}, {}, {}),
    "paraphrase-multilingual-mpnet": ({"settings": {"max_seq_length": 12}, "prompts": {}}, {}, {}),
    "stsb-xlm-r-multilingual": ({"settings": {"max_seq_length": 16, "do_lower_case": False}, "form": "bin"}, {}, {}),
    "LaBSE": ({"pooling": flags("cls"), "layers": LABSE}, {}, {}),
    "Dense in a .bin file": ({"layers": [("Dense", dense(n_out=48))], "form": "bin"}, {}, {}),
    "Dense of other activations": (
        {
            "layers": [
                ("Dense", dense(activation="torch.nn.modules.linear.Identity", bias=False)),
                ("Dense", dense(n_out=8, activation="torch.nn.modules.activation.GELU")),
            ]
        },
        {},
        {},
    ),
    "Dense without an activation": ({"layers": [("Dense", {"in_features": WIDTH, "out_features": 5})]}, {}, {}),
    "residual": ({"layers": [("Dense", dense(use_residual=True, module_input_name="sentence_embedding"))]}, {}, {}),
    "projected residual": ({"layers": [("Dense", dense(n_out=8, use_residual=True))]}, {}, {}),
    "Normalize before Dense": ({"layers": [("Normalize", {}), ("Dense", dense())]}, {}, {}),
    "LayerNorm": ({"layers": [("LayerNorm", {"dimension": WIDTH})]}, {}, {}),
    "Dropout": ({"layers": [("Dropout", {"dropout": 0.5}), ("Normalize", {}), ("Dropout", {"dropout": 0.1})]}, {}, {}),
    "lower case": ({"settings": {"max_seq_length": 64, "do_lower_case": True}}, {}, {}),
    "lower case and a prompt": (
        {"settings": {"max_seq_length": 64, "do_lower_case": True}},
        {"prompt": "ΣΑΣ: "},
        {"prompt": "ΣΑΣ: "},
    ),
    "default prompt": ({"prompts": says("query")}, {}, {}),
    "default prompt, none wanted": ({"prompts": says("query")}, {"prompt": None}, {"prompt": ""}),
    "default prompt that is empty": ({"prompts": says("document")}, {}, {}),
    **{
        f"prompt not pooled, {word}": (
            {"pooling": flags(word, include_prompt=False), "prompts": says("query")},
            {},
            {},
        )
        for word in ("mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    },
    "max": ({"pooling": flags("max")}, {}, {}),
    "weighted mean": ({"pooling": flags("weightedmean")}, {}, {}),
    "last token": ({"pooling": flags("lasttoken")}, {}, {}),
    "mean over square root": ({"pooling": flags("mean_sqrt_len_tokens")}, {}, {}),
    "several poolings": ({"pooling": flags("mean", "cls", "max")}, {}, {}),
    "no pooling named": ({"pooling": flags()}, {}, {}),
    "one key": ({"pooling": one_key("cls"), "package": NEW, "settings": NEW_SETTINGS}, {}, {}),
    "one key, several poolings": ({"pooling": one_key(["mean", "cls", "lasttoken"])}, {}, {}),
    "one key beats the flags": ({"pooling": flags("mean", pooling_mode="max")}, {}, {}),
    "truncate_dim": ({"layers": NORMALIZE, "prompts": says(None, truncate_dim=12)}, {}, {}),
    "truncate_dim asked for": ({"layers": NORMALIZE}, {"truncate_dim": 7}, {"truncate_dim": 7}),
    "normalize asked for": ({}, {"normalize": True}, {"normalize_embeddings": True}),
    "arguments of the tokenizer": (
        {"settings": {"max_seq_length": 64, "tokenizer_args": {"model_max_length": 10}, "model_args": {}}},
        {},
        {},
    ),
    "another name of the settings": (
        {"settings": {}, "sentence_roberta_config": {"max_seq_length": 9, "do_lower_case": False}},
        {},
        {},
    ),
    "no settings": ({"settings": {}}, {}, {}),
    "0_Transformer": ({"place": "0_Transformer", "settings": {"max_seq_length": 20}}, {}, {}),
    "0_Transformer, .bin": ({"place": "0_Transformer", "form": "bin", "layers": LABSE}, {}, {}),
    "older config in the root": ({"place": "0_Transformer", "config": {"__version__": "0.3.8"}}, {}, {}),
}


@pytest.mark.filterwarnings("ignore")  # theirs, and about truncation
@pytest.mark.parametrize("case", EQUAL)
def test_equal_to_sentence_transformers(theirs, tiny_checkpoint, tmp_path, case):
    layout, params, options = EQUAL[case]
    folder = write(tmp_path / "published", tiny_checkpoint, **layout)
    vectorizer = ours(folder, **params)
    features = vectorizer.transform(TEXTS)
    np.testing.assert_allclose(features, theirs(folder, TEXTS, **options), rtol=0, atol=1e-5)
    assert len(vectorizer.get_feature_names_out()) == features.shape[1]
    save(vectorizer, tmp_path / "saved")
    np.testing.assert_allclose(theirs(tmp_path / "saved", TEXTS), features, rtol=0, atol=1e-5)
    np.testing.assert_allclose(load(tmp_path / "saved").transform(TEXTS), features, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case", ["paraphrase-multilingual-mpnet", "default prompt", "residual", "Dropout", "prompt not pooled, mean"]
)
def test_what_sentence_transformers_save_today(theirs, tiny_checkpoint, tmp_path, case):
    """Their own files and keys, of the version that is installed."""
    from sentence_transformers import SentenceTransformer

    folder = write(tmp_path / "published", tiny_checkpoint, **EQUAL[case][0])
    SentenceTransformer(str(folder), device="cpu", local_files_only=True).save(str(tmp_path / "theirs"))
    expected = theirs(folder, TEXTS)
    np.testing.assert_allclose(ours(tmp_path / "theirs").transform(TEXTS), expected, rtol=0, atol=1e-5)
