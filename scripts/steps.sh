# Sourced: `step "what" command…` runs a command, says how long it took, and counts the tests that it reports.
# The first step that fails ends the run.
# Steps also run below another process (the test broker's), so the counts are in a file.
: "${BAYOU_STEPS:=$(mktemp -d)}"
export BAYOU_STEPS

step() {
  local what=$1 began=$SECONDS status=0
  shift
  printf '\n== %s\n' "$what"
  "$@" 2>&1 | tee "$BAYOU_STEPS/output" || status=$?
  count "$BAYOU_STEPS/output"
  printf -- '-- %s: %s, %d s\n' "$what" "$([[ $status == 0 ]] && echo ok || echo FAILED)" $((SECONDS - began)) |
    tee -a "$BAYOU_STEPS/times"
  return "$status"
}

# "test result: ok. 12 passed; 0 failed; 1 ignored; …" of cargo, "12 passed, 1 skipped in 3.2s" of pytest.
count() {
  grep -aE '^test result: |^(=+ )?([0-9]+ [a-z]+, )*[0-9]+ (passed|failed|skipped|errors?)\b.* in [0-9.]+s' "$1" |
    grep -aoE '[0-9]+ (passed|failed|skipped|errors?|xfailed|xpassed)' >>"$BAYOU_STEPS/counts" || true
  # Some "tests" are run by a helper process. They are marked as "not a test", and the tests that start them count.
  printf '%d ignored\n' "$(grep -aE '^test .* \.\.\. ignored' "$1" | grep -acv 'ignored, not a test:')" >>"$BAYOU_STEPS/counts"
}

total() {
  awk -v which="^($1)$" '$2 ~ which { n += $1 } END { print n + 0 }' "$BAYOU_STEPS/counts" 2>/dev/null || echo 0
}

# Prints the times and the one line at the end. Returns the exit code for the run.
summary() {
  local status=$1 passed failed left_out
  touch "$BAYOU_STEPS/counts" "$BAYOU_STEPS/times"
  passed=$(total passed) failed=$(total 'failed|errors?') left_out=$(total 'skipped|ignored|xfailed')
  printf '\n'
  cat "$BAYOU_STEPS/times"
  if ((left_out)); then
    # A test that does not run looks like a test that passes.
    printf 'error: %d tests were left out\n' "$left_out"
    status=1
  fi
  printf '%d passed, %d failed\n' "$passed" "$failed"
  if ((status == 0 && failed == 0)); then return 0; fi
  return 1
}
