#!/usr/bin/env bash
# The manual as a site, from docs/ and the docstrings of the stubs. Dead links are errors.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
venv="$BAYOU_CACHE/venv-docs"
if ! cmp -s requirements-docs.txt "$venv/.requirements"; then
  python3 -m venv --clear "$venv"
  say "installing requirements-docs.txt into $venv"
  "$venv/bin/python" -m pip install -q --disable-pip-version-check -r requirements-docs.txt >&2
  cp requirements-docs.txt "$venv/.requirements"
fi
site="${1:-$BAYOU_CACHE/site}"
NO_MKDOCS_2_WARNING=1 "$venv/bin/mkdocs" build --strict --quiet -f scripts/mkdocs.yml -d "$site"
say "the manual is in $site/index.html"
