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

    open(my $fh, '<:raw', $path) or BAIL_OUT("$path: $!");
    my $bytes = do { local $/; <$fh> };
    plan skip_all => 'built with a sanitizer' if $bytes =~ /__(?:asan|tsan|ubsan|lsan)_/;
    BAIL_OUT("$bin/tests/failnth.so is missing") unless -e "$bin/tests/failnth.so";
    return $path;
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
# program => ...): stdout, stderr, exit (-1 if killed), signal, and the count of calls of each process that
# came to its end. Without func the program runs as it is. A program that takes longer than a
# minute is killed: signal 14.
sub run
{
    my ($command, %plan) = @_;
    my ($out, $err, $counts) = map { "$top/$_.$$" } qw(out err counts);

    unlink $counts;
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
        alarm 60;    # survives exec
        { no warnings 'exec'; exec { $command->[0] } @$command; }
        POSIX::_exit(97);
    }
    waitpid($pid, 0);
    return {
        exit => ($? & 127) ? -1 : $? >> 8,
        signal => $? & 127,
        stdout => slurp($out),
        stderr => slurp($err),
        counts => [ split /\n/, slurp($counts) ],
    };
}

1;
