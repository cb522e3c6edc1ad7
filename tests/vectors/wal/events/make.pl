#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# Writes what tests/unit/test_wal_scan.c reads, into the directory EVENTS_DIR: for each version two segments
# with all kinds of ends of transactions and restore points, and in "events" what the server says of them:
#
#   commit XID MICROSECONDS   (since 1970; "?" where the server does not tell)
#   abort XID
#   point LSN NAME            (LSN of its end)
#
#   EVENTS_DIR=/some/where tests/run.sh tests/vectors/wal/events/make.pl

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../../../lib";
use WalTest;
use Test::More;

for my $version (WalTest::versions())
{
    my $node = WalTest::node(
        "events$version",
        version => $version,
        conf => {
            track_commit_timestamp => 'on',
            max_prepared_transactions => 5,
            autovacuum => 'off',
            full_page_writes => 'off',
            wal_level => 'logical',
            wal_keep_size => '64MB' });
    my $sql = sub { return $node->safe_psql('postgres', $_[0]) };
    my $us = q{(extract(epoch FROM pg_xact_commit_timestamp(%s::text::xid)) * 1000000)::bigint};
    my $dir = "$ENV{EVENTS_DIR}/pg$version";
    my @events;
    my $commit = sub { push @events, "commit $_[0] " . $sql->('SELECT ' . sprintf $us, $_[0]) };
    my $point = sub { push @events, 'point ' . $sql->("SELECT pg_create_restore_point('$_[0]')") . " $_[0]" };

    $sql->(q{CREATE TABLE t (i int, x text); CREATE TABLE a (i int PRIMARY KEY, x text); CREATE TABLE b (i int);
        CREATE TABLE c (i int PRIMARY KEY, x text); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT pg_replication_origin_create('o')});
    $sql->('SELECT pg_switch_wal()');
    $sql->('CHECKPOINT');

    my $first = $sql->('SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
    my $begin = 'BEGIN; SELECT pg_current_xact_id();';

    $commit->($sql->("$begin INSERT INTO t VALUES (1); COMMIT"));
    push @events, 'abort ' . $sql->("$begin INSERT INTO t VALUES (1); ROLLBACK");
    $commit->($sql->($begin . join('', map { "SAVEPOINT s$_; INSERT INTO t VALUES ($_);" } 1 .. 40) . 'COMMIT'));
    $point->('before the flood');
    $commit->($sql->("$begin DROP TABLE a, b; DROP FUNCTION f(); COMMIT"));

    # all that may stand in front of the xid of a prepared transaction
    my $full = $sql->("$begin SAVEPOINT s; INSERT INTO t VALUES (3); SAVEPOINT s2; INSERT INTO t VALUES (4);
        DROP TABLE c; DROP FUNCTION g(); CREATE TABLE d (i int PRIMARY KEY); PREPARE TRANSACTION 'full'");
    my $aborted = $sql->("$begin SAVEPOINT s; INSERT INTO t VALUES (5); CREATE TABLE e (i int PRIMARY KEY, x text);
        CREATE FUNCTION h() RETURNS int LANGUAGE sql AS 'SELECT 1'; PREPARE TRANSACTION 'aborted'");
    my $late = $sql->("$begin INSERT INTO t VALUES (6); PREPARE TRANSACTION 'late'");
    $sql->(q{COMMIT PREPARED 'full'});
    $commit->($full);
    $sql->(q{ROLLBACK PREPARED 'aborted'});
    push @events, "abort $aborted";

    # an origin's time takes the place of the commit's, for pg_xact_commit_timestamp
    my ($origin) = $sql->("SELECT pg_replication_origin_session_setup('o') IS NULL; $begin
        SELECT pg_replication_origin_xact_setup('1/23456', '2020-02-02') IS NULL;
        INSERT INTO t VALUES (7); COMMIT") =~ /^(\d+)$/m;
    push @events, "commit $origin ?";

    # over the end of a segment
    $sql->(q{DO $$ BEGIN FOR i IN 1..550 LOOP INSERT INTO t VALUES (i, repeat('x', 1900)); COMMIT; END LOOP; END $$});
    my $next = $sql->('SELECT pg_snapshot_xmax(pg_current_snapshot())');
    push @events, map { "commit $_" } split /\n/,
      $sql->("SELECT i || ' ' || " . sprintf($us, 'i') . " FROM generate_series($origin + 1, $next - 1) i");
    $sql->(q{COMMIT PREPARED 'late'});
    $commit->($late);
    $point->('z' x 63);
    my $last = $sql->('SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
    $sql->('SELECT pg_switch_wal(); CHECKPOINT');

    mkdir $dir or die "$dir: $!\n";
    open my $out, '>', "$dir/events" or die "$dir/events: $!\n";
    print {$out} map { "$_\n" } @events;
    close $out or die "$dir/events: $!\n";
    for my $file ("$dir/events", sort glob $node->data_dir . '/pg_wal/????????????????????????')
    {
        my ($name) = $file =~ m{([^/]+)$};

        next if $name ne 'events' && ($name lt $first || $name gt $last);
        note("$version: $name");
        system('zstd', '-19', '-q', '-f', $file, '-o', "$dir/$name.zst") == 0 or die "zstd failed\n";
    }
    unlink "$dir/events";
    ok(-e "$dir/$first.zst" && -e "$dir/$last.zst", "PostgreSQL $version");
    $node->stop;
}
done_testing();
