#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# Every kind of recovery target, inclusive and exclusive, across a promotion and a point-in-time recovery that went on to
# live:
#
#   timeline 1   A 1 2 3 B 4 5 6 |
#   timeline 2                   \ 7 8 | 9 C 10 11 12      the standby was promoted
#   timeline 3                          \ 21 22 23         restored to behind 8, and goes on
#
# A is a full backup, B and C are incrementals, numbers are transactions. After each restore exactly the
# transactions in front of the target are there.
#
# Peer bugs that this is about: a target that is not found falls through to the latest state (pgbackrest/pgbackrest#1582), a
# second recovery follows the wrong line (pgbackrest/pgbackrest#1372), a backup of a timeline that the target is not on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalRepo;
use Test::More;

my $version = 17;
my %conf = (track_commit_timestamp => 'on', summarize_wal => 'on', wal_keep_size => '256MB');
my %marks; # number => { xid, at, before, after }
my ($config, $stream, $repository);
my $restores = 0;

# A transaction on $node, and where it is.
sub mark
{
    my ($node, @numbers) = @_;

    for my $n (@numbers)
    {
        my $before = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
        my $xid = $node->safe_psql('postgres',
            "INSERT INTO marks VALUES ($n) RETURNING xmin::text::bigint % 4294967296");

        $marks{$n} = {
            xid => $xid,
            before => $before,
            after => $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()'),
            at => $node->safe_psql('postgres',
                "SELECT to_char(pg_xact_commit_timestamp('$xid'::xid) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US\"+00\"')"),
        };
        $node->safe_psql('postgres', "SELECT pg_create_restore_point('after $n')");
        # one name twice: the first one counts
        $node->safe_psql('postgres', "SELECT pg_create_restore_point('twice')") if $n == 4 || $n == 5;
        select undef, undef, undef, 0.01;
    }
    return;
}

# Everything that $node has written is in the repository.
sub durable
{
    my ($node) = @_;

    WalTest::wait_durable($config, $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));
    return;
}

# From now on the repository follows this server.
sub follow
{
    my ($node, $name) = @_;

    $stream->stop if $stream;
    $config = WalTest::config_for(
        $node,
        cluster => { data => $node->data_dir },
        $repository ? (repository => { url => $repository }) : ());
    $repository //= 'file://' . WalTest::repo_dir($config);
    WalTest::run_ok("$name: init", WalTest::tool('walctl'), '--config', $config, 'init');
    $stream = WalTest::walstream($config, name => "walstream-$name");
    WalTest::wait_streaming($config);
    return;
}

my $first = WalTest::node('first', version => $version, conf => \%conf);

$first->safe_psql('postgres', 'CREATE TABLE marks (n int PRIMARY KEY)');
follow($first, 'first');
my $second = WalRepo::standby($first, 'second', conf => \%conf);
my $a = WalTest::backup($config, 'full');
mark($first, 1 .. 3);
my $b = WalTest::backup($config, 'incremental');
mark($first, 4 .. 6);
durable($first);
WalRepo::caught_up($second, WalRepo::current_lsn($first));
WalTest::kill_host($first, with => [$stream]);
undef $stream;

WalRepo::promote($second);
follow($second, 'second');
mark($second, 7 .. 9);
my $c = WalTest::backup($config, 'incremental');
is_deeply($c->{chain}, [ $a->{label}, $b->{label} ], 'the incremental of timeline 2 builds on those of timeline 1');
mark($second, 10 .. 12);
durable($second);

my $third = WalTest::restore('third', version => $version, config => $config, args => [ '--target-name', 'after 8' ]);

WalTest::kill_host($second, with => [$stream]);
undef $stream;
follow($third, 'third');
is($third->safe_psql('postgres', 'SELECT timeline_id FROM pg_control_checkpoint()'), '3', 'timeline 3');
mark($third, 21 .. 23);
durable($third);

# label, arguments of walrestore, what is there then
my @all = (1 .. 8, 21 .. 23);
my @cases = (
    [ 'latest', [], [@all] ],
    [ 'latest of timeline 2', ['--timeline=2'], [ 1 .. 12 ] ],
    [ 'latest of timeline 1', ['--timeline=1'], [ 1 .. 6 ] ],
    [ 'name, on the first timeline', [ '--target-name', 'after 2' ], [ 1, 2 ] ],
    [ 'name, on the newest', [ '--target-name', 'after 22' ], [ 1 .. 8, 21, 22 ] ],
    [ 'name that is there twice', [ '--target-name', 'twice' ], [ 1 .. 4 ] ],
    [ 'name beyond the fork', [ '--target-name', 'after 11', '--timeline=2' ], [ 1 .. 11 ] ],
    [ 'xid', [ '--target-xid', $marks{5}{xid} ], [ 1 .. 5 ] ],
    [ 'xid, exclusive', [ '--target-xid', $marks{5}{xid}, '--exclusive' ], [ 1 .. 4 ] ],
    [ 'xid beyond the fork', [ '--target-xid', $marks{10}{xid}, '--timeline=2' ], [ 1 .. 10 ] ],
    [ 'time of a commit', [ '--target-time', $marks{7}{at} ], [ 1 .. 7 ] ],
    [ 'time of a commit, exclusive', [ '--target-time', $marks{7}{at}, '--exclusive' ], [ 1 .. 6 ] ],
    [ 'time, on the newest timeline', [ '--target-time', $marks{22}{at} ], [ 1 .. 8, 21, 22 ] ],
    [ 'LSN behind a commit', [ '--target-lsn', $marks{4}{after} ], [ 1 .. 4 ] ],
    [ 'LSN in front of a commit, exclusive', [ '--target-lsn', $marks{5}{before}, '--exclusive' ], [ 1 .. 4 ] ],
    [ 'LSN, on the newest timeline', [ '--target-lsn', $marks{22}{after}, '--exclusive' ], [ 1 .. 8, 21, 22 ] ],
    [ 'immediate, of an incremental', [ '--target=immediate', '--backup', $b->{label} ], [ 1 .. 3 ] ],
    [ 'immediate, on timeline 2', [ '--target=immediate', '--backup', $c->{label}, '--timeline=2' ], [ 1 .. 9 ] ],
    [ 'an older backup', [ '--backup', $a->{label}, '--target-name', 'after 21' ], [ 1 .. 8, 21 ] ],
);

for my $case (@cases)
{
    my ($label, $args, $want) = @$case;
    my $restored = WalTest::restore('r' . ++$restores, version => $version, config => $config, args => $args);

    is_deeply(
        [ split /\n/, $restored->safe_psql('postgres', 'SELECT n FROM marks ORDER BY n') ],
        $want, $label);
    $restored->stop('immediate');
}

# What cannot be reached is refused before anything is written.
my @refused = (
    [ 'a name that is nowhere', [ '--target-name', 'after 99' ] ],
    [ 'a name on a dead branch', [ '--target-name', 'after 11' ] ],
    [ 'a transaction on a dead branch', [ '--target-xid', $marks{12}{xid} ] ],
    [ 'an LSN behind the end', [ '--target-lsn', 'F/0' ] ],
    [ 'an LSN in front of the first backup', [ '--target-lsn', '0/1000028' ] ],
    [ 'a time to come', [ '--target-time', '2999-01-01 00:00:00+00' ] ],
    [ 'a time before the first backup', [ '--target-time', '2001-01-01 00:00:00+00' ] ],
    [ 'a timeline that is not there', ['--timeline=7'] ],
    [ 'a backup that is not there', [ '--backup', 'nosuch' ] ],
    [ 'a backup that the timeline does not come from', [ '--backup', $c->{label} ] ],
    [ 'a target in front of the backup', [ '--backup', $b->{label}, '--target-name', 'after 1' ] ],
);

my $folder = WalTest::dir('refused');

for my $case (@refused)
{
    my ($label, $args) = @$case;
    my $to = "$folder/" . ++$restores;
    my $result = WalTest::run([ WalTest::tool('walrestore'), '--config', $config, '--to', $to, @$args ]);

    isnt($result->{exit}, 0, "$label: refused");
    like($result->{stderr}, qr/HINT:/, "$label: with what can be done");
    ok(!-e $to, "$label: nothing was written");
}
done_testing();
