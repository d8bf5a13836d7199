"""Write CLINC150 without some intents: texts of a near shift, for `benchmarks.evaluation.novelty`.

    python -m benchmarks.evaluation.left_out --data FOLDER --output FOLDER
    python training/clinc150.py --data OUTPUT --output MODEL
    python -m benchmarks.evaluation.novelty --name "CLINC150 without 20 intents" --model MODEL --data OUTPUT \
        --validation val.tsv --outside "intents left out=OUTPUT/left_out.tsv"

`left_out.tsv` holds the validation and test questions of the intents that are left out.
"""

import argparse
from pathlib import Path

import numpy as np


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--intents", type=int, default=20, help="how many are left out")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    files = {name: (args.data / name).read_text(encoding="utf-8").splitlines() for name in NAMES}
    header = files["train.tsv"][0]
    intents = sorted({line.split("\t")[0] for line in files["train.tsv"][1:]})
    gone = set(np.random.default_rng(0).choice(intents, args.intents, replace=False).tolist())
    left_out = []
    for name, (_, *lines) in files.items():
        kept = [line for line in lines if line.split("\t")[0] not in gone]
        left_out += [line for line in lines if line.split("\t")[0] in gone] if name != "train.tsv" else []
        (args.output / name).write_text("\n".join([header, *kept, ""]), encoding="utf-8")
    (args.output / "left_out.tsv").write_text("\n".join([header, *left_out, ""]), encoding="utf-8")
    print(", ".join(sorted(gone)))


NAMES = ("train.tsv", "val.tsv", "test.tsv")


if __name__ == "__main__":
    main()
