import os
import platform
import subprocess
import sys

import pytest
import torch
from bayesian_text_classification.pipeline.workspace import Workspace

# Page faults of one call on a text of 250 tokens, after two others.
FAULTS = """
import resource, torch
from transformers import BertConfig, BertForSequenceClassification, pipeline
from bayesian_text_classification import TASK, load
torch.set_num_threads(1)
config = BertConfig(num_hidden_layers=2, hidden_size=128, num_attention_heads=2, intermediate_size=1536)
model = BertForSequenceClassification(config).eval()
classifier = pipeline(TASK, model=model, tokenizer=load().tokenizer, num_samples=10)
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    classifier("word " * 250)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_requests_under_one_name_share_memory():
    workspace = Workspace()
    first = workspace.empty("scores", (2, 3), torch.float32, torch.device("cpu"))
    second = workspace.empty("scores", (5,), torch.float32, torch.device("cpu"))
    other = workspace.empty("words", (5,), torch.float32, torch.device("cpu"))
    assert first.shape == (2, 3) and second.shape == (5,)
    assert first.data_ptr() == second.data_ptr() != other.data_ptr()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc moves its limits")
def test_passes_use_freed_memory_again():
    """Each page that the system hands out anew is a fault. Without `keep_freed_memory`, there are 16,600."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, env=kept)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000
