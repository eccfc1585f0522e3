"""``python -m skxlmr encode`` over many short rows: rows per second, memory by quarter of the rows, a kill and what follows it.

Rows are a few words each of real texts, most of them distinct. The command runs in a process of its own. Its resident memory is
read five times a second, and the peak is given for each quarter of the rows, and while the parts are joined. It is killed
(SIGKILL) once a third of the parts are there, and the same command goes on. At the end the number of rows is compared, their
order, and the features of a sample with those of ``load(folder).transform``. It needs Linux.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import describe_machine, make_parser, markdown_table, require, sample_texts

ROOT = Path(__file__).resolve().parents[1]
INTERVAL = 0.2  # seconds between two looks at the process


def write_rows(path, n_rows, texts, seed=0):
    """A Parquet file of so many short texts, a row group at a time: parts of real ones, of 3 to 12 words."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng, words = random.Random(seed), [text.split() for text in texts]
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, n_rows, 100_000):
            made = []
            for _ in range(min(100_000, n_rows - start)):
                row = rng.choice(words)
                first = rng.randrange(max(len(row) - 3, 1))
                made.append(" ".join(row[first : first + rng.randint(3, 12)]))
            ids = pa.array(range(start, start + len(made)), pa.int64())
            writer.write_table(pa.table({"id": ids, "text": made}, schema=schema))


def resident(pid):
    """Resident memory in MiB; None once the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), None)


def run(command, parts, n_parts, kill_at=None):
    """Run the command; returns its seconds, peak memory by quarter and while joining, and parts before and after."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    begun = n_complete(parts)
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment)
    peaks, n_done = [0.0] * 5, begun
    while process.poll() is None:
        time.sleep(INTERVAL)
        n_done = n_complete(parts) or n_done  # at the end the folder is removed
        memory = resident(process.pid)
        if memory is not None:
            quarter = 4 if (parts / "joined").exists() else min(4 * n_done // n_parts, 3)
            peaks[quarter] = max(peaks[quarter], memory)
        if kill_at is not None and n_done >= kill_at:
            process.send_signal(signal.SIGKILL)
            process.wait()
    if kill_at is None and process.returncode:
        sys.exit(f"the command ended with status {process.returncode}")
    return time.perf_counter() - start, peaks, begun, n_done


def n_complete(parts):
    return len(list(parts.glob("*.arrow"))) if parts.is_dir() else 0


def check(source, output, model, n_rows, n_sample):
    """What is different between the output and the estimator; empty if nothing is."""
    import pyarrow.parquet as pq

    from skxlmr import load

    file = pq.ParquetFile(output)
    if file.metadata.num_rows != n_rows:
        return f"{file.metadata.num_rows} rows"
    start, wanted = 0, np.sort(np.random.default_rng(0).choice(n_rows, min(n_sample, n_rows), replace=False))
    given, found = [], []
    for batch, before in zip(file.iter_batches(8192), pq.ParquetFile(source).iter_batches(8192), strict=True):
        if not batch.column("id").equals(before.column("id")) or not batch.column("text").equals(before.column("text")):
            return f"other rows after row {start}"
        rows = [int(row) - start for row in wanted if start <= row < start + len(batch)]
        given += [before.column("text")[row].as_py() for row in rows]
        found += [np.array(batch.column("features")[row].as_py(), np.float32) for row in rows]
        start += len(batch)
    n_other = int((load(model).set_params(memory=None).transform(given) != np.stack(found)).any(1).sum())
    return f"{n_other} of {len(given)} rows have other features" if n_other else ""


def measure(args, folder):
    from skxlmr import XLMRobertaVectorizer, save

    source, output, model = folder / "rows.parquet", folder / "features.parquet", folder / "model"
    save(XLMRobertaVectorizer(args.checkpoint).fit(["A text."]), model)
    write_rows(source, args.rows, sample_texts(20_000, args.data))
    command = [
        sys.executable,
        "-m",
        "skxlmr",
        "encode",
        "--model",
        str(model),
        "--input",
        str(source),
        "--text",
        "text",
    ]
    command += ["--output", str(output), "--rows-per-part", str(args.rows_per_part)]
    parts, n_parts = folder / "features.parquet.parts", -(-args.rows // args.rows_per_part)
    rows = []
    for name, kill_at in (("killed", max(n_parts // 3, 1)), ("goes on", None)):
        seconds, peaks, begun, left = run(command, parts, n_parts, kill_at)
        n_made = (left if kill_at else n_parts) - begun
        made = min(n_made * args.rows_per_part, args.rows)
        memory = [f"{peak:.0f}" if peak else "" for peak in peaks]
        rows.append([name, begun, made, f"{seconds:.1f}", f"{made / seconds:.0f}", *memory])
    quarters = [f"RSS {k} (MiB)" for k in ("1/4", "2/4", "3/4", "4/4", "joining")]
    print(markdown_table(["call", "parts before", "rows", "seconds", "rows/s", *quarters], rows))
    size = output.stat().st_size / 2**20
    difference = check(source, output, model, args.rows, args.sample)
    print(
        f"\n{args.rows} rows, {n_parts} parts, output of {size:.0f} MiB; {difference or f'equal to load ({args.sample} rows)'}"
    )
    if difference or output.with_name("features.parquet.parts").exists():
        sys.exit("NOT EQUAL, or parts are left")
    print(json.dumps({"rows": args.rows, "calls": rows, "MiB": round(size)}))


def main():
    parser = make_parser(__doc__, data="a column text", checkpoint=False)
    parser.add_argument("--rows", type=int, help="rows (default: 1,000,000; 20,000 with --quick)")
    parser.add_argument("--rows-per-part", type=int, help="(default: what the command line has; 2,048 with --quick)")
    parser.add_argument("--sample", type=int, default=2_000, help="rows that are compared (default: %(default)s)")
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="folder or repository (default: %(default)s)")
    args = parser.parse_args()
    require("pyarrow")
    from skxlmr.cli._arguments import ROWS

    args.rows = args.rows or (20_000 if args.quick else 1_000_000)
    args.rows_per_part = args.rows_per_part or (2_048 if args.quick else ROWS)
    if args.threads:
        os.environ["OMP_NUM_THREADS"] = str(args.threads)
    print(describe_machine("cpu", "pyarrow"), f"\n{args.rows} rows, parts of {args.rows_per_part}\n")
    with tempfile.TemporaryDirectory() as folder:
        measure(args, Path(folder))


if __name__ == "__main__":
    main()
