"""Storage of measurements: one section of RESULTS.md per benchmark, with the machine that ran it."""

import platform
import re
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

RESULTS = Path(__file__).parent / "RESULTS.md"
INTRODUCTION = """# Results of the benchmarks

Each section starts with the command that measures it again, and the machine that it ran on."""
HEADINGS = {  # and how the titles below them start
    "Time and memory": ("Import", "Inference", "Cost by length", "Latency", "Memory", "Cost of"),
    "Many texts": ("What a million texts cost", "A million texts", "Ray", "Soak", "The demo"),
    "Standard errors": (
        "Coverage of the standard error",
        "Standard errors of other models",
        "Few samples",
        "Samples that disagree",
    ),
    "Calibration": ("Platt scaling",),
    "The metric `ece`": ("The metric", "Coverage of the metric"),
    "Verdicts": (
        "Intervals and verdicts",
        "Verdicts where nothing differs",
        "Differences from a calibrated arm",
        "Differences by the shape of the gaps",
        "Differences by a mild temperature",
        "The least width",
        "Independent labels",
        "Where an adversary looks",
        "The whole comparison",
    ),
    "Models without dropout, and ensembles": ("Inserted dropout",),
    "Students": ("Students", "Heads for uncertainty"),
    "Texts that the model was not made for": ("Novelty", "What is new"),
    "Prediction sets": ("Prediction sets",),
}


def write_section(title: str, command: str, body: str) -> None:
    """Replace or add the section `title` of RESULTS.md, below its heading, and print it."""
    section = f"### {title}\n\n`{command}`, on {machine()}.\n\n{body.strip()}\n"
    written = with_section(RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "", title, section)
    RESULTS.write_text(written, encoding="utf-8")
    print(section)


def with_section(text: str, title: str, section: str) -> str:
    """The page with this section in place of an earlier one, all sections below their headings and in order."""
    parts = re.split(r"\n(?=##)", text.rstrip())
    known = {part.splitlines()[0][4:]: part for part in parts if part.startswith("### ")} | {title: section}
    places = {one: place(one) for one in known}
    written = [INTRODUCTION]
    for heading in HEADINGS:
        mine = sorted((one for one in known if places[one][0] == heading), key=places.__getitem__)
        written += [f"## {heading}", *(known[one].strip() for one in mine)] if mine else []
    return "\n\n".join(written) + "\n"


def place(title: str) -> tuple[str, int, str]:
    """The heading of a section, and what sorts it below the heading."""
    for heading, starts in HEADINGS.items():
        for number, start in enumerate(starts):
            if title.startswith(start):
                return heading, number, title
    raise ValueError(f"no heading for the section {title!r}; add the start of its title to HEADINGS")


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
