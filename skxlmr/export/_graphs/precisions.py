"""The precisions that weights can be stored and computed in."""

from skxlmr.export._graphs.half import HalfWeights
from skxlmr.export._graphs.int8 import Int8Weights
from skxlmr.export._graphs.weights import Weights

WEIGHTS: dict[str, type[Weights]] = {kind.precision: kind for kind in (Weights, HalfWeights, Int8Weights)}
