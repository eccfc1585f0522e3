"""Causal language modelling on real text: perplexity of held-out sentences before and after training.

Sentences of four languages (SIB-200 with its own split: a held-out sentence is held out in every language). "before" is the
encoder's checkpoint read from left to right, which it never learnt. Perplexity is over the tokens of the checkpoint, so it
compares fits of one checkpoint, not different checkpoints.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
from _common import data_file, describe_machine, make_parser, markdown_table, read_rows, set_threads

from skxlmr import XLMRobertaCausalLM, save
from skxlmr.utils._devices.device import resolve_device

LANGUAGES = ("de", "en", "es", "fr")
EPOCHS = 3
LEARNING_RATE = 1e-3


def untrained(args):
    """The checkpoint's weights with causal attention: after a fit in which no step changes anything."""
    model = XLMRobertaCausalLM(args.checkpoint, max_epochs=1, learning_rate=1e-30, weight_decay=0.0, device=args.device)
    with tempfile.TemporaryDirectory() as folder:
        save(model.fit(["-"]), Path(folder, "model"))
        return XLMRobertaCausalLM.from_checkpoint(Path(folder, "model"), device=args.device)


def main():
    parser = make_parser(__doc__, data="columns lang, split (train or another), text", checkpoint=False)
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="name or folder")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--seeds", type=int, default=3, help="number of fits")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    set_threads(args.threads)
    rows = read_rows(args.data or data_file("seqclass/sib200_topics.jsonl"), "lang", "split", "text")
    rows = [row for row in rows if args.data or row["lang"] in LANGUAGES]
    if args.quick:
        rows, args.epochs, args.seeds = rows[::20], 1, 2
    train = [row["text"] for row in rows if row["split"] == "train"]
    held_out = [row["text"] for row in rows if row["split"] != "train"]
    print(f"`{args.checkpoint}`, {describe_machine(str(resolve_device(args.device)))}\n")
    found, start = [], time.perf_counter()
    for seed in range(args.seeds):
        model = XLMRobertaCausalLM(
            args.checkpoint,
            max_epochs=args.epochs,
            learning_rate=args.learning_rate,
            device=args.device,
            random_state=seed,
        )
        found.append(model.fit(train).perplexity(held_out))
    print(
        f"**Causal language modelling**: perplexity of {len(held_out)} held-out sentences; trained on {len(train)}, "
        f"{args.epochs} epochs, learning rate {args.learning_rate:g}, seeds 0 to {args.seeds - 1}.\n"
    )
    after = f"{np.mean(found):,.0f}" + (f" ± {np.std(found, ddof=1):.0f}" if len(found) > 1 else "")
    lines = [("before", f"{untrained(args).perplexity(held_out):,.0f}"), ("after", after)]
    print(markdown_table(("", "perplexity"), lines))
    print(f"\n{time.perf_counter() - start:.0f} s in total.")


if __name__ == "__main__":
    main()
