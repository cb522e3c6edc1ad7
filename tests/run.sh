#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# Run tests with prove: tests/run.sh [prove options] FILE... (files relative to the top of the tree)
#
# PostgreSQL does not run as root: root hands over to the user postgres (or $WALTEST_USER). All that the
# tests write is in one temporary folder, $TESTDIR, which is removed at the end. Processes that a
# test left behind are found by this folder in their environment and killed, so that even a killed
# test leaves nothing running.
#
# WALSTREAM_BIN     the folder of the built programs (default: build)
# WALTEST_VERSIONS  PostgreSQL versions to test, e.g. "15 18" (default: all five)
# WALTEST_QUICK     1: fewer rounds, for slow builds such as the sanitizers'
# WALTEST_KEEP      1: keep the folder when a test failed
# WALTEST_RUNNER    what runs the files (default: prove)
# WALTEST_TMP       where the temporary folder is made (default: /tmp; socket names must stay short)
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
. "$top/tests/setup/cache.sh"
cd "$top"

bin=${WALSTREAM_BIN:-build}
[ -d "$bin" ] || { echo "run.sh: there is no folder \"$bin\": build first" >&2; exit 2; }
bin=$(cd "$bin" && pwd)
tmp=${WALTEST_TMP:-/tmp}
user=${WALTEST_USER:-postgres}
dir=$(mktemp -d "$tmp/wst.XXXXXX")
status=1
child=

# Only prove and what it starts have TESTDIR in their environment; this shell and its children do not.
sweep()
{
    for environment in /proc/[0-9]*/environ; do
        if tr '\0' '\n' 2>/dev/null <"$environment" | grep -qxF "TESTDIR=$dir"; then
            pid=${environment#/proc/}
            pid=${pid%/environ}
            echo "run.sh: killing left-over process $pid:" \
                "$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline")" >&2
            kill -KILL "$pid" 2>/dev/null || true
        fi
    done 2>/dev/null
}

finish()
{
    trap - EXIT INT TERM HUP
    # the store that the tests shared; see rgw.sh
    [ ! -d "$dir/rgw" ] || sh "$top/tests/lib/rgw.sh" stop "$dir/rgw" || true
    sweep
    [ -z "$child" ] || wait "$child" 2>/dev/null || true
    if [ "$status" != 0 ] && [ -n "${WALTEST_KEEP-}" ]; then
        echo "run.sh: kept $dir" >&2
    else
        rm -rf "$dir"
    fi
    exit "$status"
}
trap finish EXIT
trap 'status=130; exit 130' INT
trap 'status=143; exit 143' TERM HUP

mkdir "$dir/tmp"
mkdir -p "$tmp/walstream-test-ports"
as=
if [ "$(id -u)" = 0 ]; then
    as="runuser -u $user --"
    chown -R "$user" "$dir" "$tmp/walstream-test-ports"
    if ! $as test -r "$top/tests/run.sh" || ! $as test -x "$bin"; then
        # a checkout below a folder such as /root: the tests' user cannot enter it
        mkdir "$dir/tree"
        tar -C "$top" --exclude=./.git -cf - . | tar -C "$dir/tree" -xf -
        case $bin in
            "$top"/*) bin=$dir/tree/${bin#"$top"/} ;;
            *) echo "run.sh: user $user cannot read \"$bin\"" >&2; exit 2 ;;
        esac
        chown -R "$user" "$dir/tree"
        cd "$dir/tree"
    fi
fi

# In the background, so that a signal is answered at once.
# shellcheck disable=SC2086
$as env TESTDIR="$dir" TMPDIR="$dir/tmp" HOME="$dir/tmp" PG_TEST_PORT_DIR="$tmp/walstream-test-ports" \
    WALSTREAM_BIN="$bin" WALTEST_CACHE="$cache" PERL5LIB="tests/lib${PERL5LIB:+:$PERL5LIB}" \
    ${WALTEST_RUNNER:-prove} "$@" </dev/null &
child=$!
status=0
wait "$child" || status=$?
