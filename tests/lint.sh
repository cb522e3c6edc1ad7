#!/bin/sh
# SPDX-License-Identifier: PostgreSQL
#
# What `make lint` does: lint.sh MAKE COMPILER-FLAGS FILE...
#
# Each check is run to its end and its findings are printed; the exit code is 1 if any had one.
# LINT="format banned ..." runs a part. SCAN_BUILD=1 adds scan-build, which repeats what
# clang-tidy's clang-analyzer-* checks find, with paths.
set -u

make=$1
flags="$2 -DWALSTREAM_ANALYZER"
shift 2
failed=
checks=${LINT:-format banned text tidy cppcheck gcc clang fanalyzer${SCAN_BUILD:+ scanbuild}}
sources=$(printf '%s\n' "$@" | grep '\.c$')

# Replaced in this project: parse.h reads numbers, strbuf.h builds text, fork and exec run programs.
lint_banned()
{
    ! grep -nE '(^|[^A-Za-z0-9_])(atoi|atol|atoll|atof|sscanf|strcpy|strncpy|strcat|strncat|sprintf|vsprintf|strtok|system|popen|gets|tmpnam|mktemp|alloca) ?\(' \
        "$@" | grep -vE '^[^:]+:[0-9]+: *(/?\*|//)'
}

lint_format()
{
    clang-format --dry-run --Werror "$@"
}

# Left-overs, tabs and blanks at line ends; the licence line in each file.
lint_text()
{
    bad=0
    if grep -nE '\b(TO''DO|FIX''ME|XX''X)\b|[[:blank:]]$|	' "$@"; then bad=1; fi
    if grep -L 'SPDX-License-Identifier: PostgreSQL' "$@" | grep .; then bad=1; fi
    return $bad
}

# One process a file: several in one have shown false findings that depend on their order.
lint_tidy()
{
    # shellcheck disable=SC2086
    printf '%s\n' $sources | xargs -P 2 -I '{}' sh -c \
        'out=$(clang-tidy --quiet "$1" -- $2 2>/dev/null) || { printf "%s\n" "$out"; exit 1; }' - '{}' "$flags"
}

lint_cppcheck()
{
    # shellcheck disable=SC2086
    cppcheck --quiet --std=c11 --language=c -j 2 --enable=warning,portability,performance \
        --inline-suppr --error-exitcode=1 --suppressions-list=tests/cppcheck.txt \
        -Isrc -Itests/unit -D_GNU_SOURCE -DWALSTREAM_ANALYZER -DWALSTREAM_VERSION=__FILE__ -D__x86_64__ $sources
}

lint_gcc()
{
    $make --no-print-directory -s BUILD=build-gcc CC=gcc all tests
}

lint_clang()
{
    $make --no-print-directory -s BUILD=build-clang CC=clang all tests
}

# Not over the tests: they go wrong on purpose. Its leak checks and those that need to look into other
# files do not know the cleanup attribute; see .clang-tidy.
lint_fanalyzer()
{
    # shellcheck disable=SC2086
    printf '%s\n' $sources | grep '^src/' | xargs -P 2 -I '{}' sh -c \
        'gcc -O1 -fanalyzer -Werror -Wno-analyzer-malloc-leak -Wno-analyzer-file-leak -Wno-analyzer-too-complex \
            $2 -c -o /dev/null "$1"' - '{}' "$flags"
}

lint_scanbuild()
{
    scan-build --status-bugs -o build-scan/report -disable-checker unix.Malloc \
        "$make" --no-print-directory -s BUILD=build-scan CPPFLAGS=-DWALSTREAM_ANALYZER all
}

for check in $checks; do
    echo "lint: $check"
    "lint_$check" "$@" || failed="$failed $check"
done
if [ -n "$failed" ]; then
    echo "lint: findings in:$failed" >&2
    exit 1
fi
echo "lint: no findings"
