"""Tables that only Spark may write: managed tables of Unity Catalog, and tables with features that bayou does not commit to.

Rust calls `answer`, on a thread of its own, with one JSON text for each request, and gets one back. A request has the name of its table for SQL.
Three things make a commit exactly once. With Delta's own txn (txnAppId, txnVersion) a second write of an epoch does nothing, also one that
races. The commit's userMetadata names query, epoch and seal, so the table's history shows which epochs are in the table. And a table is
written by writeTo and MERGE, which never create a table: a table that was dropped is not recreated with the newest epoch alone.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bayou import _notebook

# The number of attempts of a commit that conflicts with other writers.
_ATTEMPTS = 6
# How many of the newest commits are read at first.
_NEWEST = 20
_TXN = ("spark.databricks.delta.write.txnAppId", "spark.databricks.delta.write.txnVersion")
_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
# Confs of a session have one value at a time.
_CONFS = threading.RLock()
_MARK = "_bayou_delete"
# The application id of commits that change columns only.
_COLUMNS = "columns"
# Operations of other writers that change rows, by their names in the history. Operations that are not here (OPTIMIZE, VACUUM, …) change no rows.
_REMOVES = (
    "DELETE",
    "UPDATE",
    "MERGE",
    "TRUNCATE",
    "RESTORE",
    "REPLACE",
    "CREATE OR REPLACE",
    "DROP PARTITION",
    "REMOVE",
)
_ADDS = ("WRITE", "STREAMING UPDATE", "COPY INTO", "CLONE", "CONVERT", "CREATE TABLE AS SELECT", "APPEND", "INSERT")
# Conditions whose text quotes values of rows.
_QUOTES = ("CAST_", "NUMERIC_", "ARITHMETIC_", "INVALID_", "CANNOT_PARSE", "DATETIME", "MALFORMED", "FAILED_READ")

# Conditions of DESCRIBE HISTORY on a view, on a table that is not a Delta table, and on a table with row filters or column masks.
_NO_VERSIONS = (
    "EXPECT_TABLE_NOT_VIEW",
    "DELTA_ONLY_OPERATION",
    "DELTA_TABLE_ONLY_OPERATION",
    "ROW_LEVEL_SECURITY",
    "COLUMN_MASKS",
    "FGAC",
)


class Refused(Exception):
    """An answer that is an error of bayou."""

    def __init__(self, kind: str, text: str, retryable: bool = False) -> None:
        super().__init__(text)
        self.said: dict[str, Any] = {"kind": kind, "text": text, "retryable": retryable}


def find() -> Any | None:
    """The Spark session that exists already: the notebook's `spark`, the active session, or that of Databricks."""
    found = _notebook.named("spark")
    if found is not None and hasattr(found, "sql") and hasattr(found, "read"):
        return found
    # If pyspark is not imported, there is no session.
    for module in ("pyspark.sql", "pyspark.sql.connect.session"):
        if module in sys.modules:
            try:
                found = sys.modules[module].SparkSession.getActiveSession()
            except Exception:
                # A session that has ended.
                found = None
            if found is not None:
                return found
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        try:
            from databricks.connect import DatabricksSession  # type: ignore[import-not-found,import-untyped,unused-ignore]

            return DatabricksSession.builder.getOrCreate()
        except Exception:
            try:
                from pyspark.sql import SparkSession

                return SparkSession.builder.getOrCreate()
            except Exception:
                return None
    return None


def check(spark: Any) -> None:
    """Refuses what is not a Spark session. `DatabricksSession` and a builder are near misses."""
    if hasattr(spark, "getOrCreate"):
        raise TypeError("spark= is a builder: call its getOrCreate()")
    if not all(hasattr(spark, name) for name in ("sql", "read", "table", "conf")):
        raise TypeError(f"spark= must be a Spark session, not {type(spark).__name__}")


def answer(spark: Any, what: str, request: str) -> str:
    """The answer to a request, as JSON; {"error": …} if the request failed."""
    asked = json.loads(request)
    try:
        return json.dumps(_REQUESTS[what](spark, asked))
    except Refused as e:
        return json.dumps({"error": e.said})
    except Exception as e:
        return json.dumps({"error": _failure(e, asked["shown"]).said})


def read(
    spark: Any,
    table: str,
    version: int | None,
    columns: list[str] | None = None,
    where: str | None = None,
    limit: int | None = None,
) -> Any:
    """The rows of a table."""
    with _told(table):
        frame = spark.sql(f"SELECT * FROM {table}" + ("" if version is None else f" VERSION AS OF {version}"))
        if where is not None:
            frame = frame.where(where)
        if columns is not None:
            frame = frame.select(*map(_quoted, columns))
        if limit is not None:
            frame = frame.limit(limit)
        return _arrow(frame)


def _arrow(frame: Any) -> Any:
    """The rows of a frame as Arrow. Spark before 4.0 has no public method for it, and its toPandas loses types: whole numbers with NULL become
    floats, and times lose their zone. So the steps of toPandas before pandas are called here. A client without these steps gives pandas."""
    if hasattr(frame, "toArrow"):
        return frame.toArrow()
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema

    try:
        if hasattr(frame, "_collect_as_arrow"):
            # Refuses types that have no Arrow.
            columns = to_arrow_schema(frame.schema)
            batches = frame._collect_as_arrow()
            return pa.Table.from_batches(batches) if batches else columns.empty_table()
        client, plan = frame._session.client, frame._plan
        # databricks-connect 14.3 also asks for the observations.
        takes = inspect.signature(client.to_table).parameters
        more = (plan.observations,) if "observations" in takes else ()
        found = client.to_table(plan.to_proto(client), *more)
    except (AttributeError, TypeError):
        return frame.toPandas()
    return found[0] if isinstance(found, tuple) else found


def tables(spark: Any, schema: str) -> list[str]:
    """The names of the tables of a schema. Temporary views have none."""
    with _told(schema):
        found = spark.sql(f"SHOW TABLES IN {schema}").collect()
        return [row["tableName"] for row in found if not row["isTemporary"]]


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Converts Spark's errors to bayou's."""
    try:
        yield
    except Exception as e:
        from bayou import _core

        raise _core.StorageError(str(_failure(e, what.replace("`", "")))) from e


def _failure(e: Exception, shown: str) -> Refused:
    """The first line of Spark's error, without values of rows, with the kind of the failure."""
    text = str(e).strip()
    first = next((line.strip() for line in text.splitlines() if line.strip()), type(e).__name__)
    condition = _condition(e, first)
    if condition.startswith(_QUOTES):
        first = f"[{condition}]"
    first = first[:500].rstrip(".")
    if any(word in text for word in ("PERMISSION_DENIED", "INSUFFICIENT_PRIVILEGES", "INSUFFICIENT_PERMISSIONS")):
        return Refused("acl", f"{shown}: Spark's user lacks a privilege: {first}")
    if condition.startswith("PATH_NOT_FOUND") or "No FileSystem for scheme" in text or "FileNotFoundException" in text:
        return Refused(
            "config",
            f"{shown}: Spark does not reach the checkpoint, where rows wait for it: {first}. Put checkpoint_location= where bayou and Spark both "
            "reach it: a cloud URL below an external location, or a folder of a volume with single_writer=True.",
        )
    if condition.startswith(("DELTA_NOT_NULL", "DELTA_VIOLATE_CONSTRAINT", "NOT_NULL_CONSTRAINT")):
        return Refused(
            "schema",
            f"{shown}: the table does not accept a row that it accepted before the table was changed: {first}. Undo the change, and run again.",
        )
    if condition.startswith("TABLE_OR_VIEW_NOT_FOUND"):
        return Refused("data_loss", f"{shown}: Spark does not find the table: {first}")
    return Refused("storage", f"{shown}: Spark failed: {first}", _is_passing(e))


def _condition(e: Exception, first: str) -> str:
    for name in ("getCondition", "getErrorClass"):
        found = getattr(e, name, None)
        if callable(found):
            try:
                if found():
                    return str(found())
            except Exception:
                # Errors of an older Spark do not have this method.
                continue
    return first[1 : first.index("]")] if first.startswith("[") and "]" in first else ""


def _is_concurrent(e: Exception) -> bool:
    text = f"{type(e).__name__} {str(e)[:2000]}"
    words = (
        "DELTA_CONCURRENT",
        "DELTA_METADATA_CHANGED",
        "DELTA_PROTOCOL_CHANGED",
        "MetadataChangedException",
        "ProtocolChangedException",
    )
    return any(word in text for word in words) or ("Concurrent" in text and "Exception" in text)


def _is_passing(e: Exception) -> bool:
    return _is_concurrent(e) or any(w in type(e).__name__ for w in ("Timeout", "Connection", "Network", "Rpc"))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _history(spark: Any, table: str, since: int) -> tuple[list[dict[str, Any]], bool]:
    """The commits after version `since`, oldest first, and whether none of them is missing."""

    def read(limit: str) -> list[Any]:
        found = spark.sql(f"DESCRIBE HISTORY {table}{limit}")
        return list(found.select("version", "operation", "operationParameters", "userMetadata").collect())

    rows = read(f" LIMIT {_NEWEST}") if since >= 0 else read("")
    if len(rows) >= _NEWEST and since >= 0 and min(r["version"] for r in rows) > since + 1:
        rows = read("")
    out = []
    for row in sorted(rows, key=lambda r: int(r["version"])):
        if row["version"] <= since:
            continue
        entry = {
            "version": int(row["version"]),
            "operation": row["operation"] or "",
            "mode": (row["operationParameters"] or {}).get("mode", ""),
        }
        out.append(entry | _ours(row["userMetadata"]))
    oldest = min((int(r["version"]) for r in rows), default=0)
    return out, oldest <= since + 1 or not rows


def _ours(metadata: str | None) -> dict[str, Any]:
    """What bayou wrote into a commit: the application id, the epoch and the nonce of the seal."""
    try:
        found = json.loads(metadata or "")
        return {"app": str(found["bayou"]), "epoch": int(found["epoch"]), "seal": str(found.get("seal", ""))}
    except (ValueError, KeyError, TypeError):
        return {}


def _does(entry: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a commit adds rows, and whether it removes some."""
    operation = entry["operation"].upper()
    overwrites = operation.startswith("WRITE") and entry["mode"].lower() == "overwrite"
    removes = overwrites or (
        operation.startswith(_REMOVES) and not operation.startswith(("UPDATE SCHEMA", "UPDATE COLUMN"))
    )
    return removes or operation.startswith(_ADDS), removes


def _refuse_others(asked: dict[str, Any], entries: list[dict[str, Any]], whole: bool) -> None:
    """Refuses changes of other writers that would make the table disagree with the log of epochs."""
    if asked["accept_changes"]:
        return
    shown = asked["shown"]
    if not whole:
        raise Refused(
            "data_loss",
            f"{shown}: the table's history was cleaned up before this query has seen all of it, so bayou does not know whether a different writer "
            "changed rows of the table. If no other writer changed rows, run with accept_changes=True.",
        )
    for entry in entries:
        if entry.get("app") in (asked["app"], _COLUMNS):
            continue
        adds, removes = _does(entry)
        if not removes and (asked["mode"] == "append" or not adds):
            continue
        owner = (
            "which removed rows that bayou had written"
            if asked["mode"] == "append"
            else "and in this mode only bayou may write to the table"
        )
        raise Refused(
            "data_loss",
            f"{shown}: version {entry['version']} was a {entry['operation']} by a different writer, {owner}. Undo that change, or run with "
            "accept_changes=True to continue with the table as it is, or start over with full_refresh=True.",
        )


def _look(spark: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """The table as it is. `history`: also its writers."""
    table = asked["table"]
    if not spark.catalog.tableExists(table):
        return {"exists": False}
    detail = spark.sql(f"DESCRIBE DETAIL {table}").collect()[0].asDict()
    if detail["format"] != "delta":
        raise Refused(
            "config",
            f"{asked['shown']} is a table of {str(detail['format']).upper()}, and bayou writes Delta tables. Write to a new table.",
        )
    out: dict[str, Any] = {
        "exists": True,
        "id": detail["id"],
        "schema": json.loads(spark.table(table).schema.json()),
        "partition_by": list(detail["partitionColumns"] or []),
        "properties": dict(detail["properties"] or {}),
        "features": list(detail.get("tableFeatures") or []),
        "apps": {},
        "others": False,
    }
    if asked.get("history"):
        entries, _ = _history(spark, table, -1)
        for entry in entries:
            if entry.get("app") == _COLUMNS:
                continue
            if "app" in entry:
                out["apps"][entry["app"]] = max(entry["epoch"], out["apps"].get(entry["app"], -1))
            else:
                out["others"] |= _does(entry)[0]
        out["version"] = max((e["version"] for e in entries), default=0)
    return out


def _version(spark: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """The newest version of a table that is joined."""
    shown = asked["shown"]
    try:
        newest = spark.sql(f"DESCRIBE HISTORY {asked['table']} LIMIT 1").select("version").collect()
    except Exception as e:
        condition = _condition(e, str(e).strip())
        if not condition.startswith(_NO_VERSIONS):
            raise
        raise Refused(
            "config",
            f"Spark tells no versions of {shown} (it is a view, not a Delta table, or has row filters or column masks: [{condition}]), "
            "and a joined table is read again when its version has changed. Hand over "
            f'the rows: join(bayou.read_delta("{shown}", spark=spark), …).',
        ) from e
    return {"version": int(newest[0]["version"])}


def _create(spark: Any, asked: dict[str, Any]) -> dict[str, Any]:
    partitioned = ", ".join(_quoted(c) for c in asked["partition_by"])
    statement = f"CREATE TABLE IF NOT EXISTS {asked['table']} ({asked['columns']}) USING DELTA"
    if partitioned:
        statement += f" PARTITIONED BY ({partitioned})"
    if asked["comment"]:
        statement += f" COMMENT {_text(asked['comment'])}"
    spark.sql(statement).collect()
    return {}


def _evolve(spark: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """New columns and fields, and columns that become nullable (`schema_mode="merge"`)."""
    for column in asked["nullable"]:
        spark.sql(f"ALTER TABLE {asked['table']} ALTER COLUMN {_quoted(column)} DROP NOT NULL").collect()
    if asked["columns"]:
        nothing = spark.createDataFrame([], asked["columns"])
        metadata = json.dumps({"bayou": _COLUMNS, "epoch": -1})
        _options(nothing.writeTo(asked["table"]), {"mergeSchema": "true", "userMetadata": metadata}).append()
    return {}


def _rows(spark: Any, asked: dict[str, Any]) -> dict[str, Any]:
    return {"any": bool(spark.sql(f"SELECT 1 FROM {asked['table']} LIMIT 1").collect())}


def _changes(spark: Any, asked: dict[str, Any]) -> dict[str, Any]:
    entries, whole = _history(spark, asked["table"], asked["since"])
    newest = max((e["version"] for e in entries), default=asked["since"])
    _refuse_others(asked, entries, whole)
    return {"version": newest}


def _reachable(spark: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Reads a small file of the checkpoint. If Spark cannot reach the checkpoint, this must be an error before anything is sealed."""
    _staged(spark, asked).collect()
    return {}


def _options(writer: Any, options: dict[str, str]) -> Any:
    for name, value in options.items():
        writer = writer.option(name, value)
    return writer


def _url(spark: Any, url: str) -> str:
    """Where Spark finds a file. `file://` is the disk of this machine; mounts of Databricks have their own names."""
    if url.startswith("file:///"):
        path = url.removeprefix("file://")
        if path.startswith("/Volumes/"):
            return path
        if path.startswith("/dbfs/"):
            return "dbfs:" + path.removeprefix("/dbfs")
        return "file://" + path
    if url.startswith("s3://") and not _is_databricks(spark):
        return "s3a://" + url.removeprefix("s3://")
    return url


def _is_databricks(spark: Any) -> bool:
    return "DATABRICKS_RUNTIME_VERSION" in os.environ or type(spark).__module__.startswith("databricks")


def _staged(spark: Any, asked: dict[str, Any]) -> Any:
    """The sealed rows. Their columns are given and not inferred, and a missing file is an error, whatever the options of the session say."""
    if not asked["files"]:
        return spark.createDataFrame([], asked["columns"])
    options = {
        "ignoreMissingFiles": "false",
        "ignoreCorruptFiles": "false",
        "mergeSchema": "false",
        "datetimeRebaseMode": "CORRECTED",
        "int96RebaseMode": "CORRECTED",
    }
    return _options(spark.read, options).schema(asked["columns"]).parquet(*(_url(spark, f) for f in asked["files"]))


def _commit(spark: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """Commits a sealed epoch once and only once, and returns the version that has the epoch."""
    table, shown, epoch = asked["table"], asked["shown"], asked["epoch"]
    failed: Exception | None = None
    for attempt in range(_ATTEMPTS):
        if failed is not None:
            time.sleep(random.uniform(0.2, 0.4) * 2**attempt)
        entries, whole = _history(spark, table, asked["since"])
        version = _taken(asked, entries)
        if version is not None:
            return {"version": version}
        if failed is not None and not _is_concurrent(failed):
            break
        if attempt or not asked.get("looked"):
            _refuse_another(spark, asked)
        _refuse_others(asked, entries, whole)
        try:
            _write(spark, asked)
        except Exception as e:
            failed = e
            continue
        entries, _ = _history(spark, table, asked["since"])
        version = _taken(asked, entries)
        if version is not None:
            return {"version": version}
        raise Refused(
            "config",
            f"{shown}: the table already has epoch {epoch} or a later epoch of {asked['app']}, so Delta skipped this commit. The history does not "
            "show that epoch any more: the checkpoint is an older copy, or a new checkpoint under an old name. Restore the newer checkpoint, or give "
            "the query a different name (query_name=, or the name of the pipeline).",
        )
    why = _failure(failed, shown) if failed is not None else Refused("storage", f"{shown}: no attempt was made")
    text = f"{str(why).rstrip('.')}. Epoch {epoch} is not in the table. Nothing is lost, because the epoch is sealed: running the query again commits it."
    raise Refused(why.said["kind"], text, bool(why.said["retryable"])) from failed


def _taken(asked: dict[str, Any], entries: list[dict[str, Any]]) -> int | None:
    """The version that has the epoch."""
    mine = [e for e in entries if e.get("app") == asked["app"] and e["epoch"] >= asked["epoch"]]
    for entry in mine:
        if entry["epoch"] == asked["epoch"] and asked["seal"] and entry["seal"] not in ("", asked["seal"]):
            raise Refused(
                "concurrent_query",
                f"{asked['shown']}: a different query writes this table under the same name ({asked['app']} is at epoch {entry['epoch']}), with a "
                f"different checkpoint. Nothing of epoch {asked['epoch']} was written to the table, and nothing is lost. Give one of the queries a "
                "different name (query_name=, or the name of the pipeline), and run it again.",
            )
    return int(mine[0]["version"]) if mine else None


def _refuse_another(spark: Any, asked: dict[str, Any]) -> None:
    """Refuses a different table with the name of the table that epochs were committed to."""
    now = spark.sql(f"DESCRIBE DETAIL {asked['table']}").collect()[0]["id"]
    if asked["id"] and now != asked["id"]:
        raise Refused(
            "data_loss",
            f"{asked['shown']}: the table was recreated by a different program (its id was {asked['id']}, and is {now}). Write to a different table. "
            "Or, to empty this table and read everything again, run with full_refresh=True, accept_changes=True.",
        )


def _write(spark: Any, asked: dict[str, Any]) -> None:
    metadata = json.dumps({"bayou": asked["app"], "epoch": asked["epoch"], "seal": asked["seal"]})
    if asked["mode"] == "update":
        _merge(spark, asked, metadata)
        return
    txn = {"txnAppId": asked["app"], "txnVersion": str(asked["epoch"]), "userMetadata": metadata}
    frame = _staged(spark, asked)
    writer = _options(frame.writeTo(asked["table"]), txn | {"mergeSchema": "false", "partitionOverwriteMode": "static"})
    if asked["mode"] == "complete":
        writer.overwrite(_true(spark))
    else:
        writer.append()


def _true(spark: Any) -> Any:
    if ".connect." in type(spark).__module__:
        from pyspark.sql.connect.functions import lit as of_connect

        return of_connect(True)
    from pyspark.sql.functions import lit

    return lit(True)


def _merge(spark: Any, asked: dict[str, Any], metadata: str) -> None:
    session = _own_session(spark)
    view = f"_bayou_staged_{uuid.uuid4().hex}"
    _staged(session, asked).createOrReplaceTempView(view)
    names = [_quoted(c) for c in asked["names"]]
    on = " AND ".join(f"t.{_quoted(k)} <=> s.{_quoted(k)}" for k in asked["keys"]) or "1 = 1"
    statement = (
        f"MERGE INTO {asked['table']} AS t USING {view} AS s ON {on} "
        f"WHEN MATCHED AND s.{_MARK} THEN DELETE "
        f"WHEN MATCHED THEN UPDATE SET {', '.join(f't.{c} = s.{c}' for c in names)} "
        f"WHEN NOT MATCHED AND NOT s.{_MARK} THEN INSERT ({', '.join(names)}) VALUES ({', '.join(f's.{c}' for c in names)})"
    )
    values = dict(zip(_TXN, (asked["app"], str(asked["epoch"])), strict=True)) | {_METADATA: metadata}
    try:
        with _confs(session, values):
            session.sql(statement).collect()
    finally:
        session.catalog.dropTempView(view)


@contextmanager
def _confs(session: Any, values: dict[str, str]) -> Iterator[None]:
    """Confs for the time of one statement. They get their old values back in any case."""
    with _CONFS:
        before = {name: session.conf.get(name, None) for name in values}
        try:
            for name, value in values.items():
                session.conf.set(name, value)
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    session.conf.unset(name)
                else:
                    session.conf.set(name, value)


# For each session that was given: a second session, whose confs only bayou uses.
_SESSIONS: dict[int, tuple[Any, Any]] = {}


def _own_session(spark: Any) -> Any:
    """A second session besides the user's. The MERGE's txn is in confs of the session, and writes of the user at that moment must not get this txn.
    Spark Connect has no second sessions, so there it is the user's own session."""
    known = _SESSIONS.get(id(spark))
    if known is not None and known[0] is spark:
        return known[1]
    made = spark
    if ".connect." not in type(spark).__module__:
        try:
            made = spark.newSession()
            for name, value in _settings(spark).items():
                if made.conf.get(name, None) != value:
                    made.conf.set(name, value)
        except Exception:
            made = spark
    _SESSIONS[id(spark)] = (spark, made)
    return made


def _settings(spark: Any) -> dict[str, str]:
    """The confs that can be changed and were changed."""
    rows = spark.sql("SET").collect()
    hidden = "redacted"
    return {
        r["key"]: r["value"]
        for r in rows
        if spark.conf.isModifiable(r["key"]) and hidden not in r["value"] and r["key"] not in (*_TXN, _METADATA)
    }


_REQUESTS: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    "look": _look,
    "version": _version,
    "create": _create,
    "evolve": _evolve,
    "rows": _rows,
    "changes": _changes,
    "reach": _reachable,
    "commit": _commit,
}
