"""Read lines of a text file of any size: decode them, cut long ones, and push them back on request."""

import csv
import io
import threading
from collections import deque
from collections.abc import Iterator

LINE_CHARACTERS = 2**24  # maximum of a line, and of a row that spans several lines

_SHOWN = 200  # characters of an unreadable row that its error shows


class Lines:
    """Iterates over the lines of a stream. Long lines are cut, and lines can be pushed back.

    Attributes:
        problem: What is wrong with the lines since `begin`, or None.
        read: Number of characters in all lines read so far.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream
        self._first = True
        self._since: list[tuple[str, str | None]] = []  # lines of this row, each with its problem
        self._back: deque[tuple[str, str | None]] = deque()
        self.problem: str | None = None
        self.read = 0

    def begin(self) -> None:
        """Start a new row."""
        self.problem, self._since = None, []

    @property
    def raw(self) -> str:
        """The beginning of the lines since `begin`."""
        return "".join(line[:_SHOWN] for line, _ in self._since[:_SHOWN])[: _SHOWN + 1]

    def give_back(self) -> None:
        """Push back all lines since `begin` except the first."""
        self._back.extendleft(reversed(self._since[1:]))
        del self._since[1:]
        self.problem = self._since[0][1] if self._since else None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line, problem = self._back.popleft() if self._back else self._looked_at(self._stream.readline(LINE_CHARACTERS))
        if not line:
            raise StopIteration
        self._since.append((line, problem))
        self.problem = self.problem or problem
        return line

    def _looked_at(self, line: str) -> tuple[str, str | None]:
        if self._first and line.encode("utf-8", "surrogateescape")[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError("it is UTF-16; convert it to UTF-8")
        self._first = False
        self.read += len(line)
        problem = None
        if len(line) == LINE_CHARACTERS and not line.endswith("\n"):
            while (rest := self._stream.readline(LINE_CHARACTERS)) and not rest.endswith("\n"):
                pass
            problem = f"is longer than {LINE_CHARACTERS:,} characters and was cut"
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as error:
                byte = ord(line[error.start]) - 0xDC00
                problem = f"is not UTF-8 (byte 0x{byte:02x} at character {error.start + 1})"
                line = line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return line, problem


class LongFields:
    """Context in which the csv module accepts fields of up to `LINE_CHARACTERS`. Afterwards, its limit is restored.

    The limit (131,072) is global to the process. The first thread to enter raises it, and the last one to leave
    restores it. Threads do not wait for each other.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = csv.field_size_limit(LINE_CHARACTERS)
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                csv.field_size_limit(self._before)


long_fields = LongFields()


class CsvLines:
    """Iterates over the lines of one csv row, up to a limit on their characters."""

    def __init__(self, lines: Lines) -> None:
        self._lines, self._taken = lines, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if self._taken and self._taken + len(line) > LINE_CHARACTERS:
            raise csv.Error(f"a quote is not closed within {LINE_CHARACTERS:,} characters")
        self._taken += len(line)
        return line


def beginning(raw: str) -> str:
    """The first characters of a row, quoted, for its error message."""
    return repr(raw if len(raw) <= _SHOWN else raw[:_SHOWN] + "...")
