"""Memory of fine-tuning XLM-R-large with LoRA, beside full fine-tuning and peft with the Trainer of transformers.

A checkpoint of XLM-R-large geometry with random weights (2.2 GB) is written to a folder for temporary files, and deleted at the
end. Each contender trains a classifier for a few steps in a process of its own, on the same texts of 128 tokens, with the same
batch size. The peak is that of the whole process, with the pages of the weights that it maps from the file (VmHWM). "Own" is
the most that was not mapped from a file: what other processes can't share, and what the system can't drop.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from _common import (
    SMALL,
    data_file,
    describe_machine,
    fast_dtypes,
    is_installed,
    json_line,
    make_parser,
    markdown_table,
    memory,
    require,
    run_child,
    set_threads,
)

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
N_CLASSES, RANK = 6, 8
# Name -> (how it trains, its options)
DTYPES = ["float32", "bfloat16"]
CONTENDERS = {
    "LoRA, gradient checkpointing": ("skxlmr", {"lora_rank": RANK, "gradient_checkpointing": True}),
    "LoRA": ("skxlmr", {"lora_rank": RANK}),
    "LoRA, all linear layers, gradient checkpointing": (
        "skxlmr",
        {"lora_rank": RANK, "lora_targets": "all-linear", "gradient_checkpointing": True},
    ),
    "all weights, gradient checkpointing": ("skxlmr", {"gradient_checkpointing": True}),
    "peft + Trainer, gradient checkpointing": ("peft", {"gradient_checkpointing": True}),
    "peft + Trainer": ("peft", {}),
}


def write_large(folder, quick):
    """Write a checkpoint with random weights."""
    import torch
    from transformers import XLMRobertaTokenizer

    from skxlmr.checkpoints import write_folder
    from skxlmr.nn import FAMILIES
    from skxlmr.text import SentencePieceTokenizer

    tokenizer = SentencePieceTokenizer.from_file(data_file("tokenizer/xlmr.spm.model"))
    family = FAMILIES["xlm-roberta"]
    config = family.config(vocab_size=tokenizer.vocab_size, **(SMALL if quick else LARGE))
    with torch.device("meta"):
        module = family.modules["Model"](config)
    generator = torch.Generator().manual_seed(0)
    module.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(float(name.endswith("LayerNorm.weight")), config.initializer_range, generator=generator)
    write_folder(folder, config=config.to_dict(), tensors=module.state_dict(), tokenizer=tokenizer)
    XLMRobertaTokenizer.from_pretrained(folder).backend_tokenizer.save(str(Path(folder) / "tokenizer.json"))


def training_rows(folder, n_rows, n_tokens):
    """Texts of the built-in reviews, joined and cut to this many tokens, and their classes."""
    from skxlmr.datasets import load_reviews
    from skxlmr.text import load_tokenizer

    frame = load_reviews().frame
    reviews, tokenizer = list(frame["review"]), load_tokenizer(folder)
    counts = tokenizer.encode_batch(reviews).lengths
    texts, place = [], 0
    while len(texts) < n_rows:
        chosen, length = [], 0
        while length < n_tokens:
            chosen.append(reviews[place % len(reviews)])
            length += int(counts[place % len(reviews)])
            place += 1
        texts.append(" ".join(chosen))
    return texts, np.arange(n_rows) % N_CLASSES


def fit_skxlmr(args, folder, texts, codes, options):
    from skxlmr import XLMRobertaClassifier

    XLMRobertaClassifier(
        folder,
        max_epochs=1,
        batch_size=args.batch_size,
        max_length=args.tokens,
        device="cpu",
        dtype=args.dtype,
        random_state=0,
        **options,
    ).fit(texts, codes)


def fit_peft(args, folder, texts, codes, options):
    import peft
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(texts, truncation=True, max_length=args.tokens)
    rows = [{"labels": int(code), **{key: encoded[key][i] for key in encoded}} for i, code in enumerate(codes)]
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=N_CLASSES)
    if options:
        model.enable_input_require_grads()
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="SEQ_CLS", r=RANK))
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            num_train_epochs=1,
            per_device_train_batch_size=args.batch_size,
            learning_rate=1e-4,
            bf16=args.dtype == "bfloat16",
            use_cpu=True,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
            **options,
        )
        Trainer(model, arguments, processing_class=tokenizer, train_dataset=rows).train()


def measure(args, folder):
    """Train with one contender; peak memory in MiB, seconds of a step, and of the whole fit."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    ends, own, done = [], [0.0], threading.Event()
    register_optimizer_step_post_hook(lambda *_: ends.append(time.perf_counter()))

    def watch():
        while not done.wait(0.05):
            own[0] = max(own[0], memory("RssAnon"))

    kind, options = CONTENDERS[args.contender]
    texts, codes = training_rows(folder, args.steps * args.batch_size, args.tokens)
    torch.manual_seed(0)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    start = time.perf_counter()
    {"skxlmr": fit_skxlmr, "peft": fit_peft}[kind](args, folder, texts, codes, options)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    step = (ends[-1] - ends[0]) / (len(ends) - 1)
    return {"peak": memory("VmHWM"), "own": own[0], "step": step, "fit": seconds, "n_steps": len(ends)}


def main():
    parser = make_parser(__doc__, data="", checkpoint=False)
    parser.add_argument("--steps", type=int, default=4, help="at least 2")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, help="default: those that the machine is fast at")
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps < 2:
        parser.error("--steps must be at least 2: the first step is not timed")
    require("transformers")
    set_threads(args.threads)
    if args.write:  # in a process of its own, so that the others begin with little memory
        write_large(args.folder, args.quick)
        print("{}")
        return
    if args.contender:
        print(json.dumps(measure(args, args.folder)))
        return
    args.dtypes = args.dtypes or fast_dtypes(DTYPES)
    machine, results = describe_machine("cpu", "transformers", "peft", "accelerate"), []
    print(f"{machine}\n{args.steps} steps of {args.batch_size} texts of {args.tokens} tokens", flush=True)
    options = ["--quick"] if args.quick else []
    options += [f"--steps={args.steps}", f"--batch-size={args.batch_size}", f"--tokens={args.tokens}"]
    options += [f"--threads={args.threads}"] if args.threads else []
    with tempfile.TemporaryDirectory() as folder:
        run_child(__file__, ["--write", f"--folder={folder}", *options])
        for dtype in args.dtypes:
            rows = []
            for name in args.contenders:
                if CONTENDERS[name][0] == "peft" and not all(map(is_installed, ("peft", "accelerate"))):
                    rows.append((name, "not installed", "", "", ""))
                    continue
                given = [f"--contender={name}", f"--dtype={dtype}", f"--folder={folder}", *options]
                found = run_child(__file__, given)
                results.append({"dtype": dtype, "contender": name, **found})
                cells = f"{found['peak']:.0f}", f"{found['own']:.0f}", f"{found['step']:.1f}", f"{found['fit']:.0f}"
                rows.append((name, *cells))
            header = (dtype, "peak memory, MiB", "own, MiB", "s per step", "fit, s")
            print(f"\n{markdown_table(header, rows)}", flush=True)
    print()
    print(json_line("lora_memory", machine, steps=args.steps, batch_size=args.batch_size, results=results))


if __name__ == "__main__":
    main()
