"""All that needs a GPU, in one run of less than eight minutes: tests, parity, inference, training, and what launches cost.

Each part runs in a process of its own under a time limit, so that the parts after it always get their turn. Figures are printed
as they come. With the variable OUT set, they are also written to the folder that it names, as gpu.jsonl. The checkpoint has the
geometry of XLM-R-base, random weights, and the vocabulary of the built-in one. Texts are tweets if ../shared/data (or
shared/data) is there, and made up otherwise. Nothing is downloaded.
"""

import argparse
import gc
import importlib.metadata
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from _common import describe_machine, is_installed, json_line, markdown_table, mini_folder, read_rows
from _launches import profiled_fit, step_of_one_bucket, timed_fit
from _rate import MatrixRate, operations

ROOT = Path(__file__).resolve().parents[1]
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
# Seconds for each part; with the start and the checkpoint less than eight minutes.
LIMITS = {"tests": 140, "parity": 40, "inference": 80, "training": 110, "graphs": 80}
PACKAGES = (
    "scikit-learn numpy pandas safetensors sentencepiece tokenizers transformers sentence-transformers accelerate protobuf "
    "pytest hypothesis peft h5py msgpack sacremoses triton"
).split()


class Record:
    """Where figures go as they come."""

    def __init__(self, path, part):
        self.path, self.part = path, part

    def __call__(self, **values):
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": self.part, **values}, default=float) + "\n")


def print_packages():
    """Versions of what may be used here, and what is missing."""
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    print(f"installed: {', '.join(found)}\nnot installed: {', '.join(missing) or 'nothing that is used'}", flush=True)


def labelled_texts(n, seed=0):
    """``n`` texts with class codes: tweets, or words of the built-in reviews in random order."""
    rng = random.Random(seed)
    name = "data/seqclass/xlmt_sentiment.jsonl"
    for file in (ROOT.parent / "shared" / name, ROOT / "shared" / name):
        if file.is_file():
            rows = read_rows(file, "text", "label")
            labels = sorted({row["label"] for row in rows})
            rng.shuffle(rows)
            pairs = [(row["text"], labels.index(row["label"])) for row in rows]
            return [pairs[i % len(pairs)] for i in range(n)]
    from skxlmr.datasets import load_reviews

    words = " ".join(load_reviews().frame["review"]).split()
    return [(" ".join(rng.choices(words, k=rng.randint(5, 25))), rng.randrange(3)) for _ in range(n)]


def make_checkpoint(folder, sizes):
    """Folder with random weights, and with tokenizer.json, where transformers can make it, so that it opens fast."""
    import torch

    from skxlmr.checkpoints import write_folder
    from skxlmr.nn import FAMILIES
    from skxlmr.text import SentencePieceTokenizer

    tokenizer = SentencePieceTokenizer.from_file(mini_folder() / "sentencepiece.bpe.model")
    family = FAMILIES["xlm-roberta"]
    config = family.config(vocab_size=tokenizer.vocab_size, **sizes)
    module = family.modules["Model"](config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(float(name.endswith("LayerNorm.weight")), config.initializer_range, generator=generator)
    write_folder(folder, config=config.to_dict(), tensors=module.state_dict(), tokenizer=tokenizer)
    try:
        from transformers import XLMRobertaTokenizer

        XLMRobertaTokenizer.from_pretrained(folder).backend_tokenizer.save(str(Path(folder) / "tokenizer.json"))
    except Exception as error:
        print(f"transformers has no tokenizer for this folder ({type(error).__name__}: {error})"[:300], flush=True)


def run_tests(args, record):
    """tests/gpu; what was skipped or failed is named."""
    if not is_installed("pytest"):
        print("left out: pytest is not installed")
        return
    command = [
        sys.executable,
        "-u",
        "-m",
        "pytest",
        "tests/gpu",
        "-v",
        "-rfE",
        "--tb=short",
        "-o",
        "addopts=",
        "-m",
        "not slow",
    ]
    command += ["-p", "no:cacheprovider"]
    log = Path(args.record).with_name("gpu_tests.log")
    counts = dict.fromkeys(("PASSED", "FAILED", "ERROR", "SKIPPED"), 0)
    start = time.perf_counter()
    with (
        log.open("w") as file,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run,
    ):
        for line in run.stdout:
            file.write(line)
            file.flush()
            words = line.split()
            word = words[1] if len(words) > 1 and "::" in words[0] else ""
            if word in counts:
                counts[word] += 1
                record(tests=dict(counts))
                if word in ("FAILED", "ERROR"):
                    print(line.rstrip(), flush=True)
            elif line.startswith(("E  ", "ERROR", "FAILED")):
                print(line.rstrip()[:300], flush=True)
    print(f"{', '.join(f'{n} {word.lower()}' for word, n in counts.items())} in {time.perf_counter() - start:.0f} s")


def run_parity(args, record):
    """Features against transformers in float32, from the same ids; transformers in the same type beside it."""
    import torch
    from transformers import AutoModel

    from skxlmr import XLMRobertaVectorizer
    from skxlmr.text import load_tokenizer

    texts = [text for text, _ in labelled_texts(8 if args.dry_run else 96)]
    texts += [" ".join(texts[i : i + 3 * i]) for i in range(1, 4 if args.dry_run else 8)]  # up to some hundred tokens
    encoded = load_tokenizer(args.folder).encode_batch(texts, max_length=512)

    def theirs(dtype):
        model = AutoModel.from_pretrained(args.folder, dtype=getattr(torch, dtype), add_pooling_layer=False)
        model = model.to(args.device).eval()
        with torch.inference_mode():
            hidden = [
                model(torch.tensor(encoded.row(i)[None], device=args.device).long())[0] for i in range(len(texts))
            ]
        return np.stack([states[0].float().mean(0).cpu().numpy() for states in hidden])

    def apart(features):
        norms = np.linalg.norm(features, axis=1) * np.linalg.norm(reference, axis=1)
        return float(abs(features - reference).max()), float(((features * reference).sum(1) / norms).min())

    reference, rows = theirs("float32"), []
    for dtype, lowest in (("float32", 0.999999), ("bfloat16", 0.999), ("float16", 0.9999)):
        try:
            vectorizer = XLMRobertaVectorizer(args.folder, device=args.device, dtype=dtype, memory=None, max_length=512)
            ours = apart(vectorizer.fit(texts).transform(texts))
        except (ValueError, RuntimeError) as error:
            print(f"{dtype}: {error}", flush=True)
            continue
        other = apart(theirs(dtype))
        is_near = ours[1] >= lowest
        rows.append(
            (
                dtype,
                f"{ours[0]:.1e}",
                f"{ours[1]:.6f}",
                f"{other[0]:.1e}",
                f"{other[1]:.6f}",
                "yes" if is_near else "NO",
            )
        )
        record(dtype=dtype, max_difference=ours[0], min_cosine=ours[1], transformers_min_cosine=other[1], near=is_near)
    header = ("parity", "max difference", "min cosine", "transformers, difference", "cosine", "near")
    print(markdown_table(header, rows), flush=True)


def run_inference(args, record):
    """Texts per second at several batch sizes: given many texts, and called with one batch at a time."""
    import torch

    from skxlmr import XLMRobertaVectorizer
    from skxlmr.text import load_tokenizer

    all_texts = list(dict.fromkeys(text for text, _ in labelled_texts(64 if args.dry_run else 2048)))
    config = json.loads((Path(args.folder) / "config.json").read_text())
    tokenizer = load_tokenizer(args.folder)
    for dtype in ("bfloat16", "float32"):
        rate = MatrixRate(config, args.device, dtype)
        rate.measure(0.3)
        print(f"best matrix product in {dtype}: {rate.best / 1e12:.1f} TFLOP/s", flush=True)
        record(dtype=dtype, rate=rate.best)
        baseline = None
        if is_installed("sentence_transformers"):
            from _peers import make_sentence_transformers

            try:
                make_sentence_transformers(args.folder, args.device, dtype)(all_texts[:4])
                baseline = partial(make_sentence_transformers, args.folder, args.device, dtype)
            except Exception as error:
                print(f"sentence-transformers left out: {error}"[:300], flush=True)
        rows = []
        for size in (1, 4) if args.dry_run else (1, 8, 32, 256):
            texts = all_texts[: min(len(all_texts), 64 * size)]
            ours = XLMRobertaVectorizer(args.folder, device=args.device, dtype=dtype, memory=None, batch_size=size).fit(
                texts[:1]
            )
            runs = {"skxlmr": ours.transform}
            if baseline:
                runs["sentence-transformers"] = baseline(batch_size=size)
            done = operations(config, tokenizer.encode_batch(texts, max_length=512).lengths)
            for name, encode in runs.items():
                seconds = {}
                for way in ("all at once", "a batch a call"):
                    part = texts if way == "all at once" else texts[: 20 * size]
                    calls = [part] if way == "all at once" else [part[i : i + size] for i in range(0, len(part), size)]
                    best = float("inf")
                    for _ in range(1 if args.dry_run else 3):
                        if args.device == "cuda":
                            torch.cuda.synchronize()
                        start = time.perf_counter()
                        for call in calls:
                            encode(call)
                        best = min(best, time.perf_counter() - start)
                    seconds[way] = best / len(part)
                share = done / len(texts) / seconds["all at once"] / rate.best
                rows.append((f"{size}, {name}", *(f"{1 / s:,.0f}" for s in seconds.values()), f"{share:.0%}"))
                record(dtype=dtype, batch_size=size, contender=name, seconds_per_text=seconds, share_of_rate=share)
                print(" | ".join(map(str, rows[-1])), flush=True)
        header = (f"batch size, {dtype}", "texts/s, all at once", "texts/s, a batch a call", "of the rate")
        print(f"\n{markdown_table(header, rows)}\n", flush=True)


def run_training(args, record):
    """Rows per second in mixed precision, and what a step waits for."""
    import finetune

    contenders = {"skxlmr": finetune.fit_skxlmr, "PyTorch + transformers": finetune.fit_loop}
    if is_installed("accelerate"):
        contenders["Trainer"] = finetune.fit_trainer
    else:
        print("Trainer left out: accelerate is not installed", flush=True)
    sizes, n_steps = ((4, 8), 4) if args.dry_run else ((32, 256), 24)
    texts, codes = map(list, zip(*labelled_texts(n_steps * max(sizes)), strict=True))
    for size in sizes:
        rows = []
        for name, fit in contenders.items():
            options = SimpleNamespace(batch_size=size, device=args.device, dtype="bfloat16", steps=n_steps)
            run = partial(fit, options, args.folder, texts[: n_steps * size], codes[: n_steps * size])
            try:
                step, peak = timed_fit(run, n_steps, args.device)
                options.steps = short = min(n_steps, 8)
                run = partial(fit, options, args.folder, texts[: short * size], codes[: short * size])
                found = profiled_fit(run, short, args.device)
            except Exception as error:  # the next contender must have its turn
                print(f"{name}, {size}: {type(error).__name__}: {error}"[:500], flush=True)
                continue
            busy = found["gpu_ms"] / 1000 / step
            rows.append(
                (
                    f"{size}, {name}",
                    f"{size / step:.0f}",
                    f"{1000 * step:.1f}",
                    f"{found['gpu_ms']:.1f}",
                    f"{busy:.0%}",
                    f"{found['kernels']:.0f}",
                    f"{found['synchronisations']:.1f}",
                    f"{peak:.0f}",
                )
            )
            record(batch_size=size, contender=name, seconds_per_step=step, peak_mib=peak, gpu_busy=busy, **found)
            print(" | ".join(rows[-1]), flush=True)
            gc.collect()
        header = (
            "rows, bfloat16",
            "rows/s",
            "ms per step",
            "kernels, ms",
            "GPU busy",
            "kernels",
            "waits per step",
            "peak, MiB",
        )
        print(f"\n{markdown_table(header, rows)}\n", flush=True)


def run_graphs(args, record):
    """The step of one bucket of tokens: as it is, captured in a CUDA graph, and under torch.compile."""
    sizes = TINY if args.dry_run else BASE
    shapes = ((2, 8),) if args.dry_run else ((32, 32), (256, 32))
    rows = []
    for mode in ("eager", "graph", "compile"):  # compiling takes longest
        for n_rows, width in shapes:
            try:
                found = step_of_one_bucket(sizes, n_rows, width, mode, args.device, n_steps=2 if args.dry_run else 40)
            except Exception as error:
                print(f"{mode}, {n_rows} x {width}: {type(error).__name__}: {error}"[:500], flush=True)
                record(mode=mode, rows=n_rows, width=width, error=str(error)[:500])
                continue
            record(mode=mode, rows=n_rows, width=width, **found)
            rows.append(
                (
                    f"{n_rows} x {width}, {mode}",
                    f"{found['ms_per_step']:.2f}",
                    f"{1000 * n_rows / found['ms_per_step']:.0f}",
                    f"{found['prepare_s']:.1f}",
                    f"{found['peak_mib']:.0f}",
                    f"{found['loss_difference']:.1e}",
                )
            )
            print(" | ".join(rows[-1]), flush=True)
    header = ("rows x tokens, bfloat16", "ms per step", "rows/s", "to prepare, s", "peak, MiB", "loss against eager")
    print(f"\n{markdown_table(header, rows)}", flush=True)


RUN = {
    "tests": run_tests,
    "parity": run_parity,
    "inference": run_inference,
    "training": run_training,
    "graphs": run_graphs,
}


def run_part(name, arguments, limit):
    """Run a part in a process of its own; it and what it started end at the limit."""
    print(f"\n## {name} (at most {limit} s)\n", flush=True)
    start = time.perf_counter()
    run = subprocess.Popen([sys.executable, "-u", __file__, f"--part={name}", *arguments], start_new_session=True)
    try:
        code = run.wait(limit)
        ended = "" if code == 0 else f", exit code {code}"
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        ended = ", ended by its limit"
    seconds = time.perf_counter() - start
    print(f"\n{name}: {seconds:.0f} s{ended}", flush=True)
    return {"seconds": seconds, "ended": ended.removeprefix(", ") or "finished"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(LIMITS), choices=list(LIMITS))
    parser.add_argument("--dry-run", "--quick", action="store_true", help="every part on the CPU, with tiny sizes")
    for option in ("--part", "--folder", "--record"):
        parser.add_argument(option, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.device = "cpu" if args.dry_run else "cuda"
    if args.part:
        RUN[args.part](args, Record(Path(args.record), args.part))
        return
    start = time.perf_counter()
    print_packages()
    import torch

    if not args.dry_run and not torch.cuda.is_available():
        sys.exit("no NVIDIA GPU here; --dry-run shows on a CPU that every part runs")
    if not is_installed("transformers"):
        sys.exit("transformers is not installed; everything is compared with it")
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    try:
        machine = describe_machine(args.device, "transformers", "sentence-transformers", "accelerate")
    except ImportError as error:
        sys.exit(f"skxlmr can't be imported here: {error}")
    print(machine, flush=True)
    out = os.environ.get("OUT")
    with tempfile.TemporaryDirectory() as work:
        record, folder = Path(work) / "gpu.jsonl", Path(work) / "checkpoint"
        if out:
            Path(out).mkdir(parents=True, exist_ok=True)
            record = Path(out) / "gpu.jsonl"
        record.unlink(missing_ok=True)
        record.touch()
        make_checkpoint(folder, TINY if args.dry_run else BASE)
        arguments = [f"--folder={folder}", f"--record={record}", *(["--dry-run"] if args.dry_run else [])]
        parts = {name: run_part(name, arguments, 300 if args.dry_run else LIMITS[name]) for name in args.parts}
        results = [json.loads(line) for line in record.read_text().splitlines()]
        shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{time.perf_counter() - start:.0f} s in all\n")
    line = json_line("gpu", machine, dry_run=args.dry_run, parts=parts, results=results)
    if out:
        (Path(out) / "gpu.json").write_text(line + "\n", encoding="utf-8")
    print(line)


if __name__ == "__main__":
    main()
