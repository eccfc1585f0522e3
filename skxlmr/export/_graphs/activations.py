"""Activations, in the patterns of operators that ONNX Runtime merges into one."""

import math

import numpy as np

from skxlmr.export._graphs.graph import Graph

GELU_OPSET = 20  # the first with an operator for it


def activate(graph: Graph, x: str, name: str) -> str:
    """Put a value through an activation of the encoders: ``"none"``, or a word of their ``config.json``."""
    if name == "none":
        return x
    if name == "relu":
        return graph.node("Relu", x)
    if name == "tanh":
        return graph.node("Tanh", x)
    if name == "gelu":
        return _gelu(graph, x)
    if name in ("gelu_new", "gelu_pytorch_tanh"):
        return _gelu_of_tanh(graph, x)
    raise ValueError(f"no operator for the activation {name!r}")


def _gelu(graph: Graph, x: str) -> str:
    if graph.opset >= GELU_OPSET:
        return graph.node("Gelu", x)
    erf = graph.node("Erf", graph.node("Div", x, graph.constant(math.sqrt(2))))
    return graph.node("Mul", graph.node("Mul", x, graph.node("Add", erf, graph.constant(1))), graph.constant(0.5))


def _gelu_of_tanh(graph: Graph, x: str) -> str:
    if graph.opset >= GELU_OPSET:
        return graph.node("Gelu", x, approximate="tanh")
    cube = graph.node("Mul", graph.node("Pow", x, graph.constant(3.0)), graph.constant(0.044715))
    inner = graph.node("Mul", graph.node("Add", x, cube), graph.constant(math.sqrt(2 / math.pi)))
    outer = graph.node("Add", graph.node("Tanh", inner), graph.constant(1))
    return graph.node("Mul", graph.node("Mul", x, graph.constant(0.5)), outer)


# Of the dense layers of sentence encoders, by the names of PyTorch's classes
def activate_sentence(graph: Graph, x: str, name: str) -> str:
    """Put a value through an activation of :data:`skxlmr.nn.sentence.ACTIVATIONS`."""

    def constant(value: float) -> str:
        return graph.constant(value, np.float32)

    plain = {"Tanh": "Tanh", "ReLU": "Relu", "Sigmoid": "Sigmoid", "Softplus": "Softplus", "Softsign": "Softsign"}
    if name == "Identity":
        return x
    if name in plain:
        return graph.node(plain[name], x)
    if name == "GELU":
        return _gelu(graph, x)
    if name == "SiLU":
        return graph.node("Mul", x, graph.node("Sigmoid", x))
    if name == "ELU":
        return graph.node("Elu", x, alpha=1.0)
    if name == "LeakyReLU":
        return graph.node("LeakyRelu", x, alpha=0.01)
    if name == "SELU":
        return graph.node("Selu", x, alpha=1.6732632423543772848170429916717, gamma=1.0507009873554804934193349852946)
    if name == "Mish":
        return graph.node("Mul", x, graph.node("Tanh", graph.node("Softplus", x)))
    if name == "ReLU6":
        return graph.node("Clip", x, constant(0), constant(6))
    if name == "Hardtanh":
        return graph.node("Clip", x, constant(-1), constant(1))
    if name == "Hardswish":
        return graph.node("Mul", x, graph.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    if name == "LogSigmoid":
        return graph.node("Neg", graph.node("Softplus", graph.node("Neg", x)))
    if name == "Tanhshrink":
        return graph.node("Sub", x, graph.node("Tanh", x))
    raise ValueError(f"no operator for the activation {name!r}")
