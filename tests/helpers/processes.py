"""Run a program in two processes at once."""

import subprocess
import sys


def lines_of_two(code, *arguments):
    """What each of two processes prints, as lines. Their last argument is their number, 0 or 1."""
    processes = []
    for number in ("0", "1"):
        command = [sys.executable, "-c", code, *map(str, arguments), number]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return [process.communicate(timeout=100)[0].splitlines() for process in processes]
