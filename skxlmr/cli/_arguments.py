"""What the command line may say."""

import argparse
from collections.abc import Sequence

from skxlmr._version import __version__

ROWS = 2**13  # of a part: small beside the weights of a model, and hundreds of batches, nearly all of them full

DESCRIPTION = """\
Features and predictions of the texts in a file, with a saved estimator.

  python -m skxlmr encode  --model FOLDER --input X.parquet --text COLUMN --output Y.parquet
  python -m skxlmr predict --model FOLDER --input X.parquet --text COLUMN --output Y.parquet
"""
EPILOG = """\
Files end in .parquet, .csv, .jsonl or .ndjson; the last three may have .gz behind it. The output may have another format than
the input. Rows are read, computed and written in parts, so that memory does not grow with the file. Until all are done they are
in the folder OUTPUT.parts, and the same command goes on where it was ended, by Ctrl-C, a kill or a full disk. Then OUTPUT is
there at once, complete.

Exit status: 0 done; 2 the command or the input is at fault; 130 ended by Ctrl-C; 1 anything else.
"""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; ends the process with status 2 if they are not valid."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m skxlmr", description=DESCRIPTION, formatter_class=formatter)
    parser.add_argument("--version", action="version", version=f"skxlmr {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{encode,predict}")
    encode = commands.add_parser(
        "encode",
        help="add features of the texts",
        description="Add features of the texts: the column 'features' with a list of numbers per row (float32, of fixed size\n"
        "in Parquet), or in CSV a column for each feature, features_0 and so on.",
        epilog=EPILOG,
        formatter_class=formatter,
    )
    predict = commands.add_parser(
        "predict",
        help="add predictions for the texts",
        description="Add predictions for the texts: the column 'prediction' and, with one class per row,\n"
        "'prediction_probability', the probability of that class. Several labels or outputs per row have a\n"
        "column each. A tagger adds 'entities', a list of records per row.",
        epilog=EPILOG,
        formatter_class=formatter,
    )
    for command in (encode, predict):
        _add_files(command)
    predict.add_argument(
        "--probabilities",
        action="store_true",
        help="add the probability of each class, probability_CLASS, in place of the prediction",
    )
    for command in (encode, predict):
        _add_computation(command)
    return parser.parse_args(arguments)


def _add_files(command: argparse.ArgumentParser) -> None:
    files = command.add_argument_group("files")
    files.add_argument(
        "--model", required=True, metavar="FOLDER", help="what skxlmr.save wrote, or its name on the hub"
    )
    files.add_argument(
        "--input",
        required=True,
        nargs="+",
        metavar="FILE",
        help="file of rows; or several of one format, or a folder of Parquet files, one after another",
    )
    files.add_argument("--output", required=True, metavar="FILE", help="file to write")
    files.add_argument(
        "--text",
        action="append",
        metavar="COLUMN",
        help="column of the texts; twice for pairs of texts. Without it, the columns whose names the fit saw",
    )
    files.add_argument(
        "--columns",
        nargs="*",
        metavar="COLUMN",
        help="columns of the input to keep (default: all; none after --columns: none)",
    )
    files.add_argument("--as", dest="name", metavar="NAME", help="name of the new column, or how the new names begin")
    files.add_argument(
        "--missing",
        choices=("error", "null"),
        default="error",
        help="what a row without text is: an error that names it (default), or null in the result",
    )
    files.add_argument("--overwrite", action="store_true", help="replace the output, and remove parts of another call")


def _add_computation(command: argparse.ArgumentParser) -> None:
    how = command.add_argument_group("computation")
    how.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: what the estimator says)")
    how.add_argument(
        "--dtype", metavar="NAME", help="auto, float32, bfloat16, int8, ... (default: what the estimator says)"
    )
    how.add_argument(
        "--batch-size",
        type=_positive,
        metavar="N",
        help="up to 32 times as many tokens of a base-size model run at once (default: what the estimator says)",
    )
    how.add_argument(
        "--onnx",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether ONNX Runtime computes (default: if the folder has a graph and no weights)",
    )
    how.add_argument(
        "--rows-per-part",
        type=_positive,
        default=ROWS,
        metavar="N",
        help="rows that are in memory at a time, and that are computed again after a kill (default: %(default)s)",
    )
    how.add_argument("--quiet", action="store_true", help="no progress on standard error")


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {text!r}")
    return value
