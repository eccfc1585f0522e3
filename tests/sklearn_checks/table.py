"""Write the tables of ``docs/sklearn_contract.md``: ``python -m tests.sklearn_checks.table``."""

import importlib.metadata
import os
import sys
import tempfile
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import sklearn
from sklearn.utils.estimator_checks import check_estimator

import skxlmr
from tests.sklearn_checks.adapter import ADAPTED, make, write_checkpoints
from tests.sklearn_checks.expected_failures import EXPECTED_FAILURES, RUN_ON_NONE
from tests.sklearn_checks.run import Outcome, run_checks

PAGE = Path(__file__).parents[2] / "docs" / "sklearn_contract.md"
OURS = f"| scikit-learn {sklearn.__version__} | Run | Passed | Expected failures |\n|---|---|---|---|\n"
PEERS = "| Class | Run | Passed | Failed |\n|---|---|---|---|\n"


def counts(outcomes):
    """Cells with the numbers of checks that ran and passed: yielded by scikit-learn + further ones."""
    ran = Counter(outcome.yielded for outcome in outcomes if not outcome.skipped)
    passed = Counter(outcome.yielded for outcome in outcomes if outcome.error is None)
    return [f"{count.total()} ({count[True]} + {count[False]})" for count in (ran, passed)]


def row(name, outcomes):
    """Row of one of our estimators."""
    failures = "<br>".join(f"`{check}`: {reason}" for check, reason in EXPECTED_FAILURES.get(name, {}).items())
    return f"| {' | '.join([f'`{name}`', *counts(outcomes), failures or 'none'])} |"


def peer_row(name, outcomes):
    """Row of another library."""
    failed = Counter(outcome.function for outcome in outcomes if outcome.error is not None and not outcome.skipped)
    shown = ", ".join(f"`{check}`" + (f" ({count})" if count > 1 else "") for check, count in failed.items())
    return f"| {' | '.join([name, *counts(outcomes), shown])} |"


def without_adapter(estimator):
    """Outcomes of the checks that ``check_estimator`` runs without an adapter."""
    outcomes = []

    def keep(check_name, exception, **others):
        outcomes.append(Outcome(check_name, True, exception))

    with suppress(RuntimeError):  # scikit-learn stops at a transformer without the tags of one
        check_estimator(estimator, on_skip=None, on_fail=None, callback=keep)
    return outcomes


def ours(folder):
    """Table of our estimators."""
    checkpoints = write_checkpoints(folder)
    return OURS + "\n".join(row(name, run_checks(make(name, checkpoints))) for name in sorted(ADAPTED))


def peers(folder):
    """Table of the other libraries as they are installed."""
    from tests.sklearn_checks import peers

    encoder = peers.write_sentence_transformer(Path(folder, "xlm-roberta"), Path(folder, "sentence-transformer"))
    skorch, skrub = (f"{package} {importlib.metadata.version(package)}" for package in ("skorch", "skrub"))
    outcomes = {
        f"{skorch}, `NeuralNetClassifier`": run_checks(peers.skorch_classifier(), strict=False),
        f"{skrub}, `TextEncoder`, with the adapter": run_checks(peers.text_encoder(encoder), strict=False),
        f"{skrub}, `TextEncoder`, without the adapter": without_adapter(peers.text_encoder(encoder, adapted=False)),
        "skxlmr, each estimator, without the adapter": without_adapter(skxlmr.XLMRobertaClassifier()),
    }
    return PEERS + "\n".join(peer_row(*each) for each in outcomes.items())


def left_out():
    """List of the checks that run on no estimator."""
    return "\n".join(f"- `{check}`: {reason}" for check, reason in RUN_ON_NONE.items())


def replaced(page, name, table):
    """The page with a new table between its marks."""
    start, end = f"<!-- {name}: written by python -m tests.sklearn_checks.table -->\n\n", f"\n\n<!-- end of {name} -->"
    before, _, rest = page.partition(start)
    return before + start + table + end + rest.partition(end)[2]


def main():
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    page = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        page = replaced(page, "ours", ours(folder))
        page = replaced(page, "none", left_out())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            page = replaced(page, "peers", peers(folder))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
