"""Response time of the demo Space, for one visitor and for several at once.

    python -m benchmarks.spaces.demo

The page's server runs in this process, and a Gradio client sends requests over HTTP, as a browser does.
"""

import importlib.util
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bayesian_text_classification.hub.uploads import space_folder
from gradio_client import Client

from benchmarks.results import table, write_section

ROUNDS = 20
VISITORS = 5


def main() -> None:
    """Measure, and write a section of RESULTS.md."""
    page = demo()
    server = page.build().queue(default_concurrency_limit=1)
    _, address, _ = server.launch(prevent_thread_lock=True, quiet=True)
    client = Client(address, verbose=False)
    longest = " ".join(page.EXAMPLES * 9)[: page.MAX_CHARACTERS]
    rows = []
    for samples in (20, 100):
        answers = [seconds(client, text, samples) for text in page.EXAMPLES * (ROUNDS // len(page.EXAMPLES))]
        rows.append([f"a sentence, {samples} samples", *shown(answers)])
    rows.append(
        [f"{len(longest)} characters, 20 samples", *shown([seconds(client, longest, 20) for _ in range(ROUNDS)])]
    )
    clients = [Client(address, verbose=False) for _ in range(VISITORS)]
    with ThreadPoolExecutor(VISITORS) as pool:
        at_once = [
            one
            for _ in range(ROUNDS // VISITORS)
            for one in pool.map(lambda one: seconds(one, page.EXAMPLES[0], 20), clients)
        ]
    rows.append([f"a sentence, 20 samples, {VISITORS} visitors at once", *shown(at_once)])
    server.close()
    write_section("The demo", "python -m benchmarks.spaces.demo", table(["request", "median, s", "slowest, s"], rows))


def demo() -> Any:
    """Load `app.py` of the Space as a module."""
    spec = importlib.util.spec_from_file_location("demo_app", space_folder() / "app.py")
    assert spec is not None and spec.loader is not None
    sys.modules["demo_app"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seconds(client: Client, text: str, samples: int) -> float:
    """Time from the request to the answer with its figure."""
    started = time.perf_counter()
    client.predict(text, samples, api_name="/classify")
    return time.perf_counter() - started


def shown(answers: list[float]) -> list[str]:
    """Format the median and the slowest time."""
    return [f"{statistics.median(answers):.2f}", f"{max(answers):.2f}"]


if __name__ == "__main__":
    main()
