"""Servers in processes of their own, and their clients."""

import http.client
import importlib.util
import json
import re
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from tests import processes
from tests.contract import TEXTS

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["a", "b", "c"] * 2
PAIRS = list(zip(TEXTS, TEXTS[::-1], strict=True))


def load_script():
    spec = importlib.util.spec_from_file_location("serve", ROOT / "examples" / "serve.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Planted(ClassifierMixin, BaseEstimator):
    """A classifier of the length of texts. Where a text says so, it fails, or waits for a file."""

    def __init__(self, gate=None):
        self.gate = gate
        self.classes_ = np.array(["even", "odd"])

    def predict_proba(self, X):
        if "wait" in X:
            while not self.gate.exists():
                time.sleep(0.002)
        if "fail" in X:
            raise OSError("/secret/folder/model.safetensors is broken")
        odd = np.array([len(text) % 2 for text in X])
        return np.stack([1 - odd, odd], 1).astype(np.float32)

    def predict(self, X):
        labels = self.classes_[self.predict_proba(X).argmax(1)]
        return np.array(["long" * 50_000 if text == "long" else label for text, label in zip(X, labels, strict=True)])


def serve_planted(gate, arguments):
    script = load_script()
    script.serve(Planted(gate), script.parse(["--model", "planted", *arguments]))


def serve_folder(gate, arguments):
    load_script().main(arguments)


class Server:
    """A server in a process of its own, on a free port; use it as a context."""

    def __init__(self, log, *arguments, target=serve_planted):
        self.log, self.gate = log, log.with_name("gate")
        context = processes.server(with_torch=target is not serve_without_torch)
        arguments = [*map(str, arguments), "--port", "0"]
        self.process = context.Process(
            target=processes._redirected, args=((log, log), {}, target, (self.gate, arguments))
        )

    def __enter__(self):
        self.process.start()
        try:
            self.port = int(self.wait_for(lambda: re.search(r"running on http://127\.0\.0\.1:(\d+)", self.said()))[1])
        except BaseException:
            self.process.kill()
            raise
        return self

    def __exit__(self, *error):
        self.gate.touch()
        self.process.kill()
        self.process.join()

    def said(self):
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def wait_for(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert self.process.is_alive() and time.monotonic() < end, self.said()
            time.sleep(0.01)
        return found

    def request(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read()), response.headers
        finally:
            connection.close()

    def predict(self, *texts):
        return self.request("POST", "/predict", json.dumps({"texts": texts}))[:2]

    def health(self):
        status, found, _ = self.request("GET", "/health")
        assert status == 200
        return found

    def memory(self):
        """The most memory the process had so far, in MiB."""
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024


def equal_to_the_last_bit(found, expected):
    return np.array_equal(np.array(found, dtype=expected.dtype), expected)


def serve_without_torch(gate, arguments):
    assert "torch" not in sys.modules
    sys.modules["torch"] = None  # an error where it is imported
    load_script().main(arguments)


def check_concurrent_requests(server, classifier, n):
    """Requests of 1 to 3 texts at the same time; returns how many batches they were."""
    requests = [[f"{TEXTS[k % 6]} {k} {j}" for j in range(k % 3 + 1)] for k in range(n)]
    before = server.health()
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda texts: server.predict(*texts), requests))
    after = server.health()
    assert [status for status, _ in answers] == [200] * n
    for texts, (_, answer) in zip(requests, answers, strict=True):
        assert answer["labels"] == classifier.predict(texts).tolist()
        assert answer["classes"] == ["a", "b", "c"]
        np.testing.assert_allclose(answer["probabilities"], classifier.predict_proba(texts), rtol=0, atol=1e-6)
        if torch_is_invariant():
            assert equal_to_the_last_bit(answer["probabilities"], classifier.predict_proba(texts))
    assert after["requests"] - before["requests"] == n
    assert after["texts"] - before["texts"] == sum(map(len, requests))
    return after["batches"] - before["batches"]


def torch_is_invariant():
    """Whether neighbours in a batch change no bit (docs/architecture.md)."""
    import torch

    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def hold(server, pool):
    """Stop the thread that computes at its gate; what comes now has to wait."""
    n_before = server.health()["batches"]
    held = pool.submit(server.predict, "wait")
    server.wait_for(lambda: server.health()["batches"] > n_before)
    return held


def wait_until_waiting(server, n):
    server.wait_for(lambda: server.health()["waiting"] == n)


def slow_clients(port, n, seconds, meanwhile):
    """Clients that send one byte after another, half of them after a head; the status that each gets in the end."""
    clients, found = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(n)], {}
    for client in clients[::2]:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n\r\n")
    end = time.monotonic() + seconds
    while len(found) < n and time.monotonic() < end:
        for client in set(clients) - found.keys():
            client.setblocking(False)
            try:
                received = client.recv(1000)
                found[client] = int(received.split()[1]) if received else "closed"
            except BlockingIOError:
                client.send(b"X")
            except OSError as error:
                found[client] = error
        meanwhile()
        time.sleep(0.05)
    for client in clients:
        client.close()
    return [found.get(client, "open") for client in clients]


def check_slow_clients(server, n, most, seconds):
    """Every slow client is told so, and others are served meanwhile."""
    served = []
    found = slow_clients(server.port, n, seconds, lambda: served.append(server.predict("a")[0]))
    assert set(served) == {200}
    assert found.count(503) >= n + 1 - most  # the oldest made room, for others and for the client that was served
    assert found.count(408) >= 1 and found.count(408) + found.count(503) == n
