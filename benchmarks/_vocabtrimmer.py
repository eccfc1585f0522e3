"""Trim a checkpoint with vocabtrimmer, in an interpreter that has it: SOURCE CORPUS TARGET; the last line is JSON."""

import json
import os
import sys
import time
import types

import huggingface_hub

if not hasattr(huggingface_hub, "Repository"):  # gone since version 1; only uploads use it
    huggingface_hub.Repository = types.SimpleNamespace

from transformers import AutoTokenizer
from vocabtrimmer import VocabTrimmer

source, corpus, target = sys.argv[1:]
start = time.perf_counter()
trimmer = VocabTrimmer(source)
trimmer.trim_vocab(
    "all",
    target,
    dataset=corpus,
    dataset_name="default",
    dataset_split="train",
    min_frequency=1,
    cache_file_vocab=f"{target}-vocab.json",
    cache_file_frequency=f"{target}-frequency.json",
)
seconds = time.perf_counter() - start
before, after = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(target)
with open(os.path.join(corpus, "train.jsonl"), encoding="utf-8") as file:
    texts = [json.loads(line)["text"] for line in file]
old = [before.convert_ids_to_tokens(row) for row in before(texts).input_ids]
new = [after.convert_ids_to_tokens(row) for row in after(texts).input_ids]
slow = AutoTokenizer.from_pretrained(target, use_fast=False)  # reads the SentencePiece model beside tokenizer.json
outside = sum(max(row) >= trimmer.config.vocab_size for row in slow(texts).input_ids)
weights = [name for name in os.listdir(target) if name.endswith((".safetensors", ".bin"))]
result = {
    "rows": trimmer.config.vocab_size,
    "bytes": sum(os.path.getsize(os.path.join(target, name)) for name in weights),
    "texts": len(texts),
    "identical": sum(a == b for a, b in zip(old, new, strict=True)),
    "outside": outside,
    "trimming": seconds,
}
print(json.dumps(result))
