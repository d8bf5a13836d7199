"""The notebooks run from start to end in a fresh kernel, on few texts."""

import base64
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"


def executed(name, folder, monkeypatch, **variables):
    """Run a notebook with its outputs removed. Returns what its cells print, and its pictures."""
    import nbformat
    from nbclient import NotebookClient

    for key, value in {"NOTEBOOK_TEXTS": "12", "HF_HUB_OFFLINE": "1", **variables}.items():
        monkeypatch.setenv(key, str(value))
    notebook = nbformat.read(FOLDER / name, as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)
    return text, [base64.b64decode(o["data"]["image/png"]) for o in outputs if "image/png" in o.get("data", {})]


@pytest.mark.slow  # a kernel, and every cell: half a minute
def test_the_2021_experiment_notebook_runs(tmp_path, monkeypatch):
    text, pictures = executed("trust.ipynb", tmp_path, monkeypatch)
    assert "20 sites in train() mode" in text
    assert "14 of them are reached by patch_module" in text
    assert "bert.encoder.layer.0.attention.self" in text
    assert "On 12 texts, the Bayesian model is not significantly" in text and "calibrated. On average its" in text
    assert "No difference is called significant on fewer than 20 texts" in text
    assert "A joy from start to finish.\n  novelty p-value 0.808: POSITIVE" in text
    assert text.count(": no answer (would be ") == 3
    assert len(pictures) == 2 and all(len(picture) > 10_000 for picture in pictures)


@pytest.mark.slow  # a kernel
def test_the_out_of_scope_notebook_runs(tmp_path, monkeypatch, tiny, tokenizer):
    intents = ["balance", "translate", "weather"]
    words = {"balance": "how much money is in my account", "translate": "how do you say it in french",
             "weather": "will it rain today"}  # fmt: skip
    names = dict(enumerate(intents))
    model = tiny("bert", num_labels=3, id2label=names, label2id={name: i for i, name in names.items()})
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    rows = [f"{intent}\t{words[intent]} {'please ' * i}" for intent in intents for i in range(5)]
    (tmp_path / "test.tsv").write_text("\n".join(["label\ttext", *rows]) + "\n")
    strange = [f"oos\twho was the king of spain in {year}" for year in range(1500, 1515)]
    (tmp_path / "oos_test.tsv").write_text("\n".join(["label\ttext", *strange]) + "\n")
    for name, start in (("train.tsv", "please"), ("val.tsv", "now")):
        others = [f"{intent}\t{start} {words[intent]} {'today ' * i}" for intent in intents for i in range(8)]
        (tmp_path / name).write_text("\n".join(["label\ttext", *others]) + "\n")
    text, pictures = executed(
        "clinc.ipynb", tmp_path, monkeypatch, CLINC150_MODEL=tmp_path / "model", CLINC150_DATA=tmp_path
    )
    assert text.count("AUROC 0.") + text.count("AUROC 1.") == 7
    assert "of the questions out of scope are refused" in text and "novelty p-value 0." in text
    assert "mutual information" in text and "of the sets hold the true intent" in text and "did you mean: " in text
    assert len(pictures) == 2


@pytest.mark.parametrize("name", ["trust.ipynb", "clinc.ipynb"])
def test_outputs_contain_no_local_paths(name):
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert not any(start in text for start in (str(FOLDER.parent), str(Path.home()), "/home/", "/tmp/", "Users"))
