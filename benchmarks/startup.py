"""From a new process to the first vector: seconds and memory of imports, loading and one text.

All contenders open the same model of XLM-R-base size: skxlmr with its weights through torch; skxlmr with the model that
``export_onnx`` wrote, in a process that has no torch; and sentence-transformers' ONNX backend, which needs torch too. Each is
a process of its own, with the files in the page cache, and the best of some rounds counts. Memory is what is resident after the
first vector, and the part of it that no file backs (``RssAnon``), which the system can't drop.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path

TEXT = "Guten Morgen, good morning, доброе утро"


class NoTorch:
    """Makes each import of torch fail, as where it is not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def with_torch(folder):
    from skxlmr import load

    yield
    vectorizer = load(folder, device="cpu", verify=False).set_params(dtype="float32", memory=None)
    yield
    yield vectorizer.transform([TEXT])


def without_torch(folder):
    sys.meta_path.insert(0, NoTorch())
    from skxlmr import load_onnx

    yield
    vectorizer = load_onnx(folder, verify=False).set_params(memory=None)
    yield
    yield vectorizer.transform([TEXT])
    assert "torch" not in sys.modules


def sentence_transformers(folder):
    from sentence_transformers import SentenceTransformer

    yield
    model = SentenceTransformer(folder, backend="onnx", device="cpu", model_kwargs={"provider": "CPUExecutionProvider"})
    yield
    yield model.encode([TEXT])


CONTENDERS = {
    "skxlmr load_onnx, no torch": without_torch,
    "skxlmr load, torch": with_torch,
    "sentence-transformers, ONNX backend": sentence_transformers,
}
STEPS = ("import", "load", "first text")


def measure(contender, folder):
    """Seconds of each step, memory at the end in MiB, and the vector."""
    start, seconds = time.perf_counter(), {}
    steps = CONTENDERS[contender](folder)
    for step in STEPS:
        vector = next(steps)
        seconds[step] = time.perf_counter() - start
        start = time.perf_counter()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    memory = {key: int(status[key].split()[0]) / 1024 for key in ("VmRSS", "RssAnon")}
    next(steps, None)
    return {**seconds, **memory, "vector": vector[0].tolist(), "versions": versions()}


def versions():
    """Packages that were imported."""
    modules = {"torch": "torch", "onnxruntime": "onnxruntime", "transformers": "transformers"}
    modules |= {"sentence-transformers": "sentence_transformers", "optimum-onnx": "optimum"}
    return {name: importlib.metadata.version(name) for name, module in modules.items() if module in sys.modules}


def exported(checkpoint):
    """A vectorizer's folder beside the checkpoint, with its ONNX model, written once."""
    import skxlmr

    folder = Path(f"{checkpoint}-startup")
    if not (folder / "skxlmr.json").is_file():
        vectorizer = skxlmr.XLMRobertaVectorizer(checkpoint, device="cpu", dtype="float32").fit([TEXT])
        skxlmr.save(vectorizer, folder, onnx=True)
    return folder


def run(python, contender, folder, threads):
    """What a new process measures, or why there is no figure."""
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [python, __file__, "--contender", contender, "--opened", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ["no message"])[-1]
    return json.loads(done.stdout.splitlines()[-1]), ""


def main():
    if "--contender" in sys.argv:  # before anything else is imported
        parser = argparse.ArgumentParser()
        parser.add_argument("--contender", choices=CONTENDERS)
        parser.add_argument("--opened")
        args = parser.parse_args()
        print(json.dumps(measure(args.contender, args.opened)))
        return

    from _common import base_folder, describe_machine, json_line, make_parser, markdown_table

    parser = make_parser(__doc__, data="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peer",
        default=sys.executable,
        help="Python with sentence-transformers and optimum-onnx, which needs an older transformers (default: this one)",
    )
    args = parser.parse_args()
    folder = exported(base_folder(args))
    results = {name: [] for name in CONTENDERS}
    for _ in range(1 + (1 if args.quick else args.rounds)):  # the first round fills the page cache
        for name in list(results):
            python = args.peer if name.startswith("sentence") else sys.executable
            measured, why = run(python, name, folder, args.threads)
            if measured is None:
                print(f"{name} is left out: {why}")
                del results[name]
            else:
                results[name].append(measured)
    machine = describe_machine("cpu")
    print(machine)
    for name, measured in results.items():
        print(f"{name}: {', '.join(' '.join(pair) for pair in measured[0]['versions'].items())}")
    ours = results["skxlmr load, torch"][0]["vector"]
    rows, figures = [], {}
    for name, measured in results.items():
        best = min(measured[1:], key=lambda one: sum(one[step] for step in STEPS))
        memory = {key: min(one[key] for one in measured[1:]) for key in ("VmRSS", "RssAnon")}
        difference = max(abs(a - b) for a, b in zip(best["vector"], ours, strict=True))
        seconds = [*(best[step] for step in STEPS), sum(best[step] for step in STEPS)]
        rows.append(
            (
                name,
                *(f"{each:.2f}" for each in seconds),
                *(f"{each:.0f}" for each in memory.values()),
                f"{difference:.1e}",
            )
        )
        figures[name] = dict(zip([*STEPS, "together"], seconds, strict=True)) | memory | {"difference": difference}
    header = ("", *(f"{step}, s" for step in STEPS), "together, s", "memory, MiB", "no file behind, MiB", "difference")
    print(f"\n{markdown_table(header, rows)}\n")
    print(json_line("startup", machine, figures=figures))


if __name__ == "__main__":
    main()
