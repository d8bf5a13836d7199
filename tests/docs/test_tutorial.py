"""The tutorial, from the first block to a running server, on the embedded model."""

import json
import re
import shlex

import pytest
from commands import asked
from documents import ROOT, blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"
START, REQUEST = (block.code.strip() for block in blocks(TUTORIAL) if block.needs == "needs a server")


@pytest.mark.slow  # it compares the arms on 450 texts
@pytest.mark.usefixtures("loud_libraries")
def test_the_tutorial_leads_to_a_served_classifier(tmp_path, monkeypatch):
    from fastapi.testclient import TestClient

    monkeypatch.chdir(tmp_path)
    namespace, printed = {}, ""
    for block in blocks(TUTORIAL):
        if block.title:
            (tmp_path / block.title).write_text(block.code)
        elif block.language == "python":
            exec(compile(block.code, "tutorial.md", "exec"), namespace)
        elif block.code.startswith("bayesian-text-classification"):
            (tmp_path / "my-texts.csv").write_text("text\nA joy.\nIt has its moments.\n")
            done = asked(*shlex.split(block.code)[1:])
            assert done.exit_code == 0, done.stderr
            printed += done.stdout
    assert (
        "bayesian-text-classification calibrate --model my-model --dataset my-labeled-texts.csv --num-samples 0"
        in printed
    )
    line = re.search(r"classifier\(texts, num_samples=0, threshold=(.*?)\) .*? below 5%, .* accepts 86%", printed)
    assert float(line[1]) == pytest.approx(0.9012, abs=1e-3)  # the line that the tutorial quotes
    assert namespace["classifier"].threshold == 0.901171 and namespace["found"].rows
    monkeypatch.syspath_prepend(tmp_path)
    import serve

    assert START == "uvicorn serve:app"
    _, address, _, _, _, body = shlex.split(REQUEST)
    (answer,) = TestClient(serve.app).post(address.removeprefix("localhost:8000"), json=json.loads(body)).json()
    assert answer == namespace["classifier"](["It has its moments."])[0]
    assert (tmp_path / "classified.csv").exists()
