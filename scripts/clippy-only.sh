#!/usr/bin/env bash
# Cargo's RUSTC_WORKSPACE_WRAPPER: `clippy-only.sh rustc …` lints a crate of this workspace and makes no code of it.
# `cargo clippy` checks, and a check build shares nothing with a release build: it would compile 350 crates a second time.
# Here the release build's own dependencies are used as they are.
set -euo pipefail
shift
arguments=()
for argument in "$@"; do
  case "$argument" in
    --emit=*link*) argument=--emit=dep-info,metadata ;;
    # No .rlib of ours was made; a linter needs only what is known without code.
    bayou=*.rlib) argument="${argument%.rlib}.rmeta" ;;
  esac
  arguments+=("$argument")
done
exec clippy-driver rustc "${arguments[@]}" -D warnings
