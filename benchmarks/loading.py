"""Opening a checkpoint of XLM-R-base size: seconds and memory of skxlmr and transformers.

Each contender opens the folder in a fresh process, after its imports, with the file in the page cache. The best of some rounds
counts. Memory is memory that no file backs (``RssAnon``): the system can drop pages of a mapped file when it needs the space.
The first text shows the cost that lazy loading defers.
"""

import argparse
import gc
import json
import time

from _common import base_folder, describe_machine, make_parser, markdown_table, memory, require, run_child, set_threads

TEXT = "Guten Morgen, good morning, доброе утро"


def open_skxlmr(folder):
    from skxlmr import XLMRobertaVectorizer

    vectorizer = XLMRobertaVectorizer(folder, device="cpu", dtype="float32", memory=None)
    return lambda: vectorizer.fit([TEXT]), lambda: vectorizer.transform([TEXT])


def open_skxlmr_weights(folder):
    from skxlmr.checkpoints import assign_weights, on_meta, read_model
    from skxlmr.nn import XLMRobertaModel

    def load():
        model = read_model(folder)
        with on_meta():
            module = XLMRobertaModel(model.config)
        assign_weights(module, model.tensors(), source=folder, head_parts=("lm_head", "roberta.pooler"))

    return load, None


def open_transformers(folder):
    import torch
    from transformers import XLMRobertaModel, XLMRobertaTokenizerFast

    opened = {}

    def load():
        opened["model"] = XLMRobertaModel.from_pretrained(folder, add_pooling_layer=False)
        opened["tokenizer"] = XLMRobertaTokenizerFast.from_pretrained(folder)

    @torch.inference_mode()
    def run():
        opened["model"](**opened["tokenizer"](TEXT, return_tensors="pt")).last_hidden_state.mean(1).numpy()

    return load, run


def open_transformers_weights(folder):
    from transformers import XLMRobertaModel

    return lambda: XLMRobertaModel.from_pretrained(folder, add_pooling_layer=False), None


CONTENDERS = {
    "skxlmr, weights": open_skxlmr_weights,
    "transformers, weights": open_transformers_weights,
    "skxlmr, weights and tokenizer": open_skxlmr,
    "transformers, weights and tokenizer": open_transformers,
}


def measure(contender, folder):
    """Seconds to load and for the first text, and growth of anonymous memory after each, in MiB."""
    import torch

    torch.zeros(64, 64) @ torch.zeros(64, 64)  # starts the threads
    load, run = CONTENDERS[contender](folder)
    gc.collect()  # garbage of the imports: otherwise its collection would be timed with one contender or another
    before, start = memory("RssAnon"), time.perf_counter()
    kept = load()
    seconds, growth = time.perf_counter() - start, memory("RssAnon") - before
    result = {"load": seconds, "load_mib": growth}
    if run:
        start = time.perf_counter()
        run()
        result |= {"text": time.perf_counter() - start, "text_mib": memory("RssAnon") - before}
    del kept
    return result


def main():
    parser = make_parser(__doc__, data="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    require("transformers")
    set_threads(args.threads)
    folder = str(base_folder(args))
    if args.contender:
        print(json.dumps(measure(args.contender, folder)))
        return
    results = {name: [] for name in CONTENDERS}
    for _ in range(1 + (1 if args.quick else args.rounds)):  # the first round fills the page cache
        for name in CONTENDERS:
            options = ["--threads", str(args.threads)] if args.threads else []
            results[name].append(run_child(__file__, ["--contender", name, "--folder", folder, *options]))
    rows = []
    for name, measured in results.items():
        best = {key: min(result[key] for result in measured[1:]) for key in measured[0]}
        later = (f"{best['text']:.2f}", f"{best['text_mib']:.0f}") if "text" in best else ("", "")
        rows.append((name, f"{best['load']:.2f}", f"{best['load_mib']:.0f}", *later))
    print(describe_machine("cpu", "transformers", "safetensors"))
    header = ("", "load, s", "memory, MiB", "first text, s", "memory then, MiB")
    print(f"\n{markdown_table(header, rows)}")


if __name__ == "__main__":
    main()
