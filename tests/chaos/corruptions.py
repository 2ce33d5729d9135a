"""Ways in which a lake can be wrong. Each takes a finished lake and spoils one thing, as quietly as it can: files that are changed
get the sizes and statistics that the log has to state. The oracle has to find every one."""

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

    def rewrite(self, name: str, change: Callable[[pa.Table], pa.Table], path: str | None = None) -> None:
        """Another content for a data file, of which the log tells the truth."""
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
        """Versions that brought an epoch."""
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


CORRUPTIONS: dict[str, Callable[[Lake], None]] = {}


def corruption(function: Callable[[Lake], None]) -> Callable[[Lake], None]:
    CORRUPTIONS[function.__name__] = function
    return function


def row_change(what: str, table: str, change: Callable[[Lake, pa.Table, int], pa.Table]) -> None:
    def spoil(lake: Lake) -> None:
        lake.rewrite(table, lambda t: change(lake, t, lake.rng.randrange(t.num_rows)))

    spoil.__name__ = what
    corruption(spoil)


for _table in ("clean", "windows", "by_key", "by_kind", "sessions", "firsts", "pairs", "chaos_quarantine"):
    row_change(f"a_row_of_{_table}_is_missing", _table, lambda lake, t, i: without(t, i))
    row_change(f"a_row_of_{_table}_is_there_twice", _table, lambda lake, t, i: pa.concat_tables([t, t.slice(i, 1)]))
for _column in ("n", "s", "c"):
    row_change(
        f"clean_has_another_{_column}", "clean", lambda lake, t, i, c=_column: with_value(t, c, i, lambda x: x ^ 1)
    )
row_change("clean_has_another_key", "clean", lambda lake, t, i: with_value(t, "k", i, lambda k: k + "0"))
row_change("clean_has_a_null_key", "clean", lambda lake, t, i: with_value(t, "k", i, None))
row_change("a_time_is_off_by_a_microsecond", "clean", lambda lake, t, i: shifted(t, "t", i, 1))
row_change("a_row_claims_another_partition", "clean", lambda lake, t, i: with_value(t, "part", i, lambda p: p + 1))
row_change("a_window_is_shifted_by_one", "windows", lambda lake, t, i: shifted(t, "window_start", i, 60_000_000))
row_change("a_window_counts_one_too_many", "windows", lambda lake, t, i: with_value(t, "c", i, lambda c: c + 1))
row_change("a_sum_in_an_update_table_is_off", "by_key", lambda lake, t, i: with_value(t, "n", i, lambda n: n - 1))
row_change(
    "a_maximum_in_a_complete_table_is_stale", "by_kind", lambda lake, t, i: with_value(t, "hi", i, lambda n: n - 1)
)
row_change("a_session_ends_too_early", "sessions", lambda lake, t, i: shifted(t, "window_end", i, -1))
row_change("a_pair_has_another_right_side", "pairs", lambda lake, t, i: with_value(t, "off_right", i, 10**6))
row_change(
    "quarantined_bytes_are_cut", "chaos_quarantine", lambda lake, t, i: with_value(t, "value", i, lambda b: b[:-1])
)
row_change(
    "a_quarantined_row_is_of_another_epoch",
    "chaos_quarantine",
    lambda lake, t, i: with_value(t, "epoch", i, lambda e: e + 1),
)
row_change(
    "a_quarantined_row_is_of_another_stage",
    "chaos_quarantine",
    lambda lake, t, i: with_value(t, "stage", i, "transform"),
)


@corruption
def two_rows_have_changed_places(lake: Lake) -> None:
    def swap(t: pa.Table) -> pa.Table:
        i, j = lake.rng.sample(range(t.num_rows), 2)
        a, b = t["off"][i].as_py(), t["off"][j].as_py()
        return with_value(with_value(t, "off", i, b), "off", j, a)

    lake.rewrite("clean", swap)


@corruption
def a_row_lies_in_another_epochs_file(lake: Lake) -> None:
    one, two = lake.rng.sample(sorted(lake.table("clean").live), 2)
    moved = lake.table("clean").read(one).slice(0, 1)
    lake.rewrite("clean", lambda t: t.slice(1), one)
    lake.rewrite("clean", lambda t: pa.concat_tables([t, moved]), two)


@corruption
def two_epochs_have_changed_their_rows(lake: Lake) -> None:
    one, two = lake.rng.sample(sorted(lake.table("firsts").live), 2)
    a, b = lake.table("firsts").read(one), lake.table("firsts").read(two)
    lake.rewrite("firsts", lambda t: b, one)
    lake.rewrite("firsts", lambda t: a, two)


@corruption
def a_file_is_added_again(lake: Lake) -> None:
    first, *_, last = lake.commits_of("clean")
    add = next({"add": a} for a in lake.table("clean").commits[first].adds.values())
    lake.actions("clean", last, lambda actions: [*actions, add])


@corruption
def a_copy_of_a_file_is_added(lake: Lake) -> None:
    path = lake.any_file("clean")
    shutil.copy(lake.root / "clean" / path, lake.root / "clean" / f"copy-{path}")
    copy = {**lake.table("clean").live[path].adds[path], "path": f"copy-{path}"}
    lake.actions("clean", lake.commits_of("clean")[-1], lambda actions: [*actions, {"add": copy}])


@corruption
def a_file_is_removed_from_the_table(lake: Lake) -> None:
    path = lake.any_file("clean")
    gone = {"remove": {"path": path, "dataChange": True, "deletionTimestamp": 0}}
    lake.actions("clean", lake.commits_of("clean")[-1], lambda actions: [*actions, gone])


@corruption
def a_data_file_is_gone(lake: Lake) -> None:
    (lake.root / "clean" / lake.any_file("clean")).unlink()


@corruption
def the_newest_commit_is_gone(lake: Lake) -> None:
    sorted((lake.root / "clean/_delta_log").glob("*.json"))[-1].unlink()


@corruption
def a_commit_in_the_middle_is_gone(lake: Lake) -> None:
    lake.rng.choice(sorted((lake.root / "pairs/_delta_log").glob("*.json"))[1:-1]).unlink()


@corruption
def a_commit_never_happened_and_nobody_can_tell_by_the_numbers(lake: Lake) -> None:
    files = sorted((lake.root / "clean/_delta_log").glob("*.json"))
    at = lake.rng.randrange(2, len(files) - 1)
    for older, newer in zip(files[at:], files[at + 1 :], strict=False):
        newer.replace(older)


@corruption
def a_txn_is_one_too_high(lake: Lake) -> None:
    def change(actions: list[Action]) -> list[Action]:
        return [{"txn": {**a["txn"], "version": a["txn"]["version"] + 1}} if "txn" in a else a for a in actions]

    lake.actions("sessions", lake.commits_of("sessions")[-1], change)


@corruption
def a_commit_has_no_txn(lake: Lake) -> None:
    version = lake.rng.choice(lake.commits_of("by_key"))
    lake.actions("by_key", version, lambda actions: [a for a in actions if "txn" not in a])


@corruption
def an_upsert_is_stale(lake: Lake) -> None:
    """A key's row of an earlier version."""
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


@corruption
def a_complete_table_is_an_epoch_behind(lake: Lake) -> None:
    table = lake.table("by_kind")
    before = next(iter(table.commits[-2].adds))
    old = pq.ParquetFile(lake.root / "by_kind" / before).read()
    lake.rewrite("by_kind", lambda t: old, next(iter(table.live)))


@corruption
def a_session_is_cut_in_two(lake: Lake) -> None:
    def cut(t: pa.Table) -> pa.Table:
        i = pc.index(pc.greater(t["c"], 1), True).as_py()
        one = with_value(t, "c", i, lambda c: c - 1)
        rest = shifted(with_value(t.slice(i, 1), "c", 0, 1), "window_start", 0, 1)
        return pa.concat_tables([one, rest])

    table = lake.table("sessions")
    path = next(p for p in sorted(table.live) if pc.max(table.read(p)["c"]).as_py() > 1)
    lake.rewrite("sessions", cut, path)


@corruption
def a_duplicate_came_through(lake: Lake) -> None:
    """A row of the same key, which exists, in the place of the one that was first."""
    clean, path = lake.table("clean").rows(), lake.any_file("firsts")
    kept = {(r["part"], r["off"]) for r in lake.table("firsts").rows().to_pylist()}
    spare = clean.filter(pc.equal(pc.bit_wise_and(clean["n"], 0), 0)).drop_columns(["_version"]).to_pylist()
    spare = [r for r in spare if r["n"] % 10 == 1 and (r["part"], r["off"]) not in kept]
    row = lake.rng.choice(spare)
    lake.rewrite("firsts", lambda t: pa.concat_tables([t, pa.Table.from_pylist([row], t.schema)]), path)


@corruption
def a_matched_row_is_also_given_as_unmatched(lake: Lake) -> None:
    table = lake.table("pairs")
    path = next(p for p in sorted(table.live) if table.read(p)["off_right"].null_count < table.read(p).num_rows)

    def add(t: pa.Table) -> pa.Table:
        i = pc.index(pc.is_valid(t["off_right"]), True).as_py()
        alone = with_value(with_value(t.slice(i, 1), "off_right", 0, None), "part_right", 0, None)
        return pa.concat_tables([t, alone])

    lake.rewrite("pairs", add, path)


@corruption
def a_window_is_emitted_before_it_is_closed(lake: Lake) -> None:
    def add(t: pa.Table) -> pa.Table:
        one = t.slice(0, 1)
        return pa.concat_tables(
            [t, shifted(shifted(one, "window_start", 0, 86_400_000_000), "window_end", 0, 86_400_000_000)]
        )

    lake.rewrite("windows", add)


def _range(seal: Any, rng: random.Random) -> Any:
    return rng.choice(seal["ranges"])


@corruption
def a_range_ends_one_later(lake: Lake) -> None:
    lake.json(lake.any_seal(), lambda s: _range(s, lake.rng).update(until=_range(s, lake.rng)["until"] + 1))


@corruption
def a_range_begins_one_earlier(lake: Lake) -> None:
    def change(seal: Any) -> None:
        r = _range(seal, lake.rng)
        r["from"] -= 1

    lake.json(lake.any_seal(), change)


@corruption
def a_boundary_between_two_epochs_is_moved(lake: Lake) -> None:
    """No gap, no overlap, but rows are in the epoch before."""
    files = lake.files("epoch")
    at = lake.rng.randrange(1, len(files) - 1)

    def earlier(seal: Any) -> None:
        seal["ranges"][0]["until"] -= 20

    def later(seal: Any) -> None:
        seal["ranges"][0]["from"] -= 20

    lake.json(files[at], earlier)
    lake.json(files[at + 1], later)


@corruption
def a_seal_counts_another_number_of_records(lake: Lake) -> None:
    def change(seal: Any) -> None:
        _range(seal, lake.rng)["records"] += 1

    lake.json(lake.any_seal(), change)


@corruption
def a_watermark_is_a_second_ahead(lake: Lake) -> None:
    def change(seal: Any) -> None:
        [state] = seal["watermarks"].values()
        state["watermark"] += 1_000_000

    lake.json(lake.files("epoch")[-2], change)  # the first ones may have none yet


@corruption
def a_partition_counts_as_idle(lake: Lake) -> None:
    def change(seal: Any) -> None:
        [state] = seal["watermarks"].values()
        next(iter(state["partitions"].values()))["idle"] = True

    lake.json(lake.any_seal(), change)


@corruption
def a_seal_is_gone(lake: Lake) -> None:
    lake.any_seal().unlink()


@corruption
def the_newest_done_is_gone(lake: Lake) -> None:
    lake.files("done")[-1].unlink()


@corruption
def done_names_another_version(lake: Lake) -> None:
    def change(done: Any) -> None:
        done["tables"]["clean"]["version"] -= 1

    lake.json(lake.files("done")[-1], change)


@corruption
def done_is_of_another_seal(lake: Lake) -> None:
    lake.json(lake.rng.choice(lake.files("done")), lambda done: done.update(nonce="another"))


@corruption
def the_newest_epoch_is_lost_without_a_trace(lake: Lake) -> None:
    seal = lake.files("epoch")[-1]
    epoch = json.loads(seal.read_text())["epoch"]
    seal.unlink()
    lake.files("done")[-1].unlink()
    for name in [p.name for p in lake.root.iterdir() if (p / "_delta_log").exists()]:
        last = lake.table(name).commits[-1]
        if epoch in last.txns.values():
            (lake.root / name / "_delta_log" / f"{last.version:020}.json").unlink()


@corruption
def dropped_rows_are_counted_wrongly(lake: Lake) -> None:
    def change(seal: Any) -> None:
        seal["counts"]["dropped"] += 1

    lake.json(lake.any_seal(), change)


@corruption
def late_rows_are_counted_wrongly(lake: Lake) -> None:
    def change(seal: Any) -> None:
        [operator] = [o for o in seal["counts"]["late"] if o.split("+")[0] == "windows"]
        seal["counts"]["late"][operator] += 1

    lake.json(lake.any_seal(), change)


@corruption
def a_rule_counts_wrongly(lake: Lake) -> None:
    def change(seal: Any) -> None:
        seal["counts"]["rules"][0]["failedRecords"] += 1

    lake.json(lake.files("epoch")[-1], change)


@corruption
def the_function_was_told_other_rows(lake: Lake) -> None:
    def change(rows: Any) -> None:
        rows["n"][0] += 1

    lake.json(lake.rng.choice(sorted((lake.root / "told").glob("*.json"))), change)


@corruption
def the_function_was_not_told_of_an_epoch(lake: Lake) -> None:
    files = sorted((lake.root / "told").glob("*.json"))
    epoch = lake.rng.choice(files).name[:20]
    for file in files:
        if file.name.startswith(epoch):
            file.unlink()
