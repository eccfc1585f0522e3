"""Fine-tune in several processes: the same script, started by torchrun.

    python examples/torchrun.py
    torchrun --nproc_per_node=2 examples/torchrun.py
    torchrun --nproc_per_node=8 examples/torchrun.py --checkpoint FacebookAI/xlm-roberta-base --batch-size 64

Every process runs this whole script with all rows; fit shares each batch out among them, and each ends with the same model.
So only the first one prints and saves. On a machine with GPUs each process takes one of its own.
"""

import argparse
import os
import time

from sklearn.model_selection import train_test_split

from skxlmr import XLMRobertaClassifier, save
from skxlmr.datasets import load_reviews

RANK, SIZE = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))


def main(arguments=None):
    options = parse(arguments)
    reviews = load_reviews().frame
    train, test = train_test_split(reviews, test_size=0.2, stratify=reviews["sentiment"], random_state=0)
    model = XLMRobertaClassifier(
        options.checkpoint,
        batch_size=options.batch_size,  # of all processes together
        max_epochs=options.epochs,
        dtype="float32",
        random_state=0,
    )
    start = time.perf_counter()
    model.fit(train["review"], train["sentiment"])
    seconds = time.perf_counter() - start
    if RANK == 0:
        print(f"{len(train)} rows, {SIZE} processes, {seconds:.1f} s")
        print("losses", *(f"{loss:.4f}" for loss in model.loss_curve_))
        print(f"accuracy {model.score(test['review'], test['sentiment']):.3f} on {len(test)} rows")
        if options.save:
            save(model, options.save)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="skxlmr-mini", help="folder or repository (default: %(default)s)")
    parser.add_argument(
        "--batch-size", type=int, default=16, help="rows of all processes together (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--save", help="folder for the model")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
