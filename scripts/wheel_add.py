"""Adds licence texts to the metadata folder of a wheel: `wheel_add.py a.whl TEXT …`. The record of the wheel's files is written again."""

import base64
import hashlib
import pathlib
import sys
import zipfile


def main(path: str, *texts: str) -> None:
    wheel = pathlib.Path(path)
    with zipfile.ZipFile(wheel) as old:
        entries = [(info, old.read(info)) for info in old.infolist()]
    folder = next(info.filename.split("/")[0] for info, _ in entries if info.filename.endswith(".dist-info/RECORD"))
    record = f"{folder}/RECORD"
    kept = [(info, data) for info, data in entries if info.filename != record]
    have = {info.filename for info, _ in kept}
    for text in map(pathlib.Path, texts):
        name = f"{folder}/licenses/{text.name}"
        if name not in have:
            kept.append((zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), text.read_bytes()))
    lines = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for info, data in kept:
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{info.filename},sha256={digest},{len(data)}")
            info.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(info, data)
        lines.append(f"{record},,")
        new.writestr(record, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
