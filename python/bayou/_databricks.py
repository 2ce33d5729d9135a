"""The login of databricks-sdk, where it is installed. In a notebook of Databricks that is the notebook's own login."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def login(host: str | None) -> tuple[str, Callable[[], dict[str, str]]] | None:
    """The host, and a function that gives the headers of a request. None: databricks-sdk is not installed.

    Raises:
        ValueError: It is installed, and finds no login.
    """
    try:
        from databricks.sdk.core import Config  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    config: Any = Config(host=host) if host else Config()
    return str(config.host), config.authenticate
