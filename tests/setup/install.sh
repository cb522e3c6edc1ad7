#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# Install what walstream needs, on Debian 12: install.sh build|test|bench|lint
#
#   build   compilers and libraries
#   test    build, and real servers: PostgreSQL 15 and Ceph from Debian, PostgreSQL 14, 16, 17, 18 by npm
#   bench   test, and the programs that are measured beside ours
#   lint    build, and the programs of `make lint`
#
# Prints what it does. Where everything is there already it does nothing, needs neither root nor a
# network, and takes a fraction of a second. Removes nothing and touches no existing cluster.
#
# The npm servers go to ${WALTEST_CACHE}, by default /var/cache/walstream-test for root.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/cache.sh"

build_packages='gcc make pkg-config libc6-dev libpq-dev libcurl4-openssl-dev libssl-dev liblz4-dev
libzstd-dev libarchive-dev libjansson-dev libexpat1-dev libinih-dev libxxhash-dev'
# postgresql-server-dev-15 holds PostgreSQL::Test::Cluster; ceph is the S3 store of the tests;
# systemd-analyze judges the units, no systemd need run
test_packages='postgresql-15 postgresql-client-15 postgresql-server-dev-15 perl libipc-run-perl
ceph-mon ceph-osd radosgw ceph-common age lz4 zstd faketime openssl curl util-linux procps time
systemd'
bench_packages='pgbackrest barman-cli-cloud strace'
lint_packages='clang clang-tidy clang-tools clang-format cppcheck mandoc'

say()
{
    echo "setup: $*"
}

fail()
{
    echo "setup: $*" >&2
    exit 1
}

# missing PACKAGE...: those that are not installed
missing()
{
    for package in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true) in
            ?i*) ;;
            *) echo "$package" ;;
        esac
    done
}

install_packages()
{
    # shellcheck disable=SC2046,SC2048,SC2086 # lists of words
    lacking=$(echo $(missing $*))
    [ -n "$lacking" ] || return 0
    [ "$(id -u)" = 0 ] || fail "packages are missing; as root: apt-get install $lacking"
    if [ -z "${updated-}" ]; then
        say "apt-get update"
        apt-get -qq -o Acquire::Retries=3 update
        updated=1
    fi
    case " $lacking " in
        *" postgresql-15 "*)
            # our servers are private: the package need not create one of its own
            if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
                mkdir -p /etc/postgresql-common
                echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
                say "wrote /etc/postgresql-common/createcluster.conf: no cluster \"main\""
            fi
            ;;
    esac
    say "apt-get install $lacking"
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
        -o DPkg::Lock::Timeout=300 install --no-install-recommends --yes $lacking </dev/null >/dev/null
}

# PostgreSQL 14, 16, 17, 18: versions and digests are in package-lock.json
install_servers()
{
    want=$(cat "$here/package-lock.json" "$here/install.sh" | sha256sum)
    if [ -e "$cache/stamp" ] && [ "$(cat "$cache/stamp")" = "$want" ]; then
        return 0
    fi
    command -v npm >/dev/null || install_packages nodejs npm
    say "npm ci: PostgreSQL servers into $cache"
    mkdir -p "$cache"
    chmod 755 "$cache"
    # one at a time: two checkouts may be testing at once
    exec 9>"$cache/lock"
    flock 9
    if [ -e "$cache/stamp" ] && [ "$(cat "$cache/stamp")" = "$want" ]; then
        return 0
    fi
    rm -rf "$cache/stamp" "$cache/npm" "$cache/pg"
    mkdir -p "$cache/npm" "$cache/pg"
    cp "$here/package.json" "$here/package-lock.json" "$cache/npm/"
    (
        cd "$cache/npm"
        npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=4 </dev/null >&2
    ) || fail "npm could not fetch the PostgreSQL servers"
    for major in 14 16 17 18; do
        server=$cache/npm/node_modules/pg$major
        # makes the links of the shared libraries; without them nothing starts
        (cd "$server" && node scripts/hydrate-symlinks.js >/dev/null) ||
            fail "could not make the library links of PostgreSQL $major"
        compose "$major" "$server/native"
    done
    chmod -R a+rX "$cache/npm" "$cache/pg"
    echo "$want" >"$cache/stamp"
}

# compose MAJOR NATIVE: an installation folder of the server's own programs and Debian's clients.
# The server finds its libraries and its share folder from where the link points to.
compose()
{
    bin=$cache/pg/$1/bin
    mkdir -p "$bin"
    for program in initdb pg_ctl postgres; do
        ln -s "$2/bin/$program" "$bin/$program"
    done
    for program in psql pgbench pg_basebackup pg_isready pg_dump pg_receivewal createdb createuser; do
        ln -s "/usr/lib/postgresql/15/bin/$program" "$bin/$program"
    done
    version=$("$bin/postgres" --version | sed 's/^postgres (PostgreSQL) //') ||
        fail "PostgreSQL $1 does not start"
    cat >"$bin/pg_config" <<EOF
#!/bin/sh
# stands in for the pg_config that the package lacks
case \${1-} in
    --version) echo "PostgreSQL $version" ;;
    --bindir) echo "$bin" ;;
    --libdir) echo "$2/lib" ;;
    --pkglibdir) echo "$2/lib/postgresql" ;;
    --sharedir) echo "$2/share/postgresql" ;;
    *) echo "pg_config: not known here: \${1-}" >&2; exit 1 ;;
esac
EOF
    chmod 755 "$bin/pg_config"
    say "PostgreSQL $version"
}

case ${1-} in
    build) install_packages "$build_packages" ;;
    test)
        install_packages "$build_packages $test_packages"
        install_servers
        ;;
    bench)
        install_packages "$build_packages $test_packages $bench_packages"
        install_servers
        ;;
    lint) install_packages "$build_packages $lint_packages" ;;
    *)
        echo "usage: $0 build|test|bench|lint" >&2
        exit 2
        ;;
esac
