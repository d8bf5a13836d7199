"""Serve pages from a separate process, and open them in a real browser."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from environments import only
from pushed import copy_of_space

ARTEFACTS = Path(__file__).parents[2] / "test-artefacts"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# The contrast (WCAG 2.2, 1.4.3) of each visible element with the nearest opaque background behind it.
CONTRASTS = """selector => {
    const numbers = color => color.match(/[\\d.]+/g).map(Number);
    const linear = part => part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const solid = color => {
        if (!color.startsWith("rgb") || ![undefined, 0, 1].includes(numbers(color)[3])) throw Error(color);
        return numbers(color);
    };
    const behind = element => {
        const color = element ? solid(getComputedStyle(element).backgroundColor) : [255, 255, 255];
        return color[3] === 0 ? behind(element.parentElement) : color;
    };
    return [...document.querySelectorAll(selector)].filter(one => one.checkVisibility()).map(one => {
        const both = [luminance(solid(getComputedStyle(one).color)), luminance(behind(one))];
        return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    });
}"""


@contextlib.contextmanager
def served(folder, home, python=sys.executable):
    """Start `app.py` in its folder, as in a Space, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(home),
        "GRADIO_TEMP_DIR": str(home / "uploads"),
    }
    log = home / "log"
    with log.open("w") as output:
        process = subprocess.Popen([str(python), "app.py"], cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(480):
            try:
                urllib.request.urlopen(url, timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(20)


@contextlib.contextmanager
def launched(app):
    """Serve the page of an `app.py` from this process, and yield its address."""
    page = app.build()
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, share=False)
    yield address
    page.close()


@contextlib.contextmanager
def served_metric(name, tmp_path_factory):
    """Start the page that `push metric user/NAME` published, with only the packages of its requirements and gradio."""
    copy = copy_of_space("metric", tmp_path_factory.mktemp("hub") / "metric", f"user/{name}")
    needed = (copy / "requirements.txt").read_text().split()
    python = only(tmp_path_factory.mktemp("python") / "environment", *needed, "gradio")
    with served(copy, tmp_path_factory.mktemp("home"), python) as address:
        yield address


@contextlib.contextmanager
def opened(address, **options):
    """Open the page in a browser. The test is skipped if there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    ARTEFACTS.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 1250}, **options})
        page.set_default_timeout(120_000)
        page.goto(address)
        yield page
        browser.close()
