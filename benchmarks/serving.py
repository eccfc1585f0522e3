"""examples/serve.py under load: many requests at once, answers compared with offline ones, a large body, slow clients.

The server is a process of its own, and so is the client: one event loop, a connection for each request, both on this
machine. Requests hold one tweet each. A latency is the time from opening the connection to the last byte of the answer.
"""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from _common import base_folder, describe_machine, json_line, make_parser, markdown_table, mini_folder, tweets
from latency import fitted_classifier

SCRIPT = Path(__file__).resolve().parents[1] / "examples" / "serve.py"
PART = b" " * 2**20


@contextlib.contextmanager
def server(folder, *arguments):
    """Process and port of a server, which has to end well after SIGTERM."""
    command = [sys.executable, str(SCRIPT), "--model", str(folder), "--port", "0", *map(str, arguments)]
    with tempfile.NamedTemporaryFile() as log, subprocess.Popen(command, stderr=log) as process:

        def said():
            return Path(log.name).read_text(encoding="utf-8")

        try:
            while not (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", said())):
                if process.poll() is not None:
                    sys.exit(f"the server did not start:\n{said()}")
                time.sleep(0.05)
            yield process, int(found[1])
            process.send_signal(signal.SIGTERM)
            if process.wait(60):
                sys.exit(f"the server ended with {process.returncode}:\n{said()}")
        finally:
            process.kill()


async def ask(port, path, texts=None):
    """Status, answer and seconds of one request."""
    start = time.perf_counter()
    body = b"" if texts is None else json.dumps({"texts": texts}).encode()
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        answer = await reader.read()
        status, content = int(answer.split(b" ", 2)[1]), json.loads(answer.partition(b"\r\n\r\n")[2])
        return status, content, time.perf_counter() - start
    finally:
        writer.close()


async def at_once(port, texts):
    """A request for each text, all at the same time: statuses, answers, seconds of each, and of all."""
    start = time.perf_counter()
    found = await asyncio.gather(*(ask(port, "/predict", [text]) for text in texts), return_exceptions=True)
    seconds = time.perf_counter() - start
    lost = [each for each in found if isinstance(each, BaseException) or each[0] != 200]
    if lost:
        sys.exit(f"{len(lost)} of {len(texts)} requests were lost, such as {lost[0]!r}")
    return [answer for _, answer, _ in found], [each for _, _, each in found], seconds


async def one_by_one(port, texts):
    return [(await ask(port, "/predict", [text]))[2] for text in texts]


async def large_body(port, is_announced, n_parts):
    """Status of the answer to a body of so many MiB, sent to the end whatever the server answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    how = f"Content-Length: {n_parts * len(PART)}" if is_announced else "Transfer-Encoding: chunked"
    writer.write(f"POST /predict HTTP/1.1\r\nHost: localhost\r\n{how}\r\n\r\n".encode())
    for _ in range(n_parts):
        writer.write(PART if is_announced else b"%x\r\n%s\r\n" % (len(PART), PART))
        await writer.drain()
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def slow_client(port, has_head):
    """A byte a second, until there is an answer: its status, or how the connection ended without one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    part = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n" if has_head else b"P"
    try:
        while True:
            writer.write(part)
            part = b"X"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    line = await reader.readline()
                    return int(line.split()[1]) if line else "closed"
    except ConnectionError:
        return "reset"
    finally:
        writer.close()


async def slow_clients(port, n, texts):
    """What n slow clients got, half of them slow with the head, and seconds of requests one after another meanwhile."""
    tasks = [asyncio.create_task(slow_client(port, k % 2)) for k in range(n)]
    await asyncio.sleep(1)
    latencies = []
    while not all(task.done() for task in tasks):
        status, _, seconds = await ask(port, "/predict", [texts[len(latencies) % len(texts)]])
        if status != 200:
            sys.exit(f"a client was answered {status} while others were slow")
        latencies.append(seconds)
        await asyncio.sleep(0.05)
    return Counter(task.result() for task in tasks), latencies


def allow_files(n):
    """Let this process, not the server, have n files open."""
    with contextlib.suppress(ImportError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(n, hard)), hard))


def memory_of(process):
    """The most memory that it had so far, in MiB; NaN except on Linux."""
    file = Path(f"/proc/{process.pid}/status")
    return int(re.search(r"VmHWM:\s+(\d+)", file.read_text())[1]) / 1024 if file.exists() else float("nan")


def compare(folder, texts, answers):
    """Largest difference of a probability from the offline one, and whether all are equal to the last bit."""
    sys.path.insert(0, str(SCRIPT.parent))
    import serve

    expected = serve.open_model(Path(folder)).predict_proba(texts)
    found = np.array([answer["probabilities"][0] for answer in answers], dtype=expected.dtype)
    return float(np.abs(found - expected).max()), bool(np.array_equal(found, expected))


def row(name, latencies, seconds, batches):
    p50, p99 = 1000 * np.percentile(latencies, [50, 99])
    figures = {"p50_ms": p50, "p99_ms": p99, "per_second": len(latencies) / seconds, "batches": batches}
    return {"load": name, "requests": len(latencies), **figures}


def measure(folder, texts, args):
    """Rows of the table of latencies, and the rest of the figures."""
    rows, most = [], max(64, 2 * len(texts))
    with server(folder, "--max-queue", most, "--read-timeout", args.read_timeout) as (process, port):

        def batches():
            return asyncio.run(ask(port, "/health"))[1]["batches"]

        asyncio.run(at_once(port, texts[:64]))  # a warm-up
        few = texts[: max(10, len(texts) // 5)]
        latencies = asyncio.run(one_by_one(port, few))
        rows.append(row("one client", latencies, sum(latencies), len(few)))
        for _ in range(args.rounds):
            before = batches()
            answers, latencies, seconds = asyncio.run(at_once(port, texts))
            rows.append(row(f"{len(texts)} at once", latencies, seconds, batches() - before))
        difference, is_equal = compare(folder, texts, answers)
        before = memory_of(process)
        bodies = [asyncio.run(large_body(port, is_announced, args.body)) for is_announced in (True, False)]
        grown = memory_of(process) - before
        allow_files(args.slow + 200)
        statuses, latencies = asyncio.run(slow_clients(port, args.slow, texts))
        rows.append(row(f"one, beside {args.slow} slow", latencies, sum(latencies), len(latencies)))
    with server(folder, "--max-queue", most, "--max-batch", 1) as (_, port):
        asyncio.run(at_once(port, texts[:64]))
        _, latencies, seconds = asyncio.run(at_once(port, texts))
        rows.append(row(f"{len(texts)} at once, without batches", latencies, seconds, len(texts)))
    return rows, {
        "difference": difference,
        "equal": is_equal,
        "large_body_status": bodies,
        "large_body_grown_mib": grown,
        "slow_statuses": {str(status): count for status, count in statuses.items()},
    }


def main():
    parser = make_parser(__doc__, data="")
    parser.add_argument("--model", type=Path, help="a saved or exported classifier (default: one of XLM-R-base size)")
    parser.add_argument("--mini", action="store_true", help="a classifier on skxlmr-mini instead")
    parser.add_argument("--onnx", action="store_true", help="export the classifier, and serve it with ONNX Runtime")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3, help="of all requests at once")
    parser.add_argument("--slow", type=int, default=1000, help="slow clients")
    parser.add_argument("--body", type=int, default=100, help="MiB of the large body")
    parser.add_argument("--read-timeout", type=float, default=10, help="of the server, in seconds")
    args = parser.parse_args()
    if args.quick:
        args.mini, args.requests, args.rounds, args.slow, args.read_timeout = True, 50, 1, 50, 2
    machine, texts = describe_machine("cpu", "fastapi", "uvicorn", "onnxruntime"), tweets(args.requests)
    with tempfile.TemporaryDirectory() as work:
        folder = args.model
        if folder is None:
            checkpoint = str(mini_folder() if args.mini else base_folder(args))
            folder = fitted_classifier(checkpoint, Path(work) / "classifier")
            if args.onnx:
                import skxlmr

                skxlmr.export_onnx(skxlmr.load(folder), Path(work) / "exported")
                folder = Path(work) / "exported"
        print(f"{machine}\n{len(texts)} tweets, one in a request", flush=True)
        rows, found = measure(folder, texts, args)
    header = ("", "requests", "batches", "p50, ms", "p99, ms", "requests/s")
    cells = [
        (
            each["load"],
            each["requests"],
            each["batches"],
            *(f"{each[k]:.1f}" for k in ("p50_ms", "p99_ms", "per_second")),
        )
        for each in rows
    ]
    print(f"\n{markdown_table(header, cells)}\n")
    print(
        f"Probabilities differ from offline ones by {found['difference']:.1e}; equal to the last bit: {found['equal']}."
    )
    statuses = ", ".join(f"{count} got {status}" for status, count in sorted(found["slow_statuses"].items()))
    first, second = found["large_body_status"]
    print(f"A body of {args.body} MiB got {first}, without Content-Length {second}; the server grew by ", end="")
    print(f"{found['large_body_grown_mib']:.1f} MiB. Of {args.slow} slow clients {statuses}.\n")
    print(json_line("serving", machine, results=rows, **found))


if __name__ == "__main__":
    main()
