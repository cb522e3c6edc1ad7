# SPDX-License-Identifier: PostgreSQL
#
# Sourced: sets $cache, the folder of the servers that npm brings. The user that runs the
# tests must be able to read it.
if [ -n "${WALTEST_CACHE-}" ]; then
    cache=$WALTEST_CACHE
elif [ "$(id -u)" = 0 ]; then
    cache=/var/cache/walstream-test
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/walstream-test
fi
