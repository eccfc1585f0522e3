"""bge-m3's further outputs by their formulas, from the vectors of tokens that transformers computes, in float64."""

import numpy as np
import torch

from skxlmr.text import load_tokenizer

FAULTS = ("no relu", "special tokens", "sum", "first token", "not normalised")


def hidden_states(folder, rows):
    """(ids, vectors of the tokens) of each row of ids."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.float64, local_files_only=True).eval()
    with torch.no_grad():
        return [(ids, model(torch.tensor(ids)[None].long()).last_hidden_state[0].numpy()) for ids in rows]


def layer(folder, name):
    state = torch.load(folder / f"{name}.pt", weights_only=True)
    return state["weight"].double().numpy(), state["bias"].double().numpy()


def lexical(folder, states, n_pieces, fault=None, unused=(0, 1, 2, 3)):
    """Weights over the vocabulary, (n_rows, n_pieces)."""
    (w_D, b) = layer(folder, "sparse_linear")
    made = np.zeros((len(states), n_pieces))
    unused = () if fault == "special tokens" else unused  # of XLM-R <s>, <pad>, </s>, <unk>
    for row, (ids, h_TD) in zip(made, states, strict=True):
        for i, h_D in zip(ids, h_TD, strict=True):
            weight = h_D @ w_D[0] + b[0]
            if fault != "no relu":
                weight = max(weight, 0)
            if i not in unused:
                row[i] = row[i] + weight if fault == "sum" else max(row[i], weight) if row[i] else weight
    return made


def vectors(folder, states, fault=None):
    """Vectors of the tokens of each row."""
    w_ED, b_E = layer(folder, "colbert_linear")
    made = [(h_TD @ w_ED.T + b_E)[fault != "first token" :] for _, h_TD in states]
    return made if fault == "not normalised" else [v / np.linalg.norm(v, axis=1, keepdims=True) for v in made]


def rows_of(folder, texts, **options):
    encoded = load_tokenizer(folder).encode_batch(texts, max_length=64, **options)
    return [encoded.row(i) for i in range(len(encoded))], encoded.input_rows


def rows_of_pairs(folder, pairs):
    encoded = load_tokenizer(folder).encode_batch(*map(list, zip(*pairs, strict=True)))
    return [encoded.row(i) for i in range(len(encoded))]
