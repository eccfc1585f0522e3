"""Decoding with and without a cache: seconds for 256 tokens after a prompt, by greedy decoding, for one row and for eight.

Both contenders run the same module. The cached one decodes like ``XLMRobertaCausalLM.generate``; the uncached one reads the
whole row again for every token. They take turns for some rounds. The best round counts, and the tokens must be the same.
"""

from dataclasses import replace

import numpy as np
from _common import best_of, describe_machine, make_parser, markdown_table, set_threads

GOAL = 5.0  # times as fast
ROWS = (1, 8)
PROMPT = 16


def make_module(quick: bool):
    import torch

    from skxlmr.nn import ModelConfig, XLMRobertaForCausalLM
    from skxlmr.nn.xlm_roberta import init_weights

    config = ModelConfig(vocab_size=32_000, is_decoder=True)
    if quick:
        small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
        config = replace(config, vocab_size=1000, **small)
    module = XLMRobertaForCausalLM(config)
    init_weights(module, 0.1, torch.Generator().manual_seed(0))
    return module.eval()


def decode_cached(module, prompts, n_tokens):
    from skxlmr.nn.decoding.generation import generate
    from skxlmr.nn.kernels.linear import fast_inference

    with fast_inference():
        return np.array(generate(module, prompts, max_new_tokens=n_tokens, stop_ids=[]))


def decode_uncached(module, prompts, n_tokens):
    import torch

    from skxlmr.nn.kernels.linear import fast_inference

    ids = torch.tensor(prompts)
    with fast_inference():
        for _ in range(n_tokens):
            last = module.roberta(ids).last_hidden_state[:, -1]
            ids = torch.cat([ids, module.project(last).argmax(1, keepdim=True)], 1)
    return ids[:, PROMPT:].numpy()


def main() -> None:
    options = make_parser(__doc__, data="", checkpoint=False).parse_args()
    set_threads(options.threads)
    n_tokens, rounds = (8, 1) if options.quick else (256, 2)
    module = make_module(options.quick)
    rng = np.random.default_rng(0)
    lines = []
    for n_rows in ROWS:
        prompts = rng.integers(4, module.roberta.config.vocab_size, (n_rows, PROMPT)).tolist()
        contenders = {
            "cached": lambda prompts=prompts: decode_cached(module, prompts, n_tokens),
            "uncached": lambda prompts=prompts: decode_uncached(module, prompts, n_tokens),
        }
        seconds, found = best_of(contenders, rounds)
        agree = (found["cached"] == found["uncached"]).mean()
        faster = seconds["uncached"] / seconds["cached"]
        lines.append(
            [n_rows, f"{seconds['cached']:.2f}", f"{seconds['uncached']:.2f}", f"{faster:.1f}", f"{agree:.0%}"]
        )
    print(f"{n_tokens} tokens after a prompt of {PROMPT}; the goal is {GOAL:.0f} times as fast\n")
    print(markdown_table(["rows", "cached, s", "uncached, s", "times as fast", "same tokens"], lines))
    print(f"\n{describe_machine('cpu')}")


if __name__ == "__main__":
    main()
