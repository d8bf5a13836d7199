"""Texts by the million: files on one machine, Ray Data on many."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow
import torch
from transformers import PreTrainedTokenizerBase

from ..files.formats import COMPRESSIONS, output_format_of
from ..files.journal import Blocks, Journal, StreamOutput, working_files
from ..files.readers import TEXT, TEXT_COLUMNS, Window
from ..files.sources import Reading, Source, SourceError, source_of
from ..files.writers import Added, writer_for
from ..loading.fingerprint import fingerprint
from ..pipeline.options import OF_CALLS, check_tokenizer_options
from ..pipeline.pipeline import BayesianTextClassificationPipeline
from ..pipeline.versions import version_of
from ..wording import first_line, some
from .cluster import ON_THE_WAY, Cluster
from .row_scorer import NAMES, RowScorer, check_options

if TYPE_CHECKING:
    import ray.data

_VERSIONS = ("bayesian-text-classification", "torch", "transformers", "tokenizers", "pyarrow")


@dataclass(frozen=True)
class Summary:
    """What came of a run.

    Attributes:
        rows: of the output.
        errors: those of them that were not classified, by file_format.
    """

    rows: int
    errors: Counter[str]


def predict_file(
    classifier: BayesianTextClassificationPipeline,
    source: Source | str | os.PathLike[str],
    target: str | os.PathLike[str] | BinaryIO,
    output_format: str | None = None,
    *,
    compression: str | None = None,
    text_column: str | None = None,
    prefix: str = "",
    resume: bool = False,
    cluster: Cluster | None = None,
    progress: Callable[[float, float | None], object] = lambda rows, done: None,
    **options: Any,
) -> Summary:
    """Classify every row in constant memory: the rows as they are, in their order, with the answers beside them.

    A row that cannot be read or classified has its reason in the column `error`, and no label. The file appears whole
    or not at all. What is left of a run that was killed lies beside it (`journal`), and `resume` goes on with that; the
    result has the same bytes as that of a run that was not (with workers, whose batches then differ, scores are within
    1e-5).

    Args:
        classifier: of the texts.
        source: the rows; a file, a pattern such as `data/*.csv`, or what `files.source_of` makes of these.
        target: a path, or a stream of bytes.
        output_format: "csv", "tsv", "jsonl" or "parquet"; None: as the name ends, and "jsonl" for a stream.
        compression: ".gz", ".bz2", ".xz", ".zst" or "" for none; None: as the name ends.
        text_column: default `text`, else `sentence`.
        prefix: of the names of the added columns.
        resume: refused where input, model, options, versions or the number of threads are not as they were.
        cluster: whose workers classify; their model must be the classifier's. None: this process.
        progress: called after each batch with the rows that it amounts to (a fraction: batches hold passes, not rows;
            0 for rows of an earlier run), and the share of the input that is done, None where there is no knowing.
            With a tolerance rows that are done early count in full once their window is; of workers, blocks count.
        **options: of the pipeline's calls.

    Raises:
        SourceError: the input is damaged, has no column of texts, does not fit what is to be written, or would be
            written over; it is a stream, and is to be gone on with or given to workers.
        ValueError: an option, a format or a compression is none of those that there are, or the cluster's model is not
            the classifier's; a TypeError where an option is unknown, or is `top_k`.
        JournalError: see `Journal`.
        OSError: what is to be written cannot be.
    """
    source = source if isinstance(source, Source) else source_of(os.fspath(source))
    target = Path(target) if isinstance(target, (str, os.PathLike)) else target
    file_format, by_name = output_format_of(target if isinstance(target, Path) else None, output_format)
    compression = by_name if compression is None else compression
    if compression not in ("", *COMPRESSIONS):
        legal = ", ".join(map(repr, ("", *COMPRESSIONS)))
        raise ValueError(f"compression={compression!r}; it must be one of {legal}")
    if isinstance(target, Path):
        _check_target(source, target, resume)
    scorer = RowScorer(classifier, prefix, options)
    reading = Reading(source)
    windows = reading.windows()
    first = next(windows, None)
    columns = reading.columns if reading.columns is not None else _keys(first)
    column = _text_column(source, columns, text_column)
    _check_type(source, reading.schema, column)
    _check_names(source.name, columns, scorer.added.names)
    _check_conversion(source, file_format)
    if cluster is not None:
        if not source.files:
            raise SourceError("workers cannot read stdin; give them a file")
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
            "text column": column,
            "prefix": prefix,
            "input format": source.file_format,
            "output format": file_format + compression,
            **{
                name: getattr(value, "tolist", lambda value=value: value)() for name, value in options.items()
            },  # of NumPy
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
            if reading.columns is None:  # else they were looked at before
                window = window.apart_from(scorer.added.names)
            if read > blocks.rows:
                parts = _Parts(len(window), before or 0.0, reading.done, progress)
                added = scorer(window.column(column), window.errors, parts.advance)
                yield window, added
                parts.finish()
            else:
                progress(0, reading.done)
            before = reading.done

    if cluster is None:
        answers = here()
    else:
        own = {**asdict(classifier.sampling), **classifier.defaults}
        answers = cluster.answers(
            source,
            column,
            prefix,
            {**own, **scorer.options},
            classifier,
            added=scorer.added.names,
            skip=blocks.rows,
        )
    before = classifier.batch_tokens
    try:
        classifier.batch_tokens = blocks.state.get("batch_tokens", before)
        for window, added in answers:
            # Where memory runs out, later batches are smaller: whoever goes on must know.
            state = {"batch_tokens": classifier.batch_tokens}
            blocks.append(writer.block(window, added), len(window), scorer.counts(added), state)
            if cluster is not None:
                progress(len(window), None)
        blocks.finish(writer.finish)
    finally:
        classifier.batch_tokens = before
        blocks.close()
    return Summary(blocks.rows, blocks.errors)


def predict_dataset(
    dataset: "ray.data.Dataset",
    model: str | None = None,
    *,
    text_column: str = TEXT,
    prefix: str = "",
    workers: int | tuple[int, int] = 1,
    cpus: float = 1,
    gpus: float = 0,
    device: str | None = None,
    dtype: str | None = None,
    allow_pickle: bool = False,
    **options: Any,
) -> "ray.data.Dataset":
    """Classify every row of a Ray dataset; lazily, as Ray's own transformations. Needs the extra `[ray]`.

    The answers do not depend on workers, blocks or order: label, score and uncertainty of a text are those of the
    pipeline alone, within 1e-5 in float32. Retries after a lost worker, and back-pressure, are Ray's.

    Args:
        dataset: with a column of texts.
        model: a folder that every worker can read, or a Hub id; None: the embedded one.
        text_column: of the texts. A row whose text is null, empty, or of more than `data.MOST_CHARACTERS` characters
            gets no label, and its reason in the column `error`.
        prefix: of the names of the added columns.
        workers: actors, each with a model of its own; (least, most) where Ray may choose.
        cpus: of each actor, which are also its threads.
        gpus: of each actor.
        device: None: a GPU where the actor has one.
        dtype: None: the model's own.
        allow_pickle: weights of .bin files are read too.
        **options: of the pipeline's calls.

    Returns:
        The rows, with the columns that `predict_file` adds.

    Raises:
        SourceError: there is no such column of texts, or one with the name of a column that is added.
        ValueError: an option, or what is asked of the workers, is out of range.
        TypeError: an option is unknown, or is `top_k`: each row has one label.
    """
    check_options(options)
    check_tokenizer_options([name for name in options if name not in OF_CALLS], PreTrainedTokenizerBase.__call__)
    cluster = Cluster(model, workers, cpus, gpus, device, dtype, allow_pickle)
    columns = dataset.columns()
    if columns is not None:  # None: of a dataset without rows
        if text_column not in columns:
            raise SourceError(f"the dataset has no column {text_column!r}; its columns are {some(columns)}")
        _check_names("the dataset", columns, [*ON_THE_WAY, *(prefix + name for name in NAMES)])
    return cluster.classify(dataset, text_column, prefix, options)


@dataclass
class _Parts:
    """The progress inside a window; the rows of its parts add up to its own."""

    rows: int
    before: float  # the share of the input that was done
    after: float | None
    show: Callable[[float, float | None], object]
    told: float = 0.0

    def advance(self, rows: float) -> None:
        """So many rows more; the last one is done when the window is, however many are tried again or spared."""
        self._tell(min(rows, self.rows - 1 - self.told))

    def finish(self) -> None:
        """All rows."""
        self._tell(self.rows - self.told)

    def _tell(self, rows: float) -> None:
        self.told += rows
        share = None if self.after is None else self.before + (self.after - self.before) * self.told / self.rows
        self.show(rows, share)


def _settings(classifier: BayesianTextClassificationPipeline) -> dict[str, Any]:
    """What else the last digit of an answer depends on, by names that a user knows."""
    return {
        "default options": f"{classifier.sampling}, {json.dumps(classifier.defaults, default=str)}",
        "temperature": classifier.temperature,
        "model": fingerprint(classifier),
        "device": str(classifier.device),
        "dtype": str(classifier.run_dtype).removeprefix("torch."),
        "number of threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        **{f"version of {name}": version_of(name) for name in _VERSIONS},
    }


def _keys(window: Window | None) -> list[str]:
    rows = [] if window is None else window.as_dicts()
    return list(dict.fromkeys(name for row in rows for name in row))


def _text_column(source: Source, columns: Sequence[str], wanted: str | None) -> str:
    candidates = TEXT_COLUMNS if wanted is None else (wanted,)
    for name in candidates:
        if name in columns:
            return name
    if not columns and source.file_format == ".jsonl":  # none of the first rows could be read: the others may be
        return candidates[0]
    if not columns:
        raise SourceError(f"{source.name} has no rows")
    raise SourceError(
        f"{source.name} has no column {' or '.join(map(repr, candidates))}; its columns are {some(columns)} (choose "
        "with text_column=; a file without a header has its first row taken for one)"
    )


def _check_type(source: Source, schema: pyarrow.Schema | None, column: str) -> None:
    """SourceError where no cell of the column can be a text: in rows of other formats each cell has its own type."""
    if schema is None:
        return
    file_format = schema.field(column).type
    file_format = file_format.value_type if pyarrow.types.is_dictionary(file_format) else file_format
    tests = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view", "null")
    if not any(getattr(pyarrow.types, f"is_{name}")(file_format) for name in tests):
        raise SourceError(
            f"the column {column!r} of {source.name} holds {file_format}, not texts; choose with text_column="
        )


def _check_target(source: Source, target: Path, resume: bool) -> None:
    if resume and not source.files:
        raise SourceError("resume=True needs a file: what was read from stdin cannot be read again")
    for path in (target, *working_files(target)):
        if os.path.exists(path) and any(path.samefile(read) for read in source.files):
            raise SourceError(f"{path} is the input; name another file for the output")


def _check_names(name: str, columns: Sequence[str], added: Sequence[str]) -> None:
    taken = [column for column in added if column in columns]
    if taken:
        raise SourceError(
            f"{name} has a column {taken[0]!r} already; a prefix names ours apart, such as prefix='predicted_'"
        )


def _check_conversion(source: Source, file_format: str) -> None:
    if source.file_format == ".jsonl" and file_format != ".jsonl":
        raise SourceError(f"the rows of {source.name} may differ in their columns, which only a .jsonl file can hold")
    if file_format == ".tsv" and source.file_format != ".tsv":
        raise SourceError(f"cells of {source.name} may hold tabs or ends of line, which a .tsv file cannot; use .csv")
