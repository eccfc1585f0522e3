"""Fine-tuning speed and memory: XLMRobertaClassifier, a plain PyTorch loop, the Hugging Face Trainer and skorch.

Each contender trains in its own process, from the same strings and checkpoint folder, for one epoch of a few steps, with the
same batch size, precision, dropout, AdamW, linear schedule with warm-up and clipping, on batches padded to their longest row.
Speed is measured between the ends of the first and the last optimiser step, which a hook of torch reports in the same way for
all. ``fit`` is everything: opening the checkpoint, tokenising, training. Then the trained model's loss on its training rows is
computed, without dropout. Between the contenders the rate of matrix products is measured. A step needs three times the
operations of a forward pass.
"""

import argparse
import json
import math
import sys
import tempfile
import time

import numpy as np
from _common import (
    base_folder,
    data_file,
    describe_machine,
    fast_dtypes,
    is_installed,
    json_line,
    make_parser,
    markdown_table,
    memory,
    read_rows,
    require,
    run_child,
    set_threads,
)
from _rate import MatrixRate, operations, read_config

LEARNING_RATE = 3e-5
WEIGHT_DECAY = 0.01
WARMUP_RATIO = 0.1
MAX_GRAD_NORM = 1.0
MAX_LENGTH = 512


def fit_skxlmr(args, folder, texts, codes):
    from skxlmr import XLMRobertaClassifier

    made = XLMRobertaClassifier(
        folder,
        max_epochs=1,
        batch_size=args.batch_size,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        warmup_ratio=WARMUP_RATIO,
        max_grad_norm=MAX_GRAD_NORM,
        device=args.device,
        dtype=args.dtype,
        random_state=0,
    ).fit(texts, codes)
    return made.set_params(dtype="float32").predict_proba


def probabilities(model, tokenizer, device):
    """Function from texts to class probabilities, without dropout and in float32."""
    import torch

    @torch.inference_mode()
    def predict(texts):
        model.float().eval()
        found = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                texts[start : start + 32], padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt"
            )
            found.append(model(**batch.to(device)).logits.softmax(1).cpu().numpy())
        return np.concatenate(found)

    return predict


def open_transformers(folder, codes):
    """Model and tokenizer."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=max(codes) + 1)
    return model, AutoTokenizer.from_pretrained(folder)


def tokenize(tokenizer, texts, codes):
    """List of {input_ids, attention_mask, labels}."""
    encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)
    return [{"labels": code, **{key: encoded[key][i] for key in encoded}} for i, code in enumerate(codes)]


def schedule(n_steps):
    """Factor of the learning rate: rises during the warm-up, then falls to 0."""
    n_warmup = math.ceil(WARMUP_RATIO * n_steps)
    return lambda step: min(step / n_warmup, (n_steps - step) / max(1, n_steps - n_warmup))


def fit_loop(args, folder, texts, codes):
    import torch
    from torch.utils.data import DataLoader
    from transformers import DataCollatorWithPadding

    model, tokenizer = open_transformers(folder, codes)
    model.to(args.device).train()
    collate = DataCollatorWithPadding(tokenizer)
    loader = DataLoader(tokenize(tokenizer, texts, codes), args.batch_size, shuffle=True, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(len(loader)))
    for batch in loader:
        with torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bfloat16"):
            loss = model(**batch.to(args.device)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    return probabilities(model, tokenizer, args.device)


def fit_trainer(args, folder, texts, codes):
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    model, tokenizer = open_transformers(folder, codes)
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            num_train_epochs=1,
            per_device_train_batch_size=args.batch_size,
            learning_rate=LEARNING_RATE,
            weight_decay=WEIGHT_DECAY,
            warmup_steps=math.ceil(WARMUP_RATIO * args.steps),
            max_grad_norm=MAX_GRAD_NORM,
            bf16=args.dtype == "bfloat16",
            use_cpu=args.device == "cpu",
            dataloader_pin_memory=args.device != "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        rows = tokenize(tokenizer, texts, codes)
        Trainer(model, arguments, data_collator=DataCollatorWithPadding(tokenizer), train_dataset=rows).train()
    return probabilities(model, tokenizer, args.device)


def fit_skorch(args, folder, texts, codes):
    import torch
    from skorch import NeuralNet
    from skorch.callbacks import GradientNormClipping, LRScheduler
    from torch.utils.data import Dataset
    from transformers import DataCollatorWithPadding

    model, tokenizer = open_transformers(folder, codes)
    pad = DataCollatorWithPadding(tokenizer)

    class Rows(Dataset):
        def __init__(self):
            self.rows = tokenize(tokenizer, texts, codes)

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, i):
            return self.rows[i]

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, **batch):
            with torch.autocast(args.device, torch.bfloat16, enabled=args.dtype == "bfloat16"):
                return self.model(**batch).logits.float()

    def collate(rows):
        batch = dict(pad(rows))
        return batch, batch.pop("labels")

    NeuralNet(
        Logits,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=WEIGHT_DECAY,
        lr=LEARNING_RATE,
        max_epochs=1,
        batch_size=args.batch_size,
        iterator_train__shuffle=True,
        iterator_train__collate_fn=collate,
        train_split=None,
        callbacks=[
            LRScheduler(torch.optim.lr_scheduler.LambdaLR, lr_lambda=schedule(args.steps), step_every="batch"),
            GradientNormClipping(MAX_GRAD_NORM),
        ],
        device=args.device,
        verbose=0,
    ).fit(Rows(), None)
    return probabilities(model, tokenizer, args.device)


# Name -> (fit, modules that must be installed)
DTYPES = ["float32", "bfloat16"]
CONTENDERS = {
    "skxlmr": (fit_skxlmr, ["skxlmr"]),
    "PyTorch + transformers": (fit_loop, ["transformers"]),
    "Trainer": (fit_trainer, ["transformers", "accelerate"]),
    "skorch": (fit_skorch, ["transformers", "skorch"]),
}


def training_rows(args):
    """Texts and class codes, as many as the steps need."""
    rows = read_rows(args.data or data_file("seqclass/xlmt_sentiment.jsonl"), "text", "label")
    rows = [row for row in rows if row.get("split", "train") == "train"]
    wanted = args.steps * args.batch_size
    if len(rows) < wanted:
        sys.exit(f"{args.steps} steps of {args.batch_size} need {wanted} training rows, the data has {len(rows)}")
    rows = rows[:: len(rows) // wanted][:wanted]
    labels = sorted({row["label"] for row in rows})
    return [row["text"] for row in rows], [labels.index(row["label"]) for row in rows]


def measure(args, folder):
    """Train with one contender; seconds per step and for the whole fit, peak memory in MiB, loss."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    on_cuda, ends = args.device.startswith("cuda"), []

    def note_end(*_):
        if on_cuda:
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    register_optimizer_step_post_hook(note_end)
    torch.manual_seed(0)
    texts, codes = training_rows(args)
    start = time.perf_counter()
    predict = CONTENDERS[args.contender][0](args, folder, texts, codes)
    seconds = time.perf_counter() - start
    if len(ends) != args.steps:
        raise RuntimeError(f"expected {args.steps} steps, the optimiser made {len(ends)}")
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_cuda else memory("VmHWM")
    step = (ends[-1] - ends[0]) / (len(ends) - 1)
    loss = -np.log(predict(texts)[np.arange(len(codes)), codes]).mean()
    return {"fit": seconds, "step": step, "peak": peak, "loss": float(loss)}


def compare(args, folder, dtype, rate):
    """Best measurements of each contender, by name."""
    options = [f"--steps={args.steps}", f"--batch-size={args.batch_size}", f"--device={args.device}"]
    options += [f"--dtype={dtype}", f"--folder={folder}"]
    options += [f"--data={args.data}"] if args.data else []
    options += [f"--threads={args.threads}"] if args.threads else []
    options += ["--quick"] if args.quick else []
    results = {
        name: [] for name, (_, needs) in CONTENDERS.items() if name in args.contenders and all(map(is_installed, needs))
    }
    for _ in range(args.rounds):
        for name, measured in results.items():
            rate.measure()
            measured.append(run_child(__file__, [f"--contender={name}", *options]))
    return {name: {key: min(result[key] for result in m) for key in m[0]} for name, m in results.items()}


def main():
    parser = make_parser(__doc__, data="columns text, label")
    parser.add_argument("--steps", type=int, default=12, help="at least 2")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2, help="the contenders take turns; the best round counts")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        help="bfloat16: mixed precision (default: those that the machine is fast at)",
    )
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.steps, args.batch_size, args.rounds = 3, 4, 1
    if args.steps < 2:
        parser.error("--steps must be at least 2: the first step is not timed")
    require("transformers")
    set_threads(args.threads)
    folder = str(base_folder(args))
    if args.contender:
        print(json.dumps(measure(args, folder)))
        return
    from skxlmr.text import load_tokenizer

    args.dtypes = args.dtypes or fast_dtypes(DTYPES, args.device)
    texts, _ = training_rows(args)
    config, lengths = read_config(folder), load_tokenizer(folder).encode_batch(texts, max_length=MAX_LENGTH).lengths
    needed = 3 * operations(config, lengths) / args.steps
    machine = describe_machine(args.device, "transformers", "accelerate", "skorch")
    print(f"{machine}\n{len(texts)} rows, {lengths.sum()} tokens, {args.steps} steps of {args.batch_size}, ", end="")
    print(f"best of {args.rounds}", flush=True)
    results, baseline = [], None
    for dtype in args.dtypes:
        rate = MatrixRate(config, args.device, dtype)
        best = compare(args, folder, dtype, rate)
        if dtype == "float32" and "Trainer" in best:
            baseline = best["Trainer"]["step"]
        rows = []
        for name in args.contenders:
            if name not in best:
                rows.append((name, "not installed", *[""] * 7))
                continue
            found = best[name]
            rows.append(
                (
                    name,
                    f"{args.batch_size / found['step']:.1f}",
                    f"{best['Trainer']['step'] / found['step']:.2f}x" if "Trainer" in best else "",
                    f"{baseline / found['step']:.2f}x" if baseline else "",
                    f"{needed / found['step'] / rate.best:.0%}",
                    f"{found['step']:.2f}",
                    f"{found['fit']:.1f}",
                    f"{found['peak']:.0f}",
                    f"{found['loss']:.4f}",
                )
            )
            share = needed / found["step"] / rate.best
            results.append({"dtype": dtype, "contender": name, "rate": rate.best, "share_of_rate": share, **found})
        header = (dtype, "rows/s", "to the Trainer", "to it in float32", "of the rate", "s per step", "fit, s")
        header += ("peak memory, MiB", "loss then")
        print(f"\n{markdown_table(header, rows)}")
        print(f"\nBest matrix product in {dtype}: {rate.best / 1e9:,.0f} GFLOP/s", flush=True)
    print()
    print(json_line("finetune", machine, steps=args.steps, batch_size=args.batch_size, results=results))


if __name__ == "__main__":
    main()
