"""What the benchmarks of students share: their options, texts, and what they keep."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bayesian_text_classification.pipeline.inputs import text_hash, text_key
from bayesian_text_classification.pipeline.targets import labeled

from benchmarks.common import Array, read_texts
from benchmarks.evaluation.inserted_dropout import read

PLACES = {"model": "MODEL", "texts": "FILE...", "tests": "FILE...", "strange": "FILE", "kept": "FOLDER"}


def parser_of(description: str) -> argparse.ArgumentParser:
    """The options of every benchmark of students."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="name of the data")
    parser.add_argument("--model", help="the teacher; default: the embedded model")
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--tests", type=Path, nargs="+", required=True)
    parser.add_argument("--least-words", type=int, default=1)
    parser.add_argument("--how", nargs="+", default=["weights", "head"])
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--kept", type=Path, required=True, help="folder for what was measured")
    return parser


def add_training(parser: argparse.ArgumentParser) -> None:
    """The options of a benchmark whose students differ in nothing but the seed."""
    parser.add_argument("--max-texts", type=int, default=5_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float)


def options_of(args: argparse.Namespace, how: str) -> dict[str, Any]:
    """The arguments of `distill`."""
    training = {} if how == "head" else {"epochs": args.epochs, "learning_rate": args.learning_rate}
    return {"how": how, **training}


def student_name(how: str, texts: int, epochs: int) -> str:
    """A student's name among what is kept."""
    return f"{how}-of-{texts}" if how == "head" else f"{how}-of-{texts}-in-{epochs}"


def command_of(module: str, args: argparse.Namespace) -> str:
    """The command that gives this section again, with words in capitals for files and folders."""
    parts = [f"python -m benchmarks.distillation.{module} --name {shlex.quote(args.name)}"]
    for name, value in vars(args).items():
        if value is None or name == "name":
            continue
        shown = PLACES.get(name) or (" ".join(map(str, value)) if isinstance(value, list) else f"{value}")
        parts.append(f"--{name.replace('_', '-')} {shown}")
    return " ".join(parts)


def tests_of(args: argparse.Namespace, teacher: Any) -> tuple[list[str], Array]:
    """The test texts, and their classes or labels."""
    rows = [read(path) for path in args.tests]
    texts, labels = ([item for part in rows for item in part[i]] for i in (0, 1))
    return labeled(texts, labels, teacher.model.config, teacher.activation)


def chosen_texts(args: argparse.Namespace, tests: set[str], most: int) -> list[str]:
    """At most `most` distinct texts to learn from, none of the tests, in an order that does not depend on the files."""
    found = {text_key(text): text for text in sorted({text for path in args.texts for text in read_texts(path)})}
    others = found.keys() - set(map(text_key, tests))
    long = [key for key in others if len(key.split()) >= args.least_words]
    return [found[key] for key in sorted(long, key=text_hash)][:most]


def kept(args: argparse.Namespace, what: str, measure: Callable[[], Array]) -> Array:
    """Probabilities of an earlier run, or of now."""
    args.kept.mkdir(parents=True, exist_ok=True)
    path = args.kept / f"{args.name}-{what}.npy"
    if not path.exists():
        np.save(path, measure())
    return np.asarray(np.load(path), np.float64)
