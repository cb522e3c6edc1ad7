#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# What `make demo` shows: a PostgreSQL 15 under load streams into an encrypted repository and is backed up, full and
# incremental; its host is lost (server and walstream get SIGKILL, their files are removed), and a new server comes up
# from the repository: to the latest state, and once more to a moment some seconds earlier. Then the same with
# synchronous = on, where nothing may be missing. It ends by printing what was lost, and what took how long.
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

ms_to_s()
{
    echo "$(($1 / 1000)).$(($1 % 1000 / 100))"
}

# show PROGRAM ARGUMENT...: one of ours, and what it says on stdout behind a margin
show()
{
    program=$1
    shift
    say "$program $*"
    if ! "$bin/$program" --config="$config" "$@" >"$r/shown" 2>>"$r/$program.log"; then
        echo "demo: $program failed" >&2
        exit 1
    fi
    sed 's/^\(.\)/    \1/' "$r/shown"
    echo
}

# said KEY: what the program that was shown last said of it
said()
{
    sed -n "s/^$1  *//p" "$r/shown"
}

# restore FOLDER OPTION...: walrestore, and a server that recovers. Sets took to what is told of it.
restore()
{
    new=$1
    shift
    begin=$(now_ms)
    show walrestore --encryption.identity-file="$dir/identity" --to "$new" "$@"
    took=$(said restored | cut -d';' -f1)
    # settings of the lost host that do not suit the new one: it is not to archive, nor to wait for a receiver
    "$pg/pg_ctl" -D "$new" -l "$new.log" -w -t 300 -o '-c archive_mode=off -c synchronous_standby_names=' start >/dev/null
    wait_for 300 "recovery ends" is_open
    segments=$(grep -c 'restored log file "[0-9A-F]\{24\}"' "$new.log" || true)
    took="$took, recovery of $segments WAL segments; open after $(ms_to_s $(($(now_ms) - begin))) s"
}

# what the server has of the ledger, in the form that the client prints
read_ledger()
{
    "$pg/psql" -XAtq -F ' ' -v ON_ERROR_STOP=1 \
        -c 'SELECT n, extract(epoch FROM at) * 1000 FROM ledger ORDER BY n' >"$1"
}

# compare RECOVERED ACKNOWLEDGED MOMENT: prints the number of rows recovered, of those younger than the moment (in
# ms), of those acknowledged, of those of them that are missing, and how many ms lie between the ends of both.
# The last line may have been cut by SIGKILL.
compare()
{
    awk -v moment="$3" '
        FILENAME == ARGV[1] { have[$1] = 1; rows++; newest = $2; if ($2 + 0 > moment + 0) young++; next }
        $2 !~ /\.[0-9]/ { next }
        { acknowledged++; last = $2; if (!($1 in have)) missing++ }
        END { printf "%d %d %d %d %.0f\n", rows, young, acknowledged, missing, missing ? last - newest : 0 }' "$1" "$2"
}

# round NAME SYNCHRONOUS: one lost host
round()
{
    r=$dir/$1
    config=$r/walstream.conf
    mkdir -p "$r/repository" "$r/spool"
    say "---- streaming with synchronous = $2 ----"

    cat >"$config" <<EOF
[cluster]
name     = demo
conninfo = host=$dir dbname=postgres
data     = $r/primary

[repository]
url = file://$r/repository

[compression]
method = lz4

[encryption]
$recipient

[stream]
slot           = walstream
flush-interval = 1s
synchronous    = $2
socket         = $dir/walstream.sock

[backup]
checkpoint = fast

[retention]
full = 30d
pitr = 30d

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
    sql 'CREATE TABLE ledger (n bigint PRIMARY KEY, at timestamptz NOT NULL)'
    "$pg/pgbench" -i -q -s 5 >/dev/null 2>&1
    show walctl init
    say "walstream begins to stream"
    "$bin/walstream" --config "$config" >"$r/walstream.log" 2>&1 &
    walstream=$!
    background="$background $walstream"
    wait_for 30 "walstream answers" "$bin/walstream" --config "$config" --status
    show walbackup full
    full="$(said stored), in $(said took)"
    if [ "$2" = on ]; then
        sql "ALTER SYSTEM SET synchronous_standby_names = 'walstream'"
        sql 'SELECT pg_reload_conf()' >/dev/null
        wait_for 30 "walstream is a synchronous standby" is_synchronous
    fi

    say "load for $seconds s: pgbench with 4 clients, and one client that commits numbered rows"
    begin=$(now_ms)
    "$pg/pgbench" -n -c 4 -T 3600 >"$r/pgbench.log" 2>&1 &
    background="$background $!"
    # What this client prints was acknowledged: psql shows a row when the commit has returned.
    seq 1 1000000000 | sed 's/.*/INSERT INTO ledger VALUES (&, clock_timestamp()) RETURNING n, extract(epoch FROM at) * 1000;/' |
        "$pg/psql" -XAtq -F ' ' -v ON_ERROR_STOP=1 >"$r/acknowledged" 2>/dev/null &
    client=$!
    background="$background $client"
    sleep $((seconds / 3))
    show walbackup incremental
    incremental="$(said stored), in $(said took), under load"
    # this moment is restored later: what was acknowledged before must be there then
    cp "$r/acknowledged" "$r/acknowledged-then"
    moment=$(sql "SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US+00')")
    moment_ms=$(sql "SELECT extract(epoch FROM timestamptz '$moment') * 1000")
    sleep 3
    while [ $(($(now_ms) - begin)) -lt $((seconds * 1000)) ]; do
        sleep 0.1
    done

    say "the host is lost: SIGKILL for PostgreSQL and walstream, their files are removed"
    lost=$(now_ms)
    kill_server "$r/primary" "$walstream"
    wait "$walstream" "$client" 2>/dev/null || true
    rm -rf "$r/primary" "$r/spool" "$dir"/.s.PGSQL.* "$dir/walstream.sock"
    mkdir "$r/spool"
    background=

    [ "$2" = on ] || show walctl info
    say "a new server from the repository, as the old one was at its end"
    restore "$r/restored"
    read_ledger "$r/recovered"
    # rows, too young, acknowledged, missing, ms lost
    # shellcheck disable=SC2046
    set -- "$1" "$2" $(compare "$r/recovered" "$r/acknowledged" "$lost")
    "$pg/pg_ctl" -D "$r/restored" -m fast -w stop >/dev/null

    [ "$5" -gt 0 ] || { echo "demo: no row was acknowledged: nothing was shown" >&2; exit 1; }
    summary="$summary
synchronous = $2: lost $6 of $5 acknowledged commits, $7 ms
  full backup   $full
  incremental   $incremental
  restore       $took
"
    if [ "$2" = on ]; then
        [ "$6" = 0 ] || { echo "demo: acknowledged rows are missing although streaming was synchronous" >&2; exit 1; }
        return 0
    fi

    say "and a second one, as the old one was $(ms_to_s $((lost - ${moment_ms%.*}))) s before its end"
    restore "$r/earlier" --target-time "$moment"
    read_ledger "$r/recovered-then"
    # shellcheck disable=SC2046
    set -- "$1" "$2" $(compare "$r/recovered-then" "$r/acknowledged-then" "$moment_ms")
    "$pg/pg_ctl" -D "$r/earlier" -m fast -w stop >/dev/null
    if [ "$4" != 0 ] || [ "$6" != 0 ]; then
        echo "demo: of the $3 rows of $moment $4 are too young, and $6 are missing" >&2
        exit 1
    fi
    summary="$summary  to a moment   $took
                $moment: $3 rows, as many as there were
"

    say "is all of it good, and what may go?"
    show walctl verify --encryption.identity-file="$dir/identity"
    show walctl expire --dry-run
}

summary=
# a line of the configuration; the identity itself stays away from the database host
recipient=$("$bin/walctl" keygen "$dir/identity" 2>/dev/null)
round asynchronous off
round synchronous on
say "result"
echo "$summary"
