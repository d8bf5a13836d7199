"""Storage of measurements: one section of RESULTS.md per benchmark, with the machine that ran it."""

import platform
import re
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

RESULTS = Path(__file__).parent / "RESULTS.md"


def write_section(title: str, command: str, body: str) -> None:
    """Replace or add the section `title` of RESULTS.md, and print it."""
    section = f"## {title}\n\n`{command}`, on {machine()}.\n\n{body.strip()}\n"
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results of the benchmarks\n"
    sections = re.split(r"\n(?=## )", text.rstrip() + "\n")
    places = [i for i, part in enumerate(sections) if part.startswith(f"## {title}\n")] or [len(sections)]
    sections[places[0] : places[0] + 1] = [section]
    RESULTS.write_text("\n".join(part.rstrip() + "\n" for part in sections), encoding="utf-8")
    print(section)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [header, rule, *rows])


def machine() -> str:
    """The processor, its cores and vector units, and the software versions."""
    cpu, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text()
        cpu = (re.search(r"model name\s*: (.*)", text) or [cpu, cpu])[1]
        known = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
        flags = " with " + next((flag.upper() for flag in known if re.search(rf"\b{flag}\b", text)), "no AVX2")
    cores = torch.get_num_threads()
    return (
        f"{cpu}, {cores} {'core' if cores == 1 else 'cores'}{flags}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )
