"""What the figures of the benchmarks depend on: timing, training and test data, tables."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = ("evaluate", "few_shot", "inference", "quantized_search", "search")


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import _common

    yield _common
    for name in (
        "_common",
        "_launches",
        "_peers",
        "_rate",
        "evaluate",
        "evaluate_vectors",
        "inference",
        "quantized_search",
        "search",
    ):
        sys.modules.pop(name, None)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_contenders_take_turns_and_the_best_round_counts(common, monkeypatch):
    now, turns, lasts = [0.0], [], {"a": [3.0, 1.0, 2.0], "b": [5.0, 5.0, 4.0]}
    monkeypatch.setattr(common.time, "perf_counter", lambda: now[0])

    def contender(name):
        def run():
            turns.append(name)
            now[0] += lasts[name].pop(0)
            return name.upper()

        return run

    seconds, results = common.best_of({"a": contender("a"), "b": contender("b")}, rounds=3)
    assert turns == ["a", "b"] * 3
    assert seconds == {"a": 1.0, "b": 4.0}
    assert results == {"a": "A", "b": "B"}


def test_a_contender_leaves_when_its_two_best_rounds_agree(common, monkeypatch):
    now, turns = [0.0], []
    lasts = {"steady": [9.0, 1.01, 1.0], "wild": [5.0, 4.0, 3.0, 2.0], "quick": [2.0, 2.0]}
    monkeypatch.setattr(common.time, "perf_counter", lambda: now[0])

    def contender(name):
        def run():
            turns.append(name)
            now[0] += lasts[name].pop(0)

        return run

    between = []
    contenders = {name: contender(name) for name in lasts}
    seconds, _ = common.best_until_settled(contenders, rounds=4, between=lambda: between.append(len(turns)))
    assert turns == ["steady", "wild", "quick"] * 2 + ["steady", "wild", "wild"]
    assert seconds == {"steady": pytest.approx(1.0), "wild": 2.0, "quick": 2.0}
    assert between == [0, 3, 6, 8, 9]


def test_joined_sentences_have_the_wanted_numbers_of_tokens(common, shared_data):
    def count(texts):
        return [len(text.split()) + 2 for text in texts]  # adds up where sentences are joined

    wanted = common.log_normal_lengths(60)
    texts = common.joined_sentences(wanted, count)
    lengths = np.array(count(texts))
    assert texts == common.joined_sentences(wanted, count)
    assert max(wanted) == 512 and 100 < np.median(wanted) < 200
    assert (lengths <= wanted).all() and (lengths >= np.array(wanted) - 2).all()


def test_operations_are_those_of_a_layer(common):
    import _rate

    config = {"hidden_size": 4, "num_hidden_layers": 3, "intermediate_size": 16}
    per_token, per_pair = 2 * (4 * 4 * 4 + 2 * 4 * 16), 2 * 2 * 4
    assert _rate.operations(config, [2, 5]) == 3 * (7 * per_token + 29 * per_pair)


def test_batches_of_tokens_hold_every_row_once(common):
    import _peers

    lengths = [3, 9, 1, 5, 5, 30]
    batches = _peers.token_batches(lengths, n_tokens=10)
    assert batches == [[5], [1], [3, 4], [0, 2]]
    ids, mask = _peers.padded([[7, 8], [9]])
    assert ids[mask > 0].tolist() == [7, 8, 9] and mask.tolist() == [[1, 1], [1, 0]]


def test_tables_are_aligned_markdown(common):
    table = common.markdown_table(("name", "x"), [("a", 1.5), ("longer", "22 MiB")])
    assert table.splitlines() == [
        "| name   |      x |",
        "| ------ | -----: |",
        "| a      |    1.5 |",
        "| longer | 22 MiB |",
    ]


def test_sampled_texts_are_distinct_and_repeatable(common, tmp_path):
    path = write_rows(tmp_path / "texts.jsonl", [{"text": f"text {i % 50}"} for i in range(100)] + [{"text": " "}])
    texts = common.sample_texts(40, path)
    assert len(set(texts)) == 40
    assert " " not in texts
    assert texts == common.sample_texts(40, path)
    assert texts != common.sample_texts(40, path, seed=1)
    assert len(common.sample_texts(1000, path)) == 50


def test_real_texts_come_from_every_file(common, shared_data):
    texts = set(common.sample_texts(53))
    assert len(texts) == 53
    for name in common.TEXTS:
        assert len(texts & {row["text"] for row in common.read_rows(shared_data / name)}) >= 10


def test_missing_data_is_said_in_one_sentence(common, monkeypatch, tmp_path):
    monkeypatch.setattr(common, "DATA", tmp_path)
    with pytest.raises(SystemExit, match=r"not next to the repository \(\.\./shared/data/rawtext/udhr\.jsonl\)"):
        common.data_file("rawtext/udhr.jsonl")
    with pytest.raises(SystemExit, match="no such file"):
        common.read_rows(tmp_path / "none.jsonl")
    path = write_rows(tmp_path / "rows.jsonl", [{"text": "a", "label": 0}, {"text": "b"}])
    with pytest.raises(SystemExit, match="line 2 has no 'label', only 'text'"):
        common.read_rows(path, "text", "label")
    with pytest.raises(SystemExit, match=r"no_such_module, no_such_package\.part not installed"):
        common.require("json", "no_such_module", "no_such_package.part")


def test_no_translation_of_a_training_sentence_is_tested_on(common):
    import evaluate

    rows = [
        {"lang": lang, "split": "train" if i < 6 else "valid", "id": i % 8, "label": i % 2, "text": f"{lang} {i}"}
        for lang in ("en", "de", "sw")
        for i in range(10)
    ]  # ids 0 and 1 are in both splits
    train, test, languages = evaluate.split_rows(rows, ["en", "de"], quick=False)
    assert languages == ["en", "de"]
    assert {row["lang"] for row in train} == {"en", "de"}
    assert {row["split"] for row in train} == {"train"}
    assert list(test) == ["de", "en", "sw"]
    assert {row["id"] for part in test.values() for row in part} == {6, 7}


def test_vectors_are_tested_on_sentences_that_no_fold_trained_on(common):
    import evaluate_vectors as vectors

    rows = [{"lang": lang, "id": i, "label": i % 2} for lang in ("en", "sw", "ru") for i in range(20)]
    tested = []
    for train, test in vectors.folds_by_sentence(rows, 5):
        assert not {rows[i]["id"] for i in train} & {rows[i]["id"] for i in test}
        assert {rows[i]["lang"] for i in train} == {"en", "ru"}
        tested += list(test)
    assert sorted(tested) == list(range(60))


def test_nearest_sentences_are_counted_in_both_directions(common):
    import evaluate_vectors as vectors

    english = np.eye(3)
    foreign = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.0, 0.1, 0.9]])  # the second is nearest to the first
    there, back = vectors.hits(foreign, english)
    assert there.tolist() == [True, False, True]
    assert back.tolist() == [True, True, True]
    assert [hit.tolist() for hit in vectors.hits(english, foreign)] == [back.tolist(), there.tolist()]


def test_rows_are_held_out_by_split_or_by_a_hash_of_their_text(common):
    import evaluate_vectors as vectors

    row = {"split": "dev", "text_a": "a"}
    assert vectors.is_held_out(row, {"train", "dev"}) and not vectors.is_held_out(
        row | {"split": "train"}, {"train", "dev"}
    )
    alone = [vectors.is_held_out({"split": "train", "text_a": f"text {i}"}, {"train"}) for i in range(500)]
    assert 50 < sum(alone) < 150


def many_rows(n_sentences=12, languages=("en", "sw"), splits=("train", "valid")):
    """Sentences of two classes, half of them in another split; each in all languages, with the same id."""
    return [
        {"lang": lang, "split": splits[i % len(splits)], "id": i, "label": f"c{i // 2 % 2}", "text": f"{lang} text {i}"}
        for i in range(n_sentences)
        for lang in languages
    ]


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("splits", [("train", "valid"), ("train",)])
def test_no_few_labels_are_drawn_from_what_is_scored(common, splits, validate):
    import few_shot

    rows = many_rows(40, splits=splits)
    rows[2] = rows[2] | {"text": rows[1]["text"], "id": 99}  # the same text in both splits, if there are two
    pool, test = few_shot.pool_and_test(rows, validate)
    assert pool and test
    assert not {row["text"] for row in pool} & {row["text"] for row in test}
    assert not {row["id"] for row in pool} & {row["id"] for row in test}
    assert {row["label"] for row in test} == {"c0", "c1"}
    if validate:  # the rows for the figures are in neither part
        _, scored = few_shot.pool_and_test(rows)
        assert not {row["id"] for row in scored} & {row["id"] for row in pool + test}


def test_drawn_labels_are_balanced_and_repeatable(common):
    import few_shot

    rows = many_rows(60)
    few = few_shot.draw(rows, 5, seed=1)
    assert sorted(row["label"] for row in few) == ["c0"] * 5 + ["c1"] * 5
    assert len({row["text"] for row in few}) == 10
    assert few == few_shot.draw(rows, 5, seed=1) != few_shot.draw(rows, 5, seed=2)
    with pytest.raises(SystemExit, match="class 'c0' has 60 rows to draw from, fewer than 61"):
        few_shot.draw(rows, 61, seed=0)


@pytest.mark.parametrize(("named", "sizes"), [([], [8, 16]), (["9", "20"], [9, 20])])
def test_as_many_labels_as_are_named_or_as_classes_have(common, monkeypatch, tmp_path, named, sizes):
    import few_shot

    path = write_rows(tmp_path / "mine.jsonl", many_rows(60))
    options = ["--data", str(path), "--seeds", "1", *(["--sizes", *named] if named else [])]
    monkeypatch.setattr(sys, "argv", ["few_shot.py", *options])
    jobs = few_shot.make_jobs(few_shot.parse_arguments())
    assert [job["n"] for job in jobs] == sizes
    assert [len(job["train"][0]) for job in jobs] == [2 * n for n in sizes]


def test_few_labels_in_a_table(common, monkeypatch, capsys, tmp_path):
    """What was not measured is said, in the table and beside the versions."""
    import few_shot

    path = write_rows(tmp_path / "mine.jsonl", many_rows(60))
    monkeypatch.setattr(few_shot, "is_installed", lambda name: False)
    options = ["--data", str(path), "--sizes", "8", "--seeds", "2", "--methods", few_shot.SETFIT, "character n-grams"]
    monkeypatch.setattr(sys, "argv", ["few_shot.py", *options])
    few_shot.main()
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    cells = dict(rows)
    assert cells.pop("mine") == "8 per class" and set(cells) - {"-" * 17} == set(few_shot.METHODS)
    assert cells["embedder"] == cells[few_shot.SETFIT] == "not measured"
    assert any(line.startswith("SetFit: not measured") for line in lines)
    (found,) = json.loads(lines[-1])["results"]
    assert found["n"] == 8 and len(found["accuracy"]) == len(found["seconds"]) == 2
    assert cells["character n-grams"].startswith(f"{50 * sum(found['accuracy']):.1f} ± ")


def test_cells_average_over_seeds(common):
    import evaluate

    assert evaluate.cell(np.array([[50.0, 40.0], [60.0, 44.0]])) == "55.0 / 42.0"
    assert evaluate.cell(np.array([[50.0, 40.0], [60.0, 44.0]]), spread=True) == "55.0 ± 7.1 / 42.0"
    assert evaluate.cell(np.array([[50.0, 40.0]]), spread=True) == "50.0 / 40.0"


def test_differences_see_one_wrong_row(common):
    import inference

    reference = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    features = reference.copy()
    assert inference.differences(features, reference) == (0, pytest.approx(1))
    features[3] = -features[3]
    difference, cosine = inference.differences(features, reference)
    assert difference == pytest.approx(2 * np.abs(reference[3]).max())
    assert cosine == pytest.approx(-1)


def test_quantised_vectors_are_near_the_exact_ones(common):
    import quantized_search as search

    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes, step, low = search.int8_codes(vectors)
    decoded = (codes + np.float32(128)) * step + low
    assert codes.min() == -128 and codes.max() == 127
    assert (np.abs(decoded - vectors) <= step * 0.501).all()
    bits = search.sign_bits(vectors, np.zeros(64))
    differ = ((vectors[:5, None] > 0) != (vectors[None] > 0)).sum(2)
    assert bits.shape == (300, 8)
    assert np.array_equal(search.hamming(bits[:5], bits), differ)
    measured = {name: found for name, _, found in search.measure(vectors, vectors[:20])}
    assert measured["float32"] == 100 and measured["int8"] > 95
    assert 100 * search.TOP / 300 < measured["bits: above zero"] < measured["bits, best 100 by int8"]
    assert measured["bits, best 300 by float32 on disk"] == 100


def test_meters_count_rows_and_go_on(common):
    import search

    class Encoder:
        def encode(self, rows, factor=1):
            return [factor * row for row in rows]

    meter = search.Meter(Encoder, "encode")
    assert Encoder().encode([1, 2], factor=3) == [3, 6] and Encoder().encode([5]) == [5]
    assert meter.rows == 3 and meter.seconds > 0


@pytest.mark.slow
def test_search_encodes_each_text_once_with_the_cache(shared_data):
    for module in ("sentence_transformers", "skrub"):
        pytest.importorskip(module, reason="the benchmark compares with it")
    script = str(BENCHMARKS / "search.py")
    done = subprocess.run(
        [sys.executable, script, "--quick", "--threads", "1"], capture_output=True, text=True, check=True
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines()[-6:]]
    assert [row[1] for row in rows] == ["60", "60", "0", "90", "90", "90"]
    assert {row[-1] for row in rows} == {"equal"}


def test_time_of_a_gpu_is_counted_once_where_kernels_overlap(common):
    import _launches

    def event(category, start, lasts, name=""):
        return {"cat": category, "ts": start, "dur": lasts, "name": name}

    events = [
        event("kernel", 0, 1000),
        event("kernel", 500, 1000),
        event("gpu_memcpy", 3000, 500),
        {"name": "no category"},
    ]
    events += [event("cuda_runtime", 0, 5, name) for name in ("cudaLaunchKernel", *["cudaStreamSynchronize"] * 3)]
    assert _launches.count_events(events) == {"gpu_ms": 2.0, "kernels": 2, "synchronisations": 2, "cpu_ops": 0}


def test_gpu_refuses_without_one(common):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = subprocess.run([sys.executable, str(BENCHMARKS / "gpu.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no NVIDIA GPU here; --dry-run shows on a CPU that every part runs" in done.stderr


@pytest.mark.slow
def test_every_part_for_a_gpu_runs_on_a_cpu(tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="the benchmark compares with it")
    monkeypatch.setenv("OUT", str(tmp_path))
    script = str(BENCHMARKS / "gpu.py")
    done = subprocess.run([sys.executable, script, "--dry-run"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert {part["ended"] for part in found["parts"].values()} == {"finished"}
    assert {row["part"] for row in found["results"]} == {"tests", "parity", "inference", "training", "graphs"}
    errors = [row["error"] for row in found["results"] if "error" in row]
    assert errors == ["a CUDA graph needs a GPU"]


def test_what_the_processor_has_no_instructions_for_is_left_out(common, monkeypatch, capsys):
    from skxlmr.utils._devices import device

    monkeypatch.setattr(device, "is_slow_at_bfloat16", lambda: True)
    monkeypatch.setattr(device, "multiplies_int8", lambda: False)
    assert common.fast_dtypes(["float32", "bfloat16", "int8"]) == ["float32"]
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["bfloat16", "int8"]
    assert common.fast_dtypes(["float32", "bfloat16"], "cuda") == ["float32", "bfloat16"]
    monkeypatch.setattr(device, "is_slow_at_bfloat16", lambda: False)
    assert common.fast_dtypes(["float32", "bfloat16", "int8"]) == ["float32", "bfloat16"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_the_rate_of_the_machine_is_measured_with_what_it_has(common, monkeypatch, dtype):
    """Kernels that the processor lacks are left out; without any, the rate is 0."""
    from _rate import MatrixRate

    rate = MatrixRate({"hidden_size": 16, "intermediate_size": 32}, "cpu", dtype)
    assert (rate.measure(0.01) > 0) == bool(rate.runs) and (dtype == "int8" or rate.runs)
