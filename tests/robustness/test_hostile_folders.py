"""Mutated checkpoint folders are read or refused with CheckpointError: no crash, no hang, no other exception, little memory.

The full size: ``pytest tests/robustness/test_hostile_folders.py -m slow -s`` (10,000 mutants in about 3 minutes).
"""

import importlib.util
import json
import re
import sys
from collections import Counter

import pytest
import tokenizers
import torch
from tokenizers import models, pre_tokenizers, processors, trainers

import skxlmr
from skxlmr import XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaVectorizer
from skxlmr.checkpoints import read_config, read_tensors, write_folder
from skxlmr.text import load_tokenizer
from tests import adapters, cross_encoders, processes, sentence_encoders
from tests.robustness import hostile_reader
from tests.sentence_encoders import dense, flags
from tests.tiny import sentences, write_checkpoint
from tests.tiny_wordpiece import write_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory through Linux's /proc")
ALLOWED = 100 * 2**20  # bytes, besides twice the size of the folder


def fast_tokenizer(folder, byte_level):
    """The files of a tokenizer of the ``tokenizers`` package: ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    if byte_level:
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    else:
        tokenizer = tokenizers.Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(sentences(200), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    if byte_level:
        tokenizer.model.save(str(folder))
    else:
        tokenizer.save(str(folder / "tokenizer.json"))


def rich_adapter(folder, base, form):
    """An adapter of many options, with its base in a folder inside."""
    expression, generator = r"roberta\.encoder\.layer\.\d\..*(?:query|dense)", torch.Generator().manual_seed(0)
    tensors, held = adapters.matrices(r=3), read_tensors(base)
    for name, tensor in held.items():
        full = adapters.PREFIX + name.removesuffix(".weight")
        if re.fullmatch(expression, name.removesuffix(".weight")):
            n_out, n_in = tensor.shape
            tensors[f"{full}.lora_A.weight"] = torch.randn(3, n_in, generator=generator)
            tensors[f"{full}.lora_B.weight"] = torch.randn(n_out, 3, generator=generator)
            tensors[f"{full}.lora_magnitude_vector"] = torch.rand(n_out, generator=generator) + 1
            tensors[f"{full}.base_layer.bias"] = held[name.removesuffix("weight") + "bias"].clone()
    words = f"{adapters.PREFIX}roberta.embeddings.word_embeddings.token_adapter.trainable_tokens_delta"
    options = {
        "bias": "lora_only",
        "target_modules": expression,
        "use_dora": True,
        "use_rslora": True,
        "r": 8,
        "rank_pattern": {".*query": 3, "dense": 3},
        "alpha_pattern": {"layer.0.output.dense": 5},
        "modules_to_save": ["embeddings.LayerNorm"],
        "trainable_token_indices": {"word_embeddings": [5, 9]},
        "revision": "main",
    }
    tensors |= {
        adapters.PREFIX + name: tensor.clone() for name, tensor in held.items() if "embeddings.LayerNorm" in name
    }
    adapters.write(folder, "base", tensors | {words: torch.ones(2, 32)}, **options)
    if form:
        torch.save(tensors | {words: torch.ones(2, 32)}, folder / "adapter_model.bin")
        (folder / "adapter_model.safetensors").unlink()
    (folder / "base").mkdir()
    for name in ("config.json", "model.safetensors", "sentencepiece.bpe.model"):
        (folder / "base" / name).write_bytes((base / name).read_bytes())


@pytest.fixture(scope="module")
def cases(tmp_path_factory, tiny_checkpoint, request):
    """A folder of sound checkpoint folders, one for each way to store a model."""
    root = tmp_path_factory.mktemp("cases")
    made = {"config": read_config(tiny_checkpoint), "tensors": read_tensors(tiny_checkpoint)}
    made["tokenizer"] = load_tokenizer(tiny_checkpoint)
    write_folder(root / "safetensors", **made)
    write_folder(root / "sharded", **made, max_shard_size=60_000)
    write_folder(root / "bin", **made, format="bin")
    write_folder(root / "bin sharded", **made, format="bin", max_shard_size=60_000)
    write_folder(root / "bin legacy", **made, format="bin")
    torch.save(made["tensors"], root / "bin legacy" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    write_checkpoint(root / "XL", made["tokenizer"], model_type="xlm-roberta-xl", vocab_size=310)
    for case, byte_level in (("tokenizer.json", False), ("vocab.json", True)):
        (root / case).mkdir()
        fast_tokenizer(root / case, byte_level)
        config = {"model_type": "roberta" if byte_level else "xlm-roberta"}
        (root / case / "config.json").write_text(json.dumps(config))
        write_checkpoint(root / case, load_tokenizer(root / case), **config)
        if byte_level:  # as published, without tokenizer.json
            (root / case / "tokenizer.json").unlink()
            fast_tokenizer(root / case, byte_level)
    for case in ("vocab.txt", "tokenizer.json of BERT"):
        names = [case.split()[0]]
        (root / case).mkdir()
        write_files(root / case, names, lowercase=True)
        tokenizer = load_tokenizer(root / case)
        write_checkpoint(root / case, tokenizer, model_type="bert", max_position_embeddings=64)
        (root / case / "tokenizer.json").unlink()
        write_files(root / case, names, lowercase=True, model_type=None)  # as published
    for case, package in (("h5", "h5py"), ("msgpack", "msgpack")):
        if importlib.util.find_spec(package) is not None:
            write_folder(root / case, **made, format=case)
    layers = [
        ("Dense", dense(use_residual=True, n_out=8)),
        ("LayerNorm", {"dimension": 8}),
        ("Dropout", {"dropout": 0.1}),
    ]
    prompts = {"prompts": {"query": "river: "}, "default_prompt_name": "query", "truncate_dim": 7}
    sentence_layout = {"pooling": flags("cls", include_prompt=False), "layers": layers, "prompts": prompts}
    sentence_encoders.write(root / "sentence encoder", tiny_checkpoint, **sentence_layout)
    sentence_encoders.write(
        root / "early sentence encoder", tiny_checkpoint, place="0_Transformer", form="bin", layers=[("Dense", dense())]
    )
    sentence_encoders.add_outputs(sentence_encoders.write(root / "further outputs", tiny_checkpoint), 8, torch.float16)
    own = {"prompts": {"query": "river: "}, "default_prompt_name": "query", "activation_fn": cross_encoders.SIGMOID}
    cross_encoders.write(root / "cross-encoder", tiny_checkpoint, own=own)
    key = {"activation_fn": cross_encoders.IDENTITY, "version": "4.1.0"}
    cross_encoders.write(root / "plain cross-encoder", tiny_checkpoint, sentence_transformers=key)
    reranker = XLMRobertaRegressor.from_checkpoint(root / "cross-encoder", dtype="float32")
    skxlmr.save(reranker, root / "saved cross-encoder")
    for case in ("adapter", "adapter bin"):
        rich_adapter(root / case, tiny_checkpoint, form=case[8:])
    texts, y = sentences(8), [0, 1] * 4
    fit = {"max_epochs": 1, "dtype": "float32", "random_state": 0}
    skxlmr.save(XLMRobertaClassifier(tiny_checkpoint, **fit).fit(texts, y), root / "saved classifier sealed")
    for case, estimator in (
        ("saved classifier", XLMRobertaClassifier(tiny_checkpoint, **fit)),
        ("saved vectorizer", XLMRobertaVectorizer(tiny_checkpoint, dtype="float32")),
        ("saved sentence encoder", XLMRobertaVectorizer(root / "sentence encoder", dtype="float32")),
        ("saved further outputs", XLMRobertaVectorizer(root / "further outputs", dtype="float32", output="sparse")),
    ):
        skxlmr.save(estimator.fit(texts, y), root / case)
    if importlib.util.find_spec("sacremoses") is not None:
        (root / "xlm").symlink_to(request.getfixturevalue("tiny_xlm"))
    return root


def run(cases, n):
    """Read mutants 0 to n in processes; if one ends too early, another continues with the next mutant."""
    results, i = [], 0
    while i < n:
        done = processes.run(hostile_reader.main, cases, i, n, timeout=60 + n, HF_HUB_OFFLINE="1")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        if not lines:
            pytest.fail(f"cannot start: {done.stderr[-3000:]}")
        results += [mutant | result for mutant, result in zip(lines[::2], lines[1::2], strict=False)]
        if len(lines) % 2:
            outcome = "hang" if "Timeout" in done.stderr else f"crash {done.exit_code}"
            results.append(
                lines[-1] | {"outcome": outcome, "reason": done.stderr[-3000:], "grown": 0, "size": 0, "seconds": 0}
            )
        i = results[-1]["i"] + 1
    assert len(results) == n
    return results


def check(results):
    faults = [mutant for mutant in results if mutant["outcome"] not in ("refused", "working")]
    large = [mutant for mutant in results if mutant["grown"] > 2 * mutant["size"] + ALLOWED]
    assert not faults, f"{len(faults)} faults, the first: {json.dumps(faults[:3], indent=1)}"
    assert not large, f"{len(large)} took too much memory: {large[:3]}"
    counts = Counter(mutant["outcome"] for mutant in results)
    assert (
        min(counts["refused"], counts["working"]) > len(results) // 20
    )  # the mutants are neither all harmless nor all broken
    return counts


def test_mutated_folders(cases):
    results = run(cases, 150)
    assert len({mutant["case"] for mutant in results}) == len(list(cases.iterdir()))
    check(results)


@pytest.mark.slow
def test_ten_thousand_mutated_folders(cases):
    results = run(cases, 10_000)
    worst, slowest = max(results, key=lambda m: m["grown"] - 2 * m["size"]), max(results, key=lambda m: m["seconds"])
    print("\n", Counter((mutant["case"], mutant["outcome"]) for mutant in results))
    print(
        f"most memory {worst['grown'] / 2**20:.0f} MiB ({worst['case']}, {worst['file']}), "
        f"longest {slowest['seconds']:.2f} s, together {sum(m['seconds'] for m in results):.0f} s"
    )
    print(check(results))
