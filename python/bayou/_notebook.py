"""The notebook around us, if there is one."""

from __future__ import annotations

import sys
from typing import Any


def shell() -> Any | None:
    """IPython's shell. If IPython is not imported, it is not running, so this function does not import it."""
    ipython = sys.modules.get("IPython")
    return None if ipython is None else ipython.get_ipython()


def named(name: str) -> Any | None:
    """The object of this name in the notebook, such as `spark` and `dbutils`."""
    here = shell()
    return None if here is None else here.user_ns.get(name)
