"""The engine with a token budget of any size, over modules and over plain functions."""

from torch import nn

from skxlmr.inference import Engine


class SmallEngine(Engine):
    token_budget = None  # set by each
    _budget_per_row = 128

    def __init__(self, module, token_budget, precision=None):
        super().__init__(module, 1, precision, "checkpoint")
        self.token_budget = token_budget


def run_rows(run, encoded, token_budget, precision=None):
    """One output per row of a module, or of a function of ids and layout."""
    module = run if isinstance(run, nn.Module) else nn.Linear(1, 1)
    return SmallEngine(module, token_budget, precision).rows(encoded, run)


def run_tokens(run, encoded, token_budget):
    """One output per token, likewise."""
    engine = SmallEngine(run if isinstance(run, nn.Module) else nn.Linear(1, 1), token_budget)
    engine.module = run
    return engine.tokens(encoded)
