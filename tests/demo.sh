#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# What `make demo` shows: a PostgreSQL 15 under load streams into a repository, its host is lost (server and
# walstream get SIGKILL, their files are removed), and a new server comes up from the repository.
# It ends by printing what was lost and how long recovery took; once with asynchronous streaming and
# once with synchronous = on, where nothing may be missing.
#
# Everything is below one temporary folder, which is removed at the end; no existing cluster is
# touched. As root it works as the user postgres. DEMO_SECONDS is how long the load runs.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
pg=/usr/lib/postgresql/15/bin
bin=${WALSTREAM_BIN:-$top/build}
bin=$(cd "$bin" && pwd)
seconds=${DEMO_SECONDS:-10}

[ -x "$pg/postgres" ] || { echo "demo: PostgreSQL 15 is missing: make deps-test" >&2; exit 1; }

if [ "$(id -u)" = 0 ]; then
    # the programs go along, as the user postgres may not be able to enter this folder
    dir=$(mktemp -d /tmp/walstream-demo.XXXXXX)
    trap 'rm -rf "$dir"' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir "$dir/bin"
    find "$bin" -maxdepth 1 -type f -perm -u+x -exec cp {} "$dir/bin/" \;
    cp "$0" "$dir/demo.sh"
    chown -R postgres "$dir"
    cd "$dir"
    runuser -u postgres -- env HOME="$dir" WALSTREAM_BIN="$dir/bin" DEMO_DIR="$dir" DEMO_SECONDS="$seconds" \
        sh "$dir/demo.sh"
    exit
fi

dir=${DEMO_DIR:-$(mktemp -d /tmp/walstream-demo.XXXXXX)}
background=
cd "$dir"
export PGHOST="$dir" PGDATABASE=postgres
unset PGAPPNAME PGPORT PGUSER PGSERVICE WALSTREAM_CONFIG 2>/dev/null || true

say()
{
    echo "demo: $*"
}

now_ms()
{
    date +%s%3N
}

# kill_server DATA [PID...]: SIGKILL for the server and the others, all in one call. The postmaster is stopped
# first, so that it cannot start a child while we look for them.
kill_server()
{
    [ -f "$1/postmaster.pid" ] || return 0
    postmaster=$(head -n 1 "$1/postmaster.pid")
    shift
    kill -STOP "$postmaster" 2>/dev/null || return 0
    # shellcheck disable=SC2046
    kill -KILL "$@" "$postmaster" $(ps -o pid= --ppid "$postmaster") 2>/dev/null || true
}

clean_up()
{
    status=$?
    trap - EXIT
    # shellcheck disable=SC2086
    [ -z "$background" ] || kill -KILL $background 2>/dev/null || true
    for data in "$dir"/*/primary "$dir"/*/restored; do
        kill_server "$data"
    done
    [ "$status" = 0 ] || tail -n 20 "$dir"/*/*.log >&2 2>/dev/null || true
    cd /
    rm -rf "$dir" 2>/dev/null || true
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# wait_for SECONDS WHAT COMMAND...
wait_for()
{
    end=$(($(now_ms) + $1 * 1000))
    what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$(now_ms)" -gt "$end" ]; then
            echo "demo: waited in vain until $what" >&2
            exit 1
        fi
        sleep 0.05
    done
}

sql()
{
    "$pg/psql" -XAtq -v ON_ERROR_STOP=1 -c "$1"
}

is_open()
{
    [ "$(sql 'SELECT pg_is_in_recovery()')" = f ]
}

is_synchronous()
{
    [ "$(sql "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")" = 1 ]
}

# round NAME SYNCHRONOUS: one lost host
round()
{
    r=$dir/$1
    config=$r/walstream.conf
    mkdir -p "$r/repository" "$r/spool"
    echo
    say "---- streaming with synchronous = $2 ----"

    cat >"$config" <<EOF
[cluster]
name     = demo
conninfo = host=$dir dbname=postgres

[repository]
url = file://$r/repository

[compression]
method = lz4

[stream]
slot           = walstream
flush-interval = 1s
synchronous    = $2
socket         = $dir/walstream.sock

[restore]
spool = $r/spool
EOF

    say "a new PostgreSQL 15, archiving by walpush"
    "$pg/initdb" -D "$r/primary" -A trust -E UTF8 --locale=C -k >"$r/initdb.log"
    cat >>"$r/primary/postgresql.conf" <<EOF
listen_addresses = ''
unix_socket_directories = '$dir'
archive_mode = on
archive_command = '$bin/walpush --config $config %p'
synchronous_commit = on
EOF
    "$pg/pg_ctl" -D "$r/primary" -l "$r/primary.log" -w start >/dev/null
    say "walctl init"
    "$bin/walctl" --config "$config" init
    sql 'CREATE TABLE ledger (n bigint PRIMARY KEY, at timestamptz NOT NULL)'
    "$pg/pgbench" -i -q -s 5 >/dev/null 2>&1

    say "walstream, and a base backup by pg_basebackup"
    "$bin/walstream" --config "$config" >"$r/walstream.log" 2>&1 &
    walstream=$!
    background="$background $walstream"
    wait_for 30 "walstream answers" "$bin/walstream" --config "$config" --status
    "$pg/pg_basebackup" -D "$r/base" -X none -c fast >/dev/null 2>&1
    if [ "$2" = on ]; then
        sql "ALTER SYSTEM SET synchronous_standby_names = 'walstream'"
        sql 'SELECT pg_reload_conf()' >/dev/null
        wait_for 30 "walstream is a synchronous standby" is_synchronous
    fi

    say "load for $seconds s: pgbench with 4 clients, and one client that commits numbered rows"
    "$pg/pgbench" -n -c 4 -T 3600 >"$r/pgbench.log" 2>&1 &
    background="$background $!"
    # What this client prints was acknowledged: psql shows a row when the commit has returned.
    seq 1 1000000000 | sed 's/.*/INSERT INTO ledger VALUES (&, clock_timestamp()) RETURNING n, extract(epoch FROM at) * 1000;/' |
        "$pg/psql" -XAtq -F ' ' -v ON_ERROR_STOP=1 >"$r/acknowledged" 2>/dev/null &
    client=$!
    background="$background $client"
    sleep "$seconds"

    say "the host is lost: SIGKILL for PostgreSQL and walstream, their files are removed"
    kill_server "$r/primary" "$walstream"
    wait "$walstream" "$client" 2>/dev/null || true
    rm -rf "$r/primary" "$r/spool" "$dir"/.s.PGSQL.* "$dir/walstream.sock"
    background=

    say "a new server from the base backup and the repository"
    begin=$(now_ms)
    cp -R "$r/base" "$r/restored"
    mkdir -p "$r/spool"
    chmod 700 "$r/restored"
    cat >>"$r/restored/postgresql.conf" <<EOF
restore_command = '$bin/walfetch --config $config %f %p'
archive_mode = off
EOF
    # the setting of the lost host must not make the new one wait for a receiver
    rm -f "$r/restored/postgresql.auto.conf"
    touch "$r/restored/recovery.signal"
    "$pg/pg_ctl" -D "$r/restored" -l "$r/restored.log" -w -t 300 start >/dev/null
    wait_for 300 "recovery ends" is_open
    recovery=$(($(now_ms) - begin))

    sql 'SELECT n, extract(epoch FROM at) * 1000 FROM ledger ORDER BY n' >"$r/recovered.raw"
    tr '|' ' ' <"$r/recovered.raw" >"$r/recovered"
    segments=$(grep -c 'restored log file' "$r/restored.log" || true)
    result=$(awk '
        FNR == NR { have[$1] = 1; if ($2 > newest) newest = $2; next }
        { acknowledged++; if ($2 > last) last = $2; if (!($1 in have)) { missing++; if (!oldest || $2 < oldest) oldest = $2 } }
        END {
            lost = missing ? last - newest : 0
            printf "%d %d %.0f", acknowledged, missing, lost
        }' "$r/recovered" "$r/acknowledged")
    # shellcheck disable=SC2086
    set -- "$1" "$2" $result
    "$bin/walctl" --config "$config" info 2>/dev/null || true
    "$pg/pg_ctl" -D "$r/restored" -m fast -w stop >/dev/null

    [ "$3" -gt 0 ] || { echo "demo: no row was acknowledged: nothing was shown" >&2; exit 1; }
    summary="$summary
  synchronous = $2: $3 acknowledged commits, lost $4 rows, $5 ms; recovery took $recovery ms ($segments WAL segments)"
    if [ "$2" = on ] && [ "$4" != 0 ]; then
        echo "demo: acknowledged rows are missing although streaming was synchronous" >&2
        exit 1
    fi
}

summary=
round asynchronous off
round synchronous on
echo
echo "demo: result$summary"
