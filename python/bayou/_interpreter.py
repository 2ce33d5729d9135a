"""Refuses the import in a subinterpreter, because the core has threads and state that belong to the process."""

from __future__ import annotations

import importlib
from typing import Any


def _is_main() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            known: Any = importlib.import_module(name)
            return bool(known.get_current() == known.get_main())
        except (ImportError, AttributeError):
            continue
    return True


def check() -> None:
    if not _is_main():
        raise ImportError(
            "bayou runs in the main interpreter only, because its threads and Kafka clients belong to the process. "
            'Import it there, or in a separate process (multiprocessing with "spawn").'
        )
