"""Run classifiers as actors of a Ray cluster. Each actor loads one model and receives rows in blocks."""

import json
import logging
import math
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow
import torch

from ..files.readers import WINDOW, TextColumns, Window
from ..files.sources import Reading, Source
from ..files.writers import Added, added_columns
from ..loading.classifiers import DTYPES, load_classifier
from ..loading.fingerprint import fingerprint
from ..pipeline.calibration import Calibration
from ..pipeline.options import is_int, is_real
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.prediction_sets import PredictionSets
from ..pipeline.scope import Scope
from ..pipeline.spread import Spread
from ..wording import first_line
from .row_scorer import RowScorer, why_not

if TYPE_CHECKING:
    import ray.data

# Temporary columns of a source's rows on their way to the workers and back.
_TEXT, _PAIR, _ERROR, _ROW = ON_THE_WAY = ("__text__", "__text_pair__", "__error__", "__row__")
_FAILURE = "__failure__"  # the only column of a block from a worker that cannot use its model
_BLOCK = 2**18  # approximate bytes of rows per block

RUNNING = "auto"  # Ray's name for the cluster that this machine belongs to

_PATIENCE = 5.0  # seconds to wait for a connection; Ray itself retries for minutes

_CLIENT = "ray://"


@dataclass(frozen=True)
class Cluster:
    """Workers of the Ray cluster that this process is connected to, or that Ray starts on this machine.

    Files and model folders must be visible to every machine of the cluster under the same path.

    Attributes: Same as the arguments of `scale.predict_dataset`.

    Raises:
        ValueError: The number of workers, CPUs or GPUs, or the dtype, is invalid.
    """

    model: str | Sequence[str] | None
    workers: int | tuple[int, int] = 1
    cpus: float = 1
    gpus: float = 0
    device: str | None = None
    dtype: str | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        numbers = self._range()
        if len(numbers) != 2 or not all(map(is_int, numbers)) or not 1 <= numbers[0] <= numbers[1]:
            raise ValueError(f"workers={self.workers!r}; it must be an integer of at least 1, or a pair (least, most)")
        for name in ("cpus", "gpus"):
            value = getattr(self, name)
            if not is_real(value) or not 0 <= value < math.inf:
                raise ValueError(f"{name}={value!r}; it must be a number of at least 0")
        if self.dtype not in (None, *DTYPES):
            raise ValueError(f"dtype={self.dtype!r}; it must be one of {', '.join(map(repr, DTYPES))}, or None")

    def classify(
        self,
        dataset: "ray.data.Dataset",
        columns: TextColumns,
        prefix: str,
        options: Mapping[str, Any],
        like: BayesianTextClassificationPipeline | None = None,
        batch_size: int | None = WINDOW,
    ) -> "ray.data.Dataset":
        """Append the columns of `RowScorer` to the rows.

        Args:
            dataset: Dataset with a column of texts. The third column of `ON_THE_WAY` may hold the rows' errors.
            columns: Columns of the texts.
            prefix: Prefix of the added columns' names.
            options: Options of the pipeline's calls.
            like: Classifier of the caller. The workers must load the same model, and get its calibration, scope and
                prediction sets.                 None if only the workers have a model.
            batch_size: Minimum number of rows per call, combined from small blocks. None passes blocks unchanged.
        """
        from ray.data import ActorPoolStrategy

        least, most = self._range()
        several = isinstance(self.model, Sequence) and not isinstance(self.model, str)
        model = [_absolute(one) for one in self.model or ()] if several else _absolute(self.model)
        known = None
        if like is not None:
            of_calls = {name: value for name, value in options.items() if name != "scores"}
            asked = like.with_options(of_calls)
            spread = like.spread_for(of_calls) if asked.num_samples > 1 and asked.posterior == "dropout" else None
            known = _Known(fingerprint(like), like.calibration, spread, like.scope, like.prediction_sets)
        loaded = {"name": model, "device": self.device, "dtype": self.dtype, "allow_pickle": self.allow_pickle}
        function = None if like is None else like.defaults.get("function_to_apply")
        loaded |= {} if function is None else {"function_to_apply": function}
        return dataset.map_batches(
            _Worker,
            fn_constructor_args=(loaded, columns, prefix, self.cpus, dict(options), known),
            batch_size=batch_size,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(min_size=least, max_size=most),
            num_cpus=self.cpus,
            num_gpus=self.gpus or None,
        )

    def answers(
        self,
        source: Source,
        columns: TextColumns,
        prefix: str,
        options: Mapping[str, Any],
        like: BayesianTextClassificationPipeline,
        *,
        added: Sequence[str],
        skip: int,
    ) -> Iterator[tuple[Window, Added]]:
        """Yield the rows of a source in order, except the first `skip`, with the cells that the workers add.

        Raises:
            ValueError: The cluster has too few resources for the workers, or they load a different model from `like`.
            Exception: An exception that a worker raised.
        """
        import ray.data

        self._check_room()
        start = ray.data.from_items([skip])
        start.context.execution_options.preserve_order = True  # only for this dataset
        start.context.target_max_block_size = _BLOCK
        source = replace(source, files=tuple(path.absolute() for path in source.files))
        # Reserves no CPU, so that the workers can use all of them.
        rows = start.map_batches(_read, fn_args=(source, columns, added), batch_size=1, num_cpus=0)
        ours = TextColumns(_TEXT, None if columns.pair is None else _PAIR)
        answered = self.classify(rows, ours, prefix, options, like, batch_size=None)
        try:
            for table in answered.iter_batches(batch_size=None, batch_format="pyarrow"):
                if not table.num_rows:  # all rows were already done
                    continue
                if table.column_names == [_FAILURE]:
                    raise ValueError(table[_FAILURE][0].as_py())
                names = table.column_names
                theirs = table.select(names[: names.index(_TEXT)])  # the columns of the source
                answers = table.select(names[names.index(_ERROR) + 1 :])
                if source.file_format == ".jsonl":
                    theirs = [json.loads(row) for row in table[_ROW].to_pylist()]
                yield Window(theirs, [None] * table.num_rows), answers.to_pylist()
        except ray.exceptions.RayError as error:
            raise _cause(error) from error

    def _check_room(self) -> None:
        import ray

        least, _ = self._range()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        asked = {name: each for name, each in (("CPU", self.cpus), ("GPU", self.gpus)) if each}
        room = (
            sum(int(min(node.get(name, 0) / each for name, each in asked.items())) for node in nodes)
            if asked
            else least
        )
        if least > room:
            each = " and ".join(f"{each:g} {name}" for name, each in asked.items())
            there = "; ".join(", ".join(f"{node.get(name, 0):g} {name}" for name in asked) for node in nodes)
            raise ValueError(
                f"{least} workers with {each} each: the cluster has room for {room} (its machines have {there})"
            )

    def _range(self) -> tuple[int, int]:
        return self.workers if isinstance(self.workers, tuple) else (self.workers, self.workers)


class _Worker:
    """A Ray actor: one model, which scores blocks of rows.

    If the model cannot be used and the rows go to `Cluster.answers`, the reason is sent there in place of rows: Ray
    wraps an error of its own around the errors of workers.
    """

    def __init__(
        self,
        loaded: Mapping[str, Any],
        columns: TextColumns,
        prefix: str,
        cpus: float,
        options: Mapping[str, Any],
        known: "_Known | None",
    ) -> None:
        torch.set_num_threads(max(int(cpus), 1))
        self._columns, self._failure = columns, ""
        try:
            self._scorer = RowScorer(_loaded(loaded, known), prefix, options)
        except ValueError as error:
            if known is None:
                raise
            self._failure = str(error)

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        if self._failure:
            return pyarrow.table({_FAILURE: [self._failure]})
        errors = table[_ERROR].to_pylist() if _ERROR in table.column_names else [None] * table.num_rows
        added = self._scorer(self._columns.of(Window(table, errors)), errors)
        for field, column in zip(self._scorer.added, added_columns(added, self._scorer.added), strict=True):
            if field.name in table.column_names:
                raise ValueError(f"the dataset already has a column {field.name!r}; set another prefix=")
            table = table.append_column(field, column)
        return table


@dataclass(frozen=True)
class _Known:
    """What the caller knows about the model: its hash, what was fitted, and how much its samples vary."""

    fingerprint: str
    calibration: Calibration
    spread: Spread | None
    scope: Scope | None
    sets: PredictionSets | None


def _absolute(model: Any) -> str | None:
    """The name of a model for workers, which run in other folders, so that a relative path would not work there."""
    return str(Path(model).absolute()) if model is not None and Path(model).exists() else model


def _loaded(arguments: Mapping[str, Any], known: _Known | None) -> BayesianTextClassificationPipeline:
    """The model of a worker, which must be the caller's."""
    classifier = load_classifier(**arguments)
    if known is not None:
        classifier.calibration, classifier.spread = known.calibration, known.spread
        if fingerprint(classifier) != known.fingerprint:
            raise ValueError(
                f"the workers load a different model or dtype ({arguments['name'] or 'the embedded one'}, "
                f"dtype={arguments['dtype']!r}) from the classifier; pass both the same: load_classifier(name, "
                "dtype=dtype), Cluster(name, dtype=dtype)"
            )
        classifier.scope, classifier.prediction_sets = known.scope, known.sets
    return classifier


def _cause(error: BaseException) -> BaseException:
    """The exception that a worker raised, unwrapped from those of Ray."""
    while (cause := getattr(error, "cause", None)) is not None:
        error = cause
    return error


def _read(
    skip: Mapping[str, Any], source: Source, columns: TextColumns, added: Sequence[str]
) -> Iterator[pyarrow.Table]:
    """Read the rows of a source as tables: its columns (for .jsonl, each row as one cell), the texts, and the error."""
    left = int(skip["item"][0])
    for window in Reading(source).windows():
        left -= len(window)
        if left >= 0:
            continue
        window, left = window.last(min(-left, len(window))), 0  # an earlier run may have stopped inside a window
        if source.file_format == ".jsonl":
            window = window.apart_from(added)
        errors = [error or why_not(item) for item, error in zip(columns.of(window), window.errors, strict=True)]
        if source.file_format == ".jsonl":
            table = pyarrow.table({_ROW: pyarrow.array([json.dumps(row) for row in window.as_dicts()])})
        else:
            table = window.rows if isinstance(window.rows, pyarrow.Table) else pyarrow.Table.from_pylist(window.rows)
        for name, column in ((_TEXT, columns.text), (_PAIR, columns.pair)):
            if column is not None:
                cells = zip(window.column(column), errors, strict=True)
                good = [None if error else cell for cell, error in cells]
                table = table.append_column(name, pyarrow.array(good, pyarrow.string()))
        table = table.append_column(_ERROR, pyarrow.array(errors, pyarrow.string()))
        yield table


def connect(address: str) -> None:
    """Connect to a Ray cluster, without its progress bars and logs.

    Args:
        address: `host:port`, `ray://host:port`, "local" to start a cluster on this machine, or `RUNNING` for the one
            in the environment variable RAY_ADDRESS, else the one running on this machine.

    Raises:
        ValueError: Ray is not installed, or there is no cluster at that address. The message is one line for the user.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray's threads would write into the progress bar
    try:
        import ray
    except ImportError as error:
        raise ValueError("this needs Ray: pip install 'ray[data]'") from error
    if address == RUNNING:
        address = os.environ.get("RAY_ADDRESS") or RUNNING
    _check_address(address)
    try:
        with _silent_stderr():
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except Exception as error:  # Ray's own, or one of the connection or the address
        if address == RUNNING and isinstance(error, ConnectionError):
            raise ValueError("no Ray cluster is running here; pass an address, or 'local' to start one") from error
        raise ValueError(f"no Ray cluster at {address!r}: {first_line(error)}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # exceptions of workers are raised here anyway


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Silence the process's stderr, including output of native code. Errors of Ray are still raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _check_address(address: str) -> None:
    """Raise ValueError if nothing listens at a host and port."""
    host, colon, port = address.removeprefix(_CLIENT).rpartition(":")
    if not (colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"no Ray cluster at {address!r}: nothing answers there ({reason})") from error
