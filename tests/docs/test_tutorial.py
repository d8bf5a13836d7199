"""The tutorial, from the first block to a running server, on the embedded model."""

import json
import shlex

import pytest
from commands import asked
from documents import ROOT, blocks

TUTORIAL = ROOT / "docs" / "tutorial.md"
(SERVER,) = [block for block in blocks(TUTORIAL) if block.needs == "needs a server"]


@pytest.mark.slow  # it compares the arms on 450 texts
@pytest.mark.usefixtures("loud_libraries")
def test_the_tutorial_leads_to_a_served_classifier(tmp_path, monkeypatch):
    from fastapi.testclient import TestClient

    monkeypatch.chdir(tmp_path)
    namespace = {}
    for block in blocks(TUTORIAL):
        if block.title:
            (tmp_path / block.title).write_text(block.code)
        elif block.language == "python":
            exec(compile(block.code, "tutorial.md", "exec"), namespace)
        elif "predict" in block.code:
            (tmp_path / "my-texts.csv").write_text("text\nA joy.\nIt has its moments.\n")
            done = asked(*block.code.split()[1:])
            assert done.exit_code == 0, done.stderr
        elif "evaluate" in block.code:
            done = asked(*block.code.split()[1:])
            assert "Recommended" in done.stdout, done.stderr
    assert namespace["found"].bound <= 0.05 and namespace["classifier"].threshold == namespace["found"].threshold
    monkeypatch.syspath_prepend(tmp_path)
    import serve

    start, request = SERVER.code.splitlines()
    assert start == "uvicorn serve:app"
    *_, address, _, _, _, body = shlex.split(request)
    (answer,) = TestClient(serve.app).post(address.removeprefix("localhost:8000"), json=json.loads(body)).json()
    assert answer == namespace["classifier"](["It has its moments."])[0]
    assert (tmp_path / "classified.csv").exists()
