#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# After each `walctl expire` what it promises is restored: a real server, real backups, real restores; what it
# removed is refused. (Years of schedules are calculated in test_retention.)

use strict;
use warnings;

use File::Find ();
use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use Test::More;

my $version = 18;
my $node = WalTest::node('kept', version => $version, conf => { summarize_wal => 'on' });
my $config = WalTest::config_for($node, cluster => { data => $node->data_dir });
my $walctl = WalTest::tool('walctl');
my $mark = 0;
my $restores = 0;
my %label;

WalTest::run_ok('init', $walctl, '--config', $config, 'init');
WalTest::archive_with($node, $config);
$node->restart;
my $stream = WalTest::walstream($config);

WalTest::wait_streaming($config);
$node->safe_psql('postgres', 'CREATE TABLE marks (n int)');

# Two rows, each with a restore point behind it, and a WAL segment ended.
sub mark
{
    for (1 .. 2)
    {
        $mark++;
        $node->safe_psql('postgres', "INSERT INTO marks VALUES ($mark)");
        $node->safe_psql('postgres', "SELECT pg_create_restore_point('m$mark')");
    }
    $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
    return;
}

sub backup
{
    my ($name, $kind, @args) = @_;

    $label{$name} = WalTest::backup($config, $kind, @args)->{label};
    mark();
    return;
}

# All that is stored becomes three days old, as WAL of the last day is kept in any case.
sub age
{
    my $then = time - 3 * 86400;

    WalTest::wait_durable($config, $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));
    File::Find::find(sub { utime $then, $then, $_ if -f $_ }, WalTest::repo_dir($config));
    return;
}

sub expire
{
    my ($what, %rules) = @_;
    my @rules = map { "--retention.$_=$rules{$_}" } sort keys %rules;
    my $planned = WalTest::run([ $walctl, '--config', $config, 'expire', '--dry-run', '--output=json', @rules ]);
    my $done = WalTest::run([ $walctl, '--config', $config, 'expire', '--output=json', @rules ]);

    is($planned->{exit}, 0, "$what: a plan");
    is($done->{exit}, 0, "$what: expire");
    is_deeply(
        decode_json($done->{stdout})->{removed},
        decode_json($planned->{stdout})->{removed},
        "$what: as planned");
    my $verified = WalTest::run([ $walctl, '--config', $config, 'verify' ]);

    is($verified->{exit}, 0, "$what: what is left is good");
    return;
}

sub labels
{
    my $info = WalTest::run([ $walctl, '--config', $config, 'info', '--output=json' ]);
    my %name = reverse %label;

    return [ sort map { $name{ $_->{label} } // $_->{label} } @{ decode_json($info->{stdout})->{clusters}[0]{backups} } ];
}

sub restored
{
    my ($what, $n, @args) = @_;
    my $restored = WalTest::restore('r' . ++$restores, version => $version, config => $config, args => \@args);

    is($restored->safe_psql('postgres', 'SELECT count(*), max(n) FROM marks'), "$n|$n", $what);
    $restored->stop('immediate');
    return;
}

sub refused
{
    my ($what, @args) = @_;
    my $to = WalTest::dir('refused' . ++$restores) . '/data';
    my $result = WalTest::run([ WalTest::tool('walrestore'), '--config', $config, '--to', $to, @args ]);

    is($result->{exit} != 0 && !-e $to, 1, $what);
    return;
}

mark();
backup('full1', 'full');                 # m1 m2 | m3 m4
backup('inc1', 'incremental');           # m5 m6
backup('full2', 'full');                 # m7 m8
backup('inc2', 'incremental');           # m9 m10
backup('full3', 'full');                 # m11 m12
backup('inc3', 'incremental');           # m13 m14
age();

# An incremental that is kept keeps what it builds on.
expire('three incrementals, one full', full => 1, incremental => 3);
is_deeply(labels(), [qw(full1 full2 full3 inc1 inc2 inc3)], 'parents stay');
restored('behind the first incremental', 5, '--target-name', 'm5');
refused('in front of it', '--target-name', 'm4');
restored('the full backup that it builds on, to its own end', 2, '--backup', $label{full1}, '--target=immediate');

WalTest::run_ok('pin', $walctl, '--config', $config, 'pin', $label{full1});
expire('two full ones, one pinned', full => 2, incremental => 1);
is_deeply(labels(), [qw(full1 full2 full3 inc3)], 'the pinned one stays, and its incremental goes');
restored('the pinned one to its own end', 2, '--backup', $label{full1}, '--target=immediate');
refused('nothing behind it', '--target-name', 'm6');
restored('the oldest of the two', 8, '--target-name', 'm8');
restored('between the two', 9, '--target-name', 'm9');
restored('the end', 14);

WalTest::run_ok('unpin', $walctl, '--config', $config, 'unpin', $label{full1});
expire('one', full => 1, incremental => 1);
is_deeply(labels(), [qw(full3 inc3)], 'one full backup and its incremental');
refused('what is gone', '--target-name', 'm8');
restored('behind the last full one', 11, '--target-name', 'm11');
restored('the end again', 14);

# The schedule goes on.
backup('inc4', 'incremental');
restored('a new incremental on what was kept', 16);
done_testing();
