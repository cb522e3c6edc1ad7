# SPDX-License-Identifier: PostgreSQL
#
# Runs programs under tests/fault/failnth.c, which makes their n-th call of a function fail.

package FailNth;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Temp;
use FindBin;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $bin = abs_path($ENV{WALSTREAM_BIN} || "$FindBin::RealBin/../../build");

# in memory where there is such a place: thousands of syncs to a busy disk take minutes
my ($place) = grep { defined && -d && -w } '/dev/shm', $ENV{TESTDIR}, '/tmp';
my $top = File::Temp->newdir('failnth.XXXXXX', DIR => $place);

# The path of a built program of tests/fault. Skips the test if it has a sanitizer, which does not go with
# LD_PRELOAD.
sub program
{
    my ($name) = @_;
    my $path = "$bin/tests/fault/$name";

    plan skip_all => 'built with a sanitizer' if sanitized($path);
    return $path;
}

# Whether a program has a sanitizer, for tests of which only a part needs this library.
sub sanitized
{
    my ($path) = @_;

    BAIL_OUT("$bin/tests/failnth.so is missing") unless -e "$bin/tests/failnth.so";
    BAIL_OUT("$path is missing") unless -e $path;
    return slurp($path) =~ /__(?:asan|tsan|ubsan|lsan)_/ ? 1 : 0;
}

# Which of $calls calls to make fail: each one (WALTEST_FULL=1), or about $most of them: the first ones, which
# are the set-up, and others evenly spread up to the last. One more is none: the run without a fault.
sub sample
{
    my ($calls, $most) = @_;
    my $first = int($most / 3);

    return 1 .. $calls + 1 if $ENV{WALTEST_FULL} || $calls <= $most;
    my $step = ($calls - $first) / ($most - $first);
    return 1 .. $first, (map { $first + int($_ * $step + 0.5) } 1 .. $most - $first), $calls + 1;
}

# A folder for the test, removed at its end.
sub folder { return "$top"; }

# Whether to take fewer rounds.
sub quick { return $ENV{WALTEST_QUICK} ? 1 : 0; }

sub slurp
{
    my ($path) = @_;
    open(my $fh, '<:raw', $path) or return '';
    local $/;
    my $bytes = <$fh>;
    return defined $bytes ? $bytes : '';
}

# FailNth::run([ program, arguments ], func => ..., n => ..., errno => ..., kill => ..., keep => ...,
# program => ..., cwd => ..., env => { ... }): stdout, stderr, exit (-1 if killed), signal, and the count of calls of
# each process that came to its end, and the ms it took. Without func the program runs as it is. A program that takes
# longer than ten minutes is killed: signal 14.
sub run
{
    my ($command, %plan) = @_;
    my ($out, $err, $counts) = map { "$top/$_.$$" } qw(out err counts);
    my ($cwd, $env) = delete @plan{qw(cwd env)};

    unlink $counts;
    my $begin = time;
    my $pid = fork();
    die "fork: $!" unless defined $pid;
    if ($pid == 0)
    {
        open(STDOUT, '>', $out) or POSIX::_exit(98);
        open(STDERR, '>', $err) or POSIX::_exit(98);
        if (defined $plan{func})
        {
            $ENV{LD_PRELOAD} = "$bin/tests/failnth.so";
            $ENV{FAILNTH_COUNT_FILE} = $counts;
            $ENV{ 'FAILNTH_' . uc $_ } = $plan{$_} for keys %plan;
        }
        @ENV{ keys %$env } = values %$env if $env;
        POSIX::_exit(96) if defined $cwd && !chdir $cwd;
        alarm 600;    # survives exec
        { no warnings 'exec'; exec { $command->[0] } @$command; }
        POSIX::_exit(97);
    }
    waitpid($pid, 0);
    return {
        exit => ($? & 127) ? -1 : $? >> 8,
        signal => $? & 127,
        ms => 1000 * (time - $begin),
        stdout => slurp($out),
        stderr => slurp($err),
        counts => [ split /\n/, slurp($counts) ],
    };
}

1;
