#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# The servers that the other tests use: each version starts with 1 MB and 16 MB segments, takes SQL
# and pgbench, and comes back from a base backup by a plain restore_command. This is a
# test of the test bench.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use Test::More;

for my $version (WalTest::versions())
{
    for my $segsize (1, 16)
    {
        my $label = "PostgreSQL $version, $segsize MB segments";
        my $node =
          WalTest::node("pg${version}_$segsize", version => $version, wal_segsize => $segsize);

        like($node->safe_psql('postgres', 'SHOW server_version'), qr/^$version\.\d+\b/, "$label: version");
        is($node->safe_psql('postgres', 'SHOW wal_segment_size'), "${segsize}MB", "$label: segment size");
        is($node->safe_psql('postgres', 'SHOW listen_addresses'), '', "$label: no TCP");
        WalTest::pgbench_init($node, 1);
        WalTest::pgbench($node, '-c', 2, '-t', 50);
        is($node->safe_psql('postgres', 'SELECT count(*) FROM pgbench_history'),
            100, "$label: pgbench");

        if ($segsize == 1)
        {
            backup_and_restore($label, $node, $version);
        }
        $node->stop;
    }
}

my $node = WalTest::node('killed');
my $pid = $node->{_pid};
my $daemon = WalTest::daemon('sleeper', [ 'sleep', '1000' ]);

WalTest::kill_host($node);
ok(!WalTest::process_alive($pid), 'killed host: the server is gone');
ok(!-e $node->data_dir, 'killed host: its files are gone');
ok($daemon->running, 'daemon runs');
is($daemon->stop, 128 + 15, 'daemon: stopped by SIGTERM');

my $result = WalTest::run([ 'sh', '-c', 'cat; echo err >&2; exit 7' ], stdin => "in\n");
is_deeply([ @$result{qw(exit signal stdout stderr)} ], [ 7, 0, "in\n", "err\n" ], 'run: result');
$result = WalTest::run([ 'sh', '-c', 'kill -9 $$' ]);
is_deeply([ @$result{qw(exit signal)} ], [ -1, 9 ], 'run: death by signal');
$result = WalTest::run([ 'sleep', '100' ], timeout => 0.2);
is($result->{timed_out}, 1, 'run: time-out');
$result = WalTest::run([ 'sh', '-c', 'sleep 1000 & echo started' ]);
is($result->{stdout}, "started\n", 'run: a child left in the background does not hold it up');

my $s3 = WalTest::s3('x');
$result = WalTest::run([ 'curl', '-sS', '--cacert', $s3->{'ca-file'}, $s3->{endpoint} ]);
like($result->{stdout}, qr/ListAllMyBucketsResult/, 'the S3 store answers over TLS');

done_testing();

# Archive by cp, back up under load, restore, compare.
sub backup_and_restore
{
    my ($label, $primary, $major) = @_;
    my $archive = WalTest::dir("archive$major");

    WalTest::set_conf(
        $primary,
        archive_mode => 'on',
        archive_command => "test ! -f $archive/%f && cp %p $archive/%f");
    $primary->restart;
    for my $method ('copy', $major <= 15 ? 'pg_basebackup' : ())
    {
        my $backup =
          WalTest::base_backup($primary, WalTest::dir("base$major-$method"), method => $method);

        WalTest::pgbench($primary, '-c', 2, '-t', 50);
        $primary->safe_psql('postgres', 'CHECKPOINT; SELECT pg_switch_wal()');
        my $wal = $primary->safe_psql('postgres',
            'SELECT pg_walfile_name(pg_current_wal_lsn() - 1)');
        WalTest::wait_until(sub { -e "$archive/$wal" }, 30, "$wal is archived");

        my $restored = WalTest::restore_node(
            "restored${major}_$method",
            version => $major,
            backup => $backup,
            restore_command => "cp $archive/%f %p");
        for my $table ('pgbench_accounts', 'pgbench_history')
        {
            WalTest::same_rows(
                WalTest::rows($restored, $table, '1, 2, 3, 4'),
                WalTest::rows($primary, $table, '1, 2, 3, 4'),
                "$label: $method: same rows in $table");
        }
        $restored->stop;
    }
    return;
}
