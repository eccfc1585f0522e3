import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from skxlmr.checkpoints import normalize_names, read_config, read_tensors
from skxlmr.checkpoints._formats.keras_h5 import (
    keras_index_to_hf,
    keras_names,
    read_keras_h5,
    write_keras_h5,
    write_keras_h5_shard,
)
from skxlmr.nn.bert import bert, distilbert
from skxlmr.utils._errors import CheckpointError
from tests.checkpoints.conftest import assert_same
from tests.checkpoints.models import (
    BERT_CONFIG,
    DISTILBERT_CONFIG,
    MODELS,
    UNTIED,
    XLM_UNTIED,
    XLMForMaskedLM,
    XLMRobertaForMaskedLM,
    h5_content,
    make_model,
)

ONES = np.ones((2, 3), np.float32)
WORDS = "tfxlm_roberta_model/roberta/embeddings/word_embeddings/weight:0"
# The variables of TFXLMWithLMHeadModel of transformers 4.46, with one layer and two languages.
XLM_VARIABLES = """
transformer/position_embeddings/embeddings:0
transformer/lang_embeddings/embeddings:0
transformer/embeddings/weight:0
transformer/layer_norm_emb/gamma:0
transformer/layer_norm_emb/beta:0
transformer/attentions_._0/q_lin/kernel:0
transformer/attentions_._0/q_lin/bias:0
transformer/attentions_._0/k_lin/kernel:0
transformer/attentions_._0/k_lin/bias:0
transformer/attentions_._0/v_lin/kernel:0
transformer/attentions_._0/v_lin/bias:0
transformer/attentions_._0/out_lin/kernel:0
transformer/attentions_._0/out_lin/bias:0
transformer/layer_norm1_._0/gamma:0
transformer/layer_norm1_._0/beta:0
transformer/ffns_._0/lin1/kernel:0
transformer/ffns_._0/lin1/bias:0
transformer/ffns_._0/lin2/kernel:0
transformer/ffns_._0/lin2/bias:0
transformer/layer_norm2_._0/gamma:0
transformer/layer_norm2_._0/beta:0
pred_layer_._proj/bias:0
""".split()

UNTIED_HEADS = [
    lambda: XLMRobertaForMaskedLM(UNTIED),
    lambda: bert.BertForMaskedLM(replace(BERT_CONFIG, tie_word_embeddings=False)),
    lambda: distilbert.DistilBertForMaskedLM(replace(DISTILBERT_CONFIG, tie_word_embeddings=False)),
    lambda: XLMForMaskedLM(XLM_UNTIED),
]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "tf_model.h5"


def write(file, config, tensors, write=write_keras_h5, **options):
    names = keras_names(tensors, config, file.parent)
    write(file, {names[name]: tensor for name, tensor in tensors.items()}, **options)
    return names


@pytest.mark.parametrize("name", ["base", "mlm", "seqcls", "tokcls", "qa", "mc", "clm"])
def test_written_files_hold_the_same_as_those_of_the_tensorflow_classes(shared_data, file, name):
    source = shared_data / "checkpoints" / name
    write(file, read_config(source), normalize_names(read_tensors(source)))
    assert h5_content(file) == h5_content(source / "tf" / "tf_model.h5")


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("writer", [write_keras_h5, write_keras_h5_shard])
def test_round_trip(architecture, writer, file):
    config, tensors = make_model(architecture)
    names = write(file, config, tensors, writer)
    assert_same(read_keras_h5(file), tensors)
    assert all(keras_index_to_hf(keras) == name for name, keras in names.items())


def test_names_of_the_original_xlm():
    config, tensors = make_model("XLMWithLMHeadModel")
    tensors = {name: tensor for name, tensor in tensors.items() if ".1." not in name}
    names = keras_names(tensors, config, "x")
    assert sorted(names.values()) == sorted(f"tfxlm_with_lm_head_model/{name}" for name in XLM_VARIABLES)


def test_the_head_of_the_original_xlm_lists_the_embeddings_too(file):
    config, tensors = make_model("XLMWithLMHeadModel")
    write(file, config, tensors)
    _, weights, order, _ = h5_content(file)
    assert order == ["transformer", "pred_layer_._proj"]
    model = "tfxlm_with_lm_head_model"
    assert weights["pred_layer_._proj"] == [
        f"{model}/pred_layer_._proj/bias:0",
        f"{model}/transformer/embeddings/weight:0",
    ]


BERT_VARIABLES = """
bert/embeddings/word_embeddings/weight:0
bert/embeddings/position_embeddings/embeddings:0
bert/embeddings/token_type_embeddings/embeddings:0
bert/embeddings/LayerNorm/gamma:0
bert/encoder/layer_._0/attention/self/query/kernel:0
bert/encoder/layer_._0/attention/output/LayerNorm/beta:0
bert/encoder/layer_._0/intermediate/dense/bias:0
bert/pooler/dense/kernel:0
mlm___cls/predictions/bias:0
mlm___cls/predictions/transform/dense/kernel:0
mlm___cls/predictions/transform/LayerNorm/gamma:0
nsp___cls/seq_relationship/kernel:0
nsp___cls/seq_relationship/bias:0
""".split()


def test_names_of_bert(file):
    """Those that the TensorFlow classes give to a model of both objectives of the pretraining, and to DistilBERT's."""
    config, tensors = make_model("BertForMaskedLM")
    tensors |= {name: tensor for name, tensor in make_model("BertModel")[1].items() if ".pooler." in name}
    tensors |= {"cls.seq_relationship.weight": torch.ones(2, 8), "cls.seq_relationship.bias": torch.ones(2)}
    names = write(file, config | {"architectures": ["BertForPreTraining"]}, tensors)
    assert {f"tf_bert_for_pre_training/{name}" for name in BERT_VARIABLES} <= set(names.values())
    assert_same(read_keras_h5(file), tensors)
    _, weights, order, _ = h5_content(file)
    assert order == ["bert", "mlm___cls", "nsp___cls"]
    model = "tf_bert_for_pre_training"
    assert f"{model}/bert/embeddings/word_embeddings/weight:0" in weights["mlm___cls"]
    config, tensors = make_model("DistilBertForMaskedLM")
    names = write(file.with_name("distilled.h5"), config, tensors)
    layer = "tf_distil_bert_for_masked_lm/distilbert/transformer/layer_._1"
    assert names["distilbert.transformer.layer.1.sa_layer_norm.weight"] == f"{layer}/sa_layer_norm/gamma:0"
    assert names["distilbert.transformer.layer.1.attention.q_lin.weight"] == f"{layer}/attention/q_lin/kernel:0"
    assert names["vocab_projector.bias"] == "tf_distil_bert_for_masked_lm/vocab_projector/bias:0"
    of_head = h5_content(file.with_name("distilled.h5"))[1]["vocab_projector"]
    assert "tf_distil_bert_for_masked_lm/distilbert/embeddings/word_embeddings/weight:0" in of_head


def test_cross_attention():
    config, tensors = make_model("XLMRobertaForCausalLM")
    names = keras_names(tensors, config, "x")
    layer = "tfxlm_roberta_for_causal_lm/roberta/encoder/layer_._1"
    assert (
        names["roberta.encoder.layer.1.crossattention.self.key.weight"] == f"{layer}/crossattention/self/key/kernel:0"
    )
    norm = names["roberta.encoder.layer.1.crossattention.output.LayerNorm.bias"]
    assert norm == f"{layer}/crossattention/output/LayerNorm/beta:0"


def test_more_than_ten_layers():
    tensors = {f"roberta.encoder.layer.{i}.output.dense.bias": torch.ones(1) for i in range(12)}
    names = keras_names(tensors, {"architectures": ["RobertaModel"]}, "x")
    assert (
        names["roberta.encoder.layer.11.output.dense.bias"]
        == "tf_roberta_model/roberta/encoder/layer_._11/output/dense/bias:0"
    )
    assert len(set(names.values())) == 12


@pytest.mark.parametrize("architectures", [None, [], "x", [3], ["a/b:0"]])
def test_every_config_results_in_a_name(architectures, file):
    write(file, {"architectures": architectures}, {"roberta.embeddings.word_embeddings.weight": torch.ones(2, 3)})
    assert list(read_keras_h5(file)) == ["roberta.embeddings.word_embeddings.weight"]


@pytest.mark.parametrize("make", UNTIED_HEADS)
def test_an_untied_head_is_refused(make, tmp_path):
    config, tensors = make_model("any", make)
    with pytest.raises(CheckpointError, match=r"cannot be written for TensorFlow: its classes have no .*weight"):
        keras_names(tensors, config, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_dtypes(dtype, file):
    tensors = {"m/a/b/kernel:0": torch.randn(3, 2), "m/a/b/bias:0": torch.randn(3), "m/a/c/bias:0": torch.empty(0)}
    write_keras_h5(file, tensors, dtype)
    expected = {"a.b.weight": tensors["m/a/b/kernel:0"].to(dtype), "a.b.bias": tensors["m/a/b/bias:0"].to(dtype)}
    assert_same(read_keras_h5(file), {**expected, "a.c.bias": torch.empty(0, dtype=dtype)})


@pytest.mark.parametrize("tensor", [torch.ones(2, dtype=torch.bfloat16), torch.arange(2)])
def test_a_dtype_that_hdf5_does_not_have_is_not_written(tensor, file):
    with pytest.raises(CheckpointError, match=r"cannot hold m/a/bias:0, which has dtype torch\.(bfloat16|int64)"):
        write_keras_h5(file, {"m/a/bias:0": tensor})


def test_tied_weights_are_stored_once(file):
    config, tensors = make_model("XLMRobertaForMaskedLM")
    write(file, config, tensors)
    with h5py.File(file) as opened:
        layers = {
            name.split("/")[0]: opened[name]
            for name in (f"{x}/tfxlm_roberta_for_masked_lm{WORDS[19:]}" for x in ("roberta", "lm_head"))
        }
        assert layers["roberta"] == layers["lm_head"]  # the same object under two names


def test_a_repeated_array_must_have_the_same_values(file):
    with h5py.File(file, "w") as opened:
        for layer, value in (("roberta", 1), ("lm_head", 1)):
            opened[f"{layer}/{WORDS}"] = ONES * value
            opened[layer].attrs["weight_names"] = [WORDS.encode()]
    assert read_keras_h5(file)["roberta.embeddings.word_embeddings.weight"].tolist() == ONES.tolist()
    with h5py.File(file, "a") as opened:
        opened[f"lm_head/{WORDS}"][...] = 2
    with pytest.raises(CheckpointError, match=r"holds tensor 'roberta\.embeddings.*' twice, with different values"):
        read_keras_h5(file)


def test_arrays_are_not_compared_too_often(file):
    """Two large arrays with thousands of names would take minutes."""
    with h5py.File(file, "w") as opened:
        for layer in ("a", "b"):
            opened[f"{layer}/{layer}/m/bias:0"] = np.ones(20_000, "f")
            opened[layer].attrs["weight_names"] = [b""]
        for layer in ("a", "b"):
            for i in range(9):
                opened[f"{layer}/{layer}/m/{i}/bias:0"] = opened[f"{layer}/{layer}/m/bias:0"]
    with pytest.raises(CheckpointError, match="has too many names for the same arrays"):
        read_keras_h5(file)


def test_names_of_weights_may_be_split_over_attributes(file):
    # Keras does so if they do not fit into one.
    with h5py.File(file, "w") as opened:
        opened[f"roberta/{WORDS}"] = ONES
        opened["roberta"].attrs["weight_names0"] = [WORDS.encode()]
    assert list(read_keras_h5(file)) == ["roberta.embeddings.word_embeddings.weight"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's table of memory maps")
def test_arrays_are_in_the_mapped_file(file):
    config, tensors = make_model("XLMRobertaForMaskedLM")
    write(file, config, tensors)
    before = file.read_bytes()
    mapped = read_keras_h5(file)
    with open("/proc/self/maps") as maps:
        spans = [line.split()[0].split("-") for line in maps if line.rstrip().endswith(str(file))]
    for name, tensor in mapped.items():
        assert any(int(start, 16) <= tensor.data_ptr() < int(end, 16) for start, end in spans), name
        tensor.zero_()
    assert file.read_bytes() == before


def test_a_file_with_a_user_block(file):
    with h5py.File(file, "w", userblock_size=512) as opened:
        opened["a/bias:0"] = np.arange(3, dtype="f")
    assert read_keras_h5(file)["a.bias"].tolist() == [0, 1, 2]


def test_missing_package(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r'reading tf_model\.h5 needs h5py.*pip install "skxlmr\[tf\]"'):
        read_keras_h5(file)
    with pytest.raises(ImportError, match=r'writing tf_model\.h5 needs h5py.*pip install "skxlmr\[tf\]"'):
        write_keras_h5(file, {"m/a/bias:0": torch.ones(1)})


def test_unwritable(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_keras_h5(tmp_path / "absent" / "tf_model.h5", {"m/a/bias:0": torch.ones(1)})
