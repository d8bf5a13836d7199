"""Small csv files."""

import csv


def write(path, header, rows):
    """Write a csv with a header. Returns its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def read(path):
    """The rows of a csv, as dicts."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
