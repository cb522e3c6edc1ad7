#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# The host is lost: server and walstream get SIGKILL at a random moment, all their files are removed, and a new
# server comes up from the base backup and the repository alone.
#
#   synchronous    no acknowledged row may be missing, at synchronous_commit = on and remote_write
#   asynchronous   what is missing was acknowledged about as long before the end as flush-interval and one upload take
#
# The rounds of one line follow each other: the restored server is the primary of the next round, on a timeline
# of its own, and recovery begins at the first base backup each time. WALTEST_ROUNDS: rounds of each line.

use strict;
use warnings;

use File::Path qw(remove_tree);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use Time::HiRes qw(time usleep);
use WalTest;
use WalTest::Load;
use WalTest::S3;
use Test::More;

my $flush_interval_ms = 500;
# a store that is far away: what is on its way when the host dies must not have been acknowledged
my $far_ms = 150;
# An upload here takes well under 0.1 s. Twenty times as long is for processes that wait for a processor; the last
# round of an asynchronous line is long enough for that to tell something.
my $most_ms = 20 * ($flush_interval_ms + 100);
my $long_seconds = 15;

my @lines = (
    { name => 'async_file', store => 'file', rounds => 3 },
    { name => 'sync_s3', store => 's3', rounds => 2, commit => 'on' },
    { name => 'sync_file', store => 'file', rounds => 2, commit => 'remote_write' },
    { name => 'async_far', store => 'far', rounds => 3 },
    { name => 'sync_far', store => 'far', rounds => 2, commit => 'remote_write' },
);
my $proxy = WalTest::S3::Proxy->start(WalTest::rgw()->{RGW_HTTP});

$proxy->add(PUT => '/live/|/wal/', "delay $far_ms", times => 0);

my @versions = WalTest::versions();
for my $i (0 .. $#lines)
{
    run_line({ %{ $lines[$i] }, version => $versions[ $i % @versions ] });
}
done_testing();

sub run_line
{
    my ($line) = @_;
    my $name = $line->{name};
    my $repository = $line->{store} eq 'file' ? {} : WalTest::s3($name, tls => $line->{store} eq 's3');
    my $dir = $line->{dir} = WalTest::dir($name);
    my $node = WalTest::node($name, version => $line->{version});

    $line->{synchronous} = defined $line->{commit};
    $repository->{endpoint} = $proxy->{endpoint} if $line->{store} eq 'far';

    $line->{make_config} = sub {
        my ($server) = @_;
        return WalTest::config_for(
            $server,
            dir => $dir,
            repository => $repository,
            stream => {
                'flush-interval' => "${flush_interval_ms}ms",
                synchronous => $line->{synchronous} ? 'on' : 'off',
            });
    };
    $line->{config} = $line->{make_config}->($node);
    WalTest::Load::create($node);
    WalTest::run_ok("$name: init", WalTest::tool('walctl'), '--config', $line->{config}, 'init');
    $line->{backup} = WalTest::base_backup($node, WalTest::dir("$name-base"));
    my $rounds = $ENV{WALTEST_ROUNDS} // (WalTest::quick() ? 1 : $line->{rounds});

    for my $round (1 .. $rounds)
    {
        $node = run_round($line, $node, $round, !$line->{synchronous} && $round == $rounds);
    }
    $node->stop('immediate');
    return;
}

sub run_round
{
    my ($line, $node, $round, $long) = @_;
    my $label = "$line->{name}, PostgreSQL $line->{version}, round $round";
    my $stream = WalTest::walstream($line->{config}, name => "$line->{name}-$round");

    WalTest::wait_streaming($line->{config});
    if ($line->{synchronous})
    {
        WalTest::set_conf(
            $node,
            synchronous_standby_names => 'walstream',
            synchronous_commit => $line->{commit});
        $node->reload;
        WalTest::wait_until(
            sub {
                $node->safe_psql('postgres',
                    "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") eq '1'
                  && $node->safe_psql('postgres', 'SHOW synchronous_standby_names') eq 'walstream';
            },
            30,
            'walstream is a synchronous standby');
    }
    else
    {
        # what was there before is not this round's matter
        WalTest::wait_durable($line->{config},
            $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));
    }

    my $before = WalTest::Load::numbers($node);
    my $load = WalTest::Load->start($node, 4, pause_ms => $long ? 20 : 0);

    $load->wait_rows(20);
    usleep($long ? $long_seconds * 1_000_000 : rand 2_500_000);
    my $killed = time;
    WalTest::kill_host($node, with => [$stream]);
    $load->wait_end;
    remove_tree("$line->{dir}/spool", { keep_root => 1 });

    my $restored = WalTest::restore_node(
        "$line->{name}_$round",
        version => $line->{version},
        backup => $line->{backup},
        config => $line->{config},
        conf => { synchronous_standby_names => '' });
    my $numbers = WalTest::Load::numbers($restored);
    my $lost = $load->lost($numbers);
    my $acknowledged = @{ $load->acknowledged };
    my @older = grep { !exists $numbers->{$_} } keys %$before;
    my $age_ms = 0;

    for my $row (@$lost)
    {
        my $age = 1000 * ($killed - $row->{acked});
        $age_ms = $age if $age > $age_ms;
    }
    note(sprintf '%s: %d rows acknowledged, %d lost, the oldest of them %.0f ms before the end',
        $label, $acknowledged, scalar @$lost, $age_ms);
    is(scalar @older, 0, "$label: nothing of earlier rounds is missing");
    if ($line->{synchronous})
    {
        is(scalar @$lost, 0, "$label: no acknowledged row is missing")
          or diag("of $acknowledged; the oldest one $age_ms ms before the end");
    }
    else
    {
        cmp_ok($age_ms, '<=', $most_ms + ($line->{store} eq 'far' ? $far_ms : 0),
            "$label: what is missing is about as young as flush-interval and an upload");
    }
    is(WalTest::Load::damage($restored), '', "$label: rows in order and as they were written");
    $line->{config} = $line->{make_config}->($restored);
    return $restored;
}
