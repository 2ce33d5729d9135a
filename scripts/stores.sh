#!/usr/bin/env bash
# bayou on real object stores: versitygw (S3) and Azurite are installed into the cache. moto and the stub for Google are installed already.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

need() {
  command -v "$1" >/dev/null && return
  command -v apt-get >/dev/null && [[ $(id -u) == 0 ]] || die "$1 is missing. Its Debian name is $2"
  say "installing $2"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2" >&2 ||
    { apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$2" >&2; }
}

if [[ ! -x $BAYOU_CACHE/go/bin/versitygw ]]; then
  need go golang-go
  say "building versitygw (some minutes)"
  GOFLAGS=-modcacherw GOPATH="$BAYOU_CACHE/go" GOBIN="$BAYOU_CACHE/go/bin" nice go install github.com/versity/versitygw/cmd/versitygw@v1.8.0 >&2
  # Only the compiled program is kept.
  rm -rf "$BAYOU_CACHE/go/pkg"
fi
if [[ ! -x $BAYOU_CACHE/azurite/node_modules/.bin/azurite-blob ]]; then
  need node nodejs
  need npm npm
  say "installing azurite"
  npm install --prefix "$BAYOU_CACHE/azurite" --ignore-scripts --no-audit --no-fund --silent azurite@3.37.0 >&2
fi
python tests/kafka/server.py run -- pytest tests/stores "$@"
