"""Other libraries as encoders: each maker returns a function from strings to a float32 array of mean-pooled last hidden states.

What a library converts lies next to the checkpoint, in a folder for temporary files, and is made once. All of them get the
library's usual advice: sentence-transformers and transformers in batches of 32 rows sorted by length; CTranslate2, ONNX Runtime
and OpenVINO sorted by length, in batches of so many tokens.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from _common import is_installed, set_threads

OURS, SENTENCE_TRANSFORMERS, TRANSFORMERS, CTRANSLATE2 = (
    "skxlmr",
    "sentence-transformers",
    "transformers",
    "CTranslate2",
)
ONNX_RUNTIME, OPENVINO = "ONNX Runtime", "OpenVINO"
BATCH_SIZE = 32
MAX_LENGTH = 512
# Tokens of a padded batch: of 512 to 8,192 the fastest, or nearly so, for tweets at XLM-R-base size on two cores.
# ONNX Runtime in float32 and OpenVINO in bfloat16 were not tried: they have what was fastest in their other type.
BATCH_TOKENS = {
    (CTRANSLATE2, "float32"): 2048,
    (CTRANSLATE2, "int8"): 1024,
    (ONNX_RUNTIME, "float32"): 512,
    (ONNX_RUNTIME, "int8"): 512,
    (OPENVINO, "float32"): 512,
    (OPENVINO, "bfloat16"): 512,
}


class Refused(Exception):
    """A contender that does not run here; the message says why."""


@cache
def load_tokenizer(folder):
    """The tokenizer of transformers, which the libraries without one of their own use."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def converted_folder(folder, kind):
    """Folder for what a library converts from a checkpoint folder; another file of weights gets another folder."""
    weights = max(Path(folder).resolve().glob("*.safetensors"), key=lambda file: file.stat().st_size)
    stat = weights.stat()
    key = hashlib.sha256(f"{weights} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / "skxlmr-benchmarks" / "converted" / f"{kind}-{key}"


def convert_once(folder, kind, convert):
    """Run ``convert(target)`` unless it was run before; a run that fails leaves nothing."""
    target = converted_folder(folder, kind)
    if not target.is_dir():
        print(f"making {kind} (once) ...", file=sys.stderr, flush=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            convert(Path(work) / "made")
            os.rename(Path(work) / "made", target)
    return target


def make_skxlmr(folder, device, dtype):
    from skxlmr import XLMRobertaVectorizer

    model = XLMRobertaVectorizer(folder, device=device, dtype=dtype, memory=None)
    try:
        model.fit(["text"]).transform(["text"])
    except ValueError as error:
        raise Refused(str(error).splitlines()[0]) from error
    return model.transform


def make_sentence_transformers(folder, device, dtype, batch_size=BATCH_SIZE):
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    transformer = Transformer(folder, model_kwargs={"dtype": getattr(torch, dtype)}, max_seq_length=MAX_LENGTH)
    pooling = Pooling(transformer.model.config.hidden_size, pooling_mode="mean")
    model = SentenceTransformer(modules=[transformer, pooling], device=device)
    return lambda texts: model.encode(texts, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False)


def make_transformers(folder, device, dtype):
    import torch
    from transformers import AutoModel

    tokenizer = load_tokenizer(folder)
    model = AutoModel.from_pretrained(folder, dtype=getattr(torch, dtype), add_pooling_layer=False).to(device).eval()

    @torch.inference_mode()
    def encode(texts):
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        features = np.empty((len(texts), model.config.hidden_size), np.float32)
        for start in range(0, len(texts), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            batch = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
            ).to(device)
            mask = batch["attention_mask"][:, :, None]
            hidden = model(**batch).last_hidden_state
            features[rows] = ((hidden * mask).sum(1) / mask.sum(1)).float().cpu().numpy()
        return features

    return encode


def token_batches(lengths, n_tokens):
    """Lists of row numbers, longest rows first, each of at most ``n_tokens`` with padding (or one row)."""
    batch, batches = [], []
    for i in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        if batch and (len(batch) + 1) * lengths[batch[0]] > n_tokens:
            batches.append(batch)
            batch = []
        batch.append(i)
    return [*batches, batch] if batch else batches


def encode_in_batches(folder, hidden_states, n_tokens):
    """Function from strings to features, around one from lists of ids to hidden states (n_rows, n_tokens, n_units)."""
    tokenizer = load_tokenizer(folder)

    def encode(texts):
        ids = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        lengths = [len(row) for row in ids]
        features = None
        for batch in token_batches(lengths, n_tokens):
            hidden = hidden_states([ids[i] for i in batch])
            if features is None:
                features = np.empty((len(texts), hidden.shape[-1]), np.float32)
            for i, states in zip(batch, hidden, strict=True):
                features[i] = states[: lengths[i]].mean(0)
        return features

    return encode


def convert_for_ctranslate2(folder, target):
    """CTranslate2's own converter; it reads a setting that transformers 5 no longer writes."""
    import transformers
    from ctranslate2.converters import TransformersConverter

    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as work:
        for file in Path(folder).iterdir():
            (Path(work) / file.name).symlink_to(file.resolve())
        config = json.loads((Path(folder) / "config.json").read_text())
        (Path(work) / "config.json").unlink()
        (Path(work) / "config.json").write_text(json.dumps({"position_embedding_type": "absolute", **config}))
        TransformersConverter(work).convert(str(target))


def make_ctranslate2(folder, device, dtype):
    import ctranslate2
    import torch

    if dtype not in ctranslate2.get_supported_compute_types(device):
        raise Refused(f"no {dtype} on this device")
    path = convert_once(folder, "ctranslate2", lambda target: convert_for_ctranslate2(folder, target))
    threads = torch.get_num_threads()
    encoder = ctranslate2.Encoder(str(path), device=device, compute_type=dtype, inter_threads=1, intra_threads=threads)

    def hidden_states(ids):
        return np.asarray(encoder.forward_batch(ids).last_hidden_state)

    return encode_in_batches(folder, hidden_states, BATCH_TOKENS[CTRANSLATE2, dtype])


def export_onnx(folder, target):
    """``model.onnx``, and ``fused.onnx`` with the attention, GELU and layer norms of ONNX Runtime."""
    import torch
    from onnxruntime.transformers.optimizer import optimize_model
    from transformers import AutoModel

    class Encoder(torch.nn.Module):
        """The forward pass in plain operations: the masks of transformers can't be traced, and ONNX Runtime fuses this form."""

        def __init__(self):
            super().__init__()
            self.model = AutoModel.from_pretrained(folder, dtype=torch.float32, add_pooling_layer=False)

        def forward(self, input_ids, attention_mask):
            config, embeddings = self.model.config, self.model.embeddings
            positions = attention_mask.cumsum(1) * attention_mask
            first = 0 if config.model_type == "bert" else config.pad_token_id + 1
            positions = (positions - 1).clamp(min=0) + first
            x = embeddings.word_embeddings(input_ids) + embeddings.position_embeddings(positions)
            x = embeddings.LayerNorm(x + embeddings.token_type_embeddings.weight[0])
            bias = (1.0 - attention_mask.unsqueeze(1).unsqueeze(2).to(x.dtype)) * torch.finfo(x.dtype).min
            for layer in self.model.encoder.layer:
                attention, n = layer.attention.self, config.num_attention_heads
                q, k, v = (
                    project(x).view(x.shape[0], x.shape[1], n, x.shape[2] // n).permute(0, 2, 1, 3)
                    for project in (attention.query, attention.key, attention.value)
                )
                weights = ((q @ k.transpose(-1, -2)) / (config.hidden_size // n) ** 0.5 + bias).softmax(-1)
                context = (weights @ v).permute(0, 2, 1, 3).contiguous()
                context = context.reshape(context.shape[0], context.shape[1], x.shape[2])
                x = layer.attention.output.LayerNorm(layer.attention.output.dense(context) + x)
                inner = torch.nn.functional.gelu(layer.intermediate.dense(x))
                x = layer.output.LayerNorm(layer.output.dense(inner) + x)
            return x

    encoder = Encoder().eval()
    ids = torch.full((2, 9), 5)
    axes = {0: "rows", 1: "tokens"}
    target.mkdir()
    with torch.no_grad():
        torch.onnx.export(
            encoder,
            (ids, torch.ones_like(ids)),
            str(target / "model.onnx"),
            input_names=["input_ids", "attention_mask"],
            output_names=["hidden"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "hidden": axes},
            opset_version=17,
            dynamo=False,
        )
    config = encoder.model.config
    fused = optimize_model(
        str(target / "model.onnx"),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
    )
    fused.save_model_to_file(str(target / "fused.onnx"))


def onnx_folder(folder):
    if not is_installed("onnx") or not is_installed("onnxruntime"):
        raise Refused("the ONNX file needs the packages onnx and onnxruntime")
    return convert_once(folder, "onnx", lambda target: export_onnx(folder, target))


def quantized_onnx(folder):
    """The file with dynamic int8, in onnxruntime's own words: weights per channel, activations per tensor and call."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = onnx_folder(folder) / "fused.onnx"
    options = {"DefaultTensorType": onnx.TensorProto.FLOAT}  # it can't tell that of the fused operators

    def quantize(target):
        target.mkdir()
        quantize_dynamic(
            source, target / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8, extra_options=options
        )

    return convert_once(folder, "onnx-int8", quantize) / "int8.onnx"


def padded(ids):
    """Arrays of int64 (n_rows, n_tokens): ids, and 1 where they are real; padding is masked, so its id is of no consequence."""
    lengths = np.array([len(row) for row in ids])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    array = np.ones_like(mask)
    array[mask > 0] = np.concatenate(ids)
    return array, mask


def make_onnxruntime(folder, device, dtype):
    import onnxruntime
    import torch

    if dtype == "bfloat16":
        raise Refused("no bfloat16 on CPUs")
    if device != "cpu":
        raise Refused("measured on CPUs only")
    path = quantized_onnx(folder) if dtype == "int8" else onnx_folder(folder) / "fused.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def hidden_states(ids):
        array, mask = padded(ids)
        return session.run(None, {"input_ids": array, "attention_mask": mask})[0]

    return encode_in_batches(folder, hidden_states, BATCH_TOKENS[ONNX_RUNTIME, dtype])


def make_openvino(folder, device, dtype):
    import openvino
    import torch

    if dtype == "int8":
        raise Refused("int8 needs nncf and data to calibrate with")
    if device != "cpu":
        raise Refused("measured on CPUs only")
    settings = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.Core().compile_model(str(onnx_folder(folder) / "model.onnx"), "CPU", settings)

    def hidden_states(ids):
        array, mask = padded(ids)
        return next(iter(model({"input_ids": array, "attention_mask": mask}).values()))

    return encode_in_batches(folder, hidden_states, BATCH_TOKENS[OPENVINO, dtype])


# Name -> (maker, modules that must be installed, types in which it computes)
OURS, SENTENCE_TRANSFORMERS, TRANSFORMERS, CTRANSLATE2 = (
    "skxlmr",
    "sentence-transformers",
    "transformers",
    "CTranslate2",
)
ENCODERS = {
    OURS: (make_skxlmr, [], ("float32", "bfloat16", "int8")),
    SENTENCE_TRANSFORMERS: (make_sentence_transformers, ["sentence_transformers"], ("float32", "bfloat16")),
    TRANSFORMERS: (make_transformers, ["transformers"], ("float32", "bfloat16")),
    CTRANSLATE2: (make_ctranslate2, ["ctranslate2", "transformers"], ("float32", "int8")),
    ONNX_RUNTIME: (make_onnxruntime, ["onnxruntime", "transformers"], ("float32", "int8")),
    OPENVINO: (make_openvino, ["openvino", "transformers"], ("float32", "bfloat16")),
}


class InOwnProcess:
    """An encoder in a process of its own, which waits while the others take their turns.

    In one process they would slow each other down: several libraries have threads of their own, and with more threads than
    cores OpenMP's no longer wait for the next piece of work but sleep.
    """

    def __init__(self, make, folder, device, dtype):
        import torch

        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, make, folder, device, dtype, torch.get_num_threads())
        self.process = context.Process(target=_serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self._answer()

    def __call__(self, texts):
        self.pipe.send(texts)
        return self._answer()

    def _answer(self):
        answer = self.pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __del__(self):
        if hasattr(self, "process"):
            self.pipe.close()  # which ends it
            self.process.join()


def _serve(pipe, make, folder, device, dtype, n_threads):
    """Say that the encoder is ready, then encode what comes, until the other end is closed."""
    set_threads(n_threads)
    try:
        encode, answer = make(folder, device, dtype), None
    except Exception as error:
        pipe.send(error)
        return
    while True:
        pipe.send(answer)
        try:
            answer = encode(pipe.recv())
        except EOFError:
            return


def make_encoders(folder, device, dtype, names=None, apart=False):
    """The encoders of a type that run here, by name; a line is printed about each that is left out.

    With ``apart`` each has a process of its own.
    """
    made = {}
    for name, (make, needs, dtypes) in ENCODERS.items():
        if dtype not in dtypes or (names and name not in names):
            continue
        missing = [module for module in needs if not is_installed(module)]
        if missing:
            print(f"{name}, {dtype}: left out, {', '.join(missing)} not installed", flush=True)
            continue
        try:
            made[name] = InOwnProcess(make, folder, device, dtype) if apart else make(folder, device, dtype)
        except Refused as error:
            print(f"{name}, {dtype}: left out, {error}", flush=True)
        except Exception as error:  # of a converter: the others are still compared
            if name == OURS:
                raise
            print(f"{name}, {dtype}: left out, {type(error).__name__}: {error}"[:300], flush=True)
    return made
