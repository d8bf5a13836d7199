"""The recipes of the servers' page: FastAPI as a process, and what the page says about types without a graph."""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from bayesian_text_classification import TemperatureScaling, load
from documents import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "servers.md"
T, TEXTS = 1.7, ["It has its moments.", "Dull, and far too long " * 200]


@pytest.fixture
def served(tiny, tokenizer, tmp_path):
    """A folder with an export, and the classifier that it is of."""
    for part in (tiny("bert", num_labels=3), tokenizer):
        part.save_pretrained(tmp_path / "my-classifier")
    classifier = load(tmp_path / "my-classifier", num_samples=0)
    classifier.calibration = {"ordinary": TemperatureScaling(T)}
    classifier.export(tmp_path / "served")
    return tmp_path, classifier


@pytest.mark.slow  # a server
def test_the_fastapi_recipe_serves_calibrated_scores_without_this_package(served):
    folder, classifier = served
    (block,) = [block for block in blocks(PAGE) if block.title == "serve.py"]
    start, request = [block.code for block in blocks(PAGE) if block.needs == "needs a server"]
    assert "bayesian" not in block.code and len(block.code.splitlines()) <= 20
    (folder / "serve.py").write_text(block.code)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert start.strip() == "uvicorn serve:app"
    command = [sys.executable, "-m", "uvicorn", "serve:app", "--port", str(port)]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=quiet, stdout=output, stderr=output)
    try:
        address = re.search(r"localhost:8000(/\w+)", request)[1]
        body = json.dumps({"texts": TEXTS}).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{address}", body, {"Content-Type": "application/json"})
        for _ in range(240):
            try:
                answers = json.loads(urllib.request.urlopen(asked, timeout=60).read())
                break
            except urllib.error.URLError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
    finally:
        process.terminate()
        process.wait(20)
    rows = classifier.tokenizer(TEXTS, padding=True, truncation=True, max_length=64, return_tensors="pt")
    with torch.no_grad():
        logits = classifier.model(**rows).logits.double() / T
    expected = logits.softmax(-1).numpy()
    names = classifier.model.config.id2label
    found = [[{entry["label"]: entry["score"] for entry in answer}[names[i]] for i in range(3)] for answer in answers]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_page_names_the_types_whose_graphs_are_tested():
    tests = Path(__file__).parents[1] / "bayesian_text_classification" / "distillation" / "test_onnx_graph.py"
    spec = importlib.util.spec_from_file_location("of_graphs", tests)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    (written,) = re.findall(r"graphs of these types: ([^.]*)\.", text)
    assert re.findall(r"`([\w-]+)`", written) == [*module.USUAL, *module.MORE]
    (refused,) = re.findall(r"refused by name, such as ([^.]*)\.", text)
    assert re.findall(r"`([\w-]+)`", refused) == module.NO_GRAPH
