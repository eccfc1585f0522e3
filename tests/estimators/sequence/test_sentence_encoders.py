"""Folders of sentence encoders as published: equal to sentence-transformers, or an error that says what is not supported.

Saved again they are equal too, here and there.
"""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch

from skxlmr import CheckpointError, TruncationWarning, XLMRobertaClassifier, XLMRobertaVectorizer, convert, load, save
from skxlmr.checkpoints import content_hash, read_model, read_tensors
from tests.sentence_encoders import NEW, OLD, WIDTH, dense, flags, one_key, write
from tests.tiny import sentences

TEXTS = [*sentences(6), "ΣΑΣ Дом HOUSE", "the", "", "  two  spaces ", " ".join(sentences(9))]  # the last one is long
QUERY = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": None}
LABSE = [("Dense", dense()), ("Normalize", {})]
NORMALIZE = [("Normalize", {})]
NEW_SETTINGS = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}


def says(default, **more):
    return {"prompts": {"query": "river: "}, "default_prompt_name": default, "similarity_fn_name": "cosine", **more}


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


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("skxlmr.checkpoints._folder.flush", lambda path: None)


@pytest.fixture(scope="module")
def theirs():
    """The reference: sentence-transformers opens a folder and encodes."""
    package = pytest.importorskip("sentence_transformers")

    def encode(folder, texts, **options):
        model = package.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        return model.encode(texts, **options)

    return encode


def ours(folder, **params):
    return XLMRobertaVectorizer(folder, dtype="float32", device="cpu", **params)


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


def module(kind, path="1_Pooling"):
    return [
        {"idx": 0, "name": "0", "path": "", "type": f"{OLD}.Transformer"},
        {"idx": 1, "name": "1", "path": path, "type": kind},
    ]


REFUSED = {
    "custom code": (
        {"modules": module("custom_st.Pooling")},
        r"modules\.json: needs the code of the module 'custom_st\.Pooling', and no code of a checkpoint is run\. The encoder "
        r"alone opens from a copy of the folder without modules\.json",
    ),
    "custom code, disguised": ({"modules": module("sentence_transformers_x.models.Pooling")}, "needs the code"),
    "unknown module": (
        {"modules": module(f"{OLD}.WeightedLayerPooling")},
        "names the module 'sentence_transformers.models.WeightedLayerPooling', which is not one of Transformer, Pooling",
    ),
    "no pooling": (
        {"modules": module(f"{OLD}.Normalize")},
        "expected a Transformer, one Pooling, .* found Transformer, Norm",
    ),
    "two poolings": (
        {"layers": [("Pooling", flags("cls"))]},
        "one Pooling, and the layers after it, found Transformer, Poo",
    ),
    "too much": ({"modules": [module("x")[0]] * 33}, "lists 33 modules, expected at most 32"),
    "nothing": ({"modules": []}, "found nothing"),
    "no type": ({"modules": [{"path": ""}]}, "names no type for a module"),
    "no object": ({"modules": [1]}, "expected an object for each module, found 1"),
    "not a list": ({"modules": {}}, r"modules\.json: expected a JSON list, found dict"),
    "arguments of forward": (
        {"modules": [{"type": f"{OLD}.Transformer", "path": "", "kwargs": ["task"]}]},
        r"passes arguments to Transformer \(\['task'\]\), which is not supported",
    ),
    "path outside": (
        {"modules": module(f"{OLD}.Pooling", "../1_Pooling")},
        r"expected a folder such as '1_Pooling' for Pooling",
    ),
    "path to nothing": ({"modules": module(f"{OLD}.Pooling", "9_Pooling")}, r"9_Pooling/config\.json: cannot be read"),
    "model elsewhere": (
        {"modules": [{**module("")[0], "path": "0_Transformer"}, module(f"{OLD}.Pooling")[1]]},
        "says that the model lies in '0_Transformer', but it lies in the folder itself",
    ),
    "unknown key of the pooling": (
        {"pooling": flags("cls", pooling_mode_attention=True)},
        "has the key 'pooling_mode_attention'",
    ),
    "unknown pooling": (
        {"pooling": one_key("attention")},
        "expected one or more of mean, .* as pooling_mode, found 'attention'",
    ),
    "pooler is no pooling there": ({"pooling": one_key("pooler")}, "as pooling_mode, found 'pooler'"),
    "pooling of another width": (
        {"pooling": flags("cls", word_embedding_dimension=8)},
        "is 8, but the model is 32 wide",
    ),
    "flag that is no flag": (
        {"pooling": flags("cls", include_prompt="no")},
        "expected true or false as include_prompt",
    ),
    "activation of other code": (
        {"layers": [("Dense", dense(activation="os.system"))]},
        r"2_Dense/config\.json: expected one of PyTorch's classes Identity, .* as activation_function, found 'os\.system'",
    ),
    "function as activation": (
        {"layers": [("Dense", dense(activation="torch.tanh"))]},
        "as activation_function, found",
    ),
    "activation of another module": (
        {"layers": [("Dense", dense(activation="torch.hub.Tanh"))]},
        "as activation_function",
    ),
    "Dense on tokens": (
        {"layers": [("Dense", dense(module_input_name="token_embeddings"))]},
        "as module_input_name, found",
    ),
    "Dense of another width": ({"layers": [("Dense", dense(n_in=8))]}, "in_features is 8, but 32 features come in"),
    "Dense that is too large": (
        {"layers": [("Dense", dense())], "2_Dense__config": dense(n_out=10**18)},
        "as out_features",
    ),
    "unknown key of Dense": ({"layers": [("Dense", dense(gate=True))]}, "has the key 'gate', which may change results"),
    "LayerNorm of another width": (
        {"layers": [("LayerNorm", {"dimension": 8})]},
        "dimension is 8, but 32 features come in",
    ),
    "tokens normalised": (
        {"layers": [("Normalize", {"module_input_name": "token_embeddings"})]},
        "expected 'sentence_embedding' as module_input_name",
    ),
    "unknown key of the settings": ({"settings": {"max_len": 64}}, "has the key 'max_len'"),
    "another task": (
        {"settings": {"transformer_task": "fill-mask"}},
        "expected 'feature-extraction' as transformer_task",
    ),
    "images": ({"settings": {"modality_config": {"image": {}}}}, "as modality_config, found"),
    "model arguments": ({"settings": {"model_args": {"num_hidden_layers": 1}}}, "as model_args, found"),
    "query expansion": ({"settings": {"query_expansion": {"length": 8}}}, "as query_expansion, found"),
    "too short": ({"settings": {"max_seq_length": 2}}, "expected a whole number from 4 as max_seq_length, found 2"),
    "unknown key of prompts": ({"prompts": {"prompt_template": "{}"}}, "has the key 'prompt_template'"),
    "long prompt": (
        {"prompts": {"prompts": {"query": "r" * 100_001}}},
        "expected texts of at most 100000 characters as",
    ),
    "prompt of no text": ({"prompts": {"prompts": {"query": 7}}}, "expected an object of texts as prompts"),
    "default prompt that lacks": ({"prompts": says("passage")}, r"'passage', which is none of the prompts \('query'\)"),
    "another model": ({"prompts": {"model_type": "SparseEncoder"}}, "expected 'SentenceTransformer' as model_type"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_reproduced_is_refused(tiny_checkpoint, tmp_path, case):
    layout, said = REFUSED[case]
    folder = write(tmp_path / "published", tiny_checkpoint, **layout)
    with pytest.raises(CheckpointError, match=said):
        read_model(folder).sentence_encoder()


def test_vectorizers_refuse_and_others_do_not(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, **REFUSED["custom code"][0])
    with pytest.raises(CheckpointError, match="needs the code"):
        ours(folder, pooling="cls").fit(TEXTS)
    assert read_model(folder).tensors()  # what the estimators read that train a head


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (
            {"layers": [("Dense", dense())], "2_Dense__config": dense(n_out=8)},
            "sentence.0.linear.weight expected .8, 32., found",
        ),
        (
            {"layers": [("Dense", dense())], "2_Dense__config": dense(bias=False)},
            "1 tensor unexpected .sentence.0.linear.bias",
        ),
        ({"prompts": says("query") | {"prompts": {"query": "the river " * 40}}}, "leaves no room for a text after it"),
        ({"settings": {}, "tokenizer_config": {"model_max_length": 2}}, "allows 2 tokens, and a text needs 3 or more"),
    ],
)
def test_files_that_do_not_fit_together(tiny_checkpoint, tmp_path, layout, said):
    folder = write(tmp_path / "published", tiny_checkpoint, **layout)
    with pytest.raises(CheckpointError, match=said):
        ours(folder).fit(TEXTS)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_weights_of_a_layer_that_lack(tiny_checkpoint, tmp_path, form):
    folder = write(tmp_path / "published", tiny_checkpoint, layers=LABSE, form=form)
    (folder / "2_Dense" / ("model.safetensors" if form == "safetensors" else "pytorch_model.bin")).unlink()
    with pytest.raises(CheckpointError, match="2_Dense: holds no weights"):
        ours(folder).fit(TEXTS)


# Parameters -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def arctic(tiny_checkpoint, tmp_path_factory):
    """The first token's vector, scaled to unit length, of texts of at most 20 tokens; prompts but no default."""
    layout = {"pooling": flags("cls"), "layers": NORMALIZE, "prompts": QUERY, "settings": {"max_seq_length": 20}}
    return write(tmp_path_factory.mktemp("arctic") / "published", tiny_checkpoint, **layout)


def resolved(vectorizer):
    return vectorizer.pooling_, vectorizer.normalize_, vectorizer.prompt_, vectorizer.max_length_


def test_what_the_folder_says_and_what_the_parameters_say(arctic, tiny_checkpoint):
    with pytest.raises(AttributeError, match="pooling_ is known once the checkpoint is open"):
        ours(arctic).pooling_  # noqa: B018
    vectorizer = ours(arctic).fit(["a"])
    assert resolved(vectorizer) == ("cls", True, None, 20)
    vectorizer.set_params(pooling=["max", "mean"], normalize=False, prompt="passage", max_length=30)
    assert resolved(vectorizer) == (("max", "mean"), False, "passage: ", 30)
    assert vectorizer.transform(["a"]).shape == (1, 64)
    assert resolved(ours(tiny_checkpoint).fit(["a"])) == ("mean", False, None, 64)  # which says nothing
    cut = ours(arctic, truncate_dim=7, normalize=True).fit(["a"])
    np.testing.assert_allclose(np.linalg.norm(cut.transform(TEXTS[:3]), axis=1), 1, atol=1e-6)
    assert cut.get_feature_names_out().tolist() == [f"xlmrobertavectorizer_{i}" for i in range(7)]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (
            {"prompt": "document"},
            r"prompt='document' is not the name of .* \(it has 'query', 'passage'\): .* 'document: '",
        ),
        ({"pooling": ["mean", "sum"]}, "pooling must be 'auto', or one or more of mean, cls"),
        ({"pooling": []}, "pooling must be 'auto'"),
        ({"truncate_dim": 33}, "truncate_dim=33 is more than the 32 features that there are"),
        ({"prompt": "query", "max_length": 4}, r"the prompt 'query: ' has \d+ tokens, and max_length=4 leaves no room"),
        ({"truncate_dim": 0}, "The 'truncate_dim' parameter"),
        ({"normalize": "yes"}, "The 'normalize' parameter"),
        ({"prompt": 3}, "The 'prompt' parameter"),
    ],
    ids=str,
)
def test_parameters_that_cannot_be(arctic, params, said):
    with pytest.raises(ValueError, match=said):
        ours(arctic, **params).fit(["a"])


def test_a_pooling_that_further_layers_cannot_take(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, layers=LABSE)
    with pytest.raises(ValueError, match="makes 64 features, but the checkpoint's layers after the pooling take 32"):
        ours(folder, pooling=["mean", "max"]).fit(["a"])
    plain = ours(tiny_checkpoint, layers=1).fit_transform(["a"])  # layers are for the vectors of the last layer
    np.testing.assert_allclose(ours(folder, layers=1, normalize=False).fit_transform(["a"]), plain, atol=1e-6)


def test_prompts_of_pairs_stand_before_the_first_text(arctic, tiny_checkpoint):
    pairs, prompted = [("the bird", "das Haus")], [("passage: the bird", "das Haus")]
    expected = ours(tiny_checkpoint, pooling="cls", normalize=True).fit_transform(prompted)
    np.testing.assert_allclose(ours(arctic, prompt="passage").fit_transform(pairs), expected, atol=1e-6)


def test_a_length_beyond_the_model_is_the_models(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, settings={"max_seq_length": 8192})
    assert ours(folder).fit(["a"]).max_length_ == 64
    with pytest.warns(TruncationWarning, match="longer than 64 tokens"):
        ours(folder).transform(TEXTS)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("include", [True, False])
def test_every_window_begins_with_the_prompt(tiny_checkpoint, tiny_tokenizer, tmp_path, pairs, include):
    layout = {"pooling": flags("mean", include_prompt=include), "prompts": says("query")}
    folder = write(tmp_path / "published", tiny_checkpoint, **layout)
    vectorizer = ours(folder, long_text="window", max_length=24, stride=2).fit([("a", "b")] if pairs else ["a"])
    seen = []
    vectorizer.module_.roberta.embeddings.register_forward_pre_hook(
        lambda _, args: seen.append((args[0], args[1].lengths))
    )
    short, long = "the bird", " ".join(sentences(5))
    X = [(short, "дом"), (long, "дом")] if pairs else [short, long]
    features = vectorizer.transform(X)
    prompt = tiny_tokenizer.encode_batch(["river: "]).ids[1:-1].tolist()
    rows = [row.tolist() for ids, lengths in seen for row in ids.split(lengths)]
    assert len(rows) > 3 and all(row[1 : 1 + len(prompt)] == prompt for row in rows) and max(map(len, rows)) == 24
    cut = ours(folder, max_length=24).fit(X[:1]).transform(X[:1])
    np.testing.assert_allclose(features[:1], cut, atol=1e-6)  # a text that fits is tokenised with its prompt
    coverage = vectorizer.coverage(X)
    assert coverage["coverage"].tolist() == [1, 1] and coverage["n_windows"].tolist() == [1, len(rows) - 1]
    n_long = (
        len(tiny_tokenizer.encode_batch([long]).ids) - 2 + pairs * len(tiny_tokenizer.encode_batch(["дом"]).ids[1:-1])
    )
    assert coverage["n_tokens"][1] == n_long


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrapper", ["auto_model.", "module.", "model.", "0.auto_model.", "_orig_mod.", "module.roberta."]
)
def test_names_that_wrappers_put_before_all(tiny_checkpoint, tmp_path, wrapper):
    extra = {wrapper + "embeddings.position_ids": torch.arange(66)[None]}
    folder = write(tmp_path / "published", tiny_checkpoint, wrapper=wrapper, extra=extra)
    assert "roberta.pooler.dense.weight" in read_model(folder).tensors()
    expected = ours(tiny_checkpoint).fit_transform(TEXTS[:4])
    np.testing.assert_array_equal(ours(folder).fit_transform(TEXTS[:4]), expected)


def test_other_extra_tensors_are_still_refused(tiny_checkpoint, tmp_path):
    folder = write(
        tmp_path / "published", tiny_checkpoint, wrapper="auto_model.", extra={"2.linear.weight": torch.ones(2)}
    )
    with pytest.raises(CheckpointError, match=r"1 tensor unexpected \(2\.linear\.weight"):
        ours(folder).fit(["a"])


def test_a_classifier_starts_from_an_early_layout(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, place="0_Transformer", form="bin")
    classifier = XLMRobertaClassifier(folder, max_epochs=1, random_state=0, dtype="float32", device="cpu")
    plain = XLMRobertaClassifier(tiny_checkpoint, max_epochs=1, random_state=0, dtype="float32", device="cpu")
    for made in (classifier, plain):
        made.fit(TEXTS[:4], [0, 1, 0, 1])
    np.testing.assert_array_equal(classifier.predict_proba(TEXTS[:4]), plain.predict_proba(TEXTS[:4]))
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(TEXTS[:4]), plain.predict_proba(TEXTS[:4]))


@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_pickles_keep_it_and_know_when_the_folder_changes(tiny_checkpoint, tmp_path, place):
    folder = write(tmp_path / "published", tiny_checkpoint, layers=LABSE, prompts=says("query"), place=place)
    vectorizer = ours(folder).fit(TEXTS[:4])
    expected, packed, digest = vectorizer.transform(TEXTS[:4]), pickle.dumps(vectorizer), content_hash(folder)
    assert len(packed) < 20_000  # the weights are the checkpoint's
    again = pickle.loads(packed)
    np.testing.assert_array_equal(again.transform(TEXTS[:4]), expected)
    assert resolved(again) == resolved(vectorizer)
    whole = pickle.dumps(vectorizer.set_params(store_weights_in_pickle=True))
    for name in (
        "modules.json",
        "config_sentence_transformers.json",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
    ):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert content_hash(folder) != digest, name
        with pytest.raises(CheckpointError, match="the checkpoint with the content hash"):
            pickle.loads(packed)
        (folder / name).write_bytes(content)
    np.testing.assert_array_equal(pickle.loads(packed).transform(TEXTS[:4]), expected)
    (folder / "modules.json").unlink()
    np.testing.assert_array_equal(pickle.loads(whole).transform(TEXTS[:4]), expected)


@pytest.mark.parametrize(
    "params",
    [{"long_text": "window"}, {"layers": [0, -1]}, {"pooling": "pooler"}, {"normalize": True, "truncate_dim": 7}],
    ids=str,
)
def test_what_other_tools_cannot_do_is_saved_and_read_too(theirs, arctic, tmp_path, params):
    """The folder still says what the checkpoint said; the parameters say the rest."""
    vectorizer = ours(arctic, **params).fit(TEXTS[:4])
    save(vectorizer, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    np.testing.assert_allclose(loaded.transform(TEXTS[:4]), vectorizer.transform(TEXTS[:4]), atol=1e-6)
    assert resolved(loaded) == resolved(vectorizer)
    assert "sentence_transformers" not in (tmp_path / "saved" / "README.md").read_text()
    np.testing.assert_allclose(theirs(tmp_path / "saved", TEXTS[:4]), theirs(arctic, TEXTS[:4]), atol=1e-6)


def test_a_saved_folder_is_complete_with_what_it_says(arctic, tmp_path):
    save(ours(arctic).fit(["a"]), tmp_path / "saved")
    for name, content in (
        ("1_Pooling/config.json", flags("mean")),
        ("config_sentence_transformers.json", {"prompts": {}}),
    ):
        file = tmp_path / "saved" / name
        before = file.read_text()
        file.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match="is not what save wrote"):
            load(tmp_path / "saved")
        file.unlink()
        with pytest.raises(CheckpointError, match="is missing"):
            load(tmp_path / "saved")
        file.write_text(before)
    (tmp_path / "saved" / "3_Dense").mkdir()
    (tmp_path / "saved" / "3_Dense" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="would be read, but save did not write it"):
        load(tmp_path / "saved")


def test_folders_of_format_3_say_all_with_their_parameters(tiny_checkpoint, tmp_path):
    save(ours(tiny_checkpoint, pooling="max", normalize=True).fit(["a"]), tmp_path / "saved")
    file = tmp_path / "saved" / "skxlmr.json"
    about = json.loads(file.read_text())
    for name in ("prompt", "truncate_dim"):
        del about["params"][name]
    file.write_text(json.dumps(about | {"format": 3}))
    expected = ours(tiny_checkpoint, pooling="max", normalize=True).fit_transform(TEXTS[:4])
    np.testing.assert_allclose(load(tmp_path / "saved", verify=False).transform(TEXTS[:4]), expected, atol=1e-6)
    (tmp_path / "saved" / "1_Pooling" / "config.json").unlink()
    (tmp_path / "saved" / "modules.json").unlink()
    np.testing.assert_allclose(load(tmp_path / "saved", verify=False).transform(TEXTS[:4]), expected, atol=1e-6)


@pytest.mark.parametrize("place", ["", "0_Transformer"])
def test_converted_folders_say_the_same(tiny_checkpoint, tmp_path, place):
    folder = write(
        tmp_path / "published", tiny_checkpoint, layers=LABSE, prompts=says("query"), place=place, form="bin"
    )
    convert(folder, tmp_path / "converted", "safetensors")
    expected = ours(folder).fit_transform(TEXTS[:4])
    np.testing.assert_allclose(ours(tmp_path / "converted").fit_transform(TEXTS[:4]), expected, atol=1e-6)


def test_layers_are_stored_and_computed_in_half_precision_too(tiny_checkpoint, tmp_path):
    folder = write(tmp_path / "published", tiny_checkpoint, layers=LABSE)
    vectorizer = ours(folder).fit(["a"])
    save(vectorizer, tmp_path / "saved", dtype="bfloat16")
    assert {x.dtype for x in read_tensors(tmp_path / "saved" / "2_Dense").values()} == {torch.bfloat16}
    expected = vectorizer.transform(TEXTS[:4])
    for made in (load(tmp_path / "saved"), XLMRobertaVectorizer(folder, dtype="bfloat16", device="cpu")):
        assert 1e-5 < np.abs(made.transform(TEXTS[:4]) - expected).max() < 0.05


def test_the_value_is_a_key(tiny_checkpoint, tmp_path):
    """Equal folders make equal values, whatever wrote them; caches may have them as keys."""
    one = write(tmp_path / "one", tiny_checkpoint, pooling=flags("cls"), layers=LABSE, prompts=says("query"))
    two = write(
        tmp_path / "two", tiny_checkpoint, pooling=one_key("cls"), layers=LABSE, prompts=says("query"), package=NEW
    )
    three = write(tmp_path / "three", tiny_checkpoint, layers=LABSE, prompts=says("query"))
    values = [read_model(folder).sentence_encoder() for folder in (one, two, three)]
    assert len(set(values)) == 2 and values[0] == values[1]
    assert read_model(tiny_checkpoint).sentence_encoder() is None


@pytest.mark.parametrize("name", ["modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"])
def test_a_link_to_nothing_is_not_a_plain_model(arctic, tmp_path, name):
    folder = shutil.copytree(arctic, tmp_path / "copy")
    (folder / name).unlink()
    (folder / name).symlink_to("absent")
    with pytest.raises(CheckpointError, match=rf"{name}: cannot be read"):
        read_model(folder).sentence_encoder()
