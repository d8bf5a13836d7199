"""The rules in CONTRIBUTING: which folder may import which, which files are copied with a model, what is shipped."""

import ast
import configparser
import importlib.util
import re
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_relative_import_files

ROOT = Path(__file__).parents[1]
PACKAGE, COMMAND = (
    Path(importlib.util.find_spec(name).origin).parent
    for name in ("bayesian_text_classification", "bayesian_text_classification_command")
)
SHIPPED = {"metrics", "spaces"}  # folders of the repository that are inside the package in a wheel
FACE = {"__init__", "__main__"}
TRAVEL_WITH = {"torch", "transformers", "numpy", "huggingface_hub", "peft"}


def modules():
    """All files of the package and of the command, by dotted name."""
    found = {}
    for root in (PACKAGE, COMMAND):
        for path in root.rglob("*.py"):
            parts = path.relative_to(root.parent).with_suffix("").parts
            if parts[1] not in SHIPPED:
                found[".".join(parts)] = path
    return found


MODULES = modules()


def room_of(name):
    """The folder of a module, or the module's name if it is at the root of the package."""
    top, *rest = name.split(".")
    return "command" if top == COMMAND.name else rest[0] if rest else "__init__"


def imports_of(name):
    """Full names of everything that a module imports, anywhere in the file."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES or f"{inner}.__init__" in MODULES else base


def ours(name):
    """This project's modules that a module imports. A package is named by its `__init__`."""
    for imported in imports_of(name):
        if imported.split(".")[0] in (PACKAGE.name, COMMAND.name):
            yield imported if imported in MODULES else f"{imported}.__init__"


def levels():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (arrow,) = re.findall(r"```\s+(command\s+-> [^`]*)```", text)
    assert len(arrow.strip().splitlines()) <= 8
    return {name.strip(): depth for depth, part in enumerate(arrow.split("->")) for name in part.split(",")}


def test_folders_import_only_from_lower_levels():
    depth = levels()
    assert depth.keys() == {room_of(name) for name in MODULES} - FACE
    for name in MODULES:
        if (room := room_of(name)) in FACE:
            continue
        for imported in ours(name):
            other = room_of(imported)
            assert other == room or depth[other] > depth[room], f"{name} imports {imported}"


def test_there_are_no_circular_imports():
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
        if name in done:
            return
        open_.append(name)
        for imported in ours(name):
            if not (imported.endswith("__init__") and name.startswith(imported.removesuffix("__init__"))):
                visit(imported)
        open_.pop()
        done.add(name)

    for name in MODULES:
        visit(name)


def test_package_stays_small_enough_to_read():
    """At most 8 files and 12 folders at the root, 14 files per folder except `pipeline`, and 450 lines per file."""
    here = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert sum(path.is_file() for path in here) <= 8 and sum(path.is_dir() for path in here) <= 12
    folders = {path.parent for path in MODULES.values()} - {PACKAGE}
    for folder in folders:
        files = [path for path in folder.iterdir() if path.is_file()]
        assert folder.name == "pipeline" or len(files) <= 14, folder.name
    for path in MODULES.values():
        most = 400 if path.name == "pipeline.py" else 450
        assert len(path.read_text(encoding="utf-8").splitlines()) <= most, path.name


def test_save_pretrained_copies_every_file_of_the_pipeline_folder():
    """`save_pretrained` copies what `pipeline.py` imports: a file that nothing imports would be missing elsewhere."""
    folder = PACKAGE / "pipeline"
    closure = {Path(path).name for path in get_relative_import_files(folder / "pipeline.py")} | {"pipeline.py"}
    assert closure == {path.name for path in folder.glob("*.py")} - {"__init__.py"}


def test_copied_files_import_only_siblings_and_allowed_packages():
    for name in MODULES:
        if room_of(name) != "pipeline":
            continue
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and "." not in (node.module or "."), f"{name}: {ast.unparse(node)}"
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                tops = {one.split(".")[0] for one in names}
                assert tops <= TRAVEL_WITH | set(sys.stdlib_module_names), f"{name}: {ast.unparse(node)}"


@pytest.mark.skipif(not (ROOT / "setup.cfg").exists(), reason="needs the checkout")
def test_every_folder_is_shipped():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    source = ROOT / "pipelines"
    folders = {".".join(path.parent.relative_to(source).parts) for path in source.rglob("__init__.py")}
    mapped = {name for name in config["options"]["package_dir"].split() if name.startswith(PACKAGE.name)}
    assert set(config["options"]["packages"].split()) == folders | mapped | {f"{PACKAGE.name}.embedded.model"}


def test_ci_runs_the_whole_check_from_the_first_python_version_on():
    yaml, tomllib = pytest.importorskip("yaml"), pytest.importorskip("tomllib")
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    first, *_ = jobs["check"]["strategy"]["matrix"]["python"]
    assert project["requires-python"] == f">={first}"
    assert ".ci/run" in [step.get("run") for step in jobs["check"]["steps"]]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
