#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# The library that makes calls fail does so: each function, each way. A test of the test bench.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use FailNth;
use Test::More;

my @functions = qw(write pwrite writev read pread readv fsync fdatasync ftruncate close open openat fstat
  fstatat statx link linkat rename renameat renameat2 unlink unlinkat mkdir mkdirat rmdir connect send
  recv malloc calloc realloc);
my $victim = FailNth::program('failnth_victim');
my $top = FailNth::folder();
my $runs = 0;

sub victim
{
    my ($function, %plan) = @_;
    my $folder = "$top/" . ++$runs;
    mkdir $folder or die "$folder: $!";
    my $run = FailNth::run([ $victim, $folder, $function ], func => $function, %plan);
    $run->{told} = join ' ', split /\n/, $run->{stdout};
    $run->{folder} = $folder;
    return $run;
}

for my $function (@functions)
{
    my $default = $function =~ /alloc$/ ? 'ENOMEM' : 'EIO';
    my $plain = victim($function);
    is($plain->{told}, 'ok ok ok', "$function: no fault");
    is_deeply($plain->{counts}, [3], "$function: calls are counted");
    is(victim($function, n => 2)->{told}, "ok $default ok", "$function: the second fails");
    is(victim($function, n => 1, errno => 'ENOSPC', keep => 1)->{told},
        'ENOSPC ENOSPC ENOSPC', "$function: all fail, as told");
    is(victim($function, n => 4)->{told}, 'ok ok ok', "$function: the fourth would");
    for my $kill (1, 2)
    {
        my $killed = victim($function, n => 2, kill => $kill);
        is("$killed->{told}/$killed->{signal}", 'ok/9', "$function: killed at the second, $kill");
    }
}

ok(!-e victim('mkdir', n => 1, kill => 1)->{folder} . '/1', 'killed before: the call is not made');
ok(-d victim('mkdir', n => 1, kill => 2)->{folder} . '/1', 'killed after: the call is made');
my $lost = victim('mkdir', n => 2, lost => 1);
is($lost->{told}, 'ok EIO ok', 'a lost answer');
ok(-d "$lost->{folder}/2", 'the call was made');
is(victim('mkdir', n => 3, errno => 122)->{told}, 'ok ok EDQUOT', 'an error by number');
is(victim('mkdir', func => 'read,fstat,mkdir', n => 2)->{told}, 'ok EIO ok', 'several functions');
is(victim('mkdir', n => 1, program => 'other')->{told}, 'ok ok ok', 'only a certain program');
is(victim('mkdir', n => 1, program => 'failnth_victim')->{told}, 'EIO ok ok', 'this one');
for my $bad ([ func => 'wirte' ], [ func => 'write', errno => 'ENOSUCH' ], [ n => 'x' ])
{
    my $run = victim('mkdir', @$bad);
    is($run->{exit}, 99, "a bad plan is refused: $run->{stderr}");
}

done_testing();
