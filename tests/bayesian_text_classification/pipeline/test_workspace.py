import os
import platform
import subprocess
import sys

import pytest
import torch
from bayesian_text_classification.pipeline import workspace as module
from bayesian_text_classification.pipeline.workspace import Workspace, keep_freed_memory

# Page faults of one call on a text of 500 tokens, after two others.
FAULTS = """
import resource, torch
from transformers import BertConfig, BertForSequenceClassification, pipeline
from bayesian_text_classification import TASK, load
torch.set_num_threads(1)
config = BertConfig(num_hidden_layers=2, hidden_size=384, num_attention_heads=12, intermediate_size=1536)
model = BertForSequenceClassification(config).eval()
classifier = pipeline(TASK, model=model, tokenizer=load().tokenizer, num_samples=10)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    classifier("word " * 500)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_requests_under_one_name_share_memory():
    workspace = Workspace()
    first = workspace.empty("scores", (2, 3), torch.float32, torch.device("cpu"))
    second = workspace.empty("scores", (5,), torch.float32, torch.device("cpu"))
    other = workspace.empty("words", (5,), torch.float32, torch.device("cpu"))
    assert first.shape == (2, 3) and second.shape == (5,)
    assert first.data_ptr() == second.data_ptr() != other.data_ptr()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these limits")
@pytest.mark.slow  # a process of its own
def test_passes_use_freed_memory_again():
    """Each page that the system hands out anew is a fault. Without `keep_freed_memory`, there are 91,000."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, env=kept)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000


@pytest.mark.parametrize(
    ("environment", "sets"),
    [
        ({}, True),
        ({"GLIBC_TUNABLES": "glibc.rtld.optional_static_tls=512"}, True),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}, False),
        ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False),
        ({"MALLOC_MMAP_THRESHOLD_": "131072"}, False),
    ],
)
def test_limits_that_the_environment_sets_stay(environment, sets, monkeypatch):
    class Library:
        calls = 0

        def mallopt(self, name, value):
            Library.calls += 1

    for name in ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module.ctypes, "CDLL", lambda name: Library())
    monkeypatch.setattr(module.sys, "platform", "linux")
    keep_freed_memory.__wrapped__()
    assert (Library.calls > 0) == sets
