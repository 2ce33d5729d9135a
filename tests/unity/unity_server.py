"""A stub of Unity Catalog on loopback for the tests: tables, schemas, external locations, privileges, temporary credentials, OAuth.

Paths, fields and codes are those of the published REST API (OpenAPI of Unity Catalog, and the requests of databricks-sdk). The stub checks requests
as strictly as possible: complete columns, names and locations that exist, privileges, expired tokens. It registers its vended credentials with the
object store of tests/s3/stub.py, which accepts them only for their own folder and time.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "s3"))
from stub import Server, Stub

TOKEN = "dapi-of-the-tests-sesame"
CLIENT, SECRET = "a-service-principal", "its-secret-sesame"
WHO = "heart@example.org"
TYPES = {
    *("BOOLEAN", "BYTE", "SHORT", "INT", "LONG", "FLOAT", "DOUBLE", "DATE", "TIMESTAMP", "TIMESTAMP_NTZ"),
    *("STRING", "BINARY", "DECIMAL", "ARRAY", "STRUCT", "MAP"),
}
ROOT = re.compile(r"/api/(2\.[01])/unity-catalog/(.*)")


class Refuse(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.body = status, {"error_code": code, "message": message, "details": []}


@dataclass
class Fault:
    """A fault for the next requests whose method and path match."""

    pattern: str
    count: int = 1
    status: int = 503
    retry_after: str | None = None
    # The connection is closed without an answer. "after": the request was executed before that.
    cut: str | None = None


@dataclass
class Asked:
    method: str
    path: str
    status: int
    at: float
    body: Any


@dataclass
class Unity:
    store: Stub | None = None
    # The lifetime of vended credentials in seconds.
    life: float = 3600.0
    # "aws", "azure" or "gcp"
    cloud: str = "aws"
    # The credentials of a store that accepts any token (moto).
    keys: dict[str, str] | None = None
    # Makes signatures that a real Azure store accepts.
    sas: Callable[[], str] | None = None
    port: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    locations: dict[str, str] = field(default_factory=dict)
    # The end of each token's lifetime, by time.time().
    tokens: dict[str, float] = field(default_factory=lambda: {TOKEN: float("inf")})
    token_life: float = 3600.0
    # Privileges that the login does not have.
    missing: set[str] = field(default_factory=set)
    # The messages of errors do not give the reason.
    vague: bool = False
    faults: list[Fault] = field(default_factory=list)
    requests: list[Asked] = field(default_factory=list)
    # The versions of the API that vend credentials: "2.0", "2.1" or both.
    versions: tuple[str, ...] = ("2.0", "2.1")
    page: int = 50
    vended: list[str] = field(default_factory=list)
    before: Callable[[str, str], None] | None = None

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def login(self) -> dict[str, str]:
        return {"databricks_host": self.host, "databricks_token": TOKEN}

    @property
    def options(self) -> dict[str, str]:
        """The login, and the options that the stores need besides credentials."""
        if self.store is None:
            return self.login
        near = {"aws_endpoint": self.store.endpoint, "aws_region": "us-east-1", "aws_allow_http": "true"}
        if self.cloud == "gcp":
            near = {"google_base_url": self.store.endpoint, "allow_http": "true"}
        return self.login | near

    def asked(self, pattern: str) -> list[Asked]:
        with self.lock:
            return [a for a in self.requests if re.search(pattern, f"{a.method} {a.path}")]

    def add_schema(self, name: str, root: str | None = None) -> None:
        self.schemas[name] = {"storage_root": root} if root else {}

    def add_table(self, full: str, location: str, **more: Any) -> dict[str, Any]:
        """Adds a table, as if a different client had created it."""
        catalog, schema, name = full.split(".")
        made = {
            **{"catalog_name": catalog, "schema_name": schema, "name": name, "full_name": full, "properties": {}},
            **{"table_type": "EXTERNAL", "data_source_format": "DELTA", "storage_location": location, "columns": []},
            **{"table_id": str(uuid.uuid4()), "created_at": 1, "updated_at": 1},
            **more,
        }
        with self.lock:
            self.tables[full] = made
        return made

    def need(self, privilege: str, kind: str, name: str) -> None:
        if privilege in self.missing:
            said = "Access denied." if self.vague else f"User does not have {privilege} on {kind} '{name}'."
            raise Refuse(403, "PERMISSION_DENIED", said)

    def need_schema(self, full: str) -> None:
        self.need("USE CATALOG", "Catalog", full.split(".")[0])
        self.need("USE SCHEMA", "Schema", full)

    def vend(self, url: str, write: bool) -> dict[str, Any]:
        until = time.time() + self.life
        token = f"vended-{uuid.uuid4().hex}"
        self.vended.append(token)
        if self.store is not None:
            assert self.store.accepts is not None
            self.store.accepts[token] = until
            self.store.scopes[token] = (url.split("://", 1)[1].partition("/")[2].strip("/"), write)
        out: dict[str, Any] = {"url": url, "expiration_time": int(until * 1000)}
        if self.cloud == "gcp":
            return out | {"gcp_oauth_token": {"oauth_token": token}}
        if self.cloud == "azure":
            signed = self.sas() if self.sas else f"sv=2022-11-02&sig={token}"
            return out | {"azure_user_delegation_sas": {"sas_token": signed}}
        keys = self.keys or {"access_key_id": "ASIAVENDEDKEYOFTESTS", "secret_access_key": f"secret-of-{token}"}
        return out | {"aws_temp_credentials": {**keys, "session_token": token, "access_point": ""}}

    def location_of(self, url: str) -> str | None:
        found = [n for n, at in self.locations.items() if url == at.rstrip("/") or url.startswith(at.rstrip("/") + "/")]
        return found[0] if found else None

    def handle(self, method: str, url: urllib.parse.SplitResult, data: Any, headers: Any, raw: bytes) -> Any:
        if url.path == "/oidc/v1/token":
            return self.log_in(raw, headers.get("Authorization", ""))
        if url.path.startswith("/.well-known/"):
            raise Refuse(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {url.path}'")
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or self.tokens.get(token, 0) < time.time():
            raise Refuse(401, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type for this API.")
        if url.path == "/api/2.0/preview/scim/v2/Me":
            return {"userName": WHO}
        found = ROOT.fullmatch(url.path)
        if not found:
            raise Refuse(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {url.path}'")
        version, rest = found.groups()
        kind, _, name = rest.partition("/")
        name = urllib.parse.unquote(name)
        if kind.startswith("temporary-"):
            if version not in self.versions:
                raise Refuse(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {url.path}'")
            return self.credentials(kind, data)
        if version != "2.1":
            raise Refuse(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {url.path}'")
        if kind == "external-locations":
            return {"external_locations": [{"name": n, "url": at} for n, at in self.locations.items()]}
        if kind == "schemas":
            self.need_schema(name)
            if name.lower() not in self.schemas:
                raise Refuse(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{name}' does not exist.")
            return {"full_name": name, **self.schemas[name.lower()]}
        if kind == "tables" and method == "GET" and not name:
            return self.listing(dict(urllib.parse.parse_qsl(url.query)))
        if kind == "tables" and method == "GET":
            return self.table(name)
        if kind == "tables" and method == "POST":
            return self.create(data)
        raise Refuse(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {url.path}'")

    def log_in(self, raw: bytes, auth: str) -> dict[str, Any]:
        form = dict(urllib.parse.parse_qsl(raw.decode()))
        who = base64.b64decode(auth.removeprefix("Basic ")).decode().partition(":")
        if (who[0], who[2]) != (CLIENT, SECRET) or form != {"grant_type": "client_credentials", "scope": "all-apis"}:
            raise Refuse(401, "invalid_client", "Client authentication failed")
        token = f"oauth-{uuid.uuid4().hex}"
        self.tokens[token] = time.time() + self.token_life
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(self.token_life)}

    def listing(self, query: dict[str, str]) -> dict[str, Any]:
        schema = f"{query['catalog_name']}.{query['schema_name']}"
        self.need_schema(schema)
        if schema.lower() not in self.schemas:
            raise Refuse(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{schema}' does not exist.")
        names = sorted(n for n in self.tables if n.startswith(schema + "."))
        start = int(query.get("page_token") or 0)
        out: dict[str, Any] = {"tables": [self.tables[n] for n in names[start : start + self.page]]}
        if start + self.page < len(names):
            out["next_page_token"] = str(start + self.page)
        return out

    def table(self, name: str) -> dict[str, Any]:
        schema = name.rpartition(".")[0]
        self.need_schema(schema)
        if schema.lower() not in self.schemas:
            raise Refuse(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{schema}' does not exist.")
        # Names are not case sensitive.
        found = {n.lower(): t for n, t in self.tables.items()}.get(name.lower())
        if found is None:
            raise Refuse(404, "TABLE_DOES_NOT_EXIST", f"Table '{name}' does not exist.")
        self.need("SELECT", "Table", name)
        return found

    def create(self, data: dict[str, Any]) -> dict[str, Any]:
        wrong = [f for f in ("name", "catalog_name", "schema_name", "table_type", "columns") if f not in data]
        for column in data.get("columns", []):
            spelled = json.loads(column["type_json"])
            good = column["type_name"] in TYPES and bool(column["type_text"]) and spelled["name"] == column["name"]
            good = good and set(spelled) >= {"name", "type", "nullable", "metadata"}
            wrong += [] if good else [f"columns.{column['name']}"]
        if sorted(c["position"] for c in data.get("columns", [])) != list(range(len(data.get("columns", [])))):
            wrong.append("positions")
        if wrong or data["data_source_format"] != "DELTA" or not data["columns"]:
            raise Refuse(400, "INVALID_PARAMETER_VALUE", f"missing or wrong: {wrong}")
        schema = f"{data['catalog_name']}.{data['schema_name']}"
        full, at = f"{schema}.{data['name']}", data["storage_location"].rstrip("/")
        self.need_schema(schema)
        if schema.lower() not in self.schemas:
            raise Refuse(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{schema}' does not exist.")
        self.need("CREATE TABLE", "Schema", schema)
        if data["table_type"] != "EXTERNAL":
            raise Refuse(400, "INVALID_PARAMETER_VALUE", "Only external tables can be created by external engines.")
        if full.lower() in {n.lower() for n in self.tables}:
            raise Refuse(409, "TABLE_ALREADY_EXISTS", f"Table '{full}' already exists.")
        location = self.location_of(at)
        if location is None and not at.startswith("file:"):
            raise Refuse(403, "PERMISSION_DENIED", f"No external location contains {at}.")
        self.need("CREATE EXTERNAL TABLE", "External Location", location or "")
        for other in self.tables.values():
            theirs = other["storage_location"].rstrip("/")
            if f"{at}/".startswith(f"{theirs}/") or f"{theirs}/".startswith(f"{at}/"):
                raise Refuse(400, "LOCATION_OVERLAP", f"Input path overlaps with table {other['full_name']}.")
        return self.add_table(full, at, **{k: v for k, v in data.items() if k != "storage_location"})

    def credentials(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        if kind == "temporary-table-credentials":
            for full, table in self.tables.items():
                if table["table_id"] != data["table_id"]:
                    continue
                self.need("EXTERNAL USE SCHEMA", "Schema", full.rpartition(".")[0])
                self.need("SELECT", "Table", full)
                write = {"READ": False, "READ_WRITE": True}[data["operation"]]
                if write:
                    self.need("MODIFY", "Table", full)
                if write and table["table_type"] == "MANAGED":
                    raise Refuse(403, "PERMISSION_DENIED", "Managed tables are read only for external engines.")
                return self.vend(table["storage_location"], write)
            raise Refuse(404, "TABLE_DOES_NOT_EXIST", f"Table '{data['table_id']}' does not exist.")
        url, location = data["url"].rstrip("/"), self.location_of(data["url"].rstrip("/"))
        if location is None:
            raise Refuse(403, "PERMISSION_DENIED", f"No external location contains {url}.")
        self.need("EXTERNAL USE LOCATION", "External Location", location)
        for full, table in self.tables.items():
            if f"{url}/".startswith(table["storage_location"].rstrip("/") + "/"):
                raise Refuse(400, "INVALID_PARAMETER_VALUE", f"The path overlaps with the table {full}.")
        write = {"PATH_READ": False, "PATH_READ_WRITE": True, "PATH_CREATE_TABLE": True}[data["operation"]]
        if data["operation"] == "PATH_CREATE_TABLE":
            self.need("CREATE EXTERNAL TABLE", "External Location", location)
        return self.vend(url, write)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    unity: Unity

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self) -> None:
        unity, url = self.unity, urllib.parse.urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_json = (self.headers.get("Content-Type") or "").startswith("application/json")
        data = json.loads(raw) if raw and is_json else None
        if unity.before:
            unity.before(self.command, url.path)
        with unity.lock:
            fault = self.fault(f"{self.command} {url.path}")
            status, out = 200, None
            if fault is None or fault.cut == "after":
                try:
                    out = unity.handle(self.command, url, data, self.headers, raw)
                except Refuse as e:
                    status, out = e.status, e.body
            if fault is not None:
                status, out = fault.status, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "asked for"}
            unity.requests.append(Asked(self.command, self.path, status, time.time(), data))
        if fault is not None and fault.cut:
            self.close_connection = True
            return
        body = json.dumps(out).encode()
        self.send_response(status)
        if fault is not None and fault.retry_after:
            self.send_header("Retry-After", fault.retry_after)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def fault(self, asked: str) -> Fault | None:
        for fault in self.unity.faults:
            if fault.count > 0 and re.search(fault.pattern, asked):
                fault.count -= 1
                return fault
        return None

    do_GET = do_POST = do_PATCH = do_DELETE = answer


@contextmanager
def unity(store: Stub | None = None, **more: Any) -> Iterator[Unity]:
    made = Unity(store, **more)
    if store is not None:
        store.accepts = {}
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"unity": made}))
    made.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
