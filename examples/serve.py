"""Serve a saved model over HTTP: texts in, labels, numbers, vectors or entities out.

    pip install "skxlmr[serve]"
    python examples/serve.py --model FOLDER
    curl -d '{"texts": ["The battery lasts two days."]}' http://127.0.0.1:8000/predict

FOLDER is what `save` or `export_onnx` wrote; one that holds only ONNX needs no torch. Copy this file and change it. It is
one process: an event loop reads requests and writes answers, and one thread computes. Texts of requests that arrive
together are computed together. docs/serving.md describes the interface and the limits.
"""

import argparse
import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import signal
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path

import h11
import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from sklearn.base import is_classifier, is_regressor
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

import skxlmr

log = logging.getLogger("uvicorn.error")  # which uvicorn shows


def parse(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, metavar="FOLDER", help="written by save or export_onnx")
    add("--pairs", action="store_true", help="rows are pairs of texts; not needed for a model that was fitted on pairs")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=8000, help="0 for one that is free")
    add("--max-batch", type=at_least_1, default=64, help="texts that are computed together")
    add("--max-wait-ms", type=float, default=5, help="how long a request waits for others to join its batch")
    add("--max-queue", type=at_least_1, default=1024, help="texts that may wait for a batch; then the answer is 503")
    add("--max-texts", type=at_least_1, default=64, help="texts of a request")
    add("--max-characters", type=at_least_1, default=20_000, help="characters of a text")
    add("--max-body", type=at_least_1, default=2**20, help="bytes of a request's body")
    add("--max-connections", type=at_least_1, default=800, help="then the oldest idle or incomplete one is closed")
    add("--read-timeout", type=float, default=10, help="seconds in which a request must arrive, head and body")
    add("--shutdown-timeout", type=at_least_1, default=8, help="seconds that requests in progress have after SIGTERM")
    return parser.parse_args(arguments)


def at_least_1(word):
    if int(word) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {word}")
    return int(word)


def main(arguments=None):
    options = parse(arguments)
    try:
        model = open_model(Path(options.model))
    except (skxlmr.CheckpointError, ImportError) as error:
        sys.exit(f"--model: {error}")
    serve(model, options)


def open_model(folder):
    """The estimator; on ONNX Runtime if the folder has no other weights, or if torch is not installed."""
    has_torch = importlib.util.find_spec("torch") is not None
    if any((folder / "onnx").glob("*.onnx")) and not (has_torch and any(folder.glob("*.safetensors"))):
        from skxlmr.export import load_onnx

        return load_onnx(folder)
    return skxlmr.load(folder)


def serve(model, options):
    """Answer requests until SIGTERM or Ctrl+C. The port opens after a first prediction."""
    kind, answer = what_it_answers(model)
    options.pairs = options.pairs or getattr(model, "n_features_in_", 1) == 2
    try:
        answer([("warm-up", "warm-up") if options.pairs else "warm-up"])
    except (ValueError, TypeError, AttributeError) as error:
        sys.exit(f"--model: this {type(model).__name__} can't be served, its first prediction failed: {error}")
    about = {"status": "ready", "model": Path(options.model).resolve().name, "kind": kind}
    about |= {"estimator": type(model).__name__, "version": skxlmr.__version__}
    if kind == "classifier":
        about["classes"] = plain(model.classes_)
    batcher = Batcher(answer, options)
    switched_off = {"ws": "none", "access_log": False, "server_header": False, "proxy_headers": False}
    where = {"host": options.host, "port": options.port, "http": limited(options), "loop": "asyncio"}
    stop = {"timeout_graceful_shutdown": options.shutdown_timeout}
    config = uvicorn.Config(make_app(about, batcher, options), **where, **stop, **switched_off)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: None)  # uvicorn has a handler of its own, and raises the signal again at the end
    uvicorn.Server(config).run()
    if batcher.computing:  # for longer than allowed, or for clients that have left: Python would wait for the thread
        logging.shutdown()
        os._exit(0)


def what_it_answers(model):
    """The kind of model, and a function from texts to lists with a value for each text."""
    if hasattr(model, "predict_entities"):
        return "tagger", lambda texts: {"entities": model.predict_entities(texts)}
    if is_classifier(model):
        return "classifier", lambda texts: classify(model, texts)
    if is_regressor(model):
        return "regressor", lambda texts: {"values": model.predict(texts).tolist()}
    if hasattr(model, "transform"):
        return "vectorizer", lambda texts: {"vectors": np.asarray(model.transform(texts), dtype=float).tolist()}
    sys.exit(f"--model: {type(model).__name__} is no classifier, regressor, vectorizer or tagger")


def classify(model, texts):
    """Labels and, if the model has them, probabilities: for each class, each label, or each class of each column."""
    if not hasattr(model, "predict_proba"):
        return {"labels": model.predict(texts).tolist()}
    proba = model.predict_proba(texts)
    if getattr(model, "target_type_", "") in ("binary", "multiclass"):
        labels = model.classes_[proba.argmax(1)]  # as predict does, which would compute everything again
    else:
        labels = model.predict(texts)
    proba = zip(*proba, strict=True) if isinstance(proba, list) else proba
    return {"labels": labels.tolist(), "probabilities": [plain(row) for row in proba]}


def plain(values):
    """Lists from an array, or from several."""
    return values.tolist() if isinstance(values, np.ndarray) else [each.tolist() for each in values]


class Batcher:
    """Collects the texts of requests and computes those of several requests in one call, in one thread."""

    def __init__(self, answer, options):
        self.answer, self.options = answer, options
        self.waiting = deque()  # (texts, future of their answer, time of arrival)
        self.n_waiting = 0  # texts
        self.arrived = asyncio.Event()
        self.thread = ThreadPoolExecutor(1)
        self.computing = False
        self.counts = dict.fromkeys(("requests", "texts", "batches"), 0)

    async def submit(self, texts):
        """What the model answers to these texts; None if it fails."""
        if self.waiting and self.n_waiting + len(texts) > self.options.max_queue:
            raise HTTPException(503, f"{self.n_waiting} texts are waiting: try again later", {"Retry-After": "1"})
        loop = asyncio.get_running_loop()
        request = (texts, loop.create_future(), loop.time())
        self.waiting.append(request)
        self.n_waiting += len(texts)
        self.arrived.set()
        try:
            return await request[1]
        finally:
            if request in self.waiting:  # the client has left
                self.waiting.remove(request)
                self.n_waiting -= len(texts)

    async def run(self):
        """Compute batch after batch. A batch waits until it is full or its oldest request has waited long enough."""
        loop = asyncio.get_running_loop()
        while True:
            end = self.waiting[0][2] + self.options.max_wait_ms / 1000 if self.waiting else None
            if end is None or (self.n_waiting < self.options.max_batch and loop.time() < end):
                self.arrived.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(end):
                        await self.arrived.wait()
                continue
            batch, self.computing = self.take_batch(), True
            answers = await loop.run_in_executor(self.thread, self.compute, [texts for texts, _, _ in batch])
            self.computing = False
            for (_, future, _), answer in zip(batch, answers, strict=True):
                if not future.done():  # else the client has left
                    future.set_result(answer)

    def take_batch(self):
        """The oldest requests, of at most ``max_batch`` texts together. One that has more comes alone."""
        batch, n_texts = [], 0
        while self.waiting and (not batch or n_texts + len(self.waiting[0][0]) <= self.options.max_batch):
            batch.append(self.waiting.popleft())
            n_texts += len(batch[-1][0])
        self.n_waiting -= n_texts
        for name, count in {"requests": len(batch), "texts": n_texts, "batches": 1}.items():
            self.counts[name] += count
        return batch

    def compute(self, requests):
        """The answer to each request. If the model fails, each is computed alone, so that one does not fail the others."""
        try:
            values = self.answer([text for texts in requests for text in texts])
        except Exception:
            if len(requests) > 1:
                return [self.compute([texts])[0] for texts in requests]
            log.exception("The model failed on a request of %d texts", len(requests[0]))
            return [None]
        ends = list(accumulate(map(len, requests), initial=0))
        return [{name: rows[start:end] for name, rows in values.items()} for start, end in pairwise(ends)]


def make_app(about, batcher, options):
    @contextlib.asynccontextmanager
    async def lifespan(app):
        task = asyncio.create_task(batcher.run())
        yield
        task.cancel()

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    classes = {"classes": about["classes"]} if "classes" in about else {}

    @app.exception_handler(AnyHTTPException)
    async def refused(request, error):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def failed(request, error):
        return JSONResponse({"error": "the server failed; its log says more"}, 500)

    @app.get("/health")
    async def health():
        return about | batcher.counts | {"waiting": batcher.n_waiting}

    @app.post("/predict")
    async def predict(request: Request):
        try:
            texts = read_texts(await read_body(request, options.max_body), options)
            answer = await answer_of(texts, request)
        except ClientDisconnect:
            return Response()  # which nobody reads
        except asyncio.CancelledError:  # the time after SIGTERM is over
            raise HTTPException(503, "the server is stopping") from None
        if answer is None:
            raise HTTPException(500, "the model failed on these texts; the server's log says more")
        return JSONResponse(answer | classes)

    async def answer_of(texts, request):
        tasks = [asyncio.create_task(batcher.submit(texts)), asyncio.create_task(client_leaves(request))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                raise ClientDisconnect
            return tasks[0].result()
        finally:
            for task in tasks:
                task.cancel()

    return app


async def client_leaves(request):
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_body(request, most):
    """The body. Too large a one is refused before it is read, and uvicorn drops what still comes of it."""
    body, announced = bytearray(), int(request.headers.get("content-length", 0))
    if announced <= most:
        async for part in request.stream():
            body += part
            if len(body) > most:
                break
    if max(announced, len(body)) > most:
        raise HTTPException(413, f"the body has more than {most} bytes")
    return bytes(body)


def read_texts(body, options):
    """The rows of a request. What the model can't read is an error that names the field and the index."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(data, dict):
        raise HTTPException(422, f"the body is {named(data)}, expected an object with the field 'texts'")
    for name in data.keys() - {"texts"}:
        raise HTTPException(422, f"unknown field {name[:50]!r}, the only one is 'texts'")
    rows = data.get("texts", [])
    if not isinstance(rows, list) or not 1 <= len(rows) <= options.max_texts:
        found = named(rows) if "texts" in data else "missing"
        raise HTTPException(422, f"texts is {found}, expected a list of 1 to {options.max_texts} items")
    for i, row in enumerate(rows):
        if options.pairs and not (isinstance(row, list) and len(row) == 2):
            raise HTTPException(422, f"texts[{i}] is {named(row)}, expected a list of two strings")
        for k, text in enumerate(row if options.pairs else [row]):
            where = f"texts[{i}][{k}]" if options.pairs else f"texts[{i}]"
            if not isinstance(text, str):
                raise HTTPException(422, f"{where} is {named(text)}, expected a string")
            if len(text) > options.max_characters:
                raise HTTPException(
                    422, f"{where} has {len(text)} characters, at most {options.max_characters} are read"
                )
            if text.encode(errors="ignore").decode() != text:
                raise HTTPException(422, f"{where} holds half a surrogate pair, which is not a character")
    return rows


def named(value):
    """What JSON calls a value."""
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return names.get(type(value), "a number") + (f" of {len(value)} items" if isinstance(value, list) else "")


def limited(options):
    """uvicorn's HTTP/1.1, with limits on what has not arrived: seconds for each request, and a number of connections."""

    # Of all connections, oldest first, with their timers:
    reading = {}  # those without a complete request
    leaving = {}  # those that are answered, and whose clients may still be sending

    class Connection(H11Protocol):
        def connection_made(self, transport):
            super().connection_made(Answered(transport, self))
            self.follow()
            if len(self.connections) > options.max_connections:
                if leaving:
                    oldest = next(iter(leaving))
                    leaving.pop(oldest).cancel()
                    oldest.transport.abort()
                else:
                    next(iter(reading)).refuse(503, "too many connections: try again later")

        def data_received(self, data):
            if self not in leaving:
                super().data_received(data)
                self.follow()

        def connection_lost(self, exc):
            super().connection_lost(exc)
            self.follow()
            if self in leaving:
                leaving.pop(self).cancel()

        def on_response_complete(self):
            super().on_response_complete()
            self.follow()

        def follow(self):
            """Start the clock of an incomplete request, stop that of a complete one."""
            is_incomplete = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing()
            if is_incomplete and self not in reading:
                late = f"the request did not arrive within {options.read_timeout:g} seconds"
                reading[self] = self.loop.call_later(options.read_timeout, self.refuse, 408, late)
            elif not is_incomplete and self in reading:
                reading.pop(self).cancel()

        def refuse(self, status, message):
            """Answer, if nothing was answered yet, and close. A connection that is idle between requests is only closed."""
            is_idle = self.cycle is not None and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not is_idle:
                body = json.dumps({"error": message}).encode()
                fields = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
                start = h11.Response(status_code=status, headers=list(fields.items()))
                for event in (start, h11.Data(data=body), h11.EndOfMessage()):
                    self.transport.write(self.conn.send(event))
            self.transport.close()
            self.follow()

        def send_400_response(self, msg):  # how uvicorn answers what is not HTTP
            self.refuse(400, msg)

        def timeout_keep_alive_handler(self):
            self.transport.close()
            self.follow()

        def leave(self):
            """End a request that has no answer yet, and wait a while for the client to read what it got."""
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.disconnected = True
                self.cycle.message_event.set()
            leaving[self] = self.loop.call_later(options.read_timeout, self.transport.abort)

    return Connection


class Answered:
    """A transport that is closed in two steps (RFC 9112, section 9.6): first no more is written, then no more is read.

    A socket that is closed while the client is sending resets the connection, and the client may lose its answer.
    """

    def __init__(self, transport, connection):
        self.transport, self.connection, self.is_ended = transport, connection, False

    def __getattr__(self, name):
        return getattr(self.transport, name)

    def is_closing(self):
        return self.is_ended or self.transport.is_closing()

    def close(self):
        if self.is_closing():
            return
        self.is_ended = True
        http = self.connection.conn
        is_sending = http.their_state in (h11.SEND_BODY, h11.ERROR) or http.trailing_data[0]
        self.connection.leave()
        if is_sending and self.transport.can_write_eof():
            with contextlib.suppress(OSError):  # of a client that has gone
                self.transport.write_eof()
            self.transport.resume_reading()
        else:
            self.transport.close()


if __name__ == "__main__":
    main()
