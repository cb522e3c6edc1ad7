#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# The file store under faults: each call of each function that it uses fails once, or the process is killed
# before or after it, until a run has no fault left. After each: what was acknowledged is there and
# whole, nothing is half-visible, no descriptor leaked, a failed read is never told as "does not exist", and
# the same work without faults comes to its end.

use strict;
use warnings;

use File::Find;
use File::Path;
use FindBin;
use lib "$FindBin::RealBin/../lib";
use FailNth;
use Test::More;

my $driver = FailNth::program('store_file_driver');
my $top = FailNth::folder();
my $count = FailNth::quick() ? 3 : 5;
my $most = 2000;    # calls of one function: more would be a loop that does not end
my @forms = ('d0/k%u', 'd1/d/k%u', 'k%u');
my @keys = map { sprintf $forms[ $_ % 3 ], $_ } 0 .. $count - 1;
my %body;

for my $n (0 .. $count - 1)
{
    my $line = "$keys[$n]\n";
    $body{ $keys[$n] } = $n % 4 == 3 ? '' : substr($line x (300000 / length($line) + 1), 0, 300000);
}

sub driver
{
    my ($verb, $root, %plan) = @_;
    my $run = FailNth::run([ $driver, $verb, $root, $count ], %plan);

    $run->{lines} = [ split /\n/, $run->{stdout} ];
    return $run;
}

# The keys of lines that begin with one of words.
sub keys_of
{
    my ($run, $words) = @_;
    return map { /^(?:$words) (\S+)$/ ? $1 : () } @{ $run->{lines} };
}

sub fresh
{
    my ($name) = @_;
    my $root = "$top/$name";
    rmtree($root);
    mkdir $root or die "$root: $!";
    return $root;
}

# What lies in root: complaints about files that can be seen and are not whole, and the count of temporary ones.
sub look
{
    my ($root) = @_;
    my (@bad, %seen);
    my $temps = 0;

    find(
        {
            no_chdir => 1,
            wanted => sub {
                return unless -f $_;
                my $key = substr($_, length($root) + 1);
                if ($key =~ m{(?:^|/)\.tmp\.[^/]+$})
                {
                    $temps++;
                    return;
                }
                $seen{$key} = 1;
                push @bad, "$key is not whole"
                  unless exists $body{$key} && FailNth::slurp($_) eq $body{$key};
            }
        },
        $root);
    return (\@bad, \%seen, $temps);
}

# Complaints about a run of put.
sub judge_put
{
    my ($root, $run, $killed) = @_;
    my ($bad, $seen, $temps) = look($root);
    my @complaints = @$bad;

    for my $key (keys_of($run, 'created|exists'))
    {
        push @complaints, "$key was acknowledged and is not there" unless $seen->{$key};
    }
    push @complaints, "told as not found: $_" for grep { /^failed (?:not-found|exists)/ } @{ $run->{lines} };
    push @complaints, 'a temporary file is left' if $temps && !$killed && ($run->{leaves} || 0) < $temps;
    push @complaints, judge_end($run, $killed);

    # the same again, without faults
    my $again = driver('put', $root);
    my @done = keys_of($again, 'created|exists');
    push @complaints, "the next run failed: @{$again->{lines}}" if @done != $count;
    my $sweep = driver('sweep', $root);
    push @complaints, 'the sweep failed' unless $sweep->{stdout} =~ /^swept (\d+)$/m && $1 == $temps;
    ($bad, $seen, $temps) = look($root);
    push @complaints, @$bad, ($temps ? 'the sweep left something' : ());
    push @complaints, 'objects are missing in the end' if keys %$seen != $count;
    return @complaints;
}

sub judge_end
{
    my ($run, $killed) = @_;

    return ("not killed: exit $run->{exit}") x ($run->{signal} != 9) if $killed;
    return "ended by signal $run->{signal}, exit $run->{exit}: $run->{stderr}"
      if $run->{signal} || $run->{exit};
    return "descriptors leaked: $run->{lines}[-1]" if $run->{lines}[-1] ne 'descriptors 0';
    return ();
}

# Complaints about a run of read over a complete store.
sub judge_read
{
    my ($root, $run, $killed) = @_;
    my @complaints = map { "bad answer: $_" } grep { /^(?:wrong|failed (?:not-found|corrupt))/ } @{ $run->{lines} };
    my $stdout = $run->{stdout};

    push @complaints, judge_end($run, $killed);
    # a list that came to its end is complete
    my @lists = ([], []);
    my $list = 0;
    for my $line (@{ $run->{lines} })
    {
        push @{ $lists[$list] }, $1 if $line =~ /^(?:listed|folder) (.*)$/;
        $list++ if $line =~ /^failed \S+ list:/;
        next unless $line eq 'end of list';
        my @want = sort $list == 0 ? @keys : qw(d0/ d1/ k2);
        push @complaints, "list $list came to its end as: @{ $lists[$list] }"
          unless "@{ $lists[$list] }" eq "@want";
        $list++;
    }
    return @complaints;
}

# Complaints about a run of remove over a complete store.
sub judge_remove
{
    my ($root, $run, $killed) = @_;
    my ($bad, $seen) = look($root);
    my @complaints = @$bad;

    push @complaints, map { "$_ was told as removed and is there" } grep { $seen->{$_} } keys_of($run, 'removed');
    push @complaints, judge_end($run, $killed);
    my $again = driver('remove', $root);
    push @complaints, "the next run failed: @{$again->{lines}}" if keys_of($again, 'removed') != $count;
    return @complaints;
}

my %verbs = (
    put => {
        judge => \&judge_put,
        faults => {
            openat => [qw(EIO EMFILE ENOENT EACCES)],
            fstat => [qw(EIO ESTALE)],
            fstatat => [qw(EIO)],
            mkdirat => [qw(ENOSPC EEXIST ENOENT)],
            writev => [qw(ENOSPC EIO EINTR EDQUOT)],
            fsync => [qw(EIO ENOSPC)],
            close => [qw(EIO)],
            linkat => [qw(EIO EPERM EEXIST ENOENT EMLINK)],
            unlinkat => [qw(EIO)],
            calloc => [qw(ENOMEM)],
        },
    },
    again => {
        verb => 'put',
        judge => \&judge_put,
        complete => 1,
        faults => {
            fdatasync => [qw(EIO ENOSPC)],
            fsync => [qw(EIO)],
            fstatat => [qw(EIO)],
            openat => [qw(EIO ENOENT)],
        },
    },
    read => {
        judge => \&judge_read,
        complete => 1,
        faults => {
            openat => [qw(EIO EMFILE EACCES ESTALE)],
            fstat => [qw(EIO)],
            fstatat => [qw(EIO)],
            pread => [qw(EIO EINTR)],
            malloc => [qw(ENOMEM)],
            calloc => [qw(ENOMEM)],
            realloc => [qw(ENOMEM)],
        },
    },
    remove => {
        judge => \&judge_remove,
        complete => 1,
        faults => {
            openat => [qw(EIO EMFILE)],
            unlinkat => [qw(EIO EACCES)],
            fsync => [qw(EIO)],
            close => [qw(EIO)],
        },
    },
);

# Runs verb with the fault at call 1, 2, 3 ... until there are fewer calls than that.
sub sweep_faults
{
    my ($verb, $label, %plan) = @_;
    my $killed = $plan{kill} ? 1 : 0;
    my (@complaints, $hit);

    for my $n (1 .. $most)
    {
        my $root = fresh('store');
        if ($verbs{$verb}{complete})
        {
            my $setup = driver('put', $root);
            die "could not set up: @{$setup->{lines}}" unless keys_of($setup, 'created') == $count;
        }
        my $run = driver($verbs{$verb}{verb} // $verb, $root, %plan, n => $n);

        # the last run has no fault left
        my $over = !$run->{signal} && @{ $run->{counts} } == 1 && $run->{counts}[0] < $n;
        $run->{leaves} = 1 if $plan{func} eq 'unlinkat';
        push @complaints, map { "call $n: $_" } $verbs{$verb}{judge}->($root, $run, $killed && !$over);
        $hit = $n - 1, last if $over;
        last if @complaints > 5;
    }
    ok(defined $hit && !@complaints, "$verb: $label (" . ($hit // '-') . ' calls)') or diag(join "\n", @complaints);
    return $hit // 0;
}

for my $verb (qw(put again read remove))
{
    my $faults = $verbs{$verb}{faults};

    for my $function (sort keys %$faults)
    {
        my $calls = 0;
        $calls += sweep_faults($verb, "$function fails with $_", func => $function, errno => $_)
          for FailNth::quick() ? $faults->{$function}[0] : @{ $faults->{$function} };
        ok($calls > 0, "$verb: $function is called");
    }
}

# killed at each call that changes something or opens it
my $changes = 'openat,mkdirat,writev,fsync,close,linkat,unlinkat';
for my $kill (1, 2)
{
    my $when = $kill == 1 ? 'before' : 'after';
    ok(sweep_faults('put', "killed $when a call", func => $changes, kill => $kill) > 20,
        "put: has many calls to be killed $when");
    ok(sweep_faults('remove', "killed $when a call", func => 'unlinkat,fsync', kill => $kill) >= $count,
        "remove: has many calls to be killed $when");
}

# EXISTS is said only of what is durable: nothing can be synced, so nothing is acknowledged
{
    my $root = fresh('store');
    is(scalar keys_of(driver('put', $root), 'created'), $count, 'objects to be put again');
    for my $function (qw(fdatasync fsync))
    {
        my $run = driver('put', $root, func => $function, n => 1, keep => 1);
        is(scalar(() = $run->{stdout} =~ /^failed io /mg), $count, "$function fails: EXISTS is not answered");
    }
}

# for ever, as a full disk is
for my $function (qw(writev mkdirat fsync linkat))
{
    sweep_faults('put', "$function fails with ENOSPC from a call on", func => $function, errno => 'ENOSPC', keep => 1);
}

# no hard links at all: created by renaming
{
    my $root = fresh('store');
    my $run = driver('put', $root, func => 'linkat', n => 1, errno => 'EPERM', keep => 1);
    is(scalar keys_of($run, 'created'), $count, 'without hard links objects are created');
    $run = driver('put', $root, func => 'linkat', n => 1, errno => 'EPERM', keep => 1);
    is(scalar keys_of($run, 'exists'), $count, 'and not replaced');
    is_deeply([ judge_put($root, $run, 0) ], [], 'they are whole');

    $root = fresh('store');
    $run = driver('put', $root, func => 'linkat,renameat2', n => 1, errno => 'EPERM', keep => 1);
    is(scalar(() = $run->{stdout} =~ /^failed denied /mg), $count, 'without renaming either, they are not');
    is_deeply([ judge_put($root, $run, 0) ], [], 'nothing is left of that');
}

# a link is made and its answer lost, as over NFS: the number of names tells
for my $errno (qw(EEXIST EIO ETIMEDOUT))
{
    my $root = fresh('store');
    my $run = driver('put', $root, func => 'linkat', n => 1, errno => $errno, keep => 1, lost => 1);
    is(scalar keys_of($run, 'created'), $count, "a link whose answer was lost ($errno) is found");
    is_deeply([ judge_put($root, $run, 0) ], [], 'the objects are whole');
}

done_testing();
