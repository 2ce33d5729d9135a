"""Tables of Unity Catalog: names, logins, vended credentials, privileges; against tests/unity/unity_server.py and the store of tests/s3/stub.py."""

from __future__ import annotations

import itertools
import json
import logging
import pathlib
import re
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import bayou
import delta_replay
import pyarrow as pa
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "s3"))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "unity"))
from stub import BUCKET, Stub, stub
from unity_server import CLIENT, SECRET, TOKEN, WHO, Fault, Unity, unity

TABLE = "main.heart.bpm"
CHECKPOINT = f"s3://{BUCKET}/checkpoints"
_COUNT = itertools.count()


@pytest.fixture(autouse=True)
def no_login_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "TOKEN", "CLIENT_ID", "CLIENT_SECRET", "RUNTIME_VERSION", "CONFIG_PROFILE"):
        monkeypatch.delenv(f"DATABRICKS_{name}", raising=False)


@pytest.fixture
def store() -> Iterator[Stub]:
    with stub() as made:
        yield made


@pytest.fixture
def uc(store: Stub) -> Iterator[Unity]:
    with unity(store) as made:
        made.add_schema("main.heart", f"s3://{BUCKET}/heart")
        made.locations = {"lake": f"s3://{BUCKET}"}
        yield made


def publish(kafka: bayou.Connection, count: int, start: int = 0, epoch: int = 100, topic: str = "t") -> bayou.Stream:
    kafka.create_topic(topic, partitions=1, exist_ok=True)
    rows = pa.table({"i": list(range(start, start + count)), "day": ["2026-01-01"] * count})
    kafka.produce(topic, rows, progress=False)
    return kafka.read_stream(topic, schema="i INT, day DATE", max_offsets_per_trigger=epoch)


def write(raw: bayou.Stream, uc: Unity, target: str = TABLE, **more: Any) -> bayou.Query:
    given: dict[str, Any] = {"storage_options": uc.options, "checkpoint_location": CHECKPOINT, "progress": False}
    return raw.write_delta(target, **{**given, **more})


def rows(uc: Unity, table: str = TABLE, **more: Any) -> list[int]:
    found = bayou.read_delta(table, **{"storage_options": uc.options, **more})
    return sorted(pa.table(found).to_pydict()["i"])


def under_way(store: Stub, request: Any) -> bool:
    """Whether the token ended while the request was under way: on a busy machine a request takes its time."""
    return 0 <= request.at - (store.accepts or {}).get(request.who, 0) < 0.5


def refused(store: Stub) -> list[Any]:
    return [r for r in store.requests if r.status in (400, 401, 403) and not under_way(store, r)]


def files(store: Stub, tmp_path: pathlib.Path) -> pathlib.Path:
    """The bucket as local files."""
    folder = tmp_path / f"copy-{next(_COUNT)}"
    for name in store.names():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.objects[name].content)
    return folder


def test_a_new_table_is_created_entered_with_sparks_types_and_filled_exactly_once(
    uc: Unity, store: Stub, broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    import deltalake

    raw = publish(broker, 250).select(
        "i", "day", "CAST(i AS DECIMAL(7,2)) AS d", "array(i) AS a", "named_struct('x', i) AS s"
    )
    query = write(raw, uc, comment="one row a beat", partition_by=["day"])
    assert query.status == "finished" and query.name == "bpm"
    entry = uc.tables[TABLE]
    assert entry["storage_location"] == f"s3://{BUCKET}/heart/bpm" and entry["comment"] == "one row a beat"
    columns = {c["name"]: (c["type_text"], c["type_name"], c.get("partition_index")) for c in entry["columns"]}
    assert columns == {
        "i": ("int", "INT", None),
        "day": ("date", "DATE", 0),
        "d": ("decimal(7,2)", "DECIMAL", None),
        "a": ("array<int>", "ARRAY", None),
        "s": ("struct<x:int>", "STRUCT", None),
    }
    assert entry["properties"]["bayou.cleanLog"] == "true"
    publish(broker, 50, start=250)
    write(raw, uc, partition_by=["day"])
    write(raw, uc, partition_by=["day"])
    assert rows(uc) == list(range(300))
    assert len(uc.asked("POST .*/tables$")) == 1
    assert not refused(store), refused(store)[:3]
    # Others read the same rows, and the checkpoint knows which table of the catalog it was.
    folder = files(store, tmp_path)
    theirs = deltalake.DeltaTable(str(folder / "heart" / "bpm")).to_pyarrow_table()
    assert sorted(theirs.column("i").to_pylist()) == list(range(300))
    done = json.loads(max((folder / "checkpoints" / "bpm" / "1" / "done").iterdir()).read_text())
    known = {"name": TABLE, "tableId": entry["table_id"], "location": entry["storage_location"]}
    assert done["tables"]["bpm"]["catalog"] == known


def test_rows_set_aside_go_to_a_table_of_the_same_schema(uc: Unity, store: Stub, broker: bayou.Connection) -> None:
    raw = publish(broker, 20).expect_or_quarantine("even", "i % 2 = 0")
    query = write(raw, uc, location=f"s3://{BUCKET}/elsewhere/bpm", query_name="q")
    assert uc.tables[f"{TABLE}_quarantine"]["storage_location"] == f"s3://{BUCKET}/elsewhere/bpm_quarantine"
    assert "q" in uc.tables[f"{TABLE}_quarantine"]["comment"]
    aside = pa.table(bayou.read_delta(f"{TABLE}_quarantine", storage_options=uc.options))
    assert aside.column("offset").to_pylist() == list(range(1, 20, 2))
    assert rows(uc) == list(range(0, 20, 2))
    publish(broker, 2, start=20)
    write(raw, uc, query_name="q")
    assert len(bayou.read_delta(f"{TABLE}_quarantine", storage_options=uc.options)) == 11
    assert "main.heart.bpm (s3://" in repr(query)
    assert not refused(store), refused(store)[:3]


def pipeline(uc: Unity, raw: bayou.Stream | None, **more: Any) -> bayou.Pipeline:
    given: dict[str, Any] = {"schema": "main.heart", "checkpoint_location": CHECKPOINT, "storage_options": uc.options}
    lake = bayou.Pipeline("p", **{**given, **more})
    if raw is not None:
        good = raw.expect_or_quarantine("not nine", "i % 10 <> 9").named("good")
        lake.table("clean", good, comment="clean rows")
        lake.table("by_third", good.group_by("i % 3 AS k").agg("count(*) AS n"), output_mode="update")
        lake.table("total", good.group_by().agg("count(*) AS n"))
    return lake


def test_a_pipeline_writes_the_tables_of_a_schema(uc: Unity, store: Stub, broker: bayou.Connection) -> None:
    raw = publish(broker, 100)
    uc.page = 2
    pipeline(uc, raw).run(progress=False)
    publish(broker, 20, start=100)
    pipeline(uc, raw).run(progress=False)
    # In a kernel that has defined nothing.
    lake = pipeline(uc, None)
    assert lake.tables() == ["by_third", "clean", "p_quarantine", "total"]
    assert pa.table(lake.read("total")).to_pylist() == [{"n": 108}]
    found = lake.sql("SELECT count(*) AS n, (SELECT sum(n) FROM by_third) AS of FROM clean").to_dicts()
    assert found == [{"n": 108, "of": 108}]
    found = lake.sql("SELECT c.i FROM main.heart.clean AS c JOIN by_third AS b ON b.k = c.i WHERE c.i < 2 ORDER BY 1")
    assert [r["i"] for r in found.to_dicts()] == [0, 1]
    assert len(lake.read("p_quarantine")) == 12
    with pytest.raises(bayou.StorageError, match="Did you mean 'total'"):
        lake.read("totl")
    assert pa.table(lake.expectations()).to_pylist()[0]["failed_records"] == 12
    assert repr(lake).startswith("Pipeline('p', schema='main.heart': 0 tables")
    assert not refused(store), refused(store)[:3]
    lake.reset(confirm=True)
    pipeline(uc, raw).run(progress=False)
    assert pa.table(lake.read("total")).to_pylist() == [{"n": 108}]


def test_sql_and_joins_name_tables_of_the_catalog(uc: Unity, store: Stub, broker: bayou.Connection) -> None:
    raw = publish(broker, 10)
    write(raw, uc)
    write(raw.select("i AS `j`", "i * 2 AS twice"), uc, "`main`.heart.`other-table`", query_name="other")
    ask = lambda text: bayou.sql(text, storage_options=uc.options).to_dicts()  # noqa: E731
    # Two tables of one bucket, each with credentials of its own.
    text = "SELECT sum(o.twice) AS s, max(main.heart.bpm.i) AS m FROM main.heart.bpm JOIN main.heart.`other-table` o ON o.j = bpm.i"
    assert ask(text) == [{"s": 90, "m": 9}]
    assert ask("SELECT count(*) AS n FROM `main`.`heart`.`bpm` VERSION AS OF 0") == [{"n": 0}]
    assert [r["col_name"] for r in ask("DESCRIBE main.heart.bpm")] == ["i", "day"]
    frame = pa.table({"i": [1, 2]})
    mixed = bayou.sql("SELECT count(*) AS n FROM main.heart.bpm JOIN f USING (i)", f=frame, storage_options=uc.options)
    assert mixed.to_dicts() == [{"n": 2}]
    joined = raw.join("main.heart.`other-table`", on=[("i", "j")], storage_options=uc.options)
    write(joined, uc, "main.heart.joined")
    assert rows(uc, "main.heart.joined") == list(range(10))
    assert not refused(store), refused(store)[:3]
    with pytest.raises(bayou.StorageError, match="main.heart.bmp: there is no such table.*Did you mean 'bpm'"):
        ask("SELECT * FROM main.heart.bmp")


def test_each_login_is_found_and_a_missing_one_says_what_to_set(
    uc: Unity, broker: bayou.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = publish(broker, 5)
    near = {k: v for k, v in uc.options.items() if not k.startswith("databricks_")}
    write(raw, uc)
    principal = {"databricks_client_id": CLIENT, "databricks_client_secret": SECRET, "databricks_host": uc.host}
    assert rows(uc, storage_options=near | principal) == list(range(5))
    with monkeypatch.context() as m:
        m.setitem(sys.modules, "databricks", None)
        with pytest.raises(bayou.ConfigError, match=r"DATABRICKS_HOST and DATABRICKS_TOKEN.*\./main\.heart\.bpm"):
            rows(uc, storage_options=near)
        m.setenv("DATABRICKS_HOST", uc.host)
        m.setenv("DATABRICKS_TOKEN", TOKEN)
        assert rows(uc, storage_options=near) == list(range(5))
        m.delenv("DATABRICKS_TOKEN")
        m.setenv("DATABRICKS_CLIENT_ID", CLIENT)
        m.setenv("DATABRICKS_CLIENT_SECRET", SECRET)
        assert rows(uc, storage_options=near) == list(range(5))
        wrong = principal | {"databricks_client_secret": "a-wrong-secret-sesame"}
        with pytest.raises(bayou.AuthError, match="service principal was not accepted") as e:
            rows(uc, storage_options=near | wrong)
        assert "wrong-secret" not in str(e.value)
    with pytest.raises(bayou.ConfigError, match="needs both"):
        rows(uc, storage_options=near | {"databricks_host": uc.host, "databricks_client_id": CLIENT})
    with pytest.raises(bayou.ConfigError, match="over http, anyone on the network"):
        rows(uc, storage_options={"databricks_host": "http://catalog.example", "databricks_token": TOKEN})


def test_the_login_of_databricks_sdk_is_used_and_renewed_where_it_is_installed(
    uc: Unity, broker: bayou.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for databricks.sdk.core.Config, which the tests need not install."""
    asked: list[str] = []

    class Config:
        def __init__(self, host: str | None = None) -> None:
            self.host = host or uc.host

        def authenticate(self) -> dict[str, str]:
            token = f"notebook-{len(asked)}"
            asked.append(token)
            uc.tokens[token] = time.time() + (0 if len(asked) == 1 else 60)
            return {"Authorization": f"Bearer {token}"}

    core = types.ModuleType("databricks.sdk.core")
    core.Config = Config  # type: ignore[attr-defined]
    for name, module in (("databricks", types.ModuleType("databricks")), ("databricks.sdk", types.ModuleType("sdk"))):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "databricks.sdk.core", core)
    near = {k: v for k, v in uc.options.items() if not k.startswith("databricks_")}
    write(publish(broker, 5), uc, storage_options=near)
    assert rows(uc, storage_options=near) == list(range(5))
    # The first headers had expired and were asked for once more.
    assert len(asked) > 2

    def no_login(host: str | None = None) -> Any:
        raise ValueError("default auth: cannot configure default credentials")

    core.Config = no_login  # type: ignore[attr-defined]
    with pytest.raises(bayou.ConfigError, match="databricks-sdk has no login: default auth"):
        rows(uc, storage_options=near)


def test_the_configuration_of_databricks_sdk_is_a_login(
    uc: Unity, broker: bayou.Connection, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real one, with a configuration file."""
    (tmp_path / "databrickscfg").write_text(f"[DEFAULT]\nhost = {uc.host}\ntoken = {TOKEN}\n")
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "databrickscfg"))
    near = {k: v for k, v in uc.options.items() if not k.startswith("databricks_")}
    write(publish(broker, 5), uc, storage_options=near)
    assert rows(uc, storage_options=near) == list(range(5))
    (tmp_path / "databrickscfg").write_text("")
    with pytest.raises(bayou.ConfigError, match="databricks-sdk has no login"):
        rows(uc, storage_options=near)


def test_credentials_of_a_second_are_renewed_under_a_running_query(
    uc: Unity, store: Stub, broker: bayou.Connection
) -> None:
    uc.life, store.latency = 1.2, 0.02
    # A login that expires as well.
    uc.token_life = 2.0
    login = {"databricks_client_id": CLIENT, "databricks_client_secret": SECRET}
    options = {k: v for k, v in uc.options.items() if k != "databricks_token"} | login
    raw = publish(broker, 60, epoch=1)
    write(raw, uc, storage_options=options)
    assert len(uc.vended) >= 6 and len(uc.asked("/oidc/v1/token")) >= 2
    assert not refused(store), refused(store)[:3]
    assert [a.status for a in uc.requests if a.status == 401] == []
    assert rows(uc, storage_options=options) == list(range(60))
    kinds = {a.path.rsplit("/", 1)[1] for a in uc.asked("POST .*temporary-")}
    assert kinds == {"temporary-table-credentials", "temporary-path-credentials"}


def test_a_catalog_that_is_busy_or_down_for_a_moment_is_waited_for(
    uc: Unity, store: Stub, broker: bayou.Connection
) -> None:
    raw = publish(broker, 30, epoch=1)
    uc.faults = [
        Fault("GET .*/tables/", 2, 429, "0"),
        Fault("POST .*/tables$", 1, 503, "1"),
        Fault("POST .*temporary-", 2, 500),
        Fault("GET .*/schemas/", 1, cut="before"),
    ]
    began = time.monotonic()
    write(raw, uc)
    # The run waits as long as Retry-After says.
    assert time.monotonic() - began >= 1
    assert [f.count for f in uc.faults] == [0, 0, 0, 0]
    assert rows(uc) == list(range(30))
    # The catalog is down when credentials that are still valid must be renewed.
    uc.life, store.latency = 3.0, 0.04
    publish(broker, 40, start=30)
    uc.faults = [Fault("POST .*temporary-table", 0, cut="before")]

    def down(method: str, path: str) -> None:
        if len(uc.asked("POST .*temporary-table")) == 3:
            uc.faults[0].count = 2

    uc.before = down
    write(raw, uc)
    assert rows(uc) == list(range(70))


def test_an_answer_that_is_lost_creates_the_table_once(uc: Unity, broker: bayou.Connection) -> None:
    uc.faults = [Fault("POST .*/tables$", 1, cut="after")]
    write(publish(broker, 3), uc)
    assert list(uc.tables) == [TABLE] and rows(uc) == [0, 1, 2]
    uc.faults = [Fault("POST .*/tables$", 1, 500)]
    write(publish(broker, 3), uc, "main.heart.second", query_name="second")
    assert rows(uc, "main.heart.second") == [0, 0, 1, 1, 2, 2]


MISSING = [
    ("USE CATALOG", "GRANT USE CATALOG ON CATALOG `main` TO"),
    ("USE SCHEMA", "GRANT USE SCHEMA ON SCHEMA `main`.`heart` TO"),
    ("CREATE TABLE", "GRANT CREATE TABLE ON SCHEMA `main`.`heart` TO"),
    ("CREATE EXTERNAL TABLE", "GRANT CREATE EXTERNAL TABLE ON EXTERNAL LOCATION `lake` TO"),
    ("EXTERNAL USE LOCATION", "GRANT EXTERNAL USE LOCATION ON EXTERNAL LOCATION `lake` TO"),
]
MISSING_LATER = [
    ("SELECT", f"GRANT SELECT ON TABLE `main`.`heart`.`bpm` TO `{WHO}`"),
    ("MODIFY", f"GRANT MODIFY ON TABLE `main`.`heart`.`bpm` TO `{WHO}`"),
    ("EXTERNAL USE SCHEMA", "GRANT EXTERNAL USE SCHEMA ON SCHEMA `main`.`heart` TO"),
]


def test_a_missing_privilege_is_named_with_the_statement_that_gives_it(
    uc: Unity, store: Stub, broker: bayou.Connection
) -> None:
    raw = publish(broker, 3)
    for vague, (privilege, grant) in itertools.product((False, True), MISSING):
        uc.missing, uc.vague = {privilege}, vague
        with pytest.raises(bayou.AclError) as e:
            write(raw, uc)
        assert grant in str(e.value) and f"`{WHO}`" in str(e.value), (privilege, str(e.value))
        named = f"The privilege {privilege} is missing" in str(e.value)
        assert named != vague, str(e.value)
        assert "One of these privileges is missing" in str(e.value) or named
        # No epoch and no row.
        assert not [n for n in store.names() if "/epoch/" in n or n.endswith(".parquet")], store.names()
    uc.missing = set()
    write(raw, uc)
    before = store.names()
    publish(broker, 3, start=3)
    for privilege, grant in MISSING_LATER:
        uc.missing, uc.vague = {privilege}, False
        with pytest.raises(bayou.AclError, match=re.escape(grant)) as e:
            write(raw, uc)
        assert f"The privilege {privilege} is missing" in str(e.value)
        assert [n for n in store.names() if "heartbeat" not in n] == [n for n in before if "heartbeat" not in n]
    uc.missing = {"MODIFY"}
    assert rows(uc) == [0, 1, 2]
    uc.missing = set()
    write(raw, uc)
    assert rows(uc) == list(range(6))


def test_a_login_that_has_expired_is_an_auth_error_after_one_renewal(uc: Unity, broker: bayou.Connection) -> None:
    raw = publish(broker, 3)
    uc.tokens[TOKEN] = time.time() - 1
    with pytest.raises(bayou.AuthError, match="does not accept the login") as e:
        write(raw, uc)
    assert TOKEN not in str(e.value) and len(uc.requests) == 1
    principal = {"databricks_client_id": CLIENT, "databricks_client_secret": SECRET, "databricks_host": uc.host}
    # The tokens of this login are never valid.
    uc.token_life = -1.0
    with pytest.raises(bayou.AuthError, match="also after it was renewed"):
        rows(uc, storage_options=principal)
    assert len(uc.asked("/oidc/v1/token")) == 2


def test_tables_that_bayou_cannot_commit_to_are_refused_by_name_with_what_to_do(
    uc: Unity, store: Stub, broker: bayou.Connection
) -> None:
    raw = publish(broker, 3)
    write(raw, uc)
    for kind, form, said in [
        ("MANAGED", "DELTA", "is a MANAGED table.*location="),
        ("VIEW", None, "is a VIEW"),
        ("STREAMING_TABLE", "DELTA", "is a STREAMING_TABLE"),
        ("EXTERNAL", "ICEBERG", "is a table of ICEBERG"),
    ]:
        at = f"s3://{BUCKET}/heart/bpm" if kind == "MANAGED" else f"s3://{BUCKET}/theirs"
        uc.add_table("main.heart.theirs", at, table_type=kind, data_source_format=form)
        with pytest.raises(bayou.ConfigError, match=f"main.heart.theirs {said}"):
            write(raw, uc, "main.heart.theirs", query_name="q")
        with pytest.raises(bayou.ConfigError, match=f"main.heart.theirs {said}"):
            pipeline(uc, None, schema="main.heart").table("theirs", raw)
            lake = pipeline(uc, None)
            lake.table("theirs", raw)
            lake.run(progress=False)
        if kind == "MANAGED":
            # External engines may read such tables.
            assert rows(uc, "main.heart.theirs") == [0, 1, 2]
        else:
            with pytest.raises(bayou.BayouError):
                rows(uc, "main.heart.theirs")


def test_a_path_is_never_a_name_and_a_name_is_never_a_path(
    uc: Unity, broker: bayou.Connection, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = publish(broker, 3)
    monkeypatch.chdir(tmp_path)
    for n, path in enumerate(
        ["./main.heart.bpm", "a.b", "x/main.heart.bpm", pathlib.Path("main.heart.bpm2"), "a.b.c.d"]
    ):
        raw.write_delta(path, query_name=f"q{n}", progress=False)
        assert len(bayou.read_delta(path)) == 3
    assert (tmp_path / "main.heart.bpm" / "_delta_log").is_dir() and (tmp_path / "main.heart.bpm2").is_dir()
    assert not uc.requests
    write(raw, uc)
    assert len(uc.tables) == 1 and rows(uc, "`main`.`heart`.`bpm`") == rows(uc, "MAIN.Heart.bpm") == [0, 1, 2]
    write(raw, uc, "MAIN.Heart.BPM")
    assert len(uc.tables) == 1 and rows(uc) == [0, 1, 2]
    for name, said in [
        ("`main`.bpm", "three parts"),
        ("main.heart.b pm", "cannot contain a space"),
        ("`main.heart`.x.bpm", "cannot contain '.'"),
        ("hive_metastore.default.t", "outside Unity Catalog"),
        ("main.heart.`bpm", "backticks do not fit"),
    ]:
        with pytest.raises(bayou.ConfigError, match=said):
            write(raw, uc, name)
    with pytest.raises(bayou.ConfigError, match="there is no schema main.lungs.*CREATE SCHEMA `main`.`lungs`"):
        write(raw, uc, "main.lungs.x")
    write(raw, uc, "main.heart.`schläge-2026`", query_name="odd")
    assert rows(uc, "main.heart.schläge-2026") == [0, 1, 2]
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "15.4")
    with pytest.raises(bayou.ConfigError, match="can be a table of a schema or a folder"):
        bayou.read_delta("heart.bpm")
    with pytest.raises(bayou.ConfigError, match='Write "catalog.schema"'):
        pipeline(uc, raw, schema="heart").run(progress=False)
    with pytest.raises(bayou.ConfigError, match="location=.* is a path"):
        raw.write_delta(str(tmp_path / "x"), location="s3://b/x")


def test_what_is_missing_is_said(uc: Unity, broker: bayou.Connection) -> None:
    raw = publish(broker, 3)
    with pytest.raises(bayou.ConfigError, match="needs checkpoint_location="):
        write(raw, uc, checkpoint_location=None)
    with pytest.raises(bayou.ConfigError, match="checkpoint_location= is required"):
        bayou.Pipeline("p", schema="main.heart")
    with pytest.raises(bayou.ConfigError, match="needs a root"):
        bayou.Pipeline("p")
    uc.add_schema("main.bare")
    with pytest.raises(bayou.ConfigError, match="no storage root, so a new table needs location="):
        write(raw, uc, "main.bare.t")
    with pytest.raises(bayou.ConfigError, match="does not look like a Databricks workspace"):
        # An object store answers, and no catalog.
        rows(uc, storage_options={"databricks_host": uc.store.endpoint if uc.store else "", "databricks_token": TOKEN})


def test_a_table_that_was_dropped_and_created_again_elsewhere_is_refused(
    uc: Unity, store: Stub, broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    raw = publish(broker, 3)
    write(raw, uc)
    first = uc.tables.pop(TABLE)
    publish(broker, 3, start=3)
    before = store.names()
    with pytest.raises(
        bayou.DataLossError, match=r"dropped or renamed.*CREATE TABLE main.heart.bpm USING DELTA LOCATION"
    ):
        write(raw, uc)
    # A different table of that name, and a copy of the files.
    for name in store.names("heart/bpm/"):
        store.put(name.replace("heart/bpm/", "heart/copy/"), store.objects[name].content)
    second = uc.add_table(TABLE, f"s3://{BUCKET}/heart/copy")
    with pytest.raises(bayou.DataLossError, match=f"different table.*{first['table_id']}.*{second['table_id']}"):
        write(raw, uc)
    assert [n for n in store.names("heart/bpm/")] == [n for n in before if n.startswith("heart/bpm/")]
    assert not store.names("heart/bpm/_delta_log/00000000000000000003")
    # Registered again at the same location, it is the same table.
    uc.add_table(TABLE, first["storage_location"])
    write(raw, uc)
    assert rows(uc) == list(range(6))
    # With a different location, and for a table whose files are gone.
    with pytest.raises(bayou.ConfigError, match="is at .*, and location= says"):
        write(raw, uc, location=f"s3://{BUCKET}/heart/elsewhere")
    uc.add_table("main.heart.empty", f"s3://{BUCKET}/heart/empty")
    with pytest.raises(bayou.ConfigError, match="the catalog has the table, and there is no Delta table"):
        write(raw, uc, "main.heart.empty")
    with pytest.raises(bayou.ConfigError, match="overlaps with the table.*location= of its own"):
        write(raw, uc, "main.heart.inside", location=f"s3://{BUCKET}/heart/empty/inside")


def test_a_delta_table_that_is_there_already_is_entered(uc: Unity, store: Stub, broker: bayou.Connection) -> None:
    raw = publish(broker, 3)
    own = {**store.options, "aws_session_token": "the-users-own-token"}
    assert store.accepts is not None
    store.accepts["the-users-own-token"] = float("inf")
    raw.write_delta(f"s3://{BUCKET}/heart/bpm", storage_options=own, checkpoint_location=CHECKPOINT, progress=False)
    publish(broker, 3, start=3)
    # The same query and checkpoint, now by name.
    write(raw, uc)
    assert rows(uc) == list(range(6))
    # With credentials of the user's own, the catalog is asked for none.
    vended = len(uc.vended)
    publish(broker, 3, start=6)
    write(raw, uc, storage_options=uc.options | own)
    assert rows(uc, storage_options=uc.options | own) == list(range(9))
    assert len(uc.vended) == vended


def test_new_columns_are_a_note_because_the_catalog_does_not_learn_them(uc: Unity, broker: bayou.Connection) -> None:
    raw = publish(broker, 3)
    query = write(raw, uc)
    assert not [n for n in query.notes if "MSCK REPAIR TABLE" in n]
    query = write(raw.select("*", "i * 2 AS twice"), uc, schema_mode="merge")
    assert [n for n in query.notes if "the column twice" in n and "MSCK REPAIR TABLE `main`.`heart`.`bpm`" in n]


def test_no_secret_shows_anywhere(
    uc: Unity,
    store: Stub,
    broker: bayou.Connection,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    raw = publish(broker, 10, epoch=2)
    lake = pipeline(uc, raw)
    query = lake.run(progress=False)
    texts = [repr(lake), repr(query), query.to_json(), query.result(), repr(raw), raw.explain()]
    for privilege in ("MODIFY", "EXTERNAL USE SCHEMA"):
        uc.missing = {privilege}
        with pytest.raises(bayou.AclError) as e:
            pipeline(uc, raw).run(progress=False)
        texts.append(f"{e.value} {e.value!r}")
    uc.missing = set()
    uc.faults = [Fault("POST .*temporary-table", 99, 403)]
    with pytest.raises(bayou.BayouError) as failed:
        rows(uc, "main.heart.clean")
    texts += [str(failed.value), caplog.text, *capfd.readouterr()]
    secrets = [TOKEN, *uc.vended, *(f"secret-of-{v}" for v in uc.vended)]
    for secret in secrets:
        assert not any(secret in text for text in texts)
        for name in store.names():
            assert secret.encode() not in store.objects[name].content, name


@pytest.mark.parametrize("versions", [("2.0",), ("2.1",)])
def test_google_tokens_and_both_versions_of_the_api_work(
    versions: tuple[str, ...], store: Stub, broker: bayou.Connection
) -> None:
    with unity(store, cloud="gcp", versions=versions, life=1.0) as uc:
        uc.add_schema("main.heart", f"gs://{BUCKET}/heart")
        uc.locations = {"lake": f"gs://{BUCKET}"}
        store.latency = 0.02
        raw = publish(broker, 20, epoch=1)
        write(raw, uc, checkpoint_location=f"gs://{BUCKET}/checkpoints")
        assert rows(uc) == list(range(20)) and len(uc.vended) > 4
        assert not refused(store), refused(store)[:3]


def test_tables_on_disk_need_no_credentials(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    with unity() as uc:
        uc.add_schema("main.heart", f"file:{tmp_path}/heart")
        raw = publish(broker, 10).expect_or_quarantine("even", "i % 2 = 0")
        for _ in range(2):
            write(raw, uc, checkpoint_location=str(tmp_path / "checkpoints"))
        assert rows(uc) == list(range(0, 10, 2))
        assert len(uc.tables) == 2 and not uc.asked("temporary-")
        assert [r["i"] for r in delta_replay.rows(tmp_path / "heart" / "bpm")] == list(range(0, 10, 2))


def test_a_checkpoint_inside_a_table_is_reached_with_the_tables_credentials(
    uc: Unity, store: Stub, broker: bayou.Connection
) -> None:
    raw = publish(broker, 5)
    at = f"s3://{BUCKET}/heart/bpm/_bayou"
    write(raw, uc, checkpoint_location=at)
    publish(broker, 5, start=5)
    write(raw, uc, checkpoint_location=at)
    assert rows(uc) == list(range(10)) and not refused(store)


def test_repair_reaches_the_tables_of_a_catalog(uc: Unity, broker: bayou.Connection) -> None:
    raw = publish(broker, 5).expect_or_quarantine("even", "i % 2 = 0")
    write(raw, uc)
    more = {"storage_options": uc.options, "checkpoint_location": CHECKPOINT}
    assert len(bayou.repair(TABLE, **more)) == 0
    with pytest.raises(bayou.ConfigError, match="needs checkpoint_location="):
        bayou.repair(TABLE, storage_options=uc.options)
    pipeline(uc, raw).run(progress=False)
    assert len(pipeline(uc, None).repair()) == 0


CRASHES = [
    *("create:bpm.before", "create:bpm.after", "register:bpm.before", "register:bpm.after"),
    *("seal.before", "seal.after", "commit:bpm.before", "commit:bpm.after", "done.before", "done.after"),
    *("create:bpm_quarantine.after", "register:bpm_quarantine.before", "register:bpm_quarantine.after"),
]


def test_a_run_that_is_killed_at_any_point_goes_on_when_it_is_run_again(
    kafka: bayou.Connection, topic: Callable[..., str], address: str, tmp_path: pathlib.Path
) -> None:
    from s3 import bucket
    from unity_run import run

    with bucket() as s3, unity(None, keys={"access_key_id": "k" * 16, "secret_access_key": "s" * 16}) as uc:
        uc.locations = {"lake": "s3://lake"}
        near = {"aws_endpoint": s3.endpoint, "aws_region": "us-east-1", "aws_allow_http": "true"}
        for n, point in enumerate(CRASHES):
            name = topic()
            schema = f"main.s{n}"
            uc.add_schema(schema, f"s3://lake/s{n}")
            kafka.produce(name, pa.table({"i": list(range(40))}), progress=False)
            job = {"address": address, "topic": name, "target": f"{schema}.bpm", "options": uc.login | near}
            job["checkpoint"] = f"s3://lake/checkpoints/{n}"
            killed = run(job | {"crash": point})
            assert killed.returncode != 0 and f"crash point {point}" in killed.stderr, (point, killed.stderr[-500:])
            again = run(job)
            assert again.returncode == 0, (point, again.stderr[-2000:])
            folder = s3.copy_to(tmp_path / str(n), f"s{n}/")
            assert [r["i"] for r in delta_replay.rows(folder / f"s{n}" / "bpm")] == [
                i for i in range(40) if i % 10 != 9
            ]
            aside = delta_replay.rows(folder / f"s{n}" / "bpm_quarantine")
            assert [r["offset"] for r in aside] == [9, 19, 29, 39], point
            assert sorted(t for t in uc.tables if t.startswith(schema)) == [f"{schema}.bpm", f"{schema}.bpm_quarantine"]
