"""Classify millions of texts: files on one machine, Ray Data on many."""

import copy
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow
import torch
from transformers import PreTrainedTokenizerBase

from ..files.formats import COMPRESSIONS, output_format_of
from ..files.journal import Blocks, Journal, StreamOutput, working_files
from ..files.readers import TEXT, TextColumns, Window
from ..files.sources import Reading, Source, SourceError, source_of
from ..files.text_columns import check_apart, names_in, text_columns
from ..files.writers import Added, writer_for
from ..loading.fingerprint import fingerprint
from ..pipeline.options import OF_CALLS, check_tokenizer_options
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.progress import progress_bar
from ..pipeline.versions import version_of
from ..wording import first_line, some
from .cluster import ON_THE_WAY, Cluster
from .row_scorer import NAMES, RowScorer, check_options

if TYPE_CHECKING:
    import ray.data

IF_TAKEN = "predicted_"  # prefix of the added columns if the input has a column of such a name
_VERSIONS = ("bayesian-text-classification", "torch", "transformers", "tokenizers", "pyarrow")


@dataclass(frozen=True)
class Summary:
    """Counts of a run.

    Attributes:
        rows: Number of rows in the output.
        errors: Number of these rows that were not classified, by kind of error.
        abstained: Number of these rows that were classified, but got no label because of the threshold or the novelty
            level. None if there is neither.
    """

    rows: int
    errors: Counter[str]
    abstained: int | None


def predict_file(
    classifier: BayesianTextClassificationPipeline,
    source: Source | str | os.PathLike[str],
    target: str | os.PathLike[str] | BinaryIO,
    output_format: str | None = None,
    *,
    compression: str | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    prefix: str | None = None,
    scores: str | None = None,
    resume: bool = False,
    cluster: Cluster | None = None,
    progress: Callable[[float, float | None], object] | None = None,
    **options: Any,
) -> Summary:
    """Classify every row of a file in constant memory. Rows keep their columns and order, and get the answers.

    A row that cannot be read or classified gets no label, and the reason in the column `error`. The file is written
    atomically. A killed run leaves its progress next to it (see `journal`), and `resume=True` continues from there. The
    result has the same bytes as an uninterrupted run. (With workers, batches differ, and scores agree within 1e-5.)

    Args:
        classifier: Pipeline that classifies the texts.
        source: Path, pattern such as `data/*.csv`, or result of `files.source_of`.
        target: Path, or stream of bytes.
        output_format: "csv", "tsv", "jsonl" or "parquet". None uses the file extension, and "jsonl" for a stream.
        compression: ".gz", ".bz2", ".xz", ".zst" or "" for none. None uses the file extension.
        text_column: Column of the texts. Default: `text`, else `sentence`.
        text_pair_column: Column of the second texts, for a model of pairs such as NLI. Default: single texts.
        prefix: Prefix of the added columns' names. None: "predicted_" if the input has a column of such a name, else
            none.
        scores: "top" for the winning label, or "all" for the columns `score_<label>` of all labels too. None: "all" for
            independent labels, else "top". With thresholds, independent labels add `predicted_labels`, separated by
            commas.
        resume: Whether to continue an earlier run. Refused if the input, model, options, versions or number of threads
            changed.
        cluster: Cluster whose workers classify. They must load the classifier's model. None uses this process.
        progress: Function called after each batch with two numbers. The first is the number of rows that the batch
            amounts to: a fraction, because batches hold passes, not rows; 0 for rows of an earlier run. The second is
            the share of the input that is done, or None if unknown. With a tolerance, rows that stop early count in
            full only when their window is done. With workers, it is called after each block. None: the number of texts
            appears after 5 seconds, in a terminal or a notebook.
        **options: Options of the pipeline's calls.

    Raises:
        SourceError: The input is damaged, has no column of texts, does not fit the output format, or would be
            overwritten; or it is a stream, and `resume` or `cluster` is given.
        ValueError: An option, format or compression is invalid, or the cluster's model is not the classifier's.
        TypeError: An option is unknown, or is `top_k`.
        JournalError: See `Journal`.
        OSError: The output cannot be written.
    """
    classifier = copy.copy(classifier)  # its `batch_tokens` may change: the caller's does not
    source = source if isinstance(source, Source) else source_of(os.fspath(source))
    target = Path(target) if isinstance(target, (str, os.PathLike)) else target
    file_format, by_name = output_format_of(target if isinstance(target, Path) else None, output_format)
    compression = by_name if compression is None else compression
    if compression not in ("", *COMPRESSIONS):
        legal = ", ".join(map(repr, ("", *COMPRESSIONS)))
        raise ValueError(f"compression={compression!r}; it must be one of {legal}")
    if isinstance(target, Path):
        _check_target(source, target, resume)
    options["scores"] = scores
    scorer = RowScorer(classifier, prefix or "", options)
    reading = Reading(source)
    windows = reading.windows()
    first = next(windows, None)
    columns = names_in(reading, first)
    texts = text_columns(source, columns, text_column, text_pair_column)
    for name, column in (("text_column", texts.text), ("text_pair_column", texts.pair)):
        _check_type(source, reading.schema, column, name)
    if prefix is None and set(scorer.added.names) & set(columns):
        scorer = RowScorer(classifier, IF_TAKEN, options)
    prefix = scorer.prefix
    _check_names(source.name, columns, scorer.added.names)
    _check_conversion(source, file_format)
    if cluster is not None:
        if not source.files:
            raise SourceError("workers cannot read stdin; pass a file")
        _check_names(source.name, columns, ON_THE_WAY)
    try:
        writer = writer_for(file_format, compression, reading.columns, reading.schema, scorer.added)
    except pyarrow.ArrowException as error:
        raise SourceError(
            f"{source.name} has columns that a {file_format} file cannot hold: {first_line(error)}"
        ) from error
    blocks: Blocks
    if isinstance(target, Path):
        settings: dict[str, Any] = {
            "text column": texts.text,
            "text pair column": texts.pair,
            "prefix": prefix,
            "input format": source.file_format,
            "output format": file_format + compression,
            **{
                name: getattr(value, "tolist", lambda value=value: value)()  # NumPy scalars to Python's
                for name, value in options.items()
                if name != "threshold"
            },
            "scores": scorer.scores,
            "threshold": scorer.threshold,
            **_settings(classifier),
            **source.digests(),
        }
        settings |= {"workers": None if cluster is None else str(cluster)}
        blocks = Journal(target, settings, writer.header(), resume=resume)
    else:
        blocks = StreamOutput(target, writer.header())

    def here() -> Iterator[tuple[Window, Added]]:
        read, before = 0, None
        for window in chain([first] if first is not None else [], windows):
            read += len(window)
            if reading.columns is None:  # otherwise the names were checked above
                window = window.apart_from(scorer.added.names)
            if read > blocks.rows:
                parts = _Parts(len(window), before or 0.0, reading.done, show)
                added = scorer(texts.of(window), window.errors, parts.advance)
                yield window, added
                parts.finish()
            else:
                show(0, reading.done)
            before = reading.done

    if cluster is None:
        answers = here()
    else:
        own = {**asdict(classifier.with_options(scorer.options)), **classifier.defaults}
        answers = cluster.answers(
            source,
            texts,
            prefix,
            {**own, **scorer.options, "scores": scorer.scores},
            classifier,
            added=scorer.added.names,
            skip=blocks.rows,
        )
    try:
        classifier.batch_tokens = blocks.state.get("batch_tokens", classifier.batch_tokens)
        with _shown(progress) as show:
            for window, added in answers:
                # After running out of memory, batches are smaller. A resumed run must use the same size.
                abstained = blocks.state.get("abstained", 0) + scorer.abstained(added)
                state = {"batch_tokens": classifier.batch_tokens, "abstained": abstained}
                blocks.append(writer.block(window, added), len(window), scorer.counts(added), state)
                if cluster is not None:
                    show(len(window), None)
        blocks.finish(writer.finish)
    finally:
        blocks.close()
    abstained = blocks.state.get("abstained", 0) if scorer.may_abstain else None
    return Summary(blocks.rows, blocks.errors, abstained)


def predict_dataset(
    dataset: "ray.data.Dataset",
    model: str | Sequence[str] | None = None,
    *,
    text_column: str = TEXT,
    text_pair_column: str | None = None,
    prefix: str | None = None,
    scores: str | None = None,
    workers: int | tuple[int, int] = 1,
    cpus: float = 1,
    gpus: float = 0,
    device: str | None = None,
    dtype: str | None = None,
    allow_pickle: bool = False,
    **options: Any,
) -> "ray.data.Dataset":
    """Classify every row of a Ray dataset, lazily, like Ray's own transformations. Needs the extra `[ray]`.

    The answers do not depend on workers, blocks or order: the label, score and uncertainty of a text are those of the
    pipeline itself, within 1e-5 in float32. Ray handles retries after a lost worker, and back-pressure.

    Args:
        dataset: Ray dataset with a column of texts.
        model: Folder that every worker can read, or Hub id; a list of them for an ensemble. None loads the embedded
            one.
        text_column: Column of the texts. A row whose text is null, empty, or longer than
            `labeled_texts.MOST_CHARACTERS` characters gets no label, and the reason in the column `error`.
        text_pair_column: Column of the second texts, for a model of pairs. Default: single texts.
        prefix: Prefix of the added columns' names. None: "predicted_" if the dataset has a column of a name that a
            classifier may add, else none.
        scores: "top", "all" or None, as for `predict_file`.
        workers: Number of actors, or (least, most) to let Ray choose. Each actor loads its own copy of the model.
        cpus: CPUs per actor, which is also its number of threads.
        gpus: GPUs per actor.
        device: Device of the model. None uses a GPU if the actor has one.
        dtype: Data type of the model. None uses the model's own.
        allow_pickle: Whether to load weights from .bin files too.
        **options: Options of the pipeline's calls.

    Returns:
        The rows, with the columns that `predict_file` adds.

    Raises:
        SourceError: The column of texts is missing, or a column has the name of an added column.
        ValueError: An option or a setting of the workers is out of range.
        TypeError: An option is unknown, or is `top_k` (each row has one label).
    """
    check_options({**options, "scores": scores})
    check_tokenizer_options([name for name in options if name not in OF_CALLS], PreTrainedTokenizerBase.__call__)
    cluster = Cluster(model, workers, cpus, gpus, device, dtype, allow_pickle)
    columns = dataset.columns()
    if columns is not None:  # None for a dataset without rows
        for name in (text_column, text_pair_column):
            if name is not None and name not in columns:
                raise SourceError(f"the dataset has no column {name!r}; its columns are {some(columns)}")
        if prefix is None and set(NAMES) & set(columns):
            prefix = IF_TAKEN
        _check_names("the dataset", columns, [*ON_THE_WAY, *((prefix or "") + name for name in NAMES)])
    texts = TextColumns(text_column, text_pair_column)
    check_apart(texts)
    return cluster.classify(dataset, texts, prefix or "", {**options, "scores": scores})


@contextmanager
def _shown(
    progress: Callable[[float, float | None], object] | None,
) -> Iterator[Callable[[float, float | None], object]]:
    """Yield `progress`, or if it is None, a function that shows the number of texts in a bar."""
    if progress is not None:
        yield progress
        return
    texts = 0.0
    with progress_bar(None, None, "text") as advance:

        def show(more: float, done: float | None) -> None:
            nonlocal texts
            before, texts = int(texts), texts + more
            advance(int(texts) - before)

        yield show


@dataclass
class _Parts:
    """Reports progress within a window. The rows of its parts add up to the rows of the window."""

    rows: int
    before: float  # share of the input done before this window
    after: float | None
    show: Callable[[float, float | None], object]
    reported: float = 0.0

    def advance(self, rows: float) -> None:
        """Add rows, but keep the last one for `finish`, because rows may be retried or stop early."""
        self._report(min(rows, self.rows - 1 - self.reported))

    def finish(self) -> None:
        """Complete all rows."""
        self._report(self.rows - self.reported)

    def _report(self, rows: float) -> None:
        self.reported += rows
        share = None if self.after is None else self.before + (self.after - self.before) * self.reported / self.rows
        self.show(rows, share)


def _settings(classifier: BayesianTextClassificationPipeline) -> dict[str, Any]:
    """Everything else that the last digit of an answer depends on, under names that users know."""
    return {
        "default options": f"{classifier.sampling}, {json.dumps(classifier.defaults, default=str)}",
        "calibration": json.dumps(classifier.calibration.saved(), sort_keys=True),
        "scope": None if classifier.scope is None else classifier.scope.digest(),
        "prediction sets": None if classifier.prediction_sets is None else classifier.prediction_sets.digest(),
        "model": fingerprint(classifier),
        "device": str(classifier.device),
        "dtype": str(classifier.run_dtype).removeprefix("torch."),
        "number of threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        **{f"version of {name}": version_of(name) for name in _VERSIONS},
    }


def _check_type(source: Source, schema: pyarrow.Schema | None, column: str | None, option: str) -> None:
    """Raise `SourceError` if the parquet column cannot hold text. In other formats, each cell has its own type."""
    if schema is None or column is None:
        return
    arrow_type = schema.field(column).type
    arrow_type = arrow_type.value_type if pyarrow.types.is_dictionary(arrow_type) else arrow_type
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")
    if not any(getattr(pyarrow.types, f"is_{name}")(arrow_type) for name in tests):
        raise SourceError(
            f"column {column!r} of {source.name} holds {arrow_type}, not text; choose another with {option}="
        )


def _check_target(source: Source, target: Path, resume: bool) -> None:
    if resume and not source.files:
        raise SourceError("resume=True needs a file: stdin cannot be read twice")
    for path in (target, *working_files(target)):
        if os.path.exists(path) and any(path.samefile(read) for read in source.files):
            raise SourceError(f"{path} is the input file; choose another output file")


def _check_names(name: str, columns: Sequence[str], added: Sequence[str]) -> None:
    taken = [column for column in added if column in columns]
    if taken:
        raise SourceError(
            f"{name} already has a column {taken[0]!r}; set another prefix for the added columns, such as "
            "prefix='model_'"
        )


def _check_conversion(source: Source, file_format: str) -> None:
    if source.file_format == ".jsonl" and file_format != ".jsonl":
        raise SourceError(f"rows of {source.name} may have different columns, which only .jsonl can hold; use .jsonl")
    if file_format == ".tsv" and source.file_format != ".tsv":
        raise SourceError(f"cells of {source.name} may contain tabs or line breaks, which .tsv cannot hold; use .csv")
