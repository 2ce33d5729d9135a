"""The licences of everything that is inside the wheel: the crates with their licence texts, and the C libraries that crates bring along."""

import json
import pathlib
import subprocess
import sys

# C libraries in the sources of crates: the folder in the crate, and the name.
INSIDE = {
    "rdkafka-sys": [("librdkafka", "librdkafka")],
    "openssl-src": [("openssl", "OpenSSL")],
    "zstd-sys": [("zstd", "zstd")],
    "libz-sys": [("src/zlib", "zlib")],
    "lz4-sys": [("liblz4", "lz4")],
    "tikv-jemalloc-sys": [("jemalloc", "jemalloc")],
    "aws-lc-sys": [("aws-lc", "AWS-LC")],
}
NAMES = ("license", "licence", "copying", "notice", "unlicense")


def texts(folder: pathlib.Path) -> list[tuple[str, str]]:
    found = sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().startswith(NAMES))
    return [(p.name, p.read_text(errors="replace").strip()) for p in found]


def main() -> int:
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--features", "python"]
    command += ["--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.check_output(command))
    packages = {p["id"]: p for p in metadata["packages"]}
    nodes = {n["id"]: n for n in metadata["resolve"]["nodes"]}
    # The crates that are linked. Dependencies of tests and of build scripts are not linked, except sources that a build script compiles into the
    # library.
    wanted, linked = [metadata["resolve"]["root"]], set()
    while wanted:
        package = wanted.pop()
        if package in linked:
            continue
        linked.add(package)
        for dependency in nodes[package]["deps"]:
            kinds = {k["kind"] for k in dependency["dep_kinds"]}
            if None in kinds or dependency["name"] == "openssl_src":
                wanted.append(dependency["pkg"])
    linked.discard(metadata["resolve"]["root"])
    crates = sorted((packages[p] for p in linked), key=lambda p: (p["name"], p["version"]))
    missing = [c["name"] for c in crates if not (c["license"] or c["license_file"])]
    if missing:
        print(f"error: no licence is known of {', '.join(missing)}", file=sys.stderr)
        return 1
    print(
        "bayou contains the following software. The text of each licence that is common to several is printed once.\n"
    )
    seen: dict[str, str] = {}
    for crate in crates:
        print(f"{crate['name']} {crate['version']}: {crate['license'] or 'see the text'}")
        folder = pathlib.Path(crate["manifest_path"]).parent
        places = [(crate["name"], folder)]
        places += [
            (name, folder / inside) for inside, name in INSIDE.get(crate["name"], []) if (folder / inside).exists()
        ]
        for name, place in places:
            for file, text in texts(place):
                seen.setdefault(text, f"{name} {crate['version']}, {file}")
    for text, first in seen.items():
        print(f"\n{'=' * 100}\n{first}\n{'-' * 100}\n{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
