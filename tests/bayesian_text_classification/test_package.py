import ast
import csv
import importlib
import json
import pickle
import pkgutil
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from processes import each_alone

HEAVY = ["baal", "evaluate", "matplotlib", "datasets", "pyarrow.parquet", "scipy.stats", "typer"]


# Each runs in a process that has imported torch and transformers only.
PROGRAMS = {
    "heavy": f"""
import sys
from transformers.pipelines import PIPELINE_REGISTRY  # in some versions, it loads scipy.stats by itself
before = set(sys.modules)
import bayesian_text_classification as package
assert package.TASK == "bayesian-text-classification"
targeted = PIPELINE_REGISTRY.check_task(package.TASK)[1]
assert targeted["impl"] is package.BayesianTextClassificationPipeline
print([name for name in {HEAVY} if name in set(sys.modules) - before])
""",
    "names": """
import bayesian_text_classification as package
assert dir(package) == sorted(package.__all__)
for name in package.__all__:
    assert getattr(package, name) is getattr(package, name), name
assert package.load is package.load_classifier
try:
    package.nothing
except AttributeError as error:
    print(error)
from importlib.metadata import version
assert package.__version__ == version("bayesian-text-classification")
""",
    "random state": """
import random
import numpy as np
import torch
before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
import bayesian_text_classification
after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
""",
    "twice": """
import importlib
import logging
import sys
import warnings
warnings.simplefilter("error", UserWarning)
import transformers
messages = []
handler = logging.Handler()
handler.emit = lambda record: messages.append(record.getMessage())
logging.getLogger("transformers").addHandler(handler)
import bayesian_text_classification
importlib.reload(bayesian_text_classification)
for name in [name for name in sys.modules if name.startswith("bayesian_text_classification")]:
    del sys.modules[name]
import bayesian_text_classification
assert messages == [], messages
transformers.logging.set_verbosity_error()  # it warns that no model was named
transformers.logging.disable_progress_bar()
classifier = transformers.pipeline("bayesian-text-classification", num_samples=2)
print(type(classifier).__name__, classifier.model.config.id2label, classifier("good")[0]["num_samples"])
""",
    "command": """
import runpy
import sys
sys.argv = ["-m", "--help"]
runpy.run_module("bayesian_text_classification", run_name="__main__")
""",
}


# Evaluate's evaluator, after imports of each two of three modules in both orders.
MODULES = ("bayesian_text_classification", "bayesian_text_classification.evaluator", "evaluate")
EVALUATOR = """
from evaluate.evaluator import SUPPORTED_EVALUATOR_TASKS as known, evaluator
task = "bayesian-text-classification"
print(type(evaluator(task)).__name__ if task in known else None)
"""
ORDERS = {
    "with": MODULES,
    "with, backwards": MODULES[::-1],
    "without": MODULES[::2],
    "without, backwards": MODULES[::-2],
}
PROGRAMS |= {kind: "\n".join(f"import {name}" for name in order) + EVALUATOR for kind, order in ORDERS.items()}


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What each of these programs prints. They have their own cache, because importing copies the metrics there."""
    cache = str(tmp_path_factory.mktemp("cache") / "modules")
    return each_alone(PROGRAMS, HF_MODULES_CACHE=cache, HF_HUB_OFFLINE="1", COLUMNS="100")


def test_importing_registers_the_task_and_loads_nothing_heavy(said):
    assert said["heavy"] == "[]\n"


def test_every_public_name_exists_and_dir_shows_only_these(said):
    assert said["names"] == "module 'bayesian_text_classification' has no attribute 'nothing'\n"


def test_importing_prints_nothing_and_leaves_the_random_state(said):
    assert said["random state"] == ""


def test_second_import_works_and_is_silent_and_the_task_is_found_by_name(said):
    assert said["twice"] == "BayesianTextClassificationPipeline {0: 'NEGATIVE', 1: 'POSITIVE'} 2\n"


@pytest.mark.parametrize("kind", ORDERS)
def test_only_the_evaluator_module_registers_the_task_in_any_order_of_imports(kind, said):
    """Whether a task exists must not depend on the order of two unrelated imports."""
    assert said[kind].strip() == ("None" if kind.startswith("without") else "BayesianTextClassificationEvaluator")


def test_the_package_runs_as_the_command(said):
    assert "evaluate" in said["command"] and "predict" in said["command"] and "Traceback" not in said["command"]


def test_type_checkers_see_the_lazy_imports(package):
    """The names are written twice: once for type checkers, once for `__getattr__`."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    typed = {alias.name: node.module for node in block.body for alias in node.names}
    (later,) = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_LATER"
    ]
    assert ast.literal_eval(later) == typed


def test_all_errors_share_one_base_class():
    import bayesian_text_classification as package

    base, found = package.BayesianTextClassificationError, set()
    assert issubclass(base, ValueError)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith(("__main__", ".handler")) and ".spaces" not in module.name:
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == module.name:
                    found.add(value)
    assert {package.InputError, base} < found and len(found) >= 9
    assert all(issubclass(error, base) for error in found), found


def test_documented_import_paths_still_work():
    """Paths that appeared in documentation, and the name that a pickled pipeline uses for its class."""
    from bayesian_text_classification.evaluation import compare  # noqa: F401
    from bayesian_text_classification.evaluator import BayesianTextClassificationEvaluator  # noqa: F401
    from bayesian_text_classification.hub import push  # noqa: F401
    from bayesian_text_classification.loading import load_classifier  # noqa: F401
    from bayesian_text_classification.pipeline import BayesianTextClassificationPipeline
    from bayesian_text_classification.scale import predict_dataset, predict_file  # noqa: F401
    from bayesian_text_classification.selection import rank, threshold_for  # noqa: F401

    assert BayesianTextClassificationPipeline is pickle.loads(
        b"cbayesian_text_classification.pipeline\nBayesianTextClassificationPipeline\n."
    )


def test_help_and_typos_import_nothing_heavy(python):
    code = """
import sys
import tarfile
sys.argv = ["bayesian-text-classification", "evalute"]
from bayesian_text_classification_command import main
try:
    main()
except SystemExit as ended:
    print(ended.code, [name for name in ("torch", "transformers", "numpy") if name in sys.modules])
"""
    assert python(code) == "2 []\n"


def test_embedded_model_is_small_and_in_float16():
    from bayesian_text_classification import embedded_model
    from safetensors import safe_open

    folder = embedded_model()
    assert (folder / "model.safetensors").stat().st_size <= 46_000_000
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"


def test_embedded_folder_leaks_no_path(package):
    for path in (package / "embedded" / "model").glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "/root" not in text and "/work" not in text and "_name_or_path" not in text


def test_hard_reviews_are_balanced_and_cover_every_kind(package):
    with (package / "embedded" / "hard.csv").open(newline="", encoding="utf-8") as file:
        reviews = list(csv.DictReader(file))
    assert len(reviews) >= 300
    labels = Counter(review["label"] for review in reviews)
    assert labels == {"POSITIVE": len(reviews) // 2, "NEGATIVE": len(reviews) // 2}
    kinds = Counter(review["kind"] for review in reviews)
    assert len(kinds) >= 5 and min(kinds.values()) >= 30
    assert len({" ".join(review["text"].lower().split()) for review in reviews}) == len(reviews)
    assert all(review["text"] == review["text"].strip() != "" for review in reviews)


def test_embedded_model_classifies_plain_reviews(classifier, package):
    """A broken export answers at random, so accuracy on plain reviews must be high."""
    with (package / "embedded" / "hard.csv").open(newline="", encoding="utf-8") as file:
        plain = [review for review in csv.DictReader(file) if review["kind"] == "plain"]
    found = classifier([review["text"] for review in plain], num_samples=2)
    right = sum(answer["label"] == review["label"] for answer, review in zip(found, plain, strict=True))
    assert right / len(plain) > 0.9


def test_package_ships_a_py_typed_marker(package):
    assert (package / "py.typed").is_file()


@pytest.mark.parametrize("name", ["ece", "prediction_set_coverage"])
def test_metric_is_found_in_the_wheel_and_in_the_editable_checkout(package, name):
    from bayesian_text_classification.metric import metric_folder

    folder = metric_folder(name)
    checkout = Path(__file__).parents[2]
    editable = package == checkout / "pipelines" / "bayesian_text_classification"
    assert folder == (checkout if editable else package) / "metrics" / name
    for file in (f"{name}.py", "README.md", "app.py", "requirements.txt"):
        assert (folder / file).read_bytes() == (checkout / "metrics" / name / file).read_bytes()


def test_library_errors_name_arguments_and_never_command_flags(package):
    """A Python caller has no `--text-column`. The command translates."""
    for path in package.rglob("*.py"):
        if "spaces" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = raised(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.lineno in lines:
                assert not re.search(r"(?<![\w-])--([a-z]|$)", node.value), f"{path.name}:{node.lineno}: {node.value}"


def raised(tree):
    """Lines of all raise statements."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return {line for node in found for line in range(node.lineno, node.end_lineno + 1)}


def test_the_source_distribution_holds_every_tracked_file(tmp_path):
    """Its users can run the tests."""
    pytest.importorskip("setuptools")
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=checkout, capture_output=True, text=True, check=True)
    names = set(tracked.stdout.splitlines())
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkout / name, tmp_path / name)
    code = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "dist" / done.stdout.splitlines()[-1]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert not names - held
