"""Shared by the benchmarks: real text, a checkpoint of XLM-R-base size, timing, memory, tables."""

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TEXTS = (
    "seqclass/sib200_topics.jsonl",
    "seqclass/xlmt_sentiment.jsonl",
    "rawtext/tatoeba_pairs.jsonl",
    "rawtext/flores_sib200.jsonl",
    "rawtext/udhr.jsonl",
)
# Geometry of --quick; the vocabulary keeps its size.
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
# Geometry of paraphrase-multilingual-MiniLM-L12-v2, which has the body of BERT and XLM-R's vocabulary.
MINILM = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536}

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def make_parser(description: str, *, data: str, checkpoint: bool = True) -> argparse.ArgumentParser:
    """Parser with the options that all benchmarks have; ``data`` describes the rows that ``--data`` needs."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny setting that only shows that the script runs")
    parser.add_argument("--threads", type=int, help="threads of torch (default: what torch chooses)")
    if data:
        parser.add_argument("--data", type=Path, help=f"JSON Lines file with {data} (default: files in ../shared/data)")
    if checkpoint:
        parser.add_argument(
            "--folder",
            type=Path,
            help="checkpoint folder; created with random weights of XLM-R-base size if missing (1.1 GB; default: in the "
            "folder for temporary files)",
        )
        parser.add_argument(
            "--vocabulary",
            type=Path,
            help="SentencePiece model for a folder that is created (default: XLM-R's, from ../shared/data)",
        )
    return parser


def fast_dtypes(dtypes: Sequence[str], device: str = "cpu") -> list[str]:
    """Those of them that the machine has instructions for; a line says what is left out."""
    from skxlmr.utils._devices.device import is_slow_at_bfloat16, multiplies_int8

    slow = {"bfloat16": is_slow_at_bfloat16(), "int8": not multiplies_int8()} if device == "cpu" else {}
    for dtype in dtypes:
        if slow.get(dtype):
            print(
                f"{dtype}: left out, this processor has no instructions for it (--dtypes {dtype} measures it)",
                flush=True,
            )
    return [dtype for dtype in dtypes if not slow.get(dtype)]


def require(*modules: str) -> None:
    """Stop with a clear message if a module of the ``bench`` extra is not installed."""
    missing = [name for name in modules if not is_installed(name)]
    if missing:
        sys.exit(f'{", ".join(missing)} not installed: pip install -c constraints.txt ".[bench]"')


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def data_file(name: str) -> Path:
    """Path of a file in ../shared/data, which is not part of the repository."""
    path = DATA / name
    if not path.is_file():
        sys.exit(
            f"the real data is not next to the repository (../shared/data/{name}): pass your own file as an option"
        )
    return path


def read_rows(path: Path, *columns: str) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file; each must have the columns."""
    if not path.is_file():
        sys.exit(f"{path}: no such file")
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for number, row in enumerate(rows, start=1):
        for column in columns:
            if column not in row:
                sys.exit(f"{path}: line {number} has no {column!r}, only {', '.join(map(repr, row))}")
    return rows


def sample_texts(n: int, data: Path | None = None, seed: int = 0) -> list[str]:
    """``n`` distinct texts in random order, equally many from each file, of any length."""
    files = [data] if data else [data_file(name) for name in TEXTS]
    rng, chosen = random.Random(seed), set()
    for i, file in enumerate(files):
        texts = sorted({row["text"] for row in read_rows(file, "text") if row["text"].strip()} - chosen)
        chosen |= set(rng.sample(texts, min(len(texts), n * (i + 1) // len(files) - n * i // len(files))))
    return rng.sample(sorted(chosen), len(chosen))


def tweets(n: int, seed: int = 0) -> list[str]:
    """``n`` distinct tweets in six languages, about 25 tokens each."""
    return sample_texts(n, data_file("seqclass/xlmt_sentiment.jsonl"), seed)


def log_normal_lengths(n: int, seed: int = 0) -> list[int]:
    """Numbers of tokens: log-normal with median 150, from 8 to 512."""
    rng = random.Random(seed)
    return [min(max(round(rng.lognormvariate(math.log(150), 0.8)), 8), 512) for _ in range(n)]


def joined_sentences(
    lengths: Iterable[int], count_tokens: Callable[[list[str]], Sequence[int]], seed: int = 0
) -> list[str]:
    """Texts of sentences in many languages, each of nearly so many tokens as wanted and never more.

    ``count_tokens`` gives the number of tokens of each text, with the two special ones.
    """
    rng, sentences = random.Random(seed), []
    for name in ("rawtext/flores_sib200.jsonl", "rawtext/tatoeba_pairs.jsonl"):
        sentences += sample_texts(2000, data_file(name), seed)
    counts = [int(count) - 2 for count in count_tokens(sentences)]
    texts = []
    for length in lengths:
        left, chosen = length - 2, []
        for i in rng.choices(range(len(sentences)), k=500):
            if counts[i] <= left:
                chosen.append(sentences[i])
                left -= counts[i]
        texts.append(" ".join(chosen) or "…")
    return texts


def mini_folder() -> Path:
    """The folder of the built-in checkpoint."""
    import skxlmr

    return Path(skxlmr.__file__).parent / "checkpoints" / "skxlmr-mini"


def base_folder(args: argparse.Namespace) -> Path:
    """The folder of ``--folder``; created with random weights if it has no checkpoint."""
    is_minilm = getattr(args, "minilm", False)
    name = "small" if args.quick else "minilm" if is_minilm else "base"
    folder = args.folder or Path(tempfile.gettempdir()) / "skxlmr-benchmarks" / name
    if (folder / "config.json").is_file():
        return folder
    require("transformers", "google.protobuf")
    import torch
    from transformers import XLMRobertaTokenizer

    from skxlmr.checkpoints import write_folder
    from skxlmr.nn import FAMILIES
    from skxlmr.text import SentencePieceTokenizer

    tokenizer = SentencePieceTokenizer.from_file(args.vocabulary or data_file("tokenizer/xlmr.spm.model"))
    sizes = SMALL if args.quick else MINILM if is_minilm else {}
    family = FAMILIES["bert" if is_minilm else "xlm-roberta"]
    config: Any = family.config(vocab_size=tokenizer.vocab_size, **sizes)
    generator = torch.Generator().manual_seed(0)
    module = family.modules["Model"](config)
    with torch.no_grad():
        for name, parameter in module.named_parameters():  # zero biases would hide differences
            parameter.normal_(float(name.endswith("LayerNorm.weight")), config.initializer_range, generator=generator)
    write_folder(folder, config=config.to_dict(), tensors=module.state_dict(), tokenizer=tokenizer)
    # The folder on the hub has this file too: without it, transformers converts the vocabulary at each start.
    XLMRobertaTokenizer.from_pretrained(folder).backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def best_until_settled(
    contenders: Mapping[str, Callable[[], Any]],
    rounds: int,
    between: Callable[[], Any] = lambda: None,
    agreement: float = 0.02,
    warm_ups: Mapping[str, Callable[[], Any]] | None = None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """As :func:`best_of`, but a contender leaves when its two best rounds agree, which comes after its warm-up.

    It takes part in two rounds or more, and in ``rounds`` at most. ``between`` is called before each round, a
    contender's warm-up before each of its turns: memory that was given back meanwhile is slow to touch again.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    results = {}
    for _ in range(rounds):
        between()
        for name, run in contenders.items():
            taken = sorted(times[name])
            if len(taken) >= 2 and taken[1] <= taken[0] * (1 + agreement):
                continue
            if warm_ups is not None:
                warm_ups[name]()
            start = time.perf_counter()
            results[name] = run()
            times[name].append(time.perf_counter() - start)
    between()
    return {name: min(taken) for name, taken in times.items()}, results


def best_of(contenders: Mapping[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Best time of each contender in seconds, and what it returned; contenders take turns, so drifts affect all alike."""
    seconds, results = dict.fromkeys(contenders, float("inf")), {}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            results[name] = run()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds, results


def run_child(script: str, arguments: Iterable[str]) -> dict[str, Any]:
    """Run a script in its own process; its last line of output is a JSON object."""
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def memory(key: str) -> float:
    """Memory of this process in MiB: ``VmHWM`` (peak), ``VmRSS`` or ``RssAnon`` (not backed by a file); NaN except on Linux."""
    if not os.path.exists("/proc/self/status"):
        return float("nan")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[key].split()[0]) / 1024


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Aligned Markdown table; the first column is text, the others are figures."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    pad = [[row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in cells]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [pad[0], rule, *pad[1:]])


def describe_machine(device: str, *packages: str) -> str:
    """One line: processor, threads, device, versions."""
    import torch

    import skxlmr

    names = [f"skxlmr {skxlmr.__version__}", f"Python {platform.python_version()}"]
    names += [
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", *packages) if is_installed(_module(name))
    ]
    where = torch.cuda.get_device_name() if device.startswith("cuda") else _processor()
    date = time.strftime("%d %B %Y").lstrip("0")
    return f"{date}, {device} ({where}), {torch.get_num_threads()} threads, {', '.join(names)}"


def _module(package: str) -> str:
    return {"scikit-learn": "sklearn"}.get(package, package.replace("-", "_"))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def json_line(benchmark: str, machine: str, **results: Any) -> str:
    """One line of JSON with what a script measured; the last that it prints."""
    line = {"benchmark": benchmark, "date": time.strftime("%Y-%m-%d"), "machine": machine, **results}
    return json.dumps(line, default=float, ensure_ascii=False)


def set_threads(n: int | None) -> None:
    """Set torch's number of threads, unless None."""
    import torch

    if n:
        torch.set_num_threads(n)
