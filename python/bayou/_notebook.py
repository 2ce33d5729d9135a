"""The notebook around us, if there is one."""

from __future__ import annotations

import sys
from typing import Any


def shell() -> Any | None:
    """IPython's shell. What nobody has imported is not running, so nothing is imported for it."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def named(name: str) -> Any | None:
    """What the notebook's user calls so, as `spark` and `dbutils`."""
    here = shell()
    return None if here is None else here.user_ns.get(name)
