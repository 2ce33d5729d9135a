#!/usr/bin/env bash
# The extension module into the venv, as an editable install.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
maturin develop --release --locked
