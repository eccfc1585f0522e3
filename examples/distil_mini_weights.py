"""The folders of ``distil_mini.py``: deeper checkpoints, means of several, and the layers after the pooling."""

import json

import numpy as np
import pretrain_mini


def deepen(student, out, n_layers):
    """Write ``student`` with further encoder layers that change next to nothing at first.

    A new layer copies the last one, but what it adds is zero, and its norms have the scale that vectors have there already.
    """
    import shutil

    from safetensors.torch import load_file, save_file

    folder = out / "deeper"
    shutil.copytree(student, folder, dirs_exist_ok=True)
    config, tensors = json.loads((student / "config.json").read_text()), load_file(student / "model.safetensors")
    n_before = config["num_hidden_layers"]
    last = f"roberta.encoder.layer.{n_before - 1}."
    norm = {name: tensors[f"{last}output.LayerNorm.{name}"].float() for name in ("weight", "bias")}
    scale = (
        (norm["weight"].square().sum() + (norm["bias"] - norm["bias"].mean()).square().sum())
        .div(len(norm["bias"]))
        .sqrt()
    )
    for name in [name for name in tensors if name.startswith(last)]:
        for layer in range(n_before, n_layers):
            copy = tensors[name].clone()
            if "output.dense" in name:
                copy.zero_()
            elif "output.LayerNorm" in name:
                copy.fill_(scale if name.endswith("weight") else norm["bias"].mean())
            tensors[f"roberta.encoder.layer.{layer}.{name.removeprefix(last)}"] = copy
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": n_layers}, indent=2))


def mix(student, data, out, most):
    """Write the mean of the weights before and after (Wortsman et al. 2022), with as much of the latter as is allowed.

    The masked-token loss on the rows that the first stage kept out may be ``most`` at the most. The layers after the pooling
    stay as they were trained.
    """
    from skxlmr import XLMRobertaMaskedLM
    from skxlmr.training import mean_losses

    before, after = (XLMRobertaMaskedLM.from_checkpoint(str(folder)) for folder in (student, out / "distilled"))
    module = after.module_.float().requires_grad_(False)
    old = {name: tensor.float() for name, tensor in before.module_.state_dict().items()}
    new = {name: module.state_dict()[name].clone() for name in old}
    masked = masked_task(after.tokenizer_, pretrain_mini.training_rows(data / "pretrain")[1])
    for share in np.arange(1.0, 0.0, -0.05):
        module.load_state_dict({name: share * new[name] + (1 - share) * old[name] for name in new}, strict=False)
        loss = mean_losses(module, masked, 512, np.random.default_rng(0))["masked_lm"]
        print(f"{share:.2f} of the new weights: masked-token loss {loss:.4f}", flush=True)
        if loss <= most:
            save(after, student, out / "skxlmr-mini")
            return


def average(folders, shares, out):
    """Write the mean of checkpoints, with a share of each; layers after the pooling are the mean of those that have them."""
    from skxlmr import XLMRobertaMaskedLM

    models = [XLMRobertaMaskedLM.from_checkpoint(str(folder)) for folder in folders]
    states = [model.module_.float().state_dict() for model in models]
    mean = {}
    for name in states[0]:
        parts = [(state[name], share) for state, share in zip(states, shares, strict=True) if name in state]
        mean[name] = sum(share * tensor for tensor, share in parts) / sum(share for _, share in parts)
    models[0].module_.load_state_dict(mean)
    save(models[0], folders[0], out / "average")


def whiten(folder, texts, out, power=0.75):
    """Write ``folder`` with wider layers after the pooling: they add the whitened mean vector to what they made of it.

    In mean vectors a few directions hold most of the variance, so that these alone decide about cosines (Su et al. 2021,
    "Whitening sentence representations"). ``texts`` tell the standard deviation of each principal direction, which is
    divided by its ``power``. Both vectors, of the same mean square, are put side by side and reduced to the width by
    singular vectors, turned so that they are near what the layers made before (Procrustes). A dense layer with GELU passes
    numbers on as two: ``x = gelu(x) - gelu(-x)``.
    """
    import torch

    from skxlmr import XLMRobertaMaskedLM
    from skxlmr.nn.sentence.layers import SentenceLayers

    lm = XLMRobertaMaskedLM.from_checkpoint(str(folder))
    module = lm.module_.float().eval().requires_grad_(False)
    first, last = (layer.linear for layer in module.sentence)
    with torch.inference_mode():
        x_ND = mean_vectors(module, lm.tokenizer_.encode_batch(texts, max_length=96))
        z_ND = module.sentence(x_ND).double()
    mean, scale = x_ND.double().mean(0), x_ND.double().std(0)
    y_ND = (x_ND.double() - mean) / scale
    _, spread, directions = torch.linalg.svd(y_ND * scale, full_matrices=False)
    whitening = scale[:, None] * directions.T @ torch.diag(spread**-power) @ directions
    parts = [(part, part.square().sum(1).mean().rsqrt()) for part in (z_ND, y_ND @ whitening)]
    both_NE = torch.cat([part * factor for part, factor in parts], dim=1)
    width = z_ND.shape[1]
    reduced = torch.linalg.svd(both_NE, full_matrices=False).Vh[:width].T
    left, _, right = torch.linalg.svd((both_NE @ reduced).T @ z_ND)
    of_layers, of_means = (reduced @ left @ right).split(width)
    of_layers, of_means = of_layers * parts[0][1], whitening @ of_means * parts[1][1]

    module.sentence = SentenceLayers(further_layers(width, len(first.bias) + 2 * width))
    same = torch.diag(1 / scale)
    weights = {
        "0.linear.weight": torch.cat([first.weight, same, -same]),
        "0.linear.bias": torch.cat([first.bias, -mean / scale, mean / scale]),
        "1.linear.weight": torch.cat([of_layers.T @ last.weight.double(), of_means.T, -of_means.T], dim=1),
        "1.linear.bias": of_layers.T @ last.bias.double(),
    }
    module.sentence.load_state_dict(weights)
    save(lm, folder, out / "whitened")


def mean_vectors(module, encoded, batch=512):
    """Means of the last layer, (N, D)."""
    import torch

    from skxlmr.batching import pack

    order = np.argsort(encoded.lengths, kind="stable")
    vectors = torch.empty(len(order), module.backbone.config.hidden_size)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        ids, layout = pack(encoded.take(part))
        with torch.autocast("cpu", torch.bfloat16):
            vectors[part] = layout.mean(module.backbone(ids, layout).last_hidden_state)
    return vectors


def masked_task(tokenizer, rows):
    """Masked language modelling of texts, and of both sides of pairs."""
    from skxlmr.estimators._language.task import MaskedLMTask

    texts = [text for row in rows for text in row if text]
    return MaskedLMTask(tokenizer.encode_batch(texts, max_length=256), None, tokenizer, np.ones(len(texts), np.float32))


def further_layers(width, hidden=512):
    """The layers after the pooling."""
    from skxlmr.nn.sentence import Dense

    return Dense(width, hidden, activation="GELU"), Dense(hidden, width, activation="Identity")


def save(lm, student, folder):
    """Write the checkpoint as a sentence encoder that pools by the mean."""
    import torch

    from skxlmr.checkpoints import read_config, sentence_files, write_folder
    from skxlmr.nn.sentence import SentenceEncoder

    config, tensors = read_config(student), lm.module_.state_dict()
    own = {name.removeprefix("sentence."): tensors.pop(name) for name in list(tensors) if name.startswith("sentence.")}
    for name in [name for name in tensors if name.startswith("names.")]:  # it has served to train the encoder
        del tensors[name]
    limit = config["max_position_embeddings"] - 2
    layers = further_layers(config["hidden_size"], len(own["0.linear.bias"]))
    encoder = SentenceEncoder(pooling=("mean",), layers=layers, similarity="cosine", max_length=limit)
    files = sentence_files(encoder, config["hidden_size"], own, torch.float16)
    write_folder(
        folder, config=config, tensors=tensors, tokenizer=lm.tokenizer_, extra_files=files, dtype=torch.float16
    )
