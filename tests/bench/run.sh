#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# make bench: measures beside the peers, prints a table, leaves the figures as JSON in tests/bench/results.
#
# ROWS         the rows to measure, separated by commas (default: all; "list" prints their names)
# BENCH_ROUNDS a factor on the number of repetitions, e.g. 0.5 (default: 1)
# BENCH_CACHE  a folder that keeps the recorded WAL and the databases between runs (default: made anew each time)
# BENCH_DB_MB  about the size of the database that is backed up, in MB (default: 2000)
# BENCH_OUT    where the JSON goes (default: tests/bench/results)
set -eu

top=$(cd "$(dirname "$0")/../.." && pwd)
results=${BENCH_OUT:-$top/tests/bench/results}
out=$(mktemp -d "${WALTEST_TMP:-/tmp}/wsb.XXXXXX")
trap 'rm -rf "$out"' EXIT
trap 'exit 130' INT TERM HUP
if [ "$(id -u)" = 0 ]; then
    chown "${WALTEST_USER:-postgres}" "$out"
    if [ -n "${BENCH_CACHE-}" ]; then
        mkdir -p "$BENCH_CACHE"
        chown "${WALTEST_USER:-postgres}" "$BENCH_CACHE"
    fi
fi

status=0
BENCH_JSON_DIR=$out WALTEST_RUNNER=perl "$top/tests/run.sh" tests/bench/bench.pl || status=$?
for file in "$out"/*.json; do
    [ -e "$file" ] || continue
    mkdir -p "$results"
    cp "$file" "$results/"
    echo "written: $results/${file##*/}"
done
exit "$status"
