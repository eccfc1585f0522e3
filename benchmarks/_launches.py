"""What a training step costs on a GPU, and what of it is waiting for kernels to be launched."""

import json
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

WARM = 3  # steps before the first that counts


class Stop(Exception):
    """Ends a fit from a hook; whatever a contender keeps of it is dropped."""


def _after_steps(run, note):
    """Run a fit; ``note(n)`` is called after the n-th optimiser step."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    n = 0

    def count(*_):
        nonlocal n
        n += 1
        note(n)

    handle = register_optimizer_step_post_hook(count)
    try:
        run()
    finally:
        handle.remove()


def _wait(device):
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def timed_fit(run, n_steps, device):
    """Seconds per step after the warm-up, and peak memory in MiB; the device is waited for at the two ends only."""
    import torch

    times = {}

    def note(n):
        if n in (min(WARM, n_steps - 1), n_steps):
            _wait(device)
            times[n] = time.perf_counter()

    torch.manual_seed(0)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    _after_steps(run, note)
    (first, start), (last, end) = times.items()
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan")
    return (end - start) / (last - first), peak


def profiled_fit(run, n_steps, device):
    """Per step after the warm-up: milliseconds of the GPU, kernels, calls that wait for it; CPU operations without one."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    profiler, first = profile(activities=activities), min(WARM, n_steps - 1)

    def note(n):
        if n == first:
            _wait(device)
            profiler.start()
        elif n == n_steps:
            _wait(device)
            profiler.stop()

    torch.manual_seed(0)
    _after_steps(run, note)
    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return {name: value / (n_steps - first) for name, value in count_events(events).items()}


def count_events(events):
    """Totals over the events of a trace: ``gpu_ms`` (overlaps counted once), ``kernels``, ``synchronisations``, ``cpu_ops``."""
    on_gpu = sorted(
        (float(event["ts"]), float(event["ts"]) + float(event["dur"]))
        for event in events
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")
    )
    busy, end = 0.0, float("-inf")
    for start, stop in on_gpu:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    calls = [event for event in events if event.get("cat") == "cuda_runtime"]
    return {
        "gpu_ms": busy / 1000,
        "kernels": sum(event.get("cat") == "kernel" for event in events),
        "synchronisations": max(
            0, sum("Synchronize" in event["name"] for event in calls) - 1
        ),  # one is our own, at the end
        "cpu_ops": sum(event.get("cat") == "cpu_op" for event in events),
    }


def step_of_one_bucket(sizes, n_rows, width, mode, device, n_steps):
    """One shape of batch, trained in bfloat16 with dropout, clipping and fused AdamW; an experiment, not code of the library.

    Parameters
    ----------
    sizes : dict
        Geometry.
    n_rows, width : int
        Rows, and tokens of each.
    mode : {"eager", "graph", "compile"}
    device : {"cuda", "cpu"}
        A graph needs CUDA; on a CPU ``"compile"`` only traces.
    n_steps : int

    Returns
    -------
    dict
        ``ms_per_step``, ``prepare_s`` (capturing or compiling), ``peak_mib``, ``loss_difference``: the largest from the eager
        step over ten steps without dropout.
    """
    import torch

    if mode == "graph" and device != "cuda":
        raise RuntimeError("a CUDA graph needs a GPU")
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    step, _ = _make_step(sizes, n_rows, width, mode, device, dropout=0.1)
    _wait(device)
    prepare = time.perf_counter() - start
    best = float("inf")
    for _ in range(2):
        start = time.perf_counter()
        for i in range(n_steps):
            step(i)
        _wait(device)
        best = min(best, (time.perf_counter() - start) / n_steps)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan")
    del step
    difference = 0.0
    if mode != "eager":
        curves = []
        for each in ("eager", mode):
            again, restart = _make_step(sizes, n_rows, width, each, device, dropout=0.0)
            restart()
            curves.append([float(again(i)) for i in range(10)])
            del again, restart
        difference = max(abs(a - b) for a, b in zip(*curves, strict=True))
    return {"ms_per_step": 1000 * best, "prepare_s": prepare, "peak_mib": peak, "loss_difference": difference}


def _make_step(sizes, n_rows, width, mode, device, dropout):
    """``step(i)`` trains on the i-th of a few batches and returns the loss; ``restart()`` puts weights and optimiser back."""
    import torch
    from torch.nn import functional as F

    from skxlmr.nn import FAMILIES, TokenLayout
    from skxlmr.nn.xlm_roberta import init_weights

    family = FAMILIES["xlm-roberta"]
    config = family.config(vocab_size=8000, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, **sizes)
    torch.manual_seed(0)
    module = family.modules["ForSequenceClassification"](config, 3)
    with torch.no_grad():
        init_weights(module, config.initializer_range, torch.Generator().manual_seed(0))
    module = module.to(device).train()
    layout = TokenLayout([width] * n_rows, device)
    parameters = list(module.parameters())
    on_gpu = device == "cuda"
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, weight_decay=0.01, fused=True, capturable=on_gpu)
    generator = torch.Generator().manual_seed(1)
    host_ids = [torch.randint(5, 8000, (n_rows * width,), generator=generator) for _ in range(4)]
    host_y = [torch.randint(0, 3, (n_rows,), generator=generator) for _ in range(4)]
    if on_gpu:
        host_ids, host_y = [t.pin_memory() for t in host_ids], [t.pin_memory() for t in host_y]
    ids, y = host_ids[0].to(device), host_y[0].to(device)
    forward = module
    if mode == "compile":
        forward = torch.compile(module, backend="inductor" if on_gpu else "eager")

    def train():
        with torch.autocast(device, torch.bfloat16, cache_enabled=False):
            logits = forward(ids, layout)
        loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    before = [p.detach().clone() for p in parameters]

    def restart():
        with torch.no_grad():
            for p, value in zip(parameters, before, strict=True):
                p.copy_(value)
            for state in optimizer.state.values():
                for value in state.values():
                    value.zero_()

    # What is computed once, such as the layout's indices and the state of the optimiser, is there before a capture.
    side = torch.cuda.Stream() if on_gpu else None
    if side is not None:
        side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side) if side is not None else nullcontext():
        for _ in range(WARM):
            train()
    if side is not None:
        torch.cuda.current_stream().wait_stream(side)
    graph = loss = None
    if mode == "graph":
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = train()

    def step(i):
        ids.copy_(host_ids[i % len(host_ids)], non_blocking=True)
        y.copy_(host_y[i % len(host_y)], non_blocking=True)
        if graph is None:
            return train()
        graph.replay()
        return loss

    return step, restart
