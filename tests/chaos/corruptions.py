"""Ways in which a lake can be wrong. Each one takes a finished lake and corrupts one thing, as little as possible: the log states the sizes and
statistics of the changed files. The oracle must find every corruption and describe it: each corruption has a pattern that one of the oracle's
problems must match."""

from __future__ import annotations

import json
import pathlib
import random
import shutil
import urllib.parse
from collections.abc import Callable
from typing import Any

import delta
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Action = dict[str, Any]
Change = Callable[["Lake", pa.Table, int], pa.Table]


class Lake:
    def __init__(self, root: pathlib.Path, rng: random.Random) -> None:
        self.root, self.rng = root, rng
        self.log = root / "_bayou/chaos/1"

    # --- the tables

    def table(self, name: str) -> delta.Table:
        return delta.Table(self.root / name)

    def any_file(self, name: str, rows: int = 2) -> str:
        found = self.table(name)
        return self.rng.choice(sorted(p for p in found.live if found.read(p).num_rows >= rows))

    def version_of(self, name: str, path: str) -> int:
        return self.table(name).live[path].version

    def actions(self, name: str, version: int, change: Callable[[list[Action]], list[Action]]) -> None:
        file = self.root / name / "_delta_log" / f"{version:020}.json"
        before = [json.loads(line) for line in file.read_text().splitlines()]
        after = change(json.loads(json.dumps(before)))
        assert before != after, "nothing was spoiled"
        file.write_text("".join(json.dumps(a) + "\n" for a in after))

    def append_commit(self, name: str, actions: list[Action]) -> None:
        log = self.root / name / "_delta_log"
        newest = max(int(file.stem) for file in log.glob("*.json"))
        (log / f"{newest + 1:020}.json").write_text("".join(json.dumps(a) + "\n" for a in actions))

    def rewrite(self, name: str, change: Callable[[pa.Table], pa.Table], path: str | None = None) -> None:
        """Changes the content of a data file. The log states the size and statistics of the new content."""
        path = path or self.any_file(name)
        file = self.root / name / urllib.parse.unquote(path)
        before = pq.ParquetFile(file).read()
        after = change(before)
        assert not before.equals(after), "nothing was spoiled"
        pq.write_table(after, file)

        def told(actions: list[Action]) -> list[Action]:
            for a in actions:
                if "add" in a and a["add"]["path"] == path:
                    a["add"]["size"] = file.stat().st_size
                    a["add"]["stats"] = json.dumps({"numRecords": after.num_rows})
            return actions

        self.actions(name, self.version_of(name, path), told)

    def commits_of(self, name: str) -> list[int]:
        """The versions that committed an epoch."""
        return [c.version for c in self.table(name).commits if c.txns]

    # --- the seals

    def files(self, folder: str) -> list[pathlib.Path]:
        return sorted((self.log / folder).glob("*.json"))

    def json(self, file: pathlib.Path, change: Callable[[Any], None]) -> None:
        before = json.loads(file.read_text())
        after = json.loads(json.dumps(before))
        change(after)
        assert before != after, "nothing was spoiled"
        file.write_text(json.dumps(after))

    def any_seal(self) -> pathlib.Path:
        return self.rng.choice(self.files("epoch")[1:-1])


def without(t: pa.Table, i: int) -> pa.Table:
    return pa.concat_tables([t.slice(0, i), t.slice(i + 1)])


def with_value(t: pa.Table, name: str, i: int, value: Any) -> pa.Table:
    """`value` may be a function of the old one."""
    values = t[name].to_pylist()
    values[i] = value(values[i]) if callable(value) else value
    at = t.schema.get_field_index(name)
    return t.set_column(at, t.schema.field(at), pa.array(values, t.schema.field(at).type))


def shifted(t: pa.Table, name: str, i: int, micros: int) -> pa.Table:
    at = t.schema.get_field_index(name)
    kind = t.schema.field(at).type
    values = t[name].cast(pa.int64()).to_pylist()
    scale = {"us": 1, "ns": 1000}[kind.unit]
    values[i] += micros * scale
    return t.set_column(at, t.schema.field(at), pa.array(values, pa.int64()).cast(kind))


def set_to(name: str, value: Any) -> Change:
    """`value` may be a function of the old one."""
    return lambda lake, t, i: with_value(t, name, i, value)


CORRUPTIONS: dict[str, Callable[[Lake], None]] = {}
# The problem that the oracle must report for each corruption: a regular expression.
SAYS: dict[str, str] = {}


def corruption(says: str) -> Callable[[Callable[[Lake], None]], Callable[[Lake], None]]:
    def known(function: Callable[[Lake], None]) -> Callable[[Lake], None]:
        CORRUPTIONS[function.__name__] = function
        SAYS[function.__name__] = says
        return function

    return known


def row_change(what: str, table: str, says: str, change: Change, stage: str = "") -> None:
    """`stage`: only rows of the quarantine that were rejected at this stage."""

    def spoil(lake: Lake) -> None:
        held = lambda t: [i for i in range(t.num_rows) if not stage or t["stage"][i].as_py() == stage]  # noqa: E731
        path = None
        if stage:
            all_ = lake.table(table)
            path = lake.rng.choice(sorted(p for p in all_.live if held(all_.read(p))))
        lake.rewrite(table, lambda t: change(lake, t, lake.rng.choice(held(t))), path)

    spoil.__name__ = what
    corruption(says)(spoil)


for _table in ("clean", "windows", "by_key", "by_kind", "sessions", "firsts", "pairs", "chaos_quarantine"):
    _label = _table.removeprefix("chaos_")
    _less = rf"^{_label}: (1 rows missing|0 rows too many, 1 missing)"
    _more = rf"^{_label}: (0 rows missing, 1 doubled|1 rows too many, 0 missing)"
    row_change(f"a_row_of_{_table}_is_missing", _table, _less, lambda lake, t, i: without(t, i))
    row_change(
        f"a_row_of_{_table}_is_there_twice", _table, _more, lambda lake, t, i: pa.concat_tables([t, t.slice(i, 1)])
    )
for _column in ("n", "s", "c"):
    row_change(
        f"clean_has_another_{_column}", "clean", rf"^clean: 1 values of {_column} ", set_to(_column, lambda x: x ^ 1)
    )
row_change("clean_has_another_key", "clean", "^clean: 1 values of k ", set_to("k", lambda k: k + "0"))
row_change("clean_has_a_null_key", "clean", "^clean: 1 values of k ", set_to("k", None))
row_change(
    "a_time_is_off_by_a_microsecond", "clean", "^clean: 1 values of t ", lambda lake, t, i: shifted(t, "t", i, 1)
)
row_change(
    "a_row_claims_another_partition",
    "clean",
    "^clean: 1 rows missing, 0 doubled, 1 that are nobody's",
    set_to("part", lambda p: p + 9),
)
ONE = ": 1 rows too many, 1 missing"
row_change(
    "a_window_is_shifted_by_one",
    "windows",
    f"^windows{ONE}",
    lambda lake, t, i: shifted(t, "window_start", i, 60_000_000),
)
row_change("a_window_counts_one_too_many", "windows", f"^windows{ONE}", set_to("c", lambda c: c + 1))
row_change("a_sum_in_an_update_table_is_off", "by_key", f"^by_key{ONE}", set_to("n", lambda n: n - 1))
row_change("a_maximum_in_a_complete_table_is_stale", "by_kind", f"^by_kind{ONE}", set_to("hi", lambda n: n - 1))
row_change(
    "a_session_ends_too_early", "sessions", f"^sessions{ONE}", lambda lake, t, i: shifted(t, "window_end", i, -1)
)
row_change("a_pair_has_another_right_side", "pairs", f"^pairs{ONE}", set_to("off_right", 10**6))

# The columns of the quarantine: the parts of the message, and the facts about it.
_aside: dict[str, tuple[str, str, Any]] = {
    "quarantined_bytes_are_cut": ("value", "", lambda b: b[:-1]),
    "a_quarantined_row_is_of_another_epoch": ("epoch", "", lambda e: e + 1),
    "a_quarantined_row_has_another_key": ("key", "", lambda k: k + b"0"),
    "a_quarantined_row_has_no_key": ("key", "decode", None),
    "a_quarantined_row_is_of_another_topic": ("topic", "", lambda x: x + "-2"),
    "a_quarantined_row_has_a_header": ("headers", "", [{"key": "a", "value": b"1"}]),
    "a_quarantined_row_has_no_headers_at_all": ("headers", "", None),
    "a_quarantined_row_breaks_another_rule": ("rules", "expectation", ["n is counted"]),
    "a_quarantined_row_breaks_no_rule": ("rules", "expectation", []),
    "a_malformed_message_breaks_a_rule": ("rules", "decode", ["kind is known"]),
    "a_quarantined_message_is_given_as_a_row": ("row", "", "{}"),
    "an_error_names_another_rule": ("error", "expectation", "breaks 'n is counted'"),
    "an_error_names_another_byte": ("error", "decode", lambda e: e.replace("(byte ", "(byte 1")),
    "a_late_row_was_later_than_that": ("error", "late", lambda e: e.replace("late by ", "late by 1")),
}
for _what, (_column, _stage, _value) in _aside.items():
    _says = rf"^quarantine: \d+, \d+: {_column} is "
    row_change(_what, "chaos_quarantine", _says, set_to(_column, _value), _stage)
row_change(
    "a_quarantined_row_has_another_time",
    "chaos_quarantine",
    r"^quarantine: \d+, \d+: timestamp is ",
    lambda lake, t, i: shifted(t, "timestamp", i, 1000),
)
row_change(
    "a_quarantined_row_is_of_another_stage", "chaos_quarantine", f"^quarantine{ONE}", set_to("stage", "transform")
)
row_change(
    "a_quarantined_row_is_of_another_dataset",
    "chaos_quarantine",
    f"^quarantine{ONE}",
    set_to("dataset", "pairs"),
    "decode",
)
row_change(
    "a_quarantined_row_is_of_another_offset",
    "chaos_quarantine",
    "^quarantine: .* is nobody's message",
    set_to("offset", 10**9),
)


@corruption("^clean: [12] rows lie before one with a lower offset")
def two_rows_of_a_partition_lie_in_the_wrong_order(lake: Lake) -> None:
    def swap(t: pa.Table) -> pa.Table:
        part = lake.rng.choice(t["part"].to_pylist())
        mine = [i for i, p in enumerate(t["part"].to_pylist()) if p == part]
        at = lake.rng.randrange(len(mine) - 1)
        order = list(range(t.num_rows))
        order[mine[at]], order[mine[at + 1]] = mine[at + 1], mine[at]
        return t.take(order)

    table = lake.table("clean")
    one_partition = lambda p: len(set(table.read(p)["part"].to_pylist())) == 1  # noqa: E731
    lake.rewrite("clean", swap, lake.rng.choice(sorted(p for p in table.live if one_partition(p))))


@corruption("^firsts: .* rows lie before one with a lower offset")
def a_file_lies_the_wrong_way_round(lake: Lake) -> None:
    lake.rewrite("firsts", lambda t: t.take(list(reversed(range(t.num_rows)))))


def join(lake: Lake, name: str, change: Callable[[pa.Table], pa.Table] = lambda t: t) -> None:
    """Does the same as OPTIMIZE: all files become one, and the data does not change."""
    table, path = lake.table(name), "joined.parquet"
    whole = change(pa.concat_tables([table.read(p) for p in table.live]))
    pq.write_table(whole, lake.root / name / path)
    size, stats = (lake.root / name / path).stat().st_size, json.dumps({"numRecords": whole.num_rows})
    add = {
        "path": path,
        "partitionValues": {},
        "size": size,
        "modificationTime": 0,
        "dataChange": False,
        "stats": stats,
    }
    gone = [{"remove": {"path": p, "dataChange": False, "deletionTimestamp": 0}} for p in table.live]
    file = lake.root / name / "_delta_log" / f"{table.commits[-1].version + 1:020}.json"
    file.write_text("".join(json.dumps(a) + "\n" for a in [{"commitInfo": {}}, {"add": add}, *gone]))


@corruption("^pairs: version .* joins files and changes their rows")
def a_row_is_lost_where_files_are_joined(lake: Lake) -> None:
    join(lake, "pairs", lambda t: without(t, lake.rng.randrange(t.num_rows)))


@corruption("^by_key: version .* joins files and changes their rows")
def a_row_is_another_where_files_are_joined(lake: Lake) -> None:
    join(lake, "by_key", lambda t: with_value(t, "c", lake.rng.randrange(t.num_rows), lambda c: c + 1))


@corruption("^clean: version .* says that no data changed")
def an_epochs_commit_says_that_no_data_changed(lake: Lake) -> None:
    def change(actions: list[Action]) -> list[Action]:
        return [{"add": {**a["add"], "dataChange": False}} if "add" in a else a for a in actions]

    lake.actions("clean", lake.commits_of("clean")[-1], change)


@corruption("^clean: 2 values of (s|c) ")
def two_rows_have_each_others_offset(lake: Lake) -> None:
    def swap(t: pa.Table) -> pa.Table:
        part = t["part"].to_pylist()
        i, j = lake.rng.sample([i for i, p in enumerate(part) if p == part[0]], 2)
        a, b = t["off"][i].as_py(), t["off"][j].as_py()
        return with_value(with_value(t, "off", i, b), "off", j, a)

    lake.rewrite("clean", swap)


@corruption("^clean: 1 rows came with another epoch's commit")
def a_row_lies_in_another_epochs_file(lake: Lake) -> None:
    one, two = lake.rng.sample(sorted(lake.table("clean").live), 2)
    moved = lake.table("clean").read(one).slice(0, 1)
    lake.rewrite("clean", lambda t: t.slice(1), one)
    lake.rewrite("clean", lambda t: pa.concat_tables([t, moved]), two)


@corruption("^firsts: .* rows came with another epoch's commit")
def two_epochs_have_changed_their_rows(lake: Lake) -> None:
    one, two = lake.rng.sample(sorted(lake.table("firsts").live), 2)
    a, b = lake.table("firsts").read(one), lake.table("firsts").read(two)
    lake.rewrite("firsts", lambda t: b, one)
    lake.rewrite("firsts", lambda t: a, two)


@corruption("^clean: version .* adds .* again")
def a_file_is_added_again(lake: Lake) -> None:
    first, *_, last = lake.commits_of("clean")
    add = next({"add": a} for a in lake.table("clean").commits[first].adds.values())
    lake.actions("clean", last, lambda actions: [*actions, add])


@corruption(r"^clean: 0 rows missing, \d+ doubled")
def a_copy_of_a_file_is_added(lake: Lake) -> None:
    path = lake.any_file("clean")
    shutil.copy(lake.root / "clean" / path, lake.root / "clean" / f"copy-{path}")
    copy = {**lake.table("clean").live[path].adds[path], "path": f"copy-{path}"}
    lake.actions("clean", lake.commits_of("clean")[-1], lambda actions: [*actions, {"add": copy}])


@corruption(r"^clean: \d+ rows missing, 0 doubled")
def a_file_is_removed_from_the_table(lake: Lake) -> None:
    # A separate commit after all others, because OPTIMIZE may have made the file after the last epoch.
    path = lake.any_file("clean")
    gone = {"remove": {"path": path, "dataChange": True, "deletionTimestamp": 0}}
    lake.append_commit("clean", [gone])


@corruption("^clean: the file .* is gone")
def a_data_file_is_gone(lake: Lake) -> None:
    (lake.root / "clean" / lake.any_file("clean")).unlink()


@corruption("^clean: txn: ")
def the_newest_commit_is_gone(lake: Lake) -> None:
    sorted((lake.root / "clean/_delta_log").glob("*.json"))[-1].unlink()


@corruption(r"^pairs: version \d+ of the log is missing")
def a_commit_in_the_middle_is_gone(lake: Lake) -> None:
    lake.rng.choice(sorted((lake.root / "pairs/_delta_log").glob("*.json"))[1:-1]).unlink()


@corruption("^clean: epochs in the table")
def a_commit_never_happened_and_nobody_can_tell_by_the_numbers(lake: Lake) -> None:
    files = sorted((lake.root / "clean/_delta_log").glob("*.json"))
    at = lake.rng.randrange(2, len(files) - 1)
    for older, newer in zip(files[at:], files[at + 1 :], strict=False):
        newer.replace(older)


@corruption("^sessions: txn: ")
def a_txn_is_one_too_high(lake: Lake) -> None:
    def change(actions: list[Action]) -> list[Action]:
        return [{"txn": {**a["txn"], "version": a["txn"]["version"] + 1}} if "txn" in a else a for a in actions]

    lake.actions("sessions", lake.commits_of("sessions")[-1], change)


@corruption("^by_key: epochs in the table")
def a_commit_has_no_txn(lake: Lake) -> None:
    version = lake.rng.choice(lake.commits_of("by_key"))
    lake.actions("by_key", version, lambda actions: [a for a in actions if "txn" not in a])


@corruption("^by_key: 1 rows too many, 1 missing")
def an_upsert_is_stale(lake: Lake) -> None:
    """A key has its row from an earlier version."""
    table = lake.table("by_key")
    path = lake.any_file("by_key")
    now = table.read(path)
    old = {}
    for commit in table.commits[1:-1]:
        for name in commit.adds:
            rows = pq.ParquetFile(lake.root / "by_key" / name).read()
            old |= {r["k"]: r for r in rows.to_pylist()}
    rows = now.to_pylist()
    changed = [i for i, r in enumerate(rows) if r["k"] in old and old[r["k"]] != r]
    i = lake.rng.choice(changed)
    rows[i] = old[rows[i]["k"]]
    lake.rewrite("by_key", lambda t: pa.Table.from_pylist(rows, t.schema), path)


@corruption(r"^by_kind: \d rows too many")
def a_complete_table_is_an_epoch_behind(lake: Lake) -> None:
    table = lake.table("by_kind")
    before = next(iter(table.commits[-2].adds))
    old = pq.ParquetFile(lake.root / "by_kind" / before).read()
    lake.rewrite("by_kind", lambda t: old, next(iter(table.live)))


@corruption("^sessions: 2 rows too many, 1 missing")
def a_session_is_cut_in_two(lake: Lake) -> None:
    def cut(t: pa.Table) -> pa.Table:
        i = pc.index(pc.greater(t["c"], 1), True).as_py()
        one = with_value(t, "c", i, lambda c: c - 1)
        rest = shifted(with_value(t.slice(i, 1), "c", 0, 1), "window_start", 0, 1)
        return pa.concat_tables([one, rest])

    table = lake.table("sessions")
    path = next(p for p in sorted(table.live) if pc.max(table.read(p)["c"]).as_py() > 1)
    lake.rewrite("sessions", cut, path)


@corruption("^firsts: 0 rows missing, 0 doubled, 1 that are nobody's")
def a_duplicate_came_through(lake: Lake) -> None:
    """The table also has a later row with the same key, which exists in the topic."""
    clean, path = lake.table("clean").rows(), lake.any_file("firsts")
    kept = {(r["part"], r["off"]) for r in lake.table("firsts").rows().to_pylist()}
    spare = clean.filter(pc.equal(pc.bit_wise_and(clean["n"], 0), 0)).drop_columns(["_version"]).to_pylist()
    spare = [r for r in spare if r["n"] % 10 == 1 and (r["part"], r["off"]) not in kept]
    row = lake.rng.choice(spare)
    lake.rewrite("firsts", lambda t: pa.concat_tables([t, pa.Table.from_pylist([row], t.schema)]), path)


@corruption("^pairs: 1 rows too many, 0 missing")
def a_matched_row_is_also_given_as_unmatched(lake: Lake) -> None:
    table = lake.table("pairs")
    path = next(p for p in sorted(table.live) if table.read(p)["off_right"].null_count < table.read(p).num_rows)

    def add(t: pa.Table) -> pa.Table:
        i = pc.index(pc.is_valid(t["off_right"]), True).as_py()
        alone = with_value(with_value(t.slice(i, 1), "off_right", 0, None), "part_right", 0, None)
        return pa.concat_tables([t, alone])

    lake.rewrite("pairs", add, path)


@corruption("^windows: 1 rows too many, 0 missing")
def a_window_is_emitted_before_it_is_closed(lake: Lake) -> None:
    def add(t: pa.Table) -> pa.Table:
        one = t.slice(0, 1)
        return pa.concat_tables(
            [t, shifted(shifted(one, "window_start", 0, 86_400_000_000), "window_end", 0, 86_400_000_000)]
        )

    lake.rewrite("windows", add)


def _range(seal: Any, rng: random.Random) -> Any:
    return rng.choice(seal["ranges"])


@corruption(r"^epoch \d+, partition \d: from -?\d+ to \d+ after \d+")
def a_range_ends_one_later(lake: Lake) -> None:
    def change(seal: Any) -> None:
        _range(seal, lake.rng)["until"] += 1

    lake.json(lake.any_seal(), change)


@corruption(r"^epoch \d+, partition \d: from -?\d+ to \d+ after \d+")
def a_range_begins_one_earlier(lake: Lake) -> None:
    def change(seal: Any) -> None:
        r = _range(seal, lake.rng)
        r["from"] -= 1

    lake.json(lake.any_seal(), change)


@corruption(r"^epoch \d+, partition 0: records: ")
def a_boundary_between_two_epochs_is_moved(lake: Lake) -> None:
    """There is no gap and no overlap, but some rows are counted in the previous epoch."""
    files = lake.files("epoch")
    at = lake.rng.randrange(1, len(files) - 1)

    def earlier(seal: Any) -> None:
        seal["ranges"][0]["until"] -= 20

    def later(seal: Any) -> None:
        seal["ranges"][0]["from"] -= 20

    lake.json(files[at], earlier)
    lake.json(files[at + 1], later)


@corruption(r"^epoch \d+, partition \d: records: ")
def a_seal_counts_another_number_of_records(lake: Lake) -> None:
    def change(seal: Any) -> None:
        _range(seal, lake.rng)["records"] += 1

    lake.json(lake.any_seal(), change)


@corruption(r"^epoch \d+: watermark: ")
def a_watermark_is_a_second_ahead(lake: Lake) -> None:
    def change(seal: Any) -> None:
        [state] = seal["watermarks"].values()
        state["watermark"] += 1_000_000

    lake.json(lake.files("epoch")[-2], change)  # the first epochs may have no watermark yet


@corruption(r"^epoch \d+: partitions .* count as idle")
def a_partition_counts_as_idle(lake: Lake) -> None:
    def change(seal: Any) -> None:
        [state] = seal["watermarks"].values()
        heard = [p for p in state["partitions"].values() if p["highest"] is not None]
        lake.rng.choice(heard)["idle"] = True

    lake.json(lake.files("epoch")[-2], change)


@corruption("^epochs: ")
def a_seal_is_gone(lake: Lake) -> None:
    lake.any_seal().unlink()


@corruption("^epochs that are done: ")
def the_newest_done_is_gone(lake: Lake) -> None:
    lake.files("done")[-1].unlink()


@corruption(r"^clean, epoch \d+: done: ")
def done_names_another_version(lake: Lake) -> None:
    def change(done: Any) -> None:
        done["tables"]["clean"]["version"] -= 1

    lake.json(lake.files("done")[-1], change)


@corruption(r"^epoch \d+: done is another seal's")
def done_is_of_another_seal(lake: Lake) -> None:
    lake.json(lake.rng.choice(lake.files("done")), lambda done: done.update(nonce="another"))


@corruption(r"^partition \d: \d+ messages were not read")
def the_newest_epoch_is_lost_without_a_trace(lake: Lake) -> None:
    seal = lake.files("epoch")[-1]
    epoch = json.loads(seal.read_text())["epoch"]
    seal.unlink()
    lake.files("done")[-1].unlink()
    for name in [p.name for p in lake.root.iterdir() if (p / "_delta_log").exists()]:
        last = lake.table(name).commits[-1]
        if epoch in last.txns.values():
            (lake.root / name / "_delta_log" / f"{last.version:020}.json").unlink()


@corruption(r"^epoch \d+: dropped counted")
def dropped_rows_are_counted_wrongly(lake: Lake) -> None:
    def change(seal: Any) -> None:
        seal["counts"]["dropped"] += 1

    lake.json(lake.any_seal(), change)


@corruption(r"^epoch \d+: windows: late rows counted")
def late_rows_are_counted_wrongly(lake: Lake) -> None:
    def change(seal: Any) -> None:
        [operator] = [o for o in seal["counts"]["late"] if o.split("+")[0] == "windows"]
        seal["counts"]["late"][operator] += 1

    lake.json(lake.any_seal(), change)


@corruption(r"^epoch \d+: rule ")
def a_rule_counts_wrongly(lake: Lake) -> None:
    def change(seal: Any) -> None:
        seal["counts"]["rules"][0]["failedRecords"] += 1

    lake.json(lake.files("epoch")[-1], change)


@corruption(r"^epoch \d+: the function was told other rows")
def the_function_was_told_other_rows(lake: Lake) -> None:
    def change(rows: Any) -> None:
        rows["n"][0] += 1

    lake.json(lake.rng.choice(sorted((lake.root / "told").glob("*.json"))), change)


@corruption("^epochs told to the function")
def the_function_was_not_told_of_an_epoch(lake: Lake) -> None:
    files = sorted((lake.root / "told").glob("*.json"))
    epoch = lake.rng.choice(files).name[:20]
    for file in files:
        if file.name.startswith(epoch):
            file.unlink()
