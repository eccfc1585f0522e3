"""What is refused, who has to go, and how the server stops."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving.servers import (
    ROOT,
    check_slow_clients,
    hold,
    torch_is_invariant,
    wait_until_waiting,
)

pytest.importorskip("fastapi", reason="the server needs the extra serve")
pytest.importorskip("uvicorn", reason="the server needs the extra serve")
INVALID = [
    ("", 400, r"the body is not JSON: Expecting value"),
    ("texts=a", 400, "the body is not JSON"),
    (b'{"texts": ["\xff"]}', 400, "the body is not JSON"),
    ("[" * 50_000, 400, "the body is not JSON"),
    ('{"texts": [' + "1" * 5000 + "]}", 400, "the body is not JSON"),
    ("3", 422, r"the body is a number, expected an object with the field 'texts'"),
    ('["a"]', 422, "the body is a list of 1 items"),
    ("{}", 422, "texts is missing, expected a list of 1 to 8 items"),
    ('{"text": ["a"]}', 422, "unknown field 'text', the only one is 'texts'"),
    ('{"texts": ["a"], "x\\ud800": 1}', 422, r"unknown field 'x\\ud800'"),
    ('{"texts": "a"}', 422, "texts is a string, expected a list"),
    ('{"texts": null}', 422, "texts is null"),
    ('{"texts": []}', 422, "texts is a list of 0 items, expected a list of 1 to 8 items"),
    (json.dumps({"texts": ["a"] * 9}), 422, "texts is a list of 9 items"),
    ('{"texts": ["a", null]}', 422, r"texts\[1\] is null, expected a string"),
    ('{"texts": [true]}', 422, r"texts\[0\] is a boolean"),
    ('{"texts": ["a", "b", 1.5]}', 422, r"texts\[2\] is a number"),
    ('{"texts": [NaN]}', 422, r"texts\[0\] is a number"),
    ('{"texts": [{"text": "a"}]}', 422, r"texts\[0\] is an object"),
    ('{"texts": [["a", "b"]]}', 422, r"texts\[0\] is a list of 2 items, expected a string"),
    (json.dumps({"texts": ["a", "x" * 101]}), 422, r"texts\[1\] has 101 characters, at most 100 are read"),
    ('{"texts": ["a\\ud800"]}', 422, r"texts\[0\] holds half a surrogate pair"),
]


def test_invalid_bodies_are_named(server):
    for body, status, message in INVALID:
        found, answer, headers = server.request("POST", "/predict", body)
        assert (found, list(answer)) == (status, ["error"]), body[:50]
        assert re.search(message, answer["error"]), answer
        assert headers["content-type"] == "application/json"
    assert server.predict("", "x" * 100, "\U0001f600\0")[0] == 200


def test_other_paths_and_methods(server):
    assert server.request("GET", "/")[:2] == (404, {"error": "Not Found"})
    assert server.request("GET", "/predict")[:2] == (405, {"error": "Method Not Allowed"})
    assert server.request("GET", "/openapi.json")[0] == 404


@pytest.mark.parametrize("head", [b"nonsense\r\n\r\n", b"GET /health HTTP/1.1\r\nX: " + b"x" * 100_000])
def test_what_is_not_http_is_refused(server, head):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head)
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b'{"error": "Invalid HTTP request received."}')


def test_who_is_refused_while_sending_can_send_on_and_is_not_reset(server):
    """A reset would throw away an answer that is on its way."""
    for head in (
        b"nonsense\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(head)
            answer = b"".join(iter(lambda connection=connection: connection.recv(1000), b""))
            assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))
            for _ in range(20):
                connection.sendall(b" " * 100_000)
                time.sleep(0.005)
    assert server.predict("a")[0] == 200


@pytest.mark.parametrize("is_announced", [True, False], ids=["Content-Length", "chunked"])
@pytest.mark.parametrize("headers", [{}, {"Connection": "close"}], ids=["", "close"])
def test_large_bodies_are_refused_and_take_no_memory(server, is_announced, headers):
    part, n_parts = b" " * 2**20, 100
    server.predict("a")
    before = server.memory() if Path("/proc/self/status").exists() else None
    body = part * n_parts if is_announced else iter([part] * n_parts)
    status, answer, _ = server.request("POST", "/predict", body, **headers)
    assert (status, answer) == (413, {"error": "the body has more than 1048576 bytes"})
    if before is not None:
        assert server.memory() - before < 20
    assert server.predict("a")[0] == 200


def test_a_large_body_is_refused_before_it_is_sent(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000000\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_failure_is_of_its_own_request_and_leaks_nothing(planted):
    texts, before = ["a", "fail", "bb", "ccc", "fail", "dd"], planted.health()
    with ThreadPoolExecutor(10) as pool:
        held = hold(planted, pool)
        answers = [pool.submit(planted.predict, text) for text in texts]
        wait_until_waiting(planted, 6)
        planted.gate.touch()
    assert held.result()[0] == 200
    for text, answer in zip(texts, answers, strict=True):
        if text == "fail":
            assert answer.result() == (500, {"error": "the model failed on these texts; the server's log says more"})
        else:
            assert answer.result()[0] == 200
            assert answer.result()[1]["labels"] == [["even", "odd"][len(text) % 2]]
    assert planted.health()["batches"] - before["batches"] == 2
    assert "/secret/folder/model.safetensors is broken" in planted.said()


def test_a_full_queue_says_when_to_come_back(planted):
    with ThreadPoolExecutor(10) as pool:
        held = hold(planted, pool)
        waiting = [pool.submit(planted.predict, *"a" * 12)]
        wait_until_waiting(planted, 12)
        status, answer, headers = planted.request("POST", "/predict", json.dumps({"texts": ["a"] * 9}))
        assert (status, answer) == (503, {"error": "12 texts are waiting: try again later"})
        assert headers["retry-after"] == "1"
        waiting.append(pool.submit(planted.predict, *"a" * 8))
        wait_until_waiting(planted, 20)
        planted.gate.touch()
    assert [each.result()[0] for each in (held, *waiting)] == [200] * 3
    assert planted.predict(*"a" * 30)[0] == 200  # more than may wait, but nobody waits


def test_texts_of_clients_that_leave_are_not_computed(planted):
    with ThreadPoolExecutor(10) as pool:
        held = hold(planted, pool)
        before = planted.health()["texts"]
        left = http.client.HTTPConnection("127.0.0.1", planted.port)
        left.request("POST", "/predict", json.dumps({"texts": ["gone"] * 10}))
        stays = pool.submit(planted.predict, "stays")
        wait_until_waiting(planted, 11)
        left.close()
        wait_until_waiting(planted, 1)
        planted.gate.touch()
    assert held.result()[0] == stays.result()[0] == 200
    assert planted.health()["texts"] - before == 1


def test_a_client_that_leaves_during_its_batch_stops_nobody(planted):
    with ThreadPoolExecutor(10) as pool:
        n_before = planted.health()["batches"]
        left = http.client.HTTPConnection("127.0.0.1", planted.port)
        left.request("POST", "/predict", '{"texts": ["wait"]}')
        planted.wait_for(lambda: planted.health()["batches"] > n_before)
        left.close()
        stays = pool.submit(planted.predict, "stays")
        wait_until_waiting(planted, 1)
        planted.gate.touch()
    assert stays.result()[0] == 200


def test_slow_clients_are_refused_and_stop_nobody(strict):
    check_slow_clients(strict, 20, 15, seconds=10)


def test_a_slow_second_request_is_refused_too(strict):
    client = http.client.HTTPConnection("127.0.0.1", strict.port, timeout=30)
    client.request("GET", "/health")
    assert client.getresponse().read()
    client.sock.settimeout(0.1)
    received, end = b"", time.monotonic() + 30
    while not received and time.monotonic() < end:
        client.sock.send(b"X")
        with contextlib.suppress(TimeoutError):
            received = client.sock.recv(1000)
    client.close()
    assert received.startswith(b"HTTP/1.1 408 ")


def test_idle_connections_make_room_without_a_word(planted):
    idle = [http.client.HTTPConnection("127.0.0.1", planted.port, timeout=30) for _ in range(16)]
    for each in idle:
        each.request("GET", "/health")
        assert each.getresponse().read()
    assert idle[0].sock.recv(100) == b""
    for each in idle[1:]:
        each.request("GET", "/health")
        assert json.loads(each.getresponse().read())["status"] == "ready"
    for each in idle:
        each.close()


def test_clients_that_were_refused_and_stay_make_room(planted):
    refused = [socket.create_connection(("127.0.0.1", planted.port), timeout=30) for _ in range(15)]
    for each in refused:
        each.sendall(b"nonsense\r\n\r\n")
        assert b"".join(iter(lambda each=each: each.recv(1000), b"")).startswith(b"HTTP/1.1 400 ")
    clients = [http.client.HTTPConnection("127.0.0.1", planted.port, timeout=30) for _ in range(14)]
    for each in clients * 2:
        each.request("GET", "/health")
        assert json.loads(each.getresponse().read())["status"] == "ready"
    for each in refused + clients:
        each.close()


def test_an_answer_that_is_not_read_does_not_stay(strict):
    body = json.dumps({"texts": ["long"] * 60}).encode()  # labels that fill every buffer on the way
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", strict.port))
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        time.sleep(1.5)
        received = b"".join(iter(lambda: client.recv(2**20), b""))
    announced = int(re.search(rb"content-length: (\d+)", received)[1])
    assert 0 < len(received) < announced and announced > 12_000_000  # cut where the buffers ended


def test_sigterm_lets_requests_end(start):
    with ThreadPoolExecutor(10) as pool, start() as server:
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        idle.connect()
        held = hold(server, pool)
        waiting = [pool.submit(server.predict, text) for text in ("a", "bb", "ccc")]
        wait_until_waiting(server, 3)
        os.kill(server.process.pid, signal.SIGTERM)
        server.wait_for(lambda: "Shutting down" in server.said())
        assert idle.sock.recv(100) == b""
        idle.close()
        with pytest.raises(ConnectionRefusedError):
            server.predict("new")
        assert not held.done() and server.process.is_alive()
        server.gate.touch()
        assert [each.result()[0] for each in (held, *waiting)] == [200] * 4
        server.process.join(30)
        assert server.process.exitcode == 0


def test_sigterm_has_a_time_limit(start):
    with ThreadPoolExecutor(10) as pool, start("--shutdown-timeout", 1) as server:
        held = hold(server, pool)
        half = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        half.request("POST", "/predict", b"{", {"Content-Length": "9"})
        server.health()  # whose connection came later
        os.kill(server.process.pid, signal.SIGTERM)
        assert half.getresponse().status == 503
        half.close()
        server.process.join(30)
        assert server.process.exitcode == 0
        assert held.result() == (503, {"error": "the server is stopping"})


@pytest.mark.slow
def test_500_requests_100_mib_and_1000_slow_clients(shared_data):
    """The benchmark, of which the times decide nothing."""
    command = [sys.executable, str(ROOT / "benchmarks" / "serving.py"), "--mini", "--rounds", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    (at_once,) = [row for row in found["results"] if row["load"] == "500 at once"]
    assert at_once["requests"] == 500 and at_once["batches"] <= 50
    assert found["equal"] if torch_is_invariant() else found["difference"] < 1e-6
    assert found["large_body_status"] == [413, 413]
    assert not found["large_body_grown_mib"] > 20  # unknown except on Linux
    assert found["slow_statuses"].keys() == {"408", "503"} and sum(found["slow_statuses"].values()) == 1000
    assert next(row for row in found["results"] if "slow" in row["load"])["requests"] > 0
