"""Read mutated checkpoint folders, one after another, and report the outcome of each.

Runs in a process of its own, since a hostile file might end it. Mutant number i is always the same. Standard output has two
lines of JSON per mutant: which one is next, and its outcome.
"""

import faulthandler
import json
import random
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from pathlib import Path

import skxlmr
from skxlmr import XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaVectorizer, XLMVectorizer
from skxlmr.persistence._load import NOT_READ
from skxlmr.utils._errors import CheckpointError
from tests.robustness.mutations import MUTATORS, damage_folder, mutated

SECONDS = 30  # limit per mutant, on a busy machine
MOST_ADDRESSES = 4 * 2**30  # bytes, beyond those of the process at the start
TEXTS = ["The house, ﬁ ①", "", "дом\u3000κάτω 漢字 <mask>"]
RARE = ["\U0001f600 a\u0301", "</s> <pad> x"]  # what no vocabulary of the tests holds, and special tokens
SHARE_OF_FOLDER_DAMAGE = 0.08


def read(case: str, folder: Path, i: int) -> None:
    """Do what a user would do with a folder from a stranger."""
    if case.startswith("saved"):
        if i % 4 == 0 and "classifier" in case:
            XLMRobertaClassifier.from_checkpoint(folder, dtype="float32", device="cpu").predict(TEXTS)
        else:
            estimator = skxlmr.load(folder, device="cpu", verify=case.endswith("sealed"))
            X = TEXTS if getattr(estimator, "n_features_in_", 1) == 1 else [(text, text) for text in TEXTS]
            (estimator.transform if hasattr(estimator, "transform") else estimator.predict)(X)
        return
    if case == "further outputs":
        fitted = XLMRobertaVectorizer(folder, output="sparse", dtype="float32", device="cpu")
        fitted.transform(TEXTS)
        fitted.transform_tokens(TEXTS)
        return
    if case.endswith("cross-encoder"):
        reranker = XLMRobertaRegressor.from_checkpoint(folder, dtype="float32", device="cpu")
        reranker.rank(TEXTS[0], TEXTS)
        return
    vectorizer = XLMVectorizer if case == "xlm" else XLMRobertaVectorizer
    fitted = vectorizer(folder, dtype="float32", device="cpu").fit(TEXTS)
    fitted.transform(TEXTS)
    tokenizer = fitted.tokenizer_
    encoded = tokenizer.encode_batch([*TEXTS, *RARE], TEXTS + RARE, parse_special=True, return_offsets=True)
    tokenizer.decode(encoded.ids)


def memory(key: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))


def put(content: dict[str, bytes], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, held in content.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(held)


def main(cases: Path, first: int, last: int) -> None:
    """Read the mutants from ``first`` to before ``last``; ``cases`` holds one sound checkpoint folder per case."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        read_mutants(cases, first, last, Path(scratch))


def read_mutants(cases: Path, first: int, last: int, work: Path) -> None:
    content = {
        case.name: {
            path.relative_to(case).as_posix(): path.read_bytes() for path in sorted(case.rglob("*")) if path.is_file()
        }
        for case in sorted(cases.iterdir())
    }
    for case, files in content.items():  # imports and caches do not count
        put(files, work / case)
        read(case, work / case, 0)
        read(case, work / case, 1)
    used = memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_ADDRESSES, used + MOST_ADDRESSES))
    for i in range(first, last):
        rng = random.Random(i)
        case = list(content)[i % len(content)]
        files, folder = content[case], work / case
        unread = NOT_READ if "classifier" in case else ()
        read_ones = [name for name in files if name not in unread and name.endswith(tuple(MUTATORS))]
        name = rng.choice(read_ones)
        print(json.dumps({"i": i, "case": case, "file": name}), flush=True)
        if rng.random() < SHARE_OF_FOLDER_DAMAGE:
            damage_folder(folder / name, [folder / other for other in files if other != name], rng)
        else:
            (folder / name).write_bytes(mutated(name, files[name], rng))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before, start = memory("VmRSS"), time.perf_counter()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        result = {"outcome": "working"}
        try:
            read(case, folder, i)
        except CheckpointError as error:
            result = {"outcome": "refused", "reason": str(error)[:300].encode("ascii", "replace").decode()}
        except BaseException as error:  # PanicException of the Rust packages is not an Exception
            result = {"outcome": type(error).__name__, "reason": "".join(traceback.format_exception(error))[-3000:]}
        faulthandler.cancel_dump_traceback_later()
        result |= {"seconds": time.perf_counter() - start, "grown": memory("VmHWM") - before, "size": size}
        print(json.dumps(result), flush=True)
        if (folder / name).is_file() and not (folder / name).is_symlink():
            (folder / name).write_bytes(files[name])
        else:
            put(files, folder)
