"""Seconds for one text: predict of a fitted classifier, and the same through other libraries.

Each call gets another text, and nothing is kept between calls. skxlmr and transformers classify with the same fitted head; so
does the same classifier opened with `load_onnx`. sentence-transformers, CTranslate2, ONNX Runtime and OpenVINO only encode,
which is a little less work. The contenders take turns, some calls each. For skxlmr the time of a call is split into
tokenisation, the module and the rest, which is Python.
"""

import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from _common import (
    base_folder,
    describe_machine,
    is_installed,
    json_line,
    make_parser,
    markdown_table,
    mini_folder,
    require,
    set_threads,
    tweets,
)
from _peers import ENCODERS, OURS, TRANSFORMERS, make_encoders

CHECKPOINTS = ("base", "mini")
DTYPES = ("float32", "bfloat16", "int8")
WITH_ONNX = f"{OURS}, load_onnx"


def fitted_classifier(checkpoint, folder):
    """Folder with a classifier of two classes, trained for one step; what it predicts is of no consequence."""
    import skxlmr

    made = skxlmr.XLMRobertaClassifier(checkpoint, max_epochs=1, batch_size=8, learning_rate=1e-5, random_state=0)
    made.set_params(device="cpu", dtype="float32").fit([f"text {i}" for i in range(8)], [0, 1] * 4)
    skxlmr.save(made, folder)
    return folder


def ours(folder, dtype):
    """The fitted classifier, and what is timed."""
    import skxlmr

    made = skxlmr.load(folder).set_params(dtype=dtype, device="cpu")
    if "memory" in made.get_params():
        made.set_params(memory=None)
    return made


def ours_with_onnx(saved, folder, dtype):
    """The same classifier, computed by ONNX Runtime."""
    import skxlmr

    skxlmr.export_onnx(skxlmr.load(saved), folder, precision=dtype)
    made = skxlmr.load_onnx(folder)
    if "memory" in made.get_params():
        made.set_params(memory=None)
    return made


def transformers_classifier(folder, dtype):
    """Function from one text to its logits."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    @torch.inference_mode()
    def logits(text):
        return model(**tokenizer(text, return_tensors="pt")).logits.float().numpy()

    return logits


@contextmanager
def clock(owner, name, times):
    """Inside the block, append the seconds of each call of a method to ``times``."""
    method, is_own = getattr(owner, name), name in vars(owner)

    def timed(*args, **kwargs):
        start = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            times.append(time.perf_counter() - start)

    setattr(owner, name, timed)
    try:
        yield
    finally:
        if is_own:
            setattr(owner, name, method)
        else:
            delattr(owner, name)


def split(made, texts):
    """Median milliseconds of a call of ``predict``: all, tokenisation, module."""
    calls, tokens, modules = [], [], []
    with (
        clock(type(made.tokenizer_), "encode_batch", tokens),
        clock(type(made.module_), "forward", modules),
        clock(type(made), "predict", calls),
    ):
        for text in texts:
            made.predict([text])
    if len(tokens) != len(texts) or len(modules) != len(texts):
        raise RuntimeError(f"{len(texts)} calls encoded {len(tokens)} times and ran the module {len(modules)} times")
    return [1000 * float(np.median(times)) for times in (calls, tokens, modules)]


def measure(runs, texts, rounds, calls):
    """Seconds of each call of each contender; each round gives every contender some calls, the first is a warm-up."""
    seconds, place = {name: [] for name in runs}, 0
    for i in range(rounds + 1):
        for name, run in runs.items():
            for _ in range(calls):
                text = texts[place % len(texts)]
                place += 1
                start = time.perf_counter()
                run(text)
                if i:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def main():
    parser = make_parser(__doc__, data="")
    parser.add_argument("--checkpoints", nargs="+", default=CHECKPOINTS, choices=CHECKPOINTS)
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=DTYPES)
    parser.add_argument(
        "--contenders", nargs="+", choices=[*ENCODERS, WITH_ONNX], help="default: all that are installed"
    )
    parser.add_argument("--calls", type=int, default=300, help="calls of each contender")
    args = parser.parse_args()
    if args.quick:
        args.calls = 20
    require("transformers")
    set_threads(args.threads)
    if args.folder:
        args.checkpoints = ["base"]
    machine = describe_machine(
        "cpu", "transformers", "sentence-transformers", "ctranslate2", "onnxruntime", "openvino", "tokenizers"
    )
    print(f"{machine}\n{args.calls} calls with one tweet each, of some 25 tokens", flush=True)
    texts, results, rounds = tweets(2400), [], 5
    for kind in args.checkpoints:
        folder = str(base_folder(args)) if kind == "base" else str(mini_folder())
        with tempfile.TemporaryDirectory() as work:
            saved = str(fitted_classifier(folder, Path(work) / "classifier"))
            for dtype in args.dtypes:
                runs, made = {}, None
                wanted = args.contenders or [*ENCODERS, WITH_ONNX]
                if OURS in wanted:
                    try:
                        made = ours(saved, dtype)
                        made.predict(["text"])
                        runs[OURS] = lambda text, made=made: made.predict([text])
                    except ValueError as error:
                        print(f"{OURS}, {dtype}: left out, {error}")
                        made = None
                if TRANSFORMERS in wanted and dtype != "int8":
                    logits = transformers_classifier(saved, dtype)
                    runs[TRANSFORMERS] = lambda text, logits=logits: logits(text).argmax(1)
                    if made is not None:
                        apart = max(abs(made.decision_function([t]) - np.diff(logits(t))).max() for t in texts[:20])
                        print(f"{kind}, {dtype}: decision values differ from transformers by {apart:.1e}")
                if WITH_ONNX in wanted and dtype != "bfloat16" and is_installed("onnx") and is_installed("onnxruntime"):
                    graph = ours_with_onnx(saved, Path(work) / f"onnx-{dtype}", dtype)
                    runs[WITH_ONNX] = lambda text, graph=graph: graph.predict([text])
                encoders = [name for name in wanted if name not in (OURS, WITH_ONNX, TRANSFORMERS)]
                if encoders:
                    for name, encode in make_encoders(folder, "cpu", dtype, encoders).items():
                        runs[f"{name} (encoder)"] = lambda text, encode=encode: encode([text])
                seconds = measure(runs, texts, rounds, max(1, args.calls // rounds))
                p50 = {name: 1000 * np.percentile(times, 50) for name, times in seconds.items()}
                p95 = {name: 1000 * np.percentile(times, 95) for name, times in seconds.items()}
                to = p50.get(TRANSFORMERS)
                rows = [
                    (name, f"{p50[name]:.2f}", f"{p95[name]:.2f}", f"{p50[name] / to:.2f}x" if to else "")
                    for name in runs
                ]
                header = (f"{kind}, {dtype}", "p50, ms", "p95, ms", "of transformers")
                print(f"\n{markdown_table(header, rows)}", flush=True)
                results += [
                    {"checkpoint": kind, "dtype": dtype, "contender": name, "p50_ms": p50[name], "p95_ms": p95[name]}
                    for name in runs
                ]
                if made is not None:
                    whole, tokens, module = split(made, texts[: args.calls])
                    print(
                        f"\nA call of skxlmr, median: {whole:.2f} ms, of which tokenisation {tokens:.2f}, module "
                        f"{module:.2f}, the rest {whole - tokens - module:.2f}",
                        flush=True,
                    )
                    results[-len(runs)]["split_ms"] = {"all": whole, "tokenisation": tokens, "module": module}
    print()
    print(json_line("latency", machine, results=results))


if __name__ == "__main__":
    main()
