#!/usr/bin/env bash
# Installs everything that builds and tests bayou, each thing once. A second run only checks stamps and is fast.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh
mkdir -p "$BAYOU_CACHE"

# --- packages of the system: a command or file that exists if the package is installed, the package, and why it is needed
missing=()
need() {
  local found=$1 package=$2
  if [[ $found == /* ]] && [[ -e $found ]]; then return; fi
  if [[ $found != /* ]] && command -v "$found" >/dev/null; then return; fi
  missing+=("$package")
}
need cc build-essential                # librdkafka, zstd, ring, jemalloc: C
need c++ build-essential               # librdkafka's configure looks for it
need make build-essential              # librdkafka, jemalloc
need perl perl                         # OpenSSL's configure, if the system has no static OpenSSL
need pkg-config pkg-config             # the -sys crates ask it first
need /usr/include/openssl/ssl.h libssl-dev # Kafka's TLS; otherwise OpenSSL is compiled from source (see env.sh)
need java openjdk-17-jre-headless      # tests: Kafka, Spark
need mvn maven                         # tests: fetches their jars
need chromium chromium                 # tests: JupyterLab in a real browser
need openssl openssl                   # tests: the broker's certificate
need python3 python3
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv) # bayou's venv
if ((${#missing[@]})); then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  command -v apt-get >/dev/null || die "these are missing, by their Debian names: ${missing[*]}"
  [[ $(id -u) == 0 ]] || die "these are missing: ${missing[*]}. Run: sudo apt-get install ${missing[*]}"
  say "installing ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2 || {
    # In a fresh image the package lists are empty or old.
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
  }
fi

# --- Rust
command -v cargo >/dev/null || die "cargo is missing. Install Rust as https://www.rust-lang.org/tools/install says"
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
have=$(rustc --version | cut -d' ' -f2)
[[ $(printf '%s\n' "$wanted" "$have" | sort -V | head -1) == "$wanted" ]] || die "bayou needs Rust $wanted or later, and this is $have"
for component in cargo-fmt clippy-driver; do
  command -v "$component" >/dev/null && "$component" --version >/dev/null 2>&1 ||
    die "$component is missing. Run: rustup component add rustfmt clippy"
done

# --- Python's tools
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "the tools need Python 3.11 or later: $(python3 --version)"
stamp="$VENV/.requirements"
if ! cmp -s requirements-dev.txt "$stamp"; then
  # A venv whose interpreter is gone is recreated.
  "$VENV/bin/python" -c '' 2>/dev/null || python3 -m venv --clear "$VENV"
  say "installing requirements-dev.txt into $VENV"
  "$VENV/bin/python" -m pip install -q --disable-pip-version-check -r requirements-dev.txt >&2
  cp requirements-dev.txt "$stamp"
fi

# --- jars of the tests
"$VENV/bin/python" -c 'import sys; sys.path.insert(0, "tests/kafka"); import server; [server.prepare(v) for v in (server.VERSION, server.BEFORE)]'
if [[ ! -e $BAYOU_TEST_SPARK_JARS ]]; then
  part="$BAYOU_TEST_SPARK_JARS.part$$"
  # pyspark has its own Scala.
  mvn -q -B -f tests/spark/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DexcludeArtifactIds=scala-library \
    -DoutputDirectory="$part" >&2
  mv -T "$part" "$BAYOU_TEST_SPARK_JARS" 2>/dev/null || rm -rf "$part" # another run was faster
fi
