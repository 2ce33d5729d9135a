"""A lake on a disk that is full, in a mount namespace of its own. test_disk.py starts it as

    unshare [--map-root-user] --mount python full_disk.py '{"address": …, "topic": …, "messages": …, "folder": …, "limit": "size" | "inodes"}'

It gives the disk a little more space than is used, and a little more each time, until the run ends. Then it prints what happened.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import bayou
import deltalake
from lakes import check, define


def resize(folder: pathlib.Path, options: str, again: bool) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ("remount," if again else "") + options, "tmpfs", str(folder)], check=True
    )


def main() -> None:
    job = json.loads(sys.argv[1])
    folder = pathlib.Path(job["folder"])
    size = job["limit"] == "size"
    kafka = bayou.connect(job["address"])
    runs, errors, readable = 0, set(), 0
    resize(folder, "size=64m,nr_inodes=100000", again=False)
    while True:
        disk = os.statvfs(folder)
        # tmpfs counts pages of 4 KiB.
        more = 2 + runs % 40
        if size:
            resize(folder, f"size={4 * (disk.f_blocks - disk.f_bfree + more)}k", again=True)
        else:
            resize(folder, f"nr_inodes={disk.f_files - disk.f_ffree + more}", again=True)
        runs += 1
        try:
            define(kafka, job["topic"], str(folder / "lake"), 40, None).run(progress=False)
        except bayou.StorageError as e:
            errors.add(("No space left" in str(e) and "free some space" in str(e).lower()) or str(e))
        else:
            break
        # The rows in the table can be read, by other readers too, and each row is there once.
        if (folder / "lake/rows/_delta_log/00000000000000000000.json").exists():
            found = deltalake.DeltaTable(str(folder / "lake/rows")).to_pyarrow_table().column("i").to_pylist()
            assert sorted(found) == [i for i in range(job["messages"]) if i % 10 != 9][: len(found)]
            readable += len(found) > 0
        assert runs < 1000
    check(folder / "lake", job["messages"])
    print(json.dumps({"runs": runs, "errors": sorted(map(str, errors)), "readable": readable}))


if __name__ == "__main__":
    main()
