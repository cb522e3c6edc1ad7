#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# A private S3 store for tests: Ceph's monitor, one in-memory OSD and the RADOS Gateway on free ports of
# 127.0.0.1, http and https with a certificate authority of its own. About 10 s to start.
#
#   rgw.sh start DIR    DIR (made if missing; keep its path short) gets "env", lines of NAME=value:
#       RGW_HTTP RGW_HTTPS           endpoints, path style
#       RGW_VHOST_HTTP RGW_VHOST_HTTPS   endpoints whose host name has the bucket put in front
#       RGW_CA                       the certificate authority's file
#       RGW_ACCESS_KEY RGW_SECRET_KEY
#       RGW_OTHER_ACCESS_KEY RGW_OTHER_SECRET_KEY   of a user without rights on the bucket
#       RGW_BUCKET                   a bucket that exists
#   rgw.sh bucket DIR NAME...        creates more buckets
#   rgw.sh stop DIR
#
# Below tests/run.sh ($TESTDIR is set) all tests of a run share one gateway, in $TESTDIR/rgw: "start DIR"
# starts that one if nobody has, "stop DIR" leaves it running, and run.sh stops it at the end. A test
# therefore uses a bucket or a prefix of its own. With WALTEST_RGW_PRIVATE=1 it gets a gateway of its own.
set -eu
umask 077

say()
{
    echo "rgw.sh: $*" >&2
}

fail()
{
    say "$*"
    exit 1
}

free_ports()
{
    # below the range of outgoing connections, so that none of those takes one meanwhile
    perl -MIO::Socket::INET -e '
        my @held;
        while (@held < $ARGV[0])
        {
            my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", Listen => 1,
                LocalPort => 12000 + int rand 20000) or next;
            push @held, $s;
        }
        print join(" ", map { $_->sockport } @held), "\n";' "$1"
}

# background NAME COMMAND...: in a session of its own, its pid in DIR/NAME.pid
background()
{
    name=$1
    shift
    setsid "$@" </dev/null >"$dir/log/$name.out" 2>&1 9>&- &
    echo $! >"$dir/$name.pid"
}

alive()
{
    kill -0 "$(cat "$dir/$1.pid")" 2>/dev/null
}

# wait_for SECONDS WHAT COMMAND...
wait_for()
{
    end=$(($(date +%s) + $1))
    what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        for name in mon osd gateway; do
            [ ! -e "$dir/$name.pid" ] || alive "$name" || { say "$name has ended"; return 1; }
        done
        [ "$(date +%s)" -lt "$end" ] || { say "timed out waiting for $what"; return 1; }
        sleep 0.1
    done
}

write_config()
{
    cat >"$dir/ceph.conf" <<END
[global]
fsid = $fsid
mon_host = [v2:127.0.0.1:$port_v2,v1:127.0.0.1:$port_v1]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = $dir/keyring
run_dir = $dir
admin_socket =
crash_dir = $dir/log
log_file = $dir/log/\$name.log
mon_cluster_log_file = $dir/log/cluster.log
err_to_stderr = true
mon_data = $dir/mon
osd_data = $dir/osd
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
mon_data_avail_warn = 2
mon_osd_initial_require_min_compat_client = luminous
osd_objectstore = memstore
memstore_device_bytes = 17179869184
memstore_page_set = false
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
osd_class_update_on_start = false
osd_max_object_name_len = 1024
osd_max_object_namespace_len = 256
rgw_dns_name = s3.localhost
rgw_thread_pool_size = 64
rgw_lc_debug_interval = -1
rgw_enable_quota_threads = false
rgw_enable_ops_log = false
rgw_frontends = beast endpoint=127.0.0.1:$port_http ssl_endpoint=127.0.0.1:$port_https ssl_certificate=$dir/tls/server.pem ssl_private_key=$dir/tls/server.key
END
}

make_certificates()
{
    mkdir -p "$dir/tls"
    (
        cd "$dir/tls"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
            -subj '/CN=walstream test CA' -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
            -subj '/CN=localhost' -keyout server.key -out server.csr
        printf '%s\n' 'basicConstraints=CA:FALSE' 'extendedKeyUsage=serverAuth' \
            'subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:s3.localhost,DNS:*.s3.localhost' >server.ext
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 \
            -extfile server.ext -out server.pem
    ) >"$dir/log/openssl.out" 2>&1
}

start_ceph()
{
    fsid=$(cat /proc/sys/kernel/random/uuid)
    osd_uuid=$(cat /proc/sys/kernel/random/uuid)
    # shellcheck disable=SC2046 # four words
    set -- $(free_ports 4)
    port_v2=$1 port_v1=$2 port_http=$3 port_https=$4
    write_config
    make_certificates

    ceph-authtool --create-keyring "$dir/keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
    ceph-authtool "$dir/keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
    ceph-authtool "$dir/keyring" --gen-key -n client.rgw --cap mon 'allow rwx' --cap osd 'allow rwx'
    ceph-authtool "$dir/keyring" --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
    monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$port_v2,v1:127.0.0.1:$port_v1]" \
        "$dir/monmap" >/dev/null
    mkdir -p "$dir/mon" "$dir/osd"
    ceph-mon -c "$dir/ceph.conf" -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/keyring"
    background mon ceph-mon -c "$dir/ceph.conf" -i a -f

    ceph_command="timeout 180 ceph -c $dir/ceph.conf --connect-timeout 120"
    $ceph_command osd new "$osd_uuid" 0 >/dev/null
    ceph-osd -c "$dir/ceph.conf" -i 0 --mkfs --osd-uuid "$osd_uuid" >"$dir/log/mkfs.out" 2>&1
    background osd ceph-osd -c "$dir/ceph.conf" -i 0 -f
    $ceph_command osd crush add osd.0 1.0 host=h root=default >/dev/null 2>&1
    wait_for 180 'the OSD' sh -c "$ceph_command osd stat | grep -q '1 up'"

    background gateway radosgw -c "$dir/ceph.conf" -n client.rgw -f
    wait_for 180 'the gateway' curl -s -o /dev/null "http://127.0.0.1:$port_http/"

    add_user walstream "$access" "$secret"
    add_user other "$other_access" "$other_secret"
}

add_user()
{
    timeout 180 radosgw-admin -c "$dir/ceph.conf" -n client.rgw user create --uid "$1" \
        --display-name "$1" --access-key "$2" --secret-key "$3" >"$dir/log/user-$1.out" 2>&1
}

# make_bucket NAME, with what env says
make_bucket()
{
    sha256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    # the secret in a file: a command line is for everyone to read
    printf 'user = "%s:%s"\n' "$RGW_ACCESS_KEY" "$RGW_SECRET_KEY" >"$dir/curl.conf"
    curl -sS --fail -o /dev/null -K "$dir/curl.conf" --aws-sigv4 aws:amz:us-east-1:s3 \
        -H "x-amz-content-sha256: $sha256" -X PUT "$RGW_HTTP/$1"
}

# stop_one NAME: the whole session that background began
stop_one()
{
    [ -e "$dir/$1.pid" ] || return 0
    pid=$(cat "$dir/$1.pid")
    # nothing in it is worth an orderly end
    kill -KILL "-$pid" 2>/dev/null || true # dash takes no "--" here
    end=$(($(date +%s) + 120))
    while [ "$(date +%s)" -lt "$end" ]; do
        # a zombie is as good as gone: whoever adopted it has not looked yet
        if ! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$pid/status" 2>/dev/null; then
            rm -f "$dir/$1.pid"
            return 0
        fi
        sleep 0.1
    done
    fail "$1 (process $pid) cannot be killed"
}

stop_all()
{
    stop_one gateway
    stop_one osd
    stop_one mon
}

show_logs()
{
    for log in "$dir"/log/*; do
        [ -s "$log" ] || continue
        echo "---- $log" >&2
        tail -n 20 "$log" >&2
    done
}

start_here()
{
    mkdir -p "$dir/log"
    rm -rf "$dir/mon" "$dir/osd" "$dir/env"
    access=WALSTREAMTESTKEY secret=$(openssl rand -hex 20)
    other_access=OTHERTESTKEY other_secret=$(openssl rand -hex 20)
    export access secret other_access other_secret
    # a shell of its own, because -e does not reach into a condition
    if ! sh "$0" start-ceph "$dir" 9>&- || ! alive gateway; then
        show_logs
        stop_all
        return 1
    fi
    {
        sed -n 's/^rgw_frontends = beast endpoint=127.0.0.1:\([0-9]*\) ssl_endpoint=127.0.0.1:\([0-9]*\) .*/\1 \2/p' \
            "$dir/ceph.conf" | {
            read -r port_http port_https
            echo "RGW_HTTP=http://127.0.0.1:$port_http"
            echo "RGW_HTTPS=https://127.0.0.1:$port_https"
            echo "RGW_VHOST_HTTP=http://s3.localhost:$port_http"
            echo "RGW_VHOST_HTTPS=https://s3.localhost:$port_https"
        }
        echo "RGW_CA=$dir/tls/ca.pem"
        echo "RGW_ACCESS_KEY=$access"
        echo "RGW_SECRET_KEY=$secret"
        echo "RGW_OTHER_ACCESS_KEY=$other_access"
        echo "RGW_OTHER_SECRET_KEY=$other_secret"
        echo "RGW_BUCKET=walstream"
    } >"$dir/env.new"
    . "$dir/env.new"
    make_bucket walstream || { show_logs; stop_all; return 1; }
    mv "$dir/env.new" "$dir/env"
}

command=${1-}
dir=${2-}
[ -n "$command" ] && [ -n "$dir" ] || { echo "usage: $0 start|stop|bucket DIR [NAME...]" >&2; exit 2; }
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

case $command in
    start)
        shared=${TESTDIR:+$TESTDIR/rgw}
        if [ -z "$shared" ] || [ -n "${WALTEST_RGW_PRIVATE-}" ] || [ "$dir" = "$shared" ]; then
            start_here || start_here || fail "the gateway does not start"
        else
            mkdir -p "$shared"
            exec 9>"$shared/lock"
            flock 9
            [ -e "$shared/env" ] || sh "$0" start "$shared" || exit 1
            cp "$shared/env" "$dir/env"
            : >"$dir/borrowed"
        fi
        ;;
    start-ceph) start_ceph ;; # of start_here
    bucket)
        . "$dir/env"
        shift 2
        for name in "$@"; do
            make_bucket "$name" || fail "could not create bucket \"$name\""
        done
        ;;
    stop)
        if [ -e "$dir/borrowed" ]; then
            rm -f "$dir/borrowed" "$dir/env"
        else
            stop_all
            rm -rf "$dir/mon" "$dir/osd" "$dir/env"
        fi
        ;;
    *)
        echo "usage: $0 start|stop|bucket DIR [NAME...]" >&2
        exit 2
        ;;
esac
