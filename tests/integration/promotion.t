#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# The server that walstream follows dies and another one is promoted. The repository must end up with
# the old timeline up to the switch point and the new one from the start of the segment that holds
# it, without a hole, and a backup taken before the first promotion must recover through all of it.
#
# Peer bugs that this is about: the next timeline guessed as +1, an unreadable history taken as timeline 0
# (WAL-G, wal_receive_handler.go); a server that starts a new life while the receiver's position is
# the old one, so that later writes are not shipped (benbjohnson/litestream#783).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalRepo;
use Test::More;

my $mib = 1024 * 1024;

for my $version (WalTest::versions())
{
    two_promotions($version, 1);
    next unless $version == 15 || $version == (WalTest::versions())[-1];
    two_promotions($version, 0);
    promoted_server_is_behind($version);
    streaming_from_a_standby($version);
    promoted_while_away($version);
    old_primary_goes_on($version);
    large_segments($version) if $version == 15;
}
done_testing();

# A primary, made for being followed, with archiving that a file switches off.
sub primary
{
    my ($name, $version, $conf) = @_;
    return WalTest::node(
        $name,
        version => $version,
        conf => {
            wal_keep_size => '512MB',
            max_wal_senders => 10,
            max_replication_slots => 10,
            wal_log_hints => 'on',
            %{ $conf // {} }
        });
}

sub archiving
{
    my ($config, $fails) = @_;
    return (
        archive_mode => 'on',
        archive_command => ($fails ? "test ! -e $fails && " : '')
          . WalTest::tool('walpush') . " --config $config %p");
}

sub no_errors
{
    my ($stream, $label) = @_;
    my @lines = grep { /\bwalstream: (?:ERROR|FATAL):/ } split /\n/, $stream->log_text;
    return is_deeply(\@lines, [], "$label: no errors in the log");
}

# What the repository holds against the WAL files of the servers that wrote it.
sub same_bytes
{
    my ($config, $tli, $from, $to, $node, $label) = @_;
    my ($compared, @wrong) = WalRepo::bytes_wrong($config, $tli, $from, $to,
        WalRepo::wal_reader($tli, $node->data_dir . '/pg_wal'));

    cmp_ok($compared, '>', 0, "$label: something was compared");
    return is_deeply(\@wrong, [], "$label: the same bytes as the server's");
}

# One promotion after another: 1 -> 2 -> 3, each server killed with SIGKILL. With tail, archiving fails
# before the first one, so that the old timeline's last segments come by the stream alone.
sub two_promotions
{
    my ($version, $tail) = @_;
    my $label = "PostgreSQL $version, " . ($tail ? 'tail not archived' : 'all archived');
    my $id = $version . ($tail ? 't' : 'a');
    my $first = primary("first$id", $version);
    my $config = WalTest::config_for($first);
    my $fails = WalTest::dir("switch$id") . '/archiving-fails';

    WalRepo::create_rows($first);
    WalTest::run_ok("$label: init", WalTest::tool('walctl'), '--config', $config, 'init');
    WalTest::set_conf($first, archiving($config, $fails));
    $first->restart;

    # the third is fed by the second: it can never be ahead of the one that is promoted before it
    my %conf = (archiving($config, $fails), wal_keep_size => '512MB');
    my $second = WalRepo::standby($first, "second$id", conf => \%conf);
    my $third = WalRepo::standby(
        $first,
        "third$id",
        conf => { %conf, primary_conninfo => $second->connstr . " application_name=third$id" });
    my $backup = WalTest::base_backup($first, WalTest::dir("base$id"));
    my $attributes = $tail ? 'read-write' : 'primary';
    my $follow = WalTest::config_for(
        $first,
        cluster => { conninfo => WalRepo::hosts($attributes, $third, $second, $first) },
        repository => { url => 'file://' . WalTest::repo_dir($config) });
    my $stream = WalTest::walstream($follow, name => "walstream-$id");
    my $begin = WalRepo::current_lsn($first);

    WalRepo::add_rows($first, 4000);
    WalTest::wait_durable($follow, WalRepo::current_lsn($first));
    if ($tail)
    {
        open my $fh, '>', $fails or die "could not create $fails: $!";
        close $fh;
    }
    WalRepo::add_rows($first, 5000);
    # the last rows have no time to reach the repository before the host is dead
    WalRepo::add_rows($first, 20);
    WalRepo::caught_up($third, WalRepo::current_lsn($first));
    WalTest::kill_host($first, keep => 1);

    my ($tli2, $switch1) = WalRepo::promote($second);
    is($tli2, 2, "$label: the second server is on timeline 2");
    unlink $fails;
    WalRepo::add_rows($second, 4000);
    my $end2 = WalRepo::current_lsn($second);
    WalTest::wait_durable($follow, $end2);
    my $segment1 = $switch1 - $switch1 % $mib;
    WalRepo::covers($config, 1, $begin, $switch1, "$label: timeline 1 is there up to the switch point");
    WalRepo::covers($config, 2, $segment1, $end2,
        "$label: timeline 2 is there from the start of the segment");
    same_bytes($config, 1, $begin, $switch1, $first, "$label: timeline 1");
    same_bytes($config, 2, $segment1, $end2, $second, "$label: timeline 2");

    WalRepo::add_rows($second, 20);
    WalRepo::caught_up($third, WalRepo::current_lsn($second));
    WalTest::kill_host($second, keep => 1);
    my ($tli3, $switch2) = WalRepo::promote($third);
    is($tli3, 3, "$label: the third server is on timeline 3");
    WalRepo::add_rows($third, 4000);
    my $end3 = WalRepo::current_lsn($third);
    WalTest::wait_durable($follow, $end3);
    my $segment2 = $switch2 - $switch2 % $mib;
    WalRepo::covers($config, 2, $segment1, $switch2, "$label: timeline 2 is there up to the switch point");
    WalRepo::covers($config, 3, $segment2, $end3,
        "$label: timeline 3 is there from the start of the segment");
    same_bytes($config, 2, $segment1, $switch2, $second, "$label: timeline 2, its end");
    same_bytes($config, 3, $segment2, $end3, $third, "$label: timeline 3");
    for my $tli (2, 3)
    {
        my $name = sprintf '%08X.history', $tli;
        is(
            WalRepo::fetch($config, $name),
            WalTest::slurp($third->data_dir . "/pg_wal/$name"),
            "$label: $name is stored");
    }
    is_deeply([ grep { m{^gap/} } keys %{ WalRepo::objects($config) } ], [], "$label: no gap noted");
    no_errors($stream, $label);

    my $rows = WalTest::rows($third, 'events', 'id');
    WalTest::kill_host($third);
    is($stream->stop, 0, "$label: walstream stops with the server gone");
    my $restored = WalTest::restore_node(
        "restored$id", version => $version, backup => $backup, config => $config);
    WalTest::same_rows(WalTest::rows($restored, 'events', 'id'), $rows, "$label: all rows are back");
    is($restored->safe_psql('postgres', 'SELECT count(DISTINCT server) FROM events'),
        3, "$label: rows of three servers");
    $restored->stop('immediate');
    return;
}

# An asynchronous standby that lags is promoted: the repository has commits that no server has.
sub promoted_server_is_behind
{
    my ($version) = @_;
    my $label = "PostgreSQL $version, promoted server behind";
    my $first = primary("ahead$version", $version);
    my $config = WalTest::config_for($first);

    WalRepo::create_rows($first);
    WalTest::run_ok("$label: init", WalTest::tool('walctl'), '--config', $config, 'init');
    my $second = WalRepo::standby($first, "behind$version", conf => { wal_keep_size => '512MB' });
    my $backup = WalTest::base_backup($first, WalTest::dir("base-behind$version"));
    my $follow = WalTest::config_for(
        $first,
        cluster => { conninfo => WalRepo::hosts('read-write', $first, $second) },
        repository => { url => 'file://' . WalTest::repo_dir($config) });
    my $stream = WalTest::walstream($follow, name => "walstream-behind$version");

    WalRepo::add_rows($first, 1000);
    WalRepo::caught_up($second, WalRepo::current_lsn($first));
    WalTest::set_conf($second, primary_conninfo => 'host=/nonexistent');
    $second->reload;
    $second->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_wal_receiver')
      or die 'the standby goes on receiving';
    WalRepo::add_rows($first, 6000);
    my $end1 = WalRepo::current_lsn($first);
    my $lost_rows = WalTest::rows($first, 'events', 'id');
    WalTest::wait_durable($follow, $end1);
    WalTest::kill_host($first, keep => 1);

    my ($tli, $switch) = WalRepo::promote($second);
    cmp_ok($switch, '<', WalTest::lsn_number($end1), "$label: the switch point is before the end");
    WalRepo::add_rows($second, 1000);
    WalTest::wait_durable($follow, WalRepo::current_lsn($second));
    my ($warning) = grep { /exist only in the repository/ } split /\n/, $stream->log_text;
    like($warning // '', qr/timeline 1\b/, "$label: reported");
    my ($from, $to) = ($warning // '') =~ m{from ([0-9A-F]+/[0-9A-F]+) to ([0-9A-F]+/[0-9A-F]+)};
    is(WalTest::lsn_number($from // '0/0'), $switch, "$label: reported from the switch point");
    cmp_ok(WalTest::lsn_number($to // '0/0'),
        '>=', WalTest::lsn_number($end1), "$label: reported to the end");
    like($warning // '', qr/stored 20\d\d-\d\d-\d\d[T ]\d\d:\d\d/, "$label: reported with the time");
    same_bytes($config, 1, 0, $end1, $first, "$label: timeline 1 stays");

    # the next connection finds the same branch: it is known, and said once
    $second->safe_psql('postgres', 'SELECT pg_terminate_backend(pid) FROM pg_stat_replication');
    WalTest::wait_until(
        sub { 2 <= (() = $stream->log_text =~ /streaming timeline 2 from/g) },
        30, 'walstream streams again');
    is(scalar(() = $stream->log_text =~ /exist only in the repository/g), 1, "$label: said once");
    no_errors($stream, $label);

    my $rows = WalTest::rows($second, 'events', 'id');
    WalTest::wait_durable($follow, WalRepo::current_lsn($second));
    is($stream->stop, 0, "$label: walstream stops");
    $second->stop('immediate');
    my $restored = WalTest::restore_node(
        "latest$version", version => $version, backup => $backup, config => $config);
    WalTest::same_rows(WalTest::rows($restored, 'events', 'id'),
        $rows, "$label: recovery follows the promoted server");
    $restored->stop('immediate');

    my $saved = WalTest::restore_node(
        "saved$version",
        version => $version,
        backup => $backup,
        config => $config,
        conf => { recovery_target_timeline => '1' });
    WalTest::same_rows(WalTest::rows($saved, 'events', 'id'),
        $lost_rows, "$label: the commits that exist only in the repository can be had");
    $saved->stop('immediate');
    return;
}

# walstream receives from a standby, which is then promoted under it.
sub streaming_from_a_standby
{
    my ($version) = @_;
    my $label = "PostgreSQL $version, streaming from a standby";
    my $first = primary("origin$version", $version);
    my $config = WalTest::config_for($first);

    WalRepo::create_rows($first);
    WalTest::run_ok("$label: init", WalTest::tool('walctl'), '--config', $config, 'init');
    my $second = WalRepo::standby($first, "relay$version", conf => { wal_keep_size => '512MB' });
    my $backup = WalTest::base_backup($first, WalTest::dir("base-relay$version"));
    my $follow = WalTest::config_for(
        $second, repository => { url => 'file://' . WalTest::repo_dir($config) });
    my $begin = WalRepo::current_lsn($first);

    # the slot of a standby is reserved from its last restartpoint
    $second->safe_psql('postgres', 'CHECKPOINT');
    my $stream = WalTest::walstream($follow, name => "walstream-relay$version");

    WalRepo::add_rows($first, 6000);
    WalTest::wait_durable($follow, WalRepo::current_lsn($first));
    WalRepo::covers($config, 1, $begin, WalRepo::current_lsn($first), "$label: WAL of the primary arrives");
    WalRepo::add_rows($first, 100);
    WalRepo::caught_up($second, WalRepo::current_lsn($first));
    WalTest::kill_host($first, keep => 1);
    my ($tli, $switch) = WalRepo::promote($second);
    WalRepo::add_rows($second, 6000);
    my $end = WalRepo::current_lsn($second);
    WalTest::wait_durable($follow, $end);
    WalRepo::covers($config, 1, $begin, $switch, "$label: timeline 1 up to the switch point");
    WalRepo::covers($config, 2, $switch - $switch % $mib, $end, "$label: timeline 2");
    same_bytes($config, 1, $begin, $switch, $first, "$label: timeline 1");
    same_bytes($config, 2, $switch - $switch % $mib, $end, $second, "$label: timeline 2");
    no_errors($stream, $label);

    my $rows = WalTest::rows($second, 'events', 'id');
    is($stream->stop, 0, "$label: walstream stops");
    $second->stop('immediate');
    my $restored = WalTest::restore_node(
        "unrelayed$version", version => $version, backup => $backup, config => $config);
    WalTest::same_rows(WalTest::rows($restored, 'events', 'id'), $rows, "$label: all rows are back");
    $restored->stop('immediate');
    return;
}

# walstream is not there when it happens, and the promoted server no longer has the old timeline's end when
# it comes back. All is archived, and what the new timeline repeats is not missing: no gap, no error.
sub promoted_while_away
{
    my ($version) = @_;
    my $label = "PostgreSQL $version, promotion while walstream was away";
    my $first = primary("gone$version", $version, { max_wal_size => '4MB' });
    my $config = WalTest::config_for($first);

    WalRepo::create_rows($first);
    WalTest::run_ok("$label: init", WalTest::tool('walctl'), '--config', $config, 'init');
    WalTest::set_conf($first, archiving($config));
    $first->restart;
    my $second = WalRepo::standby(
        $first,
        "took$version",
        conf => { archiving($config), max_wal_size => '4MB', wal_keep_size => '0' });
    my $backup = WalTest::base_backup($first, WalTest::dir("base-away$version"));
    my $follow = WalTest::config_for(
        $first,
        cluster => { conninfo => WalRepo::hosts('read-write', $first, $second) },
        repository => { url => 'file://' . WalTest::repo_dir($config) });
    my $stream = WalTest::walstream($follow, name => "walstream-away$version");
    my $begin = WalRepo::current_lsn($first);

    WalRepo::add_rows($first, 1000);
    WalTest::wait_durable($follow, WalRepo::current_lsn($first));
    is($stream->stop, 0, "$label: walstream goes away");
    WalRepo::add_rows($first, 4000);
    archived($first);
    WalRepo::add_rows($first, 100);
    WalRepo::caught_up($second, WalRepo::current_lsn($first));
    WalTest::kill_host($first);

    my ($tli, $switch) = WalRepo::promote($second);
    for (1 .. 3)
    {
        WalRepo::add_rows($second, 5000);
        archived($second);
        $second->safe_psql('postgres', 'CHECKPOINT');
    }
    my $old = $second->data_dir . '/pg_wal/' . WalRepo::segment_name(1, $switch);
    ok(!-e $old, "$label: the promoted server has removed the old timeline's end");
    $stream = WalTest::walstream($follow, name => "walstream-back$version");
    WalRepo::add_rows($second, 1000);
    my $end = WalRepo::current_lsn($second);
    WalTest::wait_durable($follow, $end);
    no_errors($stream, $label);
    is_deeply([ grep { m{^gap/} } keys %{ WalRepo::objects($config) } ], [], "$label: no gap noted");
    WalRepo::covers($config, 1, $begin, $switch - $switch % $mib, "$label: timeline 1");
    WalRepo::covers($config, 2, $switch - $switch % $mib, $end, "$label: timeline 2");
    is($stream->stop, 0, "$label: walstream stops");
    my $rows = WalTest::rows($second, 'events', 'id');
    $second->stop('immediate');
    my $restored = WalTest::restore_node(
        "away-restored$version", version => $version, backup => $backup, config => $config);
    WalTest::same_rows(WalTest::rows($restored, 'events', 'id'), $rows, "$label: all rows are back");
    $restored->stop('immediate');
    return;
}

# Ends the segment and waits until it is archived.
sub archived
{
    my ($node) = @_;
    my $file = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');

    # a history file is archived in between, and is no segment
    $node->poll_query_until('postgres',
        "SELECT last_archived_wal >= '$file' AND length(last_archived_wal) = 24 FROM pg_stat_archiver")
      or die $node->name . " does not archive $file";
    return;
}

# Split brain: the old primary was not dead, writes on, archives and is streamed. Then it comes back by pg_rewind.
sub old_primary_goes_on
{
    my ($version) = @_;
    my $label = "PostgreSQL $version, split brain";
    my $first = primary("old$version", $version);
    my $config = WalTest::config_for($first);
    my %elsewhere = (repository => { url => 'file://' . WalTest::repo_dir($config) });

    WalRepo::create_rows($first);
    WalTest::run_ok("$label: init", WalTest::tool('walctl'), '--config', $config, 'init');
    WalTest::set_conf(
        $first, archiving($config),
        restore_command => WalTest::tool('walfetch') . " --config $config %f %p");
    $first->restart;
    my $backup = WalTest::base_backup($first, WalTest::dir("base-split$version"));
    my $second = WalRepo::standby($first, "new$version", conf => { wal_keep_size => '512MB' });
    my $twin = WalRepo::standby($first, "twin$version", conf => { wal_keep_size => '512MB' });
    my $config2 = WalTest::config_for($second, %elsewhere);
    my $config3 = WalTest::config_for($twin, %elsewhere);
    my $begin = WalRepo::current_lsn($first);
    my $stream1 = WalTest::walstream($config, name => "walstream-old$version");

    WalTest::set_conf($second, archiving($config2));
    WalTest::set_conf($twin, archiving($config3));
    $_->restart for $second, $twin;
    WalRepo::add_rows($first, 3000);
    WalRepo::caught_up($_, WalRepo::current_lsn($first)) for $second, $twin;
    my ($tli, $switch) = WalRepo::promote($second);
    my $stream2 = WalTest::walstream($config2, name => "walstream-new$version");

    for (1 .. 3)
    {
        WalRepo::add_rows($_, 2500) for $first, $second;
    }
    my ($end1, $end2) = map { WalRepo::current_lsn($_) } $first, $second;
    WalTest::wait_durable($config, $end1);
    WalTest::wait_durable($config2, $end2);
    for my $node ($first, $second)
    {
        archived($node);
        is($node->safe_psql('postgres', 'SELECT failed_count FROM pg_stat_archiver'),
            0, "$label: archiving by " . $node->name . ' never failed');
    }
    WalRepo::covers($config, 1, $begin, $end1, "$label: the old primary's branch");
    WalRepo::covers($config, 2, $switch - $switch % $mib, $end2, "$label: the new primary's");
    same_bytes($config, 1, $begin, $end1, $first, "$label: timeline 1");
    same_bytes($config, 2, $switch - $switch % $mib, $end2, $second, "$label: timeline 2");
    no_errors($stream1, "$label: old primary");
    no_errors($stream2, "$label: new primary");

    # a third server takes timeline 2 as well, from another point: refused, named, nothing changed
    WalRepo::caught_up($twin, $end1);
    my $before = WalRepo::fingerprint($config);
    my ($twin_tli) = WalRepo::promote($twin);
    is($twin_tli, 2, "$label: a twin is promoted to timeline 2 as well");
    my $history = WalTest::run(
        [
            WalTest::tool('walpush'), '--config', $config3,
            $twin->data_dir . '/pg_wal/00000002.history'
        ]);
    isnt($history->{exit}, 0, "$label: the twin's history file is refused");
    my @digests = $history->{stderr} =~ /SHA-256 ([0-9a-f]{64})/g;
    is(scalar @digests, 2, "$label: the error names both digests") or diag($history->{stderr});
    my $stream3 = WalTest::walstream($config3, name => "walstream-twin$version");
    $stream3->wait_log(qr/ERROR.*could not store the history of timeline 2.*SHA-256 [0-9a-f]{64}.*SHA-256 [0-9a-f]{64}/);
    is($stream3->stop, 0, "$label: the twin's walstream stops");
    $twin->stop('immediate');
    my $after = WalRepo::fingerprint($config);
    is_deeply({ map { $_ => $after->{$_} } keys %$before }, $before, "$label: nothing was overwritten");
    is_deeply([ grep { m{/0{7}2/} && !$before->{$_} } keys %$after ], [], "$label: nothing of the twin is stored");

    is($stream1->stop, 0, "$label: the old primary's walstream stops");
    rewind_old_primary($label, $first, $second, $config) if $version == 15;

    my $rows = WalTest::rows($second, 'events', 'id');
    WalTest::wait_durable($config2, WalRepo::current_lsn($second));
    is($stream2->stop, 0, "$label: the new primary's walstream stops");
    $first->stop('immediate') if $first->{_pid};
    $second->stop('immediate');
    my $restored = WalTest::restore_node(
        "healed$version", version => $version, backup => $backup, config => $config);
    WalTest::same_rows(WalTest::rows($restored, 'events', 'id'),
        $rows, "$label: recovery follows the new primary");
    $restored->stop('immediate');
    return;
}

# The WAL behind the fork is not in the old primary's pg_wal any more: pg_rewind fetches it.
sub rewind_old_primary
{
    my ($label, $first, $second, $config) = @_;

    $first->stop('fast');
    my $wal = $first->data_dir . '/pg_wal';
    my @segments = sort map { m{/([0-9A-F]{24})$} ? $1 : () } glob "$wal/*";
    # what is not needed for a clean start can be gone
    my ($last) = reverse sort grep { -e "$wal/archive_status/$_.done" } @segments;
    ok(defined $last, "$label: old primary has archived WAL");
    unlink map { "$wal/$_" } grep { $_ lt $last } @segments;

    my $result = WalTest::run(
        [
            $first->installed_command('pg_rewind'), '--target-pgdata', $first->data_dir,
            '--source-server', $second->connstr('postgres'), '--restore-target-wal', '--no-sync'
        ],
        timeout => 120);
    is($result->{exit}, 0, "$label: pg_rewind with restore_command = walfetch") or return;

    # it has copied the new primary's configuration
    WalTest::set_conf(
        $first,
        port => $first->port,
        unix_socket_directories => $first->host,
        primary_conninfo => $second->connstr . ' application_name=rewound',
        restore_command => WalTest::tool('walfetch') . " --config $config %f %p");
    $first->append_conf('standby.signal', '');
    $first->start;
    WalRepo::add_rows($second, 100);
    WalRepo::caught_up($first, WalRepo::current_lsn($second));
    WalTest::same_rows(
        WalTest::rows($first, 'events', 'id'),
        WalTest::rows($second, 'events', 'id'),
        "$label: the rewound server follows");
    return;
}

# Segments of more than 16 MB are stored in parts. The switch point is in the second part: recovery wants the
# new timeline's segment from its first byte on.
sub large_segments
{
    my ($version) = @_;
    my $label = "PostgreSQL $version, segments of 32 MB";
    my $first = WalTest::node(
        "large$version",
        version => $version,
        wal_segsize => 32,
        conf => { wal_keep_size => '512MB', max_wal_senders => 10 });
    my $config = WalTest::config_for($first);

    WalRepo::create_rows($first);
    WalTest::run_ok("$label: init", WalTest::tool('walctl'), '--config', $config, 'init');
    my $second = WalRepo::standby($first, "larger$version");
    my $backup = WalTest::base_backup($first, WalTest::dir("base-large$version"));
    my $follow = WalTest::config_for(
        $first,
        cluster => { conninfo => WalRepo::hosts('read-write', $first, $second) },
        repository => { url => 'file://' . WalTest::repo_dir($config) });
    my $stream = WalTest::walstream($follow, name => "walstream-large$version");

    $first->safe_psql('postgres', 'SELECT pg_switch_wal()');
    WalRepo::add_rows($first, 1000);
    $first->safe_psql('postgres', 'CREATE TABLE filler (t text); ALTER TABLE filler ALTER t SET STORAGE EXTERNAL');
    $first->safe_psql('postgres', q{INSERT INTO filler SELECT repeat('x', 1000000) FROM generate_series(1, 20)});
    WalRepo::caught_up($second, WalRepo::current_lsn($first));
    WalTest::kill_host($first, keep => 1);
    my ($tli, $switch) = WalRepo::promote($second);
    cmp_ok($switch % (32 * $mib), '>', 16 * $mib, "$label: the switch point is in the second part");
    WalRepo::add_rows($second, 1000);
    WalTest::wait_durable($follow, WalRepo::current_lsn($second));
    no_errors($stream, $label);
    my $rows = WalTest::rows($second, 'events', 'id');
    is($stream->stop, 0, "$label: walstream stops");
    $second->stop('immediate');
    my $restored = WalTest::restore_node(
        "large-restored$version", version => $version, backup => $backup, config => $config);
    WalTest::same_rows(WalTest::rows($restored, 'events', 'id'), $rows, "$label: all rows are back");
    $restored->stop('immediate');
    return;
}
