"""The decorators of Delta Live Tables, over a `bayou.Pipeline`: for notebooks that were written for Delta Live Tables.

`import bayou.dlt as dlt` takes the place of `import dlt`. Decorators, functions and names of the notebook stay. What changes: the reader
(`kafka.read_stream` instead of `spark.readStream`), and expressions of `pyspark.sql.functions`, which become SQL text.

Example:
    >>> import bayou.dlt as dlt
    >>> lake = dlt.pipeline("fitness", "lake/fitness")
    >>> @dlt.table(comment="pulses that can be")
    ... @dlt.expect_or_drop("human has a pulse", "bpm > 0")
    ... def bpm_cleansed():
    ...     return dlt.read_stream("events_raw").select("time", "heart_bpm AS bpm")
    >>> lake.run()
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

import bayou
from bayou import _core

__all__ = [
    "apply_changes",
    "expect",
    "expect_all",
    "expect_all_or_drop",
    "expect_all_or_fail",
    "expect_all_or_quarantine",
    "expect_or_drop",
    "expect_or_fail",
    "expect_or_quarantine",
    "pipeline",
    "read",
    "read_stream",
    "table",
    "use",
    "view",
]

_Function = TypeVar("_Function", bound=Callable[[], Any])

_RULES = "_bayou_rules"
_current: list[bayou.Pipeline] = []


class _Stream:
    """A Stream with the spelling of PySpark for the methods that DLT notebooks use: filter, groupBy, withWatermark and so on."""

    _SAME = {  # noqa: RUF012
        "filter": "where",
        "groupBy": "group_by",
        "withWatermark": "with_watermark",
        "selectExpr": "select",
        "unionByName": "union",
        "unionAll": "union",
    }

    def __init__(self, stream: Any) -> None:
        self._stream = stream  # a Stream or a GroupedStream

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, self._SAME.get(name, name))
        if not callable(found):
            return found

        def call(*arguments: Any, **named: Any) -> Any:
            return _wrap(found(*(_plain(a) for a in arguments), **{k: _plain(v) for k, v in named.items()}))

        return call

    def withColumn(self, name: str, expression: str) -> Any:
        return _wrap(self._stream.with_columns(**{name: expression}))

    def withColumnRenamed(self, old: str, new: str) -> Any:
        return _wrap(self._stream.rename({old: new}))

    def __repr__(self) -> str:
        return repr(self._stream)


def _wrap(value: Any) -> Any:
    return _Stream(value) if isinstance(value, (_core.Stream, _core.GroupedStream)) else value


def _plain(value: Any) -> Any:
    return value._stream if isinstance(value, _Stream) else value


def pipeline(name: str, root: str | os.PathLike[str] | None = None, **options: Any) -> bayou.Pipeline:
    """Make the pipeline that the decorators below belong to. Arguments are those of `bayou.Pipeline`.

    Example:
        >>> lake = dlt.pipeline("fitness", "lake/fitness")
        >>> lake = dlt.pipeline("fitness", schema="main.fitness", checkpoint_location="s3://lake/checkpoints")
    """
    return use(bayou.Pipeline(name, root, **options))


def use(pipeline: bayou.Pipeline) -> bayou.Pipeline:
    """Let the decorators below belong to this pipeline.

    Example:
        >>> lake = dlt.use(bayou.Pipeline("fitness", "lake/fitness"))
    """
    _current[:] = [pipeline]
    return pipeline


def _pipeline() -> bayou.Pipeline:
    if not _current:
        raise _core.ConfigError(
            "there is no pipeline yet. Say which tables these are, once at the beginning of the notebook: "
            'lake = dlt.pipeline("name", "folder of the tables").'
        )
    return _current[0]


def _name(function: Callable[[], Any], name: str | None) -> str:
    return name if name is not None else str(getattr(function, "__name__", "table"))


def _resolved(function: Callable[[], Any], name: str) -> _core.Stream:
    """The stream of a function, with its rules."""
    stream = _plain(function())
    if not isinstance(stream, _core.Stream):
        raise TypeError(
            f"the function of {name!r} returned {type(stream).__name__}, not a Stream. "
            'Begin with kafka.read_stream("topic", schema=…) or dlt.read_stream("table").'
        )
    made: _core.Stream = stream
    for kind, rules in getattr(function, _RULES, []):
        made = getattr(made, kind)(rules)
    return made


def _properties(name: str, properties: Mapping[str, str] | None, lake: bayou.Pipeline) -> None:
    # A cell that runs again says all properties that count.
    lake._protected.discard(name)
    for key, value in (properties or {}).items():
        if key == "pipelines.reset.allowed":
            if str(value).lower() == "false":
                lake._protected.add(name)
        elif not key.startswith("quality"):
            warnings.warn(f"table {name!r}: the table property {key!r} has no effect here.", UserWarning, stacklevel=4)


@overload
def table(query_function: _Function, /) -> _Function: ...
@overload
def table(
    *,
    name: str | None = None,
    comment: str | None = None,
    table_properties: Mapping[str, str] | None = None,
    partition_cols: Sequence[str] | None = None,
    temporary: bool = False,
    output_mode: str | None = None,
    start: str | None = None,
    schema_mode: str | None = None,
    location: str | None = None,
    **others: Any,
) -> Callable[[_Function], _Function]: ...
def table(query_function: Any = None, /, **options: Any) -> Any:
    """Define a table by a function that returns its stream. The function is called when the pipeline runs.

    Args:
        name: The name of the table. Default: the name of the function.
        comment: The comment of the table.
        table_properties: "pipelines.reset.allowed": "false" refuses a full refresh of the pipeline. Others have no effect, and are warned of.
        partition_cols: The partition columns.
        temporary: True makes a view: nothing is written.
        output_mode, start, schema_mode, location: As in `Pipeline.table`. Default of output_mode: append; complete for an aggregate without a window.
        others: spark_conf, cluster_by, path, schema, row_filter: refused by name, because they would change what is written.

    Raises:
        ConfigError: There is no pipeline yet, or an argument cannot be kept.

    Example:
        >>> @dlt.table(comment="events as they came")
        ... def events_raw():
        ...     return kafka.read_stream("fitness-tracker", schema="ip STRING, time TIMESTAMP, model STRING, heart_bpm INT")
    """
    if query_function is not None:
        return table()(query_function)
    known = {
        "name",
        "comment",
        "table_properties",
        "partition_cols",
        "temporary",
        "output_mode",
        "start",
        "schema_mode",
        "location",
    }
    for option, value in options.items():
        if option not in known and value is not None:
            reason = {
                "spark_conf": "bayou computes the rows itself. Leave it out.",
                "cluster_by": "Liquid clustering is not supported. Use partition_cols=.",
                "path": "A table is in a folder of its name below the root of the pipeline. With a schema of Unity Catalog, use location=.",
                "schema": "The columns are those of the stream. Name them, and CAST them, in its last select.",
                "row_filter": "Use a rule, or where().",
            }.get(option, "bayou does not know it.")
            raise _core.ConfigError(f"dlt.table has no argument {option!r} here. {reason}")

    def decorate(function: _Function) -> _Function:
        if options.get("temporary"):
            return view(name=options.get("name"))(function)
        lake, named = _pipeline(), _name(function, options.get("name"))
        _properties(named, options.get("table_properties"), lake)
        partitions = options.get("partition_cols")
        given = {
            "comment": options.get("comment"),
            "partition_by": list(partitions) if partitions else None,
            "output_mode": options.get("output_mode"),
            "start": options.get("start"),
            "schema_mode": options.get("schema_mode"),
            "location": options.get("location"),
        }
        lake._views.pop(named, None)
        lake._define(named, lambda: _resolved(function, named), {k: v for k, v in given.items() if v is not None})
        return function

    return decorate


@overload
def view(query_function: _Function, /) -> _Function: ...
@overload
def view(
    *, name: str | None = None, comment: str | None = None, spark_conf: Mapping[str, str] | None = None
) -> Callable[[_Function], _Function]: ...
def view(
    query_function: Any = None, /, *, name: str | None = None, comment: str | None = None, spark_conf: Any = None
) -> Any:
    """Define a view: a named stream that is not written. Its rules count.

    Args:
        name: The name of the view. Default: the name of the function.
        comment: For readers of the notebook.
        spark_conf: Ignored.

    Example:
        >>> @dlt.view
        ... def known_models():
        ...     return dlt.read_stream("bpm_cleansed").where("model IS NOT NULL")
    """
    if query_function is not None:
        return view()(query_function)

    def decorate(function: _Function) -> _Function:
        lake, named = _pipeline(), _name(function, name)
        _core._check_table_name(named)
        lake._definitions.pop(named, None)
        lake._protected.discard(named)
        lake._views[named] = function
        return function

    return decorate


def read_stream(name: str) -> Any:
    """The rows of a table or view of the pipeline, in the same pass. For use in the function of another table.

    The result is a Stream that also takes PySpark's spelling of methods: filter, groupBy, withColumn, withColumnRenamed, withWatermark.

    Raises:
        ConfigError: There is no such table or view, or the table is not an append table.

    Example:
        >>> dlt.read_stream("events_raw").select("time", "heart_bpm AS bpm")
    """
    lake = _pipeline()
    function = lake._views.get(name)
    if function is None:
        return _wrap(lake.read_stream(name))
    if name in lake._resolving:
        cycle = " -> ".join([*lake._resolving[lake._resolving.index(name) :], name])
        raise _core.ConfigError(f"the definitions of tables form a cycle: {cycle}")
    lake._resolving.append(name)
    try:
        stream = _resolved(function, name)
    finally:
        lake._resolving.pop()
    return _wrap(stream if stream.name is not None else stream.named(name))


def read(name: str) -> Any:
    """The same as `read_stream`: a table of the pipeline is read as it grows. For the whole table use `Pipeline.read` or `Pipeline.sql`.

    Example:
        >>> dlt.read("bpm_cleansed").group_by("model").count()
    """
    return read_stream(name)


def _rule(kind: str, rules: Mapping[str, str]) -> Callable[[_Function], _Function]:
    def decorate(function: _Function) -> _Function:
        # The decorators nearest to the function come first; the list has the order of the notebook.
        setattr(function, _RULES, [(kind, dict(rules)), *getattr(function, _RULES, [])])
        return function

    return decorate


def expect(name: str, condition: str) -> Callable[[_Function], _Function]:
    """Count the rows that break a rule. They stay.

    Example:
        >>> @dlt.table
        ... @dlt.expect("plausible", "bpm < 250")
        ... def pulses():
        ...     return dlt.read_stream("bpm_cleansed")
    """
    return _rule("expect_all", {name: condition})


def expect_or_drop(name: str, condition: str) -> Callable[[_Function], _Function]:
    """Drop and count the rows that break a rule.

    Example:
        >>> dlt.expect_or_drop("human has a pulse", "bpm > 0")
    """
    return _rule("expect_all_or_drop", {name: condition})


def expect_or_fail(name: str, condition: str) -> Callable[[_Function], _Function]:
    """Stop the run at a row that breaks a rule. Nothing of its epoch is written.

    Example:
        >>> dlt.expect_or_fail("key is set", "ip IS NOT NULL")
    """
    return _rule("expect_all_or_fail", {name: condition})


def expect_or_quarantine(name: str, condition: str) -> Callable[[_Function], _Function]:
    """Write the rows that break a rule to the quarantine table of the pipeline. Delta Live Tables does not have it.

    Example:
        >>> dlt.expect_or_quarantine("tracker is valid", "model <> 'undef'")
    """
    return _rule("expect_all_or_quarantine", {name: condition})


def expect_all(expectations: Mapping[str, str]) -> Callable[[_Function], _Function]:
    """Several `expect` rules: {name: condition}.

    Example:
        >>> dlt.expect_all({"plausible": "bpm < 250", "recent": "time > '2024-01-01'"})
    """
    return _rule("expect_all", expectations)


def expect_all_or_drop(expectations: Mapping[str, str]) -> Callable[[_Function], _Function]:
    """Several `expect_or_drop` rules: {name: condition}.

    Example:
        >>> dlt.expect_all_or_drop({"set": "bpm IS NOT NULL", "pulse": "bpm > 0"})
    """
    return _rule("expect_all_or_drop", expectations)


def expect_all_or_fail(expectations: Mapping[str, str]) -> Callable[[_Function], _Function]:
    """Several `expect_or_fail` rules: {name: condition}.

    Example:
        >>> dlt.expect_all_or_fail({"key": "ip IS NOT NULL"})
    """
    return _rule("expect_all_or_fail", expectations)


def expect_all_or_quarantine(expectations: Mapping[str, str]) -> Callable[[_Function], _Function]:
    """Several `expect_or_quarantine` rules: {name: condition}.

    Example:
        >>> dlt.expect_all_or_quarantine({"valid": "model <> 'undef'"})
    """
    return _rule("expect_all_or_quarantine", expectations)


def apply_changes(*_: Any, **__: Any) -> None:
    """Merging a stream of changes by key is not in this version.

    Raises:
        ConfigError: Always. The message says what to write instead.

    Example:
        >>> latest = dlt.read_stream("customers_raw").group_by("id").agg("max_by(struct(name, city), ts) AS last")
    """
    raise _core.ConfigError(
        "dlt.apply_changes is not in this version. Write the newest row of each key as a table in update mode: "
        '@dlt.table(output_mode="update") over read_stream("changes").group_by("id").agg("max_by(struct(name, city), ts) AS last").'
    )


def __getattr__(name: str) -> object:
    elsewhere = {
        "create_streaming_table": "Use @dlt.table over a function.",
        "create_target_table": "Use @dlt.table over a function.",
        "create_streaming_live_table": "Use @dlt.table over a function.",
        "append_flow": "Join the streams with union, in the function of one table.",
        "create_sink": "Use lake.topic(name, stream) of the pipeline for Kafka, and lake.foreach_batch for others.",
        "create_auto_cdc_flow": "Merging changes by key is not in this version.",
        "apply_changes_from_snapshot": "Merging changes by key is not in this version.",
    }
    if name in elsewhere:
        raise AttributeError(f"bayou.dlt has no {name}. {elsewhere[name]}")
    raise AttributeError(f"module 'bayou.dlt' has no attribute {name!r}")
