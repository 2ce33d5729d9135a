#!/usr/bin/env bash
# Cargo's RUSTC_WORKSPACE_WRAPPER: `clippy-only.sh rustc …` lints a crate of this workspace and generates no code.
# `cargo clippy` makes a check build, which shares nothing with a release build: it would compile 450 crates a second time.
# This script uses the dependencies of the release build.
set -euo pipefail
shift
# Cargo runs the build script, so the build script is compiled as well.
if [[ " $* " == *" --crate-name build_script_build "* ]]; then
  exec clippy-driver rustc "$@" -D warnings
fi
arguments=()
for argument in "$@"; do
  case "$argument" in
    --emit=*link*) argument=--emit=dep-info,metadata ;;
    # There is no .rlib of bayou's crate. A linter needs only the metadata.
    bayou=*.rlib) argument="${argument%.rlib}.rmeta" ;;
  esac
  arguments+=("$argument")
done
exec clippy-driver rustc "${arguments[@]}" -D warnings
