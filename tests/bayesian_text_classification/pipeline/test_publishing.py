"""Publishing through the real clients to a local test Hub, and loading from it in another environment."""

import json

import pytest
from bayesian_text_classification import load
from hub_server import READER, WRITER, Hub
from pipeline_cases import TASK, TEXTS, assert_close
from pushed import environment_of
from transformers import pipeline

LOAD = """
import json, sys
from transformers import pipeline
classifier = pipeline(model="user/mine", trust_remote_code=True)
print(json.dumps([classifier(json.loads(sys.argv[1])), type(classifier).__module__]))
"""


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def saved(tiny, tokenizer, tmp_path_factory):
    """A saved pipeline and its answers."""
    folder = tmp_path_factory.mktemp("saved")
    ours = pipeline(TASK, model=tiny("bert", num_labels=3), tokenizer=tokenizer, num_samples=10, threshold=0.4)
    ours.save_pretrained(folder)
    return folder, ours(TEXTS)


def push(hub, folder, home, token=WRITER, **options):
    """The address of the commit, or the error."""
    with environment_of(hub, home, token):
        try:
            return load(folder).push_to_hub("user/mine", **options)
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def test_a_pushed_pipeline_loads_without_the_package(hub, saved, bare, tmp_path):
    folder, expected = saved
    address = push(hub, folder, tmp_path / "here", private=True, commit_message="First")
    assert address.startswith(f"{hub.endpoint}/user/mine/commit/")
    repository = hub.repositories["model", "user/mine"]
    assert repository.private and repository.messages == ["initial commit", "First"]  # everything in one commit
    assert {"config.json", "model.safetensors", "handler.py", "pipeline.py", "README.md"} <= set(repository.files)
    printed = bare(LOAD, json.dumps(TEXTS), **hub.environment(tmp_path / "there"))
    results, module = json.loads(printed.splitlines()[-1])
    assert_close(results, expected)
    assert module.startswith("transformers_modules.user.mine.")


def test_a_second_push_only_replaces_files_of_the_first(hub, saved, tmp_path):
    push(hub, saved[0], tmp_path)
    repository = hub.repositories["model", "user/mine"]
    repository.commit({**repository.files, "notes.txt": b"kept", "pipeline.py": b"old"})
    push(hub, saved[0], tmp_path)
    assert repository.files["notes.txt"] == b"kept" and repository.files["pipeline.py"] != b"old"


def test_foreign_code_is_not_replaced(hub, saved, tmp_path):
    hub.add("model", "user/mine", {"pipeline.py": b"theirs"})
    assert "pipeline.py already exists and was not written by save_pretrained" in push(hub, saved[0], tmp_path)
    assert hub.repositories["model", "user/mine"].files == {"pipeline.py": b"theirs"}


def test_only_our_section_of_an_existing_card_is_updated(hub, saved, tmp_path):
    ends = "<!-- bayesian-text-classification -->", "<!-- /bayesian-text-classification -->"
    mine = f"# Mine\n\n{ends[0]}\nold\n{ends[1]}\n\nMy last word.\n"
    hub.add("model", "user/mine", {"README.md": mine.encode()})
    push(hub, saved[0], tmp_path)
    card = hub.repositories["model", "user/mine"].files["README.md"].decode()
    assert card.startswith("# Mine\n\n<!--") and card.endswith("-->\n\nMy last word.\n")
    assert "## Scores with uncertainty" in card and "\nold\n" not in card


def test_a_card_that_cannot_be_read_is_not_overwritten(hub, saved, tmp_path):
    hub.add("model", "user/mine", {"README.md": b"# Mine\n"})
    hub.fail(r"(GET|HEAD) /user/mine/resolve/\w+/README.md", 403)
    assert "Error" in push(hub, saved[0], tmp_path)
    assert hub.repositories["model", "user/mine"].files == {"README.md": b"# Mine\n"}


def test_stale_files_that_would_be_loaded_instead_are_removed(hub, saved, tmp_path):
    """An old adapter_config.json makes transformers look elsewhere. Old weights take precedence over new shards."""
    old = {"adapter_config.json": b"{}", "model-00001-of-00002.safetensors": b"old", "notes.txt": b"kept",
           "onnx/old.safetensors": b"kept"}  # fmt: skip
    hub.add("model", "user/mine", old)
    push(hub, saved[0], tmp_path)
    files = hub.repositories["model", "user/mine"].files
    assert set(old) & set(files) == {"notes.txt", "onnx/old.safetensors"} and "model.safetensors" in files


def test_a_lost_connection_leaves_nothing_and_a_second_push_succeeds(hub, saved, tmp_path):
    hub.fail("POST /api/models/user/mine/commit", "cut")
    assert "RemoteProtocolError" in push(hub, saved[0], tmp_path)
    assert set(hub.repositories["model", "user/mine"].files) == {".gitattributes"}
    hub.failures.clear()
    assert push(hub, saved[0], tmp_path).startswith(hub.endpoint)
    assert "pipeline.py" in hub.repositories["model", "user/mine"].files


def test_a_failed_upload_of_large_files_leaves_nothing(hub, saved, tmp_path):
    hub.fail("PUT /lfs/", 403)
    assert "Error" in push(hub, saved[0], tmp_path)
    assert set(hub.repositories["model", "user/mine"].files) == {".gitattributes"}


def test_a_missing_branch_is_created(hub, saved, tmp_path):
    push(hub, saved[0], tmp_path, revision="next")
    repository = hub.repositories["model", "user/mine"]
    assert "pipeline.py" in repository.at("next")[1] and set(repository.at("main")[1]) == {".gitattributes"}


@pytest.mark.parametrize(("token", "words"), [(READER, "403"), ("hf_wrong" * 4, "401")])
def test_a_token_without_write_access_writes_nothing_and_is_not_shown(hub, saved, tmp_path, token, words):
    said = push(hub, saved[0], tmp_path, token=token)
    assert words in said and token not in said
    assert not hub.repositories
