import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
METRIC = ROOT / "pipelines" / "bayesian_text_classification" / "metric.py"
SCRIPT = ROOT / "metrics" / "ece" / "ece.py"


def load(path):
    """Load the file as a separate module, without the package's `__init__`, which is not under test here."""
    spec = importlib.util.spec_from_file_location("metric", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


metric = load(METRIC)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder from which Evaluate reads the metric."""
    monkeypatch.delitem(sys.modules, "evaluate.config", raising=False)  # imported by another test, with its own cache
    monkeypatch.delenv("BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE", raising=False)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "modules" / "evaluate_modules" / "metrics" / "evaluate-metric--ece"


def python(code, *arguments, cwd=None, **variables):
    """Start a fresh interpreter without the cache folders of this one."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_") and k != "XDG_CACHE_HOME"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(METRIC), *map(str, arguments)],
        cwd=cwd,
        env={**environment, **{k: str(v) for k, v in variables.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out)


LOAD_METRIC = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("metric", sys.argv[1])
metric = importlib.util.module_from_spec(spec)
spec.loader.exec_module(metric)
"""
IMPORT_EVALUATE = """
sys.modules["transformers"] = None  # Evaluate would import it for its evaluators, which takes seconds
import evaluate
del sys.modules["transformers"]
"""


# The folder


def test_finds_the_folder_in_the_checkout():
    assert metric.metric_folder() == SCRIPT.parent


def test_prefers_the_folder_inside_an_installed_package(tmp_path):
    package = tmp_path / "site-packages" / "bayesian_text_classification"
    for folder in (package / "metrics" / "ece", tmp_path / "metrics" / "ece"):
        folder.mkdir(parents=True)
        shutil.copy(SCRIPT, folder)
    shutil.copy(METRIC, package)
    assert load(package / "metric.py").metric_folder() == package / "metrics" / "ece"
    shutil.rmtree(package / "metrics")
    assert load(package / "metric.py").metric_folder() == tmp_path / "metrics" / "ece"
    shutil.rmtree(tmp_path / "metrics")
    with pytest.raises(FileNotFoundError, match=r"ece.py is neither in .* nor in .*; reinstall the package"):
        load(package / "metric.py").metric_folder()


def test_loads_the_module_once():
    module = metric.load_metric_module()
    assert module is metric.load_metric_module() is metric.load_metric_module("ece")
    other = metric.load_metric_module("prediction_set_coverage")
    assert other is metric.load_metric_module("prediction_set_coverage")
    assert other.prediction_set_coverage([[0], [1]], [0, 0])["coverage"] == 0.5
    assert module.expected_calibration_error([[0.05, 0.95], [0.0, 1.0]], [1, 0]) == 0.475


# The cache


def test_writes_one_file_named_after_its_content(cache):
    script = metric.install_metric()
    assert script.parents[1] == cache
    assert script.read_bytes() == SCRIPT.read_bytes()
    assert len(script.parent.name) == 64 and set(script.parent.name) <= set("0123456789abcdef")
    assert [path for path in cache.rglob("*") if path.is_file()] == [script]
    umask = os.umask(0)
    os.umask(umask)
    assert script.stat().st_mode & 0o777 == 0o666 & ~umask  # a temporary file's 0600 would lock out a shared cache
    assert script.parent.stat().st_mode & 0o777 == 0o777 & ~umask


def test_second_install_writes_nothing(cache):
    before = metric.install_metric().stat()
    after = metric.install_metric().stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_damaged_file_is_replaced(cache):
    script = metric.install_metric()
    script.write_bytes(b"half a fi")
    assert metric.install_metric() == script
    assert script.read_bytes() == SCRIPT.read_bytes()
    assert [path for path in cache.rglob("*") if path.is_file()] == [script]


@pytest.mark.parametrize("age", [-3600, 0, 3600], ids=["older", "same second", "from the future"])
def test_this_version_is_the_newest_in_the_cache(cache, age):
    ours = metric.install_metric()
    other = cache / ("0" * 64) / "ece.py"
    other.parent.mkdir()
    other.write_text("another version of this module")
    os.utime(other, (ours.stat().st_atime + age, ours.stat().st_mtime + age))
    assert metric.install_metric() == ours  # an upgrade, or a downgrade to a version that was there before
    # Evaluate takes the newest, https://github.com/huggingface/evaluate/blob/v0.4.6/src/evaluate/loading.py
    assert ours.stat().st_mtime > other.stat().st_mtime
    assert ours.read_bytes() == SCRIPT.read_bytes()


def test_failed_write_leaves_nothing_behind(cache, monkeypatch):
    def disk_full(self, content):
        assert len(self.parent.name) != 64  # Evaluate reads such folders, and fails without an ece.py
        Path.open(self, "wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert metric.install_metric() is None
    assert list(cache.iterdir()) == []


def test_unwritable_cache_causes_one_warning(tmp_path, cache, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "file" / "modules"))
    with pytest.warns(UserWarning, match=r'evaluate.load\("ece"\) will not find the metric.*Not a dir') as warnings:
        assert metric.install_metric() is None
    assert len(warnings) == 1
    assert Path(warnings[0].filename) == Path(__file__)  # it points at the caller


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_MODULES_CACHE"])
def test_the_warning_names_the_variable_that_helps(variable, cache, tmp_path, monkeypatch):
    """A writable folder in it works: `test_evaluate_loads_the_metric_without_a_network` sets each of them."""
    (tmp_path / "file").touch()
    monkeypatch.delenv("HF_MODULES_CACHE")
    monkeypatch.setenv(variable, str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match=f"Set {variable} to a writable folder"):
        assert metric.install_metric() is None


def test_the_no_cache_variable_leaves_the_cache_untouched(tmp_path, cache, monkeypatch):
    monkeypatch.setenv("BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE", "1")
    assert metric.install_metric() is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("BAYESIAN_TEXT_CLASSIFICATION_NO_CACHE", "0")
    assert metric.install_metric().is_file()


def test_several_processes_can_install_at_once(cache):
    install = LOAD_METRIC + "print(json.dumps([metric.install_metric().stat().st_size, 'evaluate' in sys.modules]))"
    processes = [python(install, HF_MODULES_CACHE=cache.parents[2]) for _ in range(6)]
    assert [printed(process) for process in processes] == [[SCRIPT.stat().st_size, False]] * 6
    script = metric.install_metric()
    assert list(cache.rglob("*")) == [script.parent, script]


def test_all_metrics_are_installed_and_an_unwritable_cache_causes_one_warning(tmp_path, cache, monkeypatch):
    metric.install_metrics()
    for name in ("ece", "prediction_set_coverage"):
        (script,) = (cache.parent / f"evaluate-metric--{name}").glob(f"*/{name}.py")
        assert script.read_bytes() == (metric.metric_folder(name) / f"{name}.py").read_bytes()
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "file" / "modules"))
    with pytest.warns(UserWarning, match="Not a dir") as warnings:
        metric.install_metrics()
    assert len(warnings) == 1


# Evaluate


def test_cache_is_where_evaluate_looks(tmp_path):
    code = f"""
{LOAD_METRIC}
{IMPORT_EVALUATE}
import importlib, itertools, os
from pathlib import Path

assert metric._modules_cache() == Path(evaluate.config.HF_MODULES_CACHE)
evaluate.config.HF_MODULES_CACHE = Path("elsewhere")  # the variables no longer count once Evaluate has read them
assert metric._modules_cache() == Path("elsewhere")
names = ("HF_MODULES_CACHE", "HF_HOME", "XDG_CACHE_HOME")
found = []
for values in itertools.product([None, "", "relative", "/absolute", "~/home", "$HOME/variable"], repeat=3):
    for name, value in zip(names, values):
        os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)
    config = importlib.reload(evaluate.config)
    module = sys.modules.pop("evaluate.config")
    found.append((str(metric._modules_cache()), str(config.HF_MODULES_CACHE)))
    sys.modules["evaluate.config"] = module
print(json.dumps(found))
"""
    found = printed(python(code))
    assert len(found) == 6**3 and len({theirs for _, theirs in found}) > 10
    assert [ours for ours, _ in found] == [theirs for _, theirs in found]


def test_evaluate_loads_the_metric_without_a_network(tmp_path):
    code = f"""
{LOAD_METRIC}
import pathlib
if "older" in sys.argv:
    other = metric.install_metric().parents[1] / ("0" * 64) / "ece.py"
    other.parent.mkdir()
    other.write_text("raise AssertionError('an older version of this module')")
script = metric.install_metric()
{IMPORT_EVALUATE}
example = dict(predictions=[[0.05, 0.95], [0.0, 1.0]], references=[1, 0])
shell, binary = evaluate.load("ece"), evaluate.load("ece", "binary")
results = [shell.compute(**example), binary.compute(predictions=[0.25], references=[1])]
metric.install_metrics()
results.append(evaluate.load("prediction_set_coverage").compute(predictions=[[0], [1]], references=[0, 0]))
if "checkout" in sys.argv:
    results.append(evaluate.load("metrics/ece").compute(**example))
print(json.dumps([str(script), sys.modules[type(shell).__module__].__file__, results]))
"""
    offline = {"HF_HUB_OFFLINE": 1, "HF_EVALUATE_OFFLINE": 1}
    refused = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_UPDATE_DOWNLOAD_COUNTS": 0, "NO_PROXY": "127.0.0.1"}
    processes = {
        "home": python(code, "checkout", cwd=ROOT, HF_HOME=tmp_path / "home", **offline),
        "modules": python(code, "older", cwd=tmp_path, HF_MODULES_CACHE=tmp_path / "modules", **refused),
    }
    folders = {"home": "home/modules", "modules": "modules"}
    for name, process in processes.items():
        installed, loaded, results = printed(process)
        assert installed == loaded
        assert Path(loaded).is_relative_to(tmp_path / folders[name] / "evaluate_modules" / "metrics")
        assert results[:3] == [{"ece": 0.475}, {"ece": 0.75}, {"coverage": 0.5, "mean_size": 1.0}]
        assert results[3:] == ([{"ece": 0.475}] if name == "home" else [])
