#!/usr/bin/env bash
# The wheel for users, in dist/: profile dist, abi3 for Python 3.10 and later, for C libraries from glibc 2.28 on (manylinux_2_28).
# It has its own target folder, because the profile compiles every crate once more: about an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
tools_venv wheel
export VIRTUAL_ENV="$venv" PATH="$venv/bin:$PATH" CARGO_TARGET_DIR="${BAYOU_WHEEL_TARGET:-$BAYOU_CACHE/target-wheel}"
# The system's OpenSSL is linked against the system's C library, so OpenSSL is compiled here.
unset OPENSSL_NO_VENDOR OPENSSL_STATIC
python scripts/licences.py >"$BAYOU_CACHE/THIRD_PARTY_LICENSES.txt"
rm -rf dist
maturin build --profile dist --locked --zig --compatibility manylinux_2_28 --out dist
python scripts/wheel_add.py dist/*.whl "$BAYOU_CACHE/THIRD_PARTY_LICENSES.txt" LICENSE
say "$(ls -l dist/*.whl)"
