#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# Base backups by the replication protocol:
#   a chain of a full and two incrementals on each version, with a tablespace, under work between the backups;
#   changes told by page LSNs up to 16, by WAL summaries from 17 on, and by LSNs again where the summaries end
#   from a standby, which is promoted during another backup
#   damaged pages are named and the backup goes on
#   without SQL, as pg_hba.conf may have it
#   told to stop, walbackup leaves no backup and no session behind

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use JSON::PP;
use WalTest;
use WalTest::Churn;
use Test::More;

my @versions = WalTest::versions();

chain($_) for @versions;
standby($_) for $versions[0], ($versions[-1] ne $versions[0] ? $versions[-1] : ());
damage($versions[-1]);
visibility($versions[-1]) if $versions[-1] >= 17;
done_testing();

# A server with walstream beside it.
sub primary
{
    my ($name, %opt) = @_;
    my $node = WalTest::node($name, %opt);
    my $config = WalTest::config_for($node);

    WalTest::run_ok("$name: init", WalTest::tool('walctl'), '--config', $config, 'init');
    my $stream = WalTest::walstream($config, name => "$name-walstream");
    WalTest::wait_streaming($config);
    return ($node, $config, $stream);
}

sub command
{
    my ($config, $kind, @arguments) = @_;
    return (
        WalTest::tool('walbackup'), '--config', $config, $kind, '--source=stream', '--checkpoint=fast',
        '--output=json', @arguments);
}

# The JSON of a backup that must be made, and what it logged.
sub backup
{
    my ($label, $config, $kind, @arguments) = @_;
    my $result = WalTest::run([ command($config, $kind, @arguments) ]);

    is($result->{exit}, 0, "$label: $kind backup") or die $result->{stderr};
    return (decode_json($result->{stdout}), $result->{stderr});
}

sub restore
{
    my ($name, $node, $config, $version, %opt) = @_;
    my @spaces = WalTest::Churn::space_arguments($node, WalTest::dir("$name-spaces"));

    return WalTest::restore(
        $name, %opt,
        version => $version,
        config => $config,
        args => [ @spaces, @{ $opt{args} // [] } ]);
}

sub chain
{
    my ($version) = @_;
    my $name = "chain$version";
    my $summaries = $version >= 17;
    my ($node, $config, $stream) = primary(
        $name,
        version => $version,
        checksums => $version % 2,
        conf => { $summaries ? (summarize_wal => 'on') : () });

    WalTest::Churn::create($node, WalTest::dir("$name-spaces"));
    WalTest::Churn::step($node, 1);
    my ($full, $log) = backup($name, $config, 'full');
    unlike($log, qr/WARNING|ERROR/, "$name: a full backup says nothing bad");

    WalTest::Churn::step($node, 2);
    my ($first, $first_log) = backup($name, $config, 'incremental');
    unlike($first_log, qr/page LSNs/, "$name: nothing to say of how changes are found");
    cmp_ok($first->{plain_bytes}, '<', $full->{plain_bytes} * 0.8, "$name: the incremental is smaller");

    # without the summaries of this step the next one cannot use them
    if ($version == 17)
    {
        WalTest::set_conf($node, summarize_wal => 'off');
        $node->reload;
        $node->poll_query_until('postgres', q{SELECT current_setting('summarize_wal') = 'off'})
          or die 'summarize_wal is not off';
    }
    WalTest::Churn::step($node, 3);
    my ($second, $second_log) = backup($name, $config, 'incremental');
    if ($version == 17)
    {
        like($second_log, qr/INFO: .*summarize_wal is off.*page LSNs/, "$name: no summaries, so page LSNs tell");
    }
    else
    {
        unlike($second_log, qr/page LSNs/, "$name: again nothing to say");
    }
    is($second->{chain}[-1], $first->{label}, "$name: it builds on the one before");

    # and on again: there are summaries, but not from the parent's start on
    if ($version == 17)
    {
        $node->safe_psql('postgres', 'CHECKPOINT');
        WalTest::set_conf($node, summarize_wal => 'on', wal_summary_keep_time => '1min');
        $node->reload;
        $node->safe_psql('postgres', 'UPDATE account SET balance = 0 WHERE id % 90 = 0');
        backup($name, $config, 'incremental');
    }

    # a step that makes no tablespace: its place would be the primary's
    WalTest::Churn::step($node, 4);
    my $want = WalTest::Churn::state($node);
    WalTest::wait_durable($config, $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));
    my $restored = restore("${name}_restored", $node, $config, $version);
    WalTest::kill_host($node, with => [$stream]);
    WalTest::Churn::same_state(WalTest::Churn::state($restored), $want, "$name: all is back");
    WalTest::Churn::check($restored, $name);
    $restored->stop('immediate');
    return;
}

sub standby
{
    my ($version) = @_;
    my $name = "standby$version";
    my ($node, $config, $stream) = primary($name, version => $version);

    WalTest::Churn::create($node, WalTest::dir("$name-spaces"));
    backup("$name, of the primary", $config, 'full');
    my $other = restore("${name}_replica", $node, $config, $version,
        args => ['--standby'], conf => { primary_conninfo => $node->connstr }, wait => 0);
    my $from = WalTest::config_for(
        $node,
        cluster => { conninfo => $other->connstr },
        repository => { url => 'file://' . WalTest::repo_dir($config) });

    $node->wait_for_catchup($other, 'replay');
    $node->safe_psql('postgres', 'CHECKPOINT');
    $other->safe_psql('postgres', 'CHECKPOINT');
    my ($full) = backup($name, $from, 'full');
    ok($full->{from_standby}, "$name: known as a standby's");

    $node->safe_psql('postgres', 'UPDATE account SET balance = balance + 1 WHERE id % 50 = 0');
    $node->safe_psql('postgres', 'CHECKPOINT');
    $node->wait_for_catchup($other, 'replay');
    $other->safe_psql('postgres', 'CHECKPOINT');
    my ($incremental) = backup($name, $from, 'incremental');
    cmp_ok($incremental->{plain_bytes}, '<', $full->{plain_bytes} / 4, "$name: incremental from the standby");

    my $want = WalTest::Churn::state($node);
    WalTest::wait_durable($config, $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));
    my $restored = restore("${name}_restored", $node, $config, $version, start => 0);
    # the backup has the standby's own; this server shall not follow anybody
    unlink $restored->data_dir . '/standby.signal';
    $restored->start;
    WalTest::wait_until(
        sub { $restored->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' },
        120, 'recovery ends');
    WalTest::Churn::same_state(WalTest::Churn::state($restored), $want, "$name: all is back");
    $restored->stop('immediate');

    # told to stop in the middle
    my $before = manifests($config);
    my $stopped = slow_backup("$name-stopped", $from, $other);
    is($stopped->stop(seconds => 10), 1, "$name: told to stop, it ends");
    WalTest::wait_until(
        sub { $other->safe_psql('postgres', 'SELECT count(*) FROM pg_stat_progress_basebackup') == 0 },
        20, 'the server has given the backup up');
    pass("$name: the server has given the backup up");

    my $promoted = slow_backup("$name-promoted", $from, $other);
    $other->promote;
    is($promoted->wait_exit(60), 1, "$name: a promotion ends the backup");
    like($promoted->log_text, qr/promoted during online backup/, "$name: and says so");
    is(manifests($config), $before, "$name: neither is there");
    WalTest::kill_host($node, with => [$stream]);
    $other->stop('immediate');
    return;
}

sub manifests
{
    my ($config) = @_;
    return scalar(() = glob WalTest::repo_dir($config) . '/test/*/backup/*/manifest');
}

# A backup that takes its time, when the server has begun to send.
sub slow_backup
{
    my ($name, $config, $node) = @_;
    my $daemon = WalTest::daemon($name, [ command($config, 'full', '--rate-limit=512kB') ]);

    WalTest::wait_until(
        sub {
            die "walbackup ended: " . $daemon->log_text unless $daemon->running;
            $node->safe_psql('postgres',
                "SELECT count(*) FROM pg_stat_progress_basebackup WHERE backup_streamed > 1000000") == 1;
        },
        60,
        'the server sends');
    return $daemon;
}

# The WAL of a DELETE does not name the block of the visibility map whose bits it clears, so no WAL summary does.
sub visibility
{
    my ($version) = @_;
    my $name = "visibility$version";
    my ($node, $config, $stream) = primary($name, version => $version, conf => { summarize_wal => 'on' });
    my $count = 'SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM seen WHERE id > 0';

    $node->safe_psql('postgres', 'CREATE TABLE seen AS SELECT g AS id FROM generate_series(1, 5000) g');
    $node->safe_psql('postgres', 'CREATE INDEX ON seen (id)');
    $node->safe_psql('postgres', 'VACUUM (FREEZE, ANALYZE) seen');
    backup($name, $config, 'full');
    $node->safe_psql('postgres', 'DELETE FROM seen WHERE id % 100 = 0');
    my ($incremental, $log) = backup($name, $config, 'incremental');
    unlike($log, qr/page LSNs/, "$name: the server has WAL summaries");
    WalTest::wait_durable($config, $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));
    my $restored = restore("${name}_restored", $node, $config, $version);
    WalTest::kill_host($node, with => [$stream]);
    is($restored->safe_psql('postgres', $count), 4950, "$name: an index-only scan sees no deleted row");
    $restored->stop('immediate');
    return;
}

# Damage in the middle of a table; then the same with a role that may not use SQL.
sub damage
{
    my ($version) = @_;
    my $name = 'damage';
    my ($node, $config, $stream) = primary(
        $name,
        version => $version,
        checksums => 1,
        conf => { $version >= 17 ? (summarize_wal => 'on') : () });

    $node->safe_psql('postgres',
        "CREATE TABLE t AS SELECT i, repeat('x', 500) AS v FROM generate_series(1, 500) i");
    $node->safe_psql('postgres', 'CREATE ROLE repl REPLICATION LOGIN');
    my $path = $node->safe_psql('postgres', "SELECT pg_relation_filepath('t')");
    $stream->stop;
    $node->stop;
    open my $fh, '+<:raw', $node->data_dir . "/$path" or die "could not open $path: $!";
    seek $fh, 3 * 8192 + 5000, 0;
    print $fh 'damage';
    close $fh or die "could not write $path: $!";
    my $hba = $node->data_dir . '/pg_hba.conf';
    my $old = WalTest::slurp($hba);
    open my $out, '>', $hba or die "could not open $hba: $!";
    print $out "local replication repl trust\nlocal all repl reject\n$old";
    close $out or die "could not write $hba: $!";
    $node->start;
    $stream = WalTest::walstream($config, name => 'damage-again');

    my ($full, $log) = backup($name, $config, 'full');
    is($full->{damaged_blocks}, 1, "$name: one block is counted");
    like($log, qr/WARNING: .*\Q$path\E.* block 3: checksum/, "$name: it is named");
    my ($incremental) = backup($name, $config, 'incremental');
    is($incremental->{damaged_blocks}, 1, "$name: an incremental that needs the block says it again");

    my $bare = WalTest::config_for(
        $node,
        cluster => { conninfo => $node->connstr . ' user=repl' },
        repository => { url => 'file://' . WalTest::repo_dir($config) });
    my ($bare_full) = backup("$name, without SQL", $bare, 'full');
    is($bare_full->{damaged_blocks}, 1, "$name: without SQL too");
    WalTest::kill_host($node, with => [$stream]);
    return;
}
