"""Number of inputs that the tests named `fuzz` try. To try more, and print the number:

FUZZ=20000 python -m pytest -k fuzz --hypothesis-show-statistics
"""

import os

from hypothesis import HealthCheck, settings


def tried(usual):
    """Settings of a fuzz test: `FUZZ` examples if the variable is set, else `usual`, without health checks."""
    return settings(max_examples=int(os.environ.get("FUZZ", usual)), suppress_health_check=list(HealthCheck))
