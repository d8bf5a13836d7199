"""Run programs in processes that have imported nothing of this project."""

import json
import os
import subprocess
import sys

_FORKS = """
import contextlib, io, json, os, sys, tarfile, traceback
import torch, transformers.pipelines  # the slow imports, once
said = {}
for name, code in json.loads(sys.argv[1]).items():
    read, write = os.pipe()
    if os.fork() == 0:
        os.dup2(write, 1), os.dup2(write, 2)
        try:
            exec(compile(code, name, "exec"), {"__name__": "__main__"})
        except BaseException as error:
            if not isinstance(error, SystemExit):
                traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(0)
    os.close(write)
    said[name] = open(read).read()
    os.wait()
print(json.dumps(said))
"""


def each_alone(programs, **variables):
    """What each program prints, by name: each in its own fork of one interpreter with torch and transformers."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-c", _FORKS, json.dumps(programs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def lines_of_two(code, *arguments):
    """What each of two processes prints, as lines. Their last argument is their number, 0 or 1."""
    processes = []
    for number in ("0", "1"):
        command = [sys.executable, "-c", code, *map(str, arguments), number]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return [process.communicate(timeout=100)[0].splitlines() for process in processes]
