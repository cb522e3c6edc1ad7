#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# Two walstreams on one repository at once: beside one server with a slot each, and beside two replicas.
# They cut where they like, so pieces overlap; both store the same segments. It costs requests, nothing
# else: no errors, no gap, the right bytes, and recovery has all rows.
#
# Peer bug: the same segment sent many times by parallel pushes, and refused as a duplicate after SIGKILL
# (cloudnative-pg/plugin-barman-cloud#266, EnterpriseDB/barman#507).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalRepo;
use Test::More;
use Time::HiRes qw(usleep);

my @versions = WalTest::versions();
my $kills = WalTest::quick() ? 4 : 12;

for my $version (grep { $_ == 15 || $_ == $versions[-1] } @versions)
{
    together($version, 'one server', 0);
    together($version, 'two replicas', 1);
}
done_testing();

sub load
{
    my ($node, $name) = @_;
    my $script = WalTest::dir("load-$name") . '/load.sql';

    open my $fh, '>', $script or die "could not create $script: $!";
    print $fh "INSERT INTO events (note, server) SELECT repeat(md5(random()::text), 8), 'load' "
      . "FROM generate_series(1, 10);\n";
    close $fh or die "could not write $script: $!";
    return WalTest::daemon(
        "load-$name",
        [
            $node->installed_command('pgbench'), '-n', '-c', 2, '-T', 600, '-R', 150, '-f', $script,
            'postgres'
        ],
        env => { PGHOST => $node->host, PGPORT => $node->port });
}

sub together
{
    my ($version, $where, $replicas) = @_;
    my $label = "PostgreSQL $version, $where";
    my $id = $version . ($replicas ? 'r' : 's');
    my $archive = WalTest::dir("archive-$id");
    my $node = WalTest::node(
        "primary$id",
        version => $version,
        conf => {
            wal_keep_size => '512MB',
            max_wal_senders => 10,
            max_replication_slots => 10,
            archive_mode => 'on',
            archive_command => "cp %p $archive/%f.tmp && mv $archive/%f.tmp $archive/%f"
        });
    my $config = WalTest::config_for($node);

    WalRepo::create_rows($node);
    WalTest::run_ok("$label: init", WalTest::tool('walctl'), '--config', $config, 'init');
    my @sources =
      $replicas
      ? map { WalRepo::standby($node, "replica$_$id", conf => { archive_mode => 'off' }) } 1, 2
      : ($node, $node);
    my $backup = WalTest::base_backup($node, WalTest::dir("base-$id"));
    my @receivers;

    for my $n (0, 1)
    {
        my $slot = "receiver$n";
        push @receivers,
          {
            slot => $slot,
            name => "ws-$id-$n",
            starts => 0,
            text => '',
            config => WalTest::config_for(
                $sources[$n],
                stream => { slot => $slot, 'flush-interval' => $n ? '70ms' : '200ms' },
                repository => { url => 'file://' . WalTest::repo_dir($config) })
          };
    }
    my $begin = WalRepo::current_lsn($node);
    if ($replicas)
    {
        # their slots are reserved from the last restartpoint
        WalRepo::caught_up($_, $begin) for @sources;
        $_->safe_psql('postgres', 'CHECKPOINT') for @sources;
    }
    start($_) for @receivers;

    my $load = load($node, $id);

    for my $kill (1 .. $kills)
    {
        usleep(100_000 + int rand 400_000);
        die 'the load ended: ' . $load->log_text unless $load->running;
        my @victims = $kill % 4 == 0 ? @receivers : $receivers[ $kill % 2 ];
        $_->{daemon}->kill9 for @victims;
        start($_, $kill % 3 == 0) for @victims;
    }
    usleep(500_000);
    $load->stop(signal => 'INT');
    # where one of them had no time beside the other, on until both have stored the same WAL
    WalTest::wait_until(
        sub {
            my @extents = WalRepo::extents($config, 1);
            return 1 if overlapping($config) && @extents > $kills + 10;
            WalRepo::add_rows($node, 100);
            for my $receiver (@receivers)
            {
                WalTest::wait_durable($receiver->{config}, WalRepo::current_lsn($node));
            }
            return 0;
        },
        300, 'the pieces of both overlap');
    $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
    WalRepo::add_rows($node, 50);
    my $end = WalRepo::current_lsn($node);

    for my $receiver (@receivers)
    {
        WalTest::wait_until(sub { WalTest::status($receiver->{config}) }, 30, 'walstream answers');
        WalTest::wait_durable($receiver->{config}, $end);
        my $status;
        WalTest::wait_until(sub { $status = WalTest::status($receiver->{config}) }, 60, 'walstream answers');
        my $counters = $status->{counters};
        is($counters->{upload_failures}, 0, "$label: $receiver->{slot}: no upload failed");
        is($receiver->{daemon}->stop, 0, "$label: $receiver->{slot} stops");
        $receiver->{text} .= $receiver->{daemon}->log_text;
        my @errors = grep { /\bwalstream: (?:ERROR|FATAL):/ } split /\n/, $receiver->{text};
        is_deeply(\@errors, [], "$label: $receiver->{slot}: no errors in " . $receiver->{starts} . ' runs');
    }

    WalRepo::covers($config, 1, $begin, $end, "$label: all of it is there");
    is(scalar WalRepo::ranges($config, 1), 1, "$label: without a gap");
    is_deeply([ grep { m{^gap/} } keys %{ WalRepo::objects($config) } ], [], "$label: no gap noted");
    my ($compared, @wrong) = WalRepo::bytes_wrong($config, 1, $begin, $end,
        WalRepo::wal_reader(1, $archive, $node->data_dir . '/pg_wal'));
    cmp_ok($compared, '>', $kills, "$label: something was compared ($compared objects)");
    is_deeply(\@wrong, [], "$label: the same bytes as the server's");
    ok(overlapping($config), "$label: the pieces of both overlap");

    my $rows = WalTest::rows($node, 'events', 'id');
    $_->stop('immediate') for $replicas ? @sources : ();
    WalTest::kill_host($node);
    my $restored = WalTest::restore_node(
        "restored$id", version => $version, backup => $backup, config => $config);
    WalTest::same_rows(WalTest::rows($restored, 'events', 'id'), $rows, "$label: all rows are back");
    $restored->stop('immediate');
    return;
}

sub start
{
    my ($receiver, $no_wait) = @_;

    $receiver->{text} .= $receiver->{daemon}->log_text if $receiver->{daemon};
    $receiver->{starts}++;
    $receiver->{daemon} = WalTest::walstream(
        $receiver->{config},
        name => "$receiver->{name}-$receiver->{starts}",
        wait => $no_wait ? 0 : 30);
    return;
}

# Otherwise the test would be one of a single receiver.
sub overlapping
{
    my ($config) = @_;
    my @pieces = grep { !$_->{whole} } WalRepo::extents($config, 1);

    for my $i (1 .. $#pieces)
    {
        return 1 if $pieces[$i]{start} < $pieces[ $i - 1 ]{end};
    }
    return 0;
}
