"""How many inputs the tests named `fuzz` try; with more of them, and the number told:

FUZZ=20000 python -m pytest -k fuzz --hypothesis-show-statistics
"""

import os

from hypothesis import HealthCheck, settings


def tried(usual):
    """Settings of a fuzz test: as many examples as the environment asks for, of any kind."""
    return settings(max_examples=int(os.environ.get("FUZZ", usual)), suppress_health_check=list(HealthCheck))
