"""What a folder says that cannot be reproduced is an error that names it."""

import pytest

from skxlmr import CheckpointError
from skxlmr.checkpoints import read_model
from tests.estimators.sequence.sentence_encoders.layouts import LABSE, TEXTS, module, ours, says
from tests.sentence_encoders import OLD, dense, flags, one_key, write

SPARSE = "sentence_transformers.sparse_encoder.modules"
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
    "SPLADE": (
        {"modules": module(f"{SPARSE}.splade_pooling.SpladePooling")},
        r"names the module 'sentence_transformers\.sparse_encoder\.modules\.splade_pooling\.SpladePooling', which is not one",
    ),
    "ColBERT of PyLate": (
        {"modules": module("pylate.models.Dense.Dense")},
        r"needs the code of the module 'pylate\.models",
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
