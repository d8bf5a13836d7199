"""Many runs of a simulation, on all cores."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch
from tqdm import tqdm

Found = TypeVar("Found")


def over_seeds(found: Callable[[int], Found], runs: int, title: str) -> list[Found]:
    """Results for the seeds 1 to `runs`."""
    with ProcessPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as workers:
        return list(tqdm(workers.map(found, range(1, runs + 1), chunksize=5), title, total=runs))
