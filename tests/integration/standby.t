#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# Standbys and stops:
#   a standby fed by the bucket alone follows, across segments, and can be promoted
#   one with archive_mode = always offers the padded last segment, which must not get into the repository
#   walpush of the old timeline's segments when walstream is on the new one
#   a server's fast stop waits for the open piece and not for a store that cannot be reached

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Time::HiRes qw(time usleep);
use WalTest;
use WalTest::Load;
use WalTest::Matrix;
use WalTest::S3;
use Test::More;

my @versions = WalTest::versions();
my $proxy = WalTest::S3::Proxy->start(WalTest::rgw()->{RGW_HTTP});

follow('follow', $versions[0]);
follow('follow_always', $versions[-1], always => 1);
old_timeline($versions[-1]);
stop_server('stop_async', $versions[0]);
stop_server('stop_sync', $versions[-1], synchronous => 1);
done_testing();

# A primary that streams into S3: node, config, walstream, backup.
sub primary
{
    my ($name, $version, %opt) = @_;
    my $node = WalTest::node($name, version => $version);
    my $repository = WalTest::s3($name, tls => 0);

    $repository->{endpoint} = $opt{endpoint} if $opt{endpoint};
    my %self = (
        node => $node,
        repository => $repository,
        config => WalTest::config_for(
            $node,
            repository => $repository,
            stream => { 'flush-interval' => '500ms', %{ $opt{stream} // {} } }));

    WalTest::run_ok("$name: init", WalTest::tool('walctl'), '--config', $self{config}, 'init');
    $self{stream} = WalTest::walstream($self{config}, name => "$name-walstream", args => $opt{args});
    WalTest::wait_streaming($self{config});
    WalTest::Load::create($node);
    $node->safe_psql('postgres', 'CREATE TABLE marks (n int)');
    $self{backup} = WalTest::base_backup($node, WalTest::dir("$name-base"));
    return \%self;
}

sub follow
{
    my ($name, $version, %opt) = @_;
    my $p = primary($name, $version);
    my $node = $p->{node};
    # the standby's host: a configuration of its own, no walstream there
    my $config = WalTest::config_for($node, repository => $p->{repository});
    my %archive = $opt{always}
      ? (
        archive_mode => 'always',
        archive_command => WalTest::tool('walpush') . " --config $config %p")
      : ();
    my $standby = WalTest::restore_node(
        "${name}_standby",
        version => $version,
        mode => 'standby',
        backup => $p->{backup},
        config => $config,
        conf => { wal_retrieve_retry_interval => '500ms', %archive });
    my @seconds;

    is($standby->safe_psql('postgres', 'SHOW primary_conninfo'), '', "$name: no primary_conninfo");
    for my $n (1 .. 8)
    {
        # two rows in the same segment, the next two in another one
        $node->safe_psql('postgres', 'SELECT pg_switch_wal()') if $n % 2;
        $node->safe_psql('postgres', "INSERT INTO marks VALUES ($n)");
        my $begin = time;
        WalTest::wait_until(
            sub { $standby->safe_psql('postgres', "SELECT count(*) FROM marks WHERE n = $n") },
            30, "row $n is on the standby");
        push @seconds, time - $begin;
        usleep(rand 600_000);
    }
    @seconds = sort { $a <=> $b } @seconds;
    note("$name: seconds until a row was there: " . join ' ', map { sprintf '%.2f', $_ } @seconds);
    # it takes a second; what is more waited for a processor
    cmp_ok($seconds[ $#seconds / 2 ], '<=', 20, "$name: the standby follows");
    cmp_ok($seconds[-1], '<=', 60, "$name: always");

    my $load = WalTest::Load->start($node, 2);
    $load->wait_rows(1500);
    $load->stop;
    WalTest::wait_durable($p->{config}, $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));
    my $want = WalTest::rows($node, 'numbered', '1, 2');
    WalTest::kill_host($node, with => [ $p->{stream} ]);
    WalTest::wait_until(
        sub { $standby->safe_psql('postgres', 'SELECT count(*) FROM numbered') == @$want },
        30, 'the standby has all rows');
    $standby->promote;
    WalTest::same_rows(WalTest::rows($standby, 'numbered', '1, 2'), $want, "$name: promoted, same rows");
    $standby->safe_psql('postgres', 'INSERT INTO marks VALUES (100)');
    $standby->safe_psql('postgres', 'CHECKPOINT');
    is($standby->safe_psql('postgres', 'SELECT timeline_id FROM pg_control_checkpoint()'),
        2, "$name: on a timeline of its own");
    check_always($name, $version, $p, $standby, $config) if $opt{always};
    $standby->stop('immediate');
    return;
}

# The padded segment was offered, was not stored, and does not keep later files from being archived; all that is in
# the repository is right.
sub check_always
{
    my ($name, $version, $p, $standby, $config) = @_;

    $standby->safe_psql('postgres', 'SELECT pg_switch_wal()');
    WalTest::wait_until(
        sub {
            $standby->safe_psql(
                'postgres', "SELECT last_archived_wal LIKE '00000002________________' FROM pg_stat_archiver") eq 't';
        },
        30, 'the promoted standby archives its own timeline');
    WalTest::wait_until(
        sub { my @waits = glob($standby->data_dir . '/pg_wal/archive_status/00000001*.ready'); !@waits },
        60, 'nothing of the old timeline waits any more');
    pass("$name: nothing of the old timeline waits any more");
    WalTest::run_ok("$name: the repository is whole",
        WalTest::tool('walctl'), '--config', $config, 'verify', '--wal');
    my $restored = WalTest::restore_node(
        "${name}_again",
        version => $version,
        backup => $p->{backup},
        config => $config,
        conf => { recovery_target_timeline => '1' });
    WalTest::same_rows(
        WalTest::rows($restored, 'numbered', '1, 2'),
        WalTest::rows($standby, 'numbered', '1, 2'),
        "$name: the old timeline can be restored to its end");
    $restored->stop('immediate');
    return;
}

# walstream beside a standby that is promoted; then the old timeline's segments are offered, as archive_mode =
# always does. Their end is not a position of the new timeline, for which walpush would wait in vain.
sub old_timeline
{
    my ($version) = @_;
    my $node = WalTest::node('old_primary', version => $version, conf => { wal_keep_size => '512MB' });
    WalTest::Load::create($node);
    my $backup = WalTest::base_backup($node, WalTest::dir('old-base'));
    my $standby = WalTest::restore_node(
        'old_standby',
        version => $version,
        mode => 'standby',
        backup => $backup,
        restore_command => 'false',
        conf => { primary_conninfo => $node->connstr, wal_keep_size => '512MB' });
    my $config = WalTest::config_for($standby);

    WalTest::run_ok('old timeline: init', WalTest::tool('walctl'), '--config', $config, 'init');
    my $stream = WalTest::walstream($config, name => 'old-walstream');
    WalTest::wait_streaming($config);
    my $segment;
    for my $n (1 .. 3)
    {
        # the last round's segment is complete and the one behind it is open
        $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
        $segment = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn() + 100)')
          if $n < 3;
        $node->safe_psql('postgres', "INSERT INTO numbered VALUES (1, $n, 0, md5('1.$n'))");
    }
    my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
    WalTest::wait_durable($config, $lsn);
    $node->stop('immediate');
    $standby->promote;
    $standby->safe_psql('postgres', 'CHECKPOINT');
    WalTest::wait_until(
        sub {
            my $status = WalTest::status($config) or return 0;
            ($status->{stream}{timeline} // 0) == 2 && $status->{stream}{state} eq 'streaming';
        },
        60,
        'walstream has followed');
    my $result = WalTest::run_ok(
        'old timeline: its segments are archived when walstream is on the new one',
        WalTest::tool('walpush'), '--config', $config, '--timeout', '1000s', "pg_wal/$segment",
        { cwd => $standby->data_dir, timeout => 500 });
    cmp_ok($result->{ms}, '<', 500_000, 'old timeline: long before the time-out');
    is($stream->stop, 0, 'old timeline: walstream stops');
    $standby->stop('immediate');
    return;
}

# pg_ctl stop -m fast, and how long it took.
sub timed_stop
{
    my ($node) = @_;
    my $begin = time;
    $node->stop('fast');
    return time - $begin;
}

sub stop_server
{
    my ($name, $version, %opt) = @_;
    # the open piece would not go out by itself for an hour
    my $p = primary(
        $name, $version,
        endpoint => $proxy->{endpoint},
        # the first walstream: many small pieces
        args => ['--stream.flush-interval=10ms'],
        stream => { 'flush-interval' => '1h', synchronous => $opt{synchronous} ? 'on' : 'off' });
    my $node = $p->{node};

    if ($opt{synchronous})
    {
        WalTest::set_conf($node, synchronous_standby_names => 'walstream');
        $node->reload;
        WalTest::wait_until(
            sub {
                $node->safe_psql('postgres',
                    "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'");
            },
            30,
            'walstream is a synchronous standby');
    }
    my $load = WalTest::Load->start($node, 8);
    $load->wait_rows(100);

    # walstream itself, while WAL keeps coming: what it has is stored, what follows is the next one's. The store is
    # far away, so that some upload is always under way.
    $proxy->add(PUT => '/live/|/wal/', 'delay 200', times => 0);
    sleep 1;
    my $begin = time;
    is($p->{stream}->stop, 0, "$name: walstream stops under load");
    note(sprintf '%s: walstream stopped in %.1f s', $name, time - $begin);
    cmp_ok(time - $begin, '<', 120, "$name: soon");
    $proxy->clear;
    $p->{stream} = WalTest::walstream($p->{config}, name => "$name-walstream-2");
    WalTest::wait_streaming($p->{config});
    $load->wait_rows(100 + @{ $load->acknowledged });

    # clients are busy until the very end
    my $seconds = timed_stop($node);
    $load->wait_end;
    note(sprintf '%s: stopped in %.1f s', $name, $seconds);
    cmp_ok($seconds, '<', 160, "$name: a fast stop takes seconds");
    WalTest::wait_until(
        sub { my $status = WalTest::status($p->{config}) or return 0; $status->{uploads}{extents_open} == 0 },
        30, 'all is stored');
    my $restored = WalTest::restore_node(
        "${name}_r",
        version => $version,
        backup => $p->{backup},
        config => WalTest::config_for($node, repository => $p->{repository}),
        conf => { synchronous_standby_names => '' });
    is(scalar @{ $load->lost(WalTest::Load::numbers($restored)) },
        0, "$name: all rows are in the repository after the stop");
    is(WalTest::Load::damage($restored), '', "$name: as they were written");
    $restored->stop('immediate');

    # the same with the store out of reach: rows that could not be stored must not hold the stop up
    $node->start;
    WalTest::wait_streaming($p->{config});
    $proxy->down;
    $load = WalTest::Load->start($node, 2);
    if ($opt{synchronous}) { sleep 1 }
    else { $load->wait_rows(50) }
    $seconds = timed_stop($node);
    $load->wait_end;
    note(sprintf '%s: stopped in %.1f s with the store out of reach', $name, $seconds);
    cmp_ok($seconds, '<', 200, "$name: a fast stop is not held up by a store that cannot be reached");

    # and nothing is forgotten
    $proxy->up;
    $node->start;
    WalTest::wait_streaming($p->{config});
    WalTest::wait_durable($p->{config}, $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'), 90);
    pass("$name: walstream goes on when both are back");
    $begin = time;
    is($p->{stream}->stop, 0, "$name: walstream stops");
    cmp_ok(time - $begin, '<', 120, "$name: soon");
    $node->stop('immediate');
    return;
}
