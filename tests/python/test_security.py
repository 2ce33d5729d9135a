"""Other users must not get: the embedded broker's topics, credentials in texts, influence on the helper's imports or on a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import bayou
import pytest

PLANTED = "hUnT3r2xYz9QpL"
ESCAPE = "\x1b[31m\x07\x9b"

STRANGER = """
import json, os, sys
import confluent_kafka, confluent_kafka.admin
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
address, directory = sys.argv[1:]
said = {"uid": os.getuid()}
config = {"bootstrap.servers": address, "log_level": 0, "message.timeout.ms": 2000}
try:
    said["topics"] = list(confluent_kafka.admin.AdminClient(config).list_topics(timeout=3).topics)
except confluent_kafka.KafkaException:
    said["topics"] = None
reader = confluent_kafka.Consumer({**{k: v for k, v in config.items() if "message" not in k}, "group.id": "g"})
reader.assign([confluent_kafka.TopicPartition("t", 0, 0)])
message = reader.poll(3)
said["read"] = None if message is None or message.error() else message.value().decode()
producer = confluent_kafka.Producer(config)
told = []
producer.produce("t", b'{"a": 666}', on_delivery=lambda error, m: told.append(error is None))
producer.flush(4)
said["written"] = any(told)
try:
    said["directory"] = os.listdir(directory)
except PermissionError:
    said["directory"] = None
print(json.dumps(said))
"""


def test_another_user_of_the_machine_neither_lists_nor_reads_nor_writes(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": 1}], progress=False)
    arguments = [sys.executable, "-c", STRANGER, broker.address, str(broker.scratch_dir)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    said = json.loads(done.stdout)
    # Where the tests do not run as root it is the same user without the secret; the directory is then its own.
    assert said["uid"] != 0
    assert (said["topics"], said["read"], said["written"]) == (None, None, False)
    assert said["directory"] is None or os.getuid() != 0
    assert broker.read_stream("t", schema="a INT").collect().to_dicts() == [{"a": 1}]


def test_other_clients_of_the_user_come_in_with_the_brokers_properties(broker: bayou.Connection) -> None:
    import confluent_kafka

    broker.create_topic("t")
    producer = confluent_kafka.Producer(broker.client_properties)
    producer.produce("t", b'{"a": 7}')
    assert producer.flush(10) == 0
    assert broker.read_stream("t", schema="a INT").collect()["a"] == [7]
    secret = broker.client_properties["sasl.password"]
    stream = broker.read_stream("t", schema="a INT")
    lake = bayou.Pipeline("p", str(broker.scratch_dir / "lake"))
    lake.table("t", stream)
    query = lake.run(progress=False)
    written = [p.read_bytes() for p in Path(broker.scratch_dir).rglob("*") if p.is_file()]
    for text in (repr(broker), broker._repr_html_(), repr(stream), stream.explain(), query.to_json(), repr(query)):
        assert secret not in text
    assert written
    assert not any(secret.encode() in content for content in written)


def test_a_real_clusters_secrets_are_not_handed_out(address: str) -> None:
    with pytest.raises(bayou.ConfigError, match="embedded"):
        _ = bayou.connect(address).client_properties


def test_the_brokers_helper_imports_nothing_from_the_working_directory(tmp_path: Path) -> None:
    for module in ("uuid", "json", "bayou", "base64", "socket", "sitecustomize"):
        (tmp_path / f"{module}.py").write_text(
            f"open({str(tmp_path / 'pwned')!r}, 'a').write('{module} ')\nraise SystemExit(3)\n"
        )
    job = tmp_path / "opt"
    job.mkdir()
    (job / "job.py").write_text(
        textwrap.dedent("""
        import bayou
        with bayou.testing.broker() as kafka:
            kafka.create_topic("t")
            kafka.produce("t", [{"a": 1}], progress=False)
            print(len(kafka.read_stream("t", schema="a INT").collect()))
        """)
    )
    done = subprocess.run(
        [sys.executable, "opt/job.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "1", done.stderr
    assert not (tmp_path / "pwned").exists(), (tmp_path / "pwned").read_text()


TARGETS = [
    "s4://key:{}@bucket/x",
    "s3x://{}@bucket/x",
    "s3://{}@bucket/x",
    "https://user:{}@127.0.0.1:1/x",
    "http://127.0.0.1:1/x?sig={}",
    "foo://bucket/x?X-Amz-Signature={}&b=1",
    "https://account.blob.core.windows.net/c/x?sv=2024&sig={}",
    "abfss://container:{}@account.dfs.core.windows.net/x",
    "DefaultEndpointsProtocol=https://x;AccountKey={};EndpointSuffix=core.windows.net",
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_secret_in_a_target_shows_in_no_error(target: str) -> None:
    options = {
        "timeout": "1s",
        "max_retries": "0",
        "retry_timeout": "1s",
        "aws_secret_access_key": PLANTED,
        "region": "x",
    }
    typed = target.replace("{}", PLANTED)
    assert PLANTED not in repr(bayou.Pipeline("p", typed, storage_options=options))
    for call in (
        lambda: bayou.read_delta(typed, storage_options=options),
        lambda: bayou.sql("SELECT * FROM t", t=typed, storage_options=options),
        lambda: bayou.Pipeline("p", typed, storage_options=options).tables(),
        lambda: bayou.from_batches({"a": [1]}).write_delta(typed, storage_options=options, progress=False),
    ):
        try:
            call()
        except Exception as error:
            assert PLANTED not in str(error) + repr(error), target


@pytest.mark.parametrize(
    "address",
    [
        "user:{}@127.0.0.1:1",
        "sasl_ssl://user:{}@127.0.0.1:1",
        "user:a,{},b@127.0.0.1:1",
        "Endpoint=sb://ns.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccessKey={};EntityPath=t",
        "127.0.0.1:1?password={}",
    ],
)
def test_a_secret_in_an_address_shows_in_no_error(address: str) -> None:
    typed = address.replace("{}", PLANTED)
    for target in (typed, {"bootstrap.servers": typed}):
        with pytest.raises(bayou.BayouError) as failed:
            bayou.connect(target)
        assert PLANTED not in str(failed.value)


def test_what_a_terminal_would_obey_is_written_out() -> None:
    stream = bayou.from_messages(
        [json.dumps({"a": ESCAPE, "b": {"c": [ESCAPE]}})], schema="a STRING, b STRUCT<c: ARRAY<STRING>>"
    )
    table = stream.collect()
    assert table["a"] == [ESCAPE]
    assert r"\x1b[31m\x07\x9b" in repr(table)
    shown = [repr(table), repr(stream.preview()), repr(bayou.from_messages([ESCAPE.encode()], format="raw").collect())]
    named = bayou.from_batches({f"x{ESCAPE}": [1]})
    shown += [repr(named.collect()), repr(stream.preview())]

    def fails(rows: object) -> object:
        raise ValueError(ESCAPE)

    for wrong in (lambda: stream.map_batches(fails, "a INT").collect(), lambda: named.select(f"`y{ESCAPE}`")):
        with pytest.raises(bayou.BayouError) as failed:
            wrong()
        shown.append(str(failed.value))
    for text in shown:
        assert not set(text) & set(ESCAPE[0] + ESCAPE[-2:]), ascii(text)


SUBINTERPRETER = """
import sys
sys.path[:] = {path!r}
try:
    import _interpreters as i
except ImportError:
    import _xxsubinterpreters as i
code = '''
import sys
sys.path[:] = {path!r}
try:
    import bayou
except ImportError as error:
    print("refused:", error, flush=True)
else:
    print("imported", flush=True)
'''
sub = i.create()
i.run_string(sub, code)
i.destroy(sub)
{after}
print("done", flush=True)
"""


@pytest.mark.parametrize("after", ["", "import bayou; print(len(bayou.from_batches({'a': [1]}).collect()))"])
def test_a_subinterpreter_is_refused_and_the_process_ends(after: str) -> None:
    code = SUBINTERPRETER.format(path=sys.path, after=after)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("refused:") and "main interpreter" in done.stdout, done.stderr
    assert done.stdout.endswith("done\n"), done.stderr
    assert done.returncode == 0


def test_numbers_at_the_end_of_their_range_do_not_panic(broker: bayou.Connection, tmp_path: Path) -> None:
    broker.create_topic("t", partitions=3)
    broker.produce("t", [{"a": i} for i in range(5)], progress=False)
    for n in (5, 2**31, 2**63 - 1, 2**63, 2**64 - 1):
        assert len(broker.peek("t", n=n)) == 5
    stream = broker.read_stream("t", schema="a INT")
    stream.write_delta(str(tmp_path / "t"), progress=False)
    beats = list(tmp_path.rglob("heartbeat.json"))
    assert beats
    for at in (-(2**63), 2**63 - 1):
        for beat in beats:
            beat.write_text(
                json.dumps({**json.loads(beat.read_text()), "at": at, "ended": False, "host": "elsewhere/1"})
            )
        stream.write_delta(str(tmp_path / "t"), progress=False)
