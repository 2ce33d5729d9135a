#!/usr/bin/env bash
# Checks the wheel in dist/: what it is linked against, its size, and a first cell in clean environments: with the libraries of the Databricks
# runtimes, for each installed Python, without a compiler in the path, and on an older C library.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
wheel=$(ls dist/bayou-*.whl) || die "there is no wheel in dist/. Run make wheel"
tools="$BAYOU_CACHE/venv-wheel/bin"
case "$wheel" in *-cp310-abi3-manylinux_2_28_x86_64.whl) ;; *) die "$wheel is not abi3 for manylinux_2_28" ;; esac
size=$(stat -c %s "$wheel")
((size <= 50 * 1024 * 1024)) || die "$wheel has $size bytes, more than 50 MB"
shown=$("$tools/auditwheel" show "$wheel")
grep -q 'manylinux_2_28' <<<"$shown" || die "auditwheel: $shown"
python3 - "$wheel" <<'P'
import sys, zipfile
for info in sorted(zipfile.ZipFile(sys.argv[1]).infolist(), key=lambda i: -i.file_size)[:8]:
    print(f"{info.file_size / 1e6:8.1f} MB, {info.compress_size / 1e6:6.1f} MB packed  {info.filename}")
P
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# A folder of commands without any compiler.
mkdir "$work/bin"
for command in bash sh env rm mkdir cat ls sed grep uname ldconfig; do
  found=$(command -v "$command") && ln -s "$found" "$work/bin/$command"
done
find_python() {
  local found
  for found in "$(command -v "python$1" || true)" "$HOME"/.pyenv/versions/"$1".*/bin/python; do
    if [[ -x $found ]] && "$found" -c 'import venv' 2>/dev/null; then printf '%s' "$found" && return; fi
  done
}
tried=0
try() { # name, version of Python, packages…
  local name=$1 version=$2 python
  shift 2
  python=$(find_python "$version")
  if [[ -z $python ]]; then say "not tried: $name (there is no Python $version)" && return; fi
  "$python" -m venv "$work/venv"
  "$work/venv/bin/python" -m pip install -q --disable-pip-version-check --only-binary :all: "$@" "$wheel" >&2
  say "$name:"
  (cd "$work" && env -i HOME="$work" PATH="$work/bin" "$work/venv/bin/python" "$OLDPWD/scripts/wheel_try.py")
  rm -rf "$work/venv"
  tried=$((tried + 1))
}
try "nothing else installed" 3.13
try "Databricks 14.3 LTS" 3.10 pandas==1.5.3 pyarrow==8.0.0 "numpy<1.24"
try "Databricks 15.4 LTS" 3.11 pandas==1.5.3 pyarrow==14.0.1 "numpy<1.24"
try "Databricks 16.4 LTS" 3.12 pandas==2.2.3 pyarrow==15.0.2 "numpy<2"
try "Databricks 17.3 LTS" 3.12 pandas==2.2.3 pyarrow==19.0.1 "numpy<2.2"
try "the newest" 3.13 pandas pyarrow
((tried > 0)) || die "no Python was found to try the wheel with"
# --- an older C library, in a folder with a Python from 3.10 on and no compiler. For example, as root:
# debootstrap --variant=minbase --components=main,universe --include=python3,python3-venv jammy FOLDER
if [[ -n ${BAYOU_OLD_ROOT:-} ]]; then
  say "on the C library of $BAYOU_OLD_ROOT:"
  cp "$wheel" scripts/wheel_try.py "$BAYOU_OLD_ROOT/tmp/"
  chroot "$BAYOU_OLD_ROOT" /bin/sh -c "! command -v cc && rm -rf /tmp/v && python3 -m venv /tmp/v && \
    /tmp/v/bin/pip install -q --no-index /tmp/$(basename "$wheel") && cd /tmp && /tmp/v/bin/python wheel_try.py"
  tried=$((tried + 1))
fi
say "the wheel is good: $tried environments, $size bytes"
