#!/usr/bin/env bash
# The manual as a site, from docs/ and the docstrings of the stubs. Dead links are errors.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
tools_venv docs
site="${1:-$BAYOU_CACHE/site}"
NO_MKDOCS_2_WARNING=1 "$venv/bin/mkdocs" build --strict --quiet -f scripts/mkdocs.yml -d "$site"
say "the manual is in $site/index.html"
