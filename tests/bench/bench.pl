#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# The figures that walstream promises, measured beside its peers in one run: see run.sh. A sub for each row; a
# row makes its own repositories and receivers, and checks that what it timed has happened.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../lib";
use Backup;
use Bench;
use WalTest;
use File::Path qw(make_path remove_tree);
use POSIX ();
use Time::HiRes qw(time usleep sleep);

my %largest_kib = (walstream => 0, walpush => 0, walfetch => 0);

sub note_memory
{
    my ($tool, $kib) = @_;
    $largest_kib{$tool} = $kib if $kib > $largest_kib{$tool};
    return;
}

sub note_stream
{
    my ($stream) = @_;
    my $kib = Bench::process_kib($stream->pid, 'VmHWM');
    die "walstream ended: " . $stream->log_text unless $kib;
    note_memory('walstream', $kib);
    return $kib;
}

# Writes WAL on the server until $count segments are complete; returns their names.
sub write_segments
{
    my ($node, $count) = @_;
    my $first = Bench::segment_now($node);

    $node->safe_psql('postgres', 'CREATE TABLE IF NOT EXISTS filler (n bigint, t text, d jsonb)');
    until (Bench::segments_between($first, Bench::segment_now($node)) > $count)
    {
        WalTest::pgbench($node, '-c', 4, '-j', 2, '-t', 400);
        $node->safe_psql('postgres',
            "INSERT INTO filler SELECT g, md5(g::text) || md5((g + 1)::text), "
              . "jsonb_build_object('n', g, 'm', md5(g::text)) FROM generate_series(1, 100000) g");
    }
    my @names = grep { /^[0-9A-F]{24}$/ && $_ gt $first } Bench::names_in($node->data_dir . '/pg_wal');
    return @names[ 0 .. $count - 1 ];
}

# A walstream that has caught up. A new slot begins at the last checkpoint, so that is made recent.
sub start_stream
{
    my ($name, $node, $repository) = @_;

    $node->safe_psql('postgres', 'CHECKPOINT');
    my $stream = WalTest::walstream($repository->{config}, name => $name);
    WalTest::wait_until(
        sub {
            my $status = (WalTest::status($repository->{config}) // return 0)->{stream};
            return $status->{state} eq 'streaming'
              && defined $status->{durable_lsn}
              && $status->{lag_bytes} < 1 << 20;
        },
        120,
        'walstream has caught up');
    return $stream;
}

# ---- rows ----

sub push_streamed
{
    my $node = Bench::server();
    my $repository = Bench::repository('streamed', undef, node => $node, stream => { 'flush-interval' => '1s' });
    my $stream = start_stream('push-streamed', $node, $repository);
    my $count = Bench::rounds(30, 4);
    my $copies = WalTest::dir('copies');
    my $walpush = WalTest::tool('walpush');

    # the segment in whose middle the stream began is not counted
    my @segments = write_segments($node, $count + 1);
    shift @segments;
    WalTest::wait_durable($repository->{config},
        $node->safe_psql('postgres', 'SELECT pg_switch_wal()'), 120);
    my $before = WalTest::status($repository->{config})->{counters};

    # as the archiver finds them: just written
    Bench::command('cat', map { $node->data_dir . "/pg_wal/$_" } @segments) if @segments;
    my $result = Bench::pairs(
        scalar @segments,
        sub {
            my ($i) = @_;
            return Bench::spawn_ok($node->data_dir, $walpush, '--config', $repository->{config},
                "pg_wal/$segments[$i]")->{ms};
        },
        sub {
            my ($i) = @_;
            my $copy = "$copies/$segments[$i]";
            my $ms = Bench::spawn_ok($node->data_dir, '/bin/cp', "pg_wal/$segments[$i]", $copy)->{ms};
            die "$copy is not whole\n" unless -s $copy == 16 << 20;
            unlink $copy;
            return $ms;
        });
    my $after = WalTest::status($repository->{config})->{counters};
    my $answered = $after->{archive_answered_from_stream} - $before->{archive_answered_from_stream};
    die "only $answered of " . @segments . " segments were answered from the stream\n"
      if $answered != @segments;
    note_stream($stream);
    $stream->stop;
    Bench::drop_slots($node);
    Bench::row('push-streamed', %$result,
        what => 'walpush of a segment that walstream has streamed',
        unit => 'ms', peer_name => 'cp', goal => 0.35);
    Bench::row('push-streamed-ms',
        what => 'the same, median',
        ours => $result->{ours}, unit => 'ms', goal => 3);
    return;
}

sub start_up
{
    my $walpush = WalTest::tool('walpush');
    my $result = Bench::pairs(
        Bench::rounds(400, 50),
        sub { return Bench::spawn_ok('/', $walpush, '--version')->{ms} },
        sub { return Bench::spawn_ok('/', '/bin/true')->{ms} });

    delete @{ $result->{details} }{qw(ours_all peer_all)};
    Bench::row('start-up', %$result,
        what => "start-up of walpush's fast path",
        unit => 'ms', peer_name => '/bin/true', goal => 1.5);
    return;
}

sub push_alone
{
    my ($name, $s3, $what) = @_;
    my $recording = Bench::recording();
    my @segments = @{ $recording->{segments} };
    my $count = Bench::rounds(30, 4);
    $count = @segments if $count > @segments;
    @segments = @segments[ 0 .. $count - 1 ];
    my $repository = Bench::repository($name, $recording, s3 => $s3);
    my $peer = Bench::pgbackrest($name, $recording->{data}, s3 => $s3);
    my (@cpu, @peer_cpu);

    Bench::command('cat', map { "$recording->{data}/pg_wal/$_" } @segments);
    my $result = Bench::pairs(
        $count,
        sub {
            my $r = $repository->push($segments[ $_[0] ]);
            push @cpu, $r->{user_ms} + $r->{sys_ms};
            return $r->{ms};
        },
        sub {
            my $r = $peer->push($segments[ $_[0] ]);
            push @peer_cpu, $r->{user_ms} + $r->{sys_ms};
            return $r->{ms};
        });
    $repository->check(@segments);
    my $stored = $peer->stored;
    die "pgbackrest has stored $stored segments, not $count\n" if $stored != $count;
    note_memory('walpush', $repository->{largest_kib});
    $result->{details}{cpu_ms} = Bench::median(@cpu);
    $result->{details}{peer_cpu_ms} = Bench::median(@peer_cpu);
    Bench::row($name, %$result,
        what => $what, unit => 'ms', peer_name => 'pgbackrest', goal => 0.6);
    return;
}

sub push_file
{
    return push_alone('push-file', 0, 'walpush alone, lz4, file:// with fsync');
}

sub push_s3
{
    return push_alone('push-s3', 1, 'walpush alone, lz4, S3 over TLS');
}

# As PostgreSQL's archiver does it: one file after the other, .ready becomes .done. Seconds.
sub archive_all
{
    my ($data, $push, @segments) = @_;
    my $status = "$data/pg_wal/archive_status";

    unlink glob "$status/*";
    Bench::write_file("$status/$_.ready", '') for @segments;
    my $begin = time;
    for my $segment (@segments)
    {
        $push->($segment);
        rename "$status/$segment.ready", "$status/$segment.done" or die "could not rename $segment.ready: $!";
    }
    return time - $begin;
}

sub drain
{
    my $recording = Bench::recording();
    my $companion = Bench::companion($recording);
    my @segments = @{ $recording->{segments} };

    Bench::command('cat', map { "$recording->{data}/pg_wal/$_" } @segments);
    my $result = Bench::pairs(
        Bench::rounds(4, 2),
        sub {
            my $repository = Bench::repository('drain', undef, s3 => 1, node => $companion);
            my $stream = start_stream('drain', $companion, $repository);
            $repository->{data} = $recording->{data};
            my $seconds = archive_all($recording->{data}, sub { $repository->push($_[0]) }, @segments);
            my $counters = WalTest::status($repository->{config})->{counters};
            my $stored = $counters->{archive_uploaded} + $counters->{lookahead_uploaded};
            die "walstream has uploaded $stored segments, not " . @segments . "\n" if $stored < @segments;
            note_stream($stream);
            $stream->stop;
            Bench::drop_slots($companion);
            $repository->check(@segments[ 0, 20, -1 ]);
            return 1000 * $seconds / @segments;
        },
        sub {
            my $peer = Bench::pgbackrest('drain', $recording->{data}, s3 => 1, async => 1);
            my $seconds = archive_all($recording->{data}, sub { $peer->push($_[0]) }, @segments);
            my $stored = $peer->stored;
            die "pgbackrest has stored $stored segments, not " . @segments . "\n" if $stored != @segments;
            # its processes may still be ending
            WalTest::wait_until(sub { !Bench::processes(qr/^pgbackrest .*\Q$peer->{dir}\E/) }, 60,
                'pgbackrest has ended');
            return 1000 * $seconds / @segments;
        });
    Bench::row('drain', %$result,
        what => 'draining a backlog of ' . @segments . ' segments through walstream to S3 over TLS, per segment',
        unit => 'ms', peer_name => 'pgbackrest async', goal => 0.5);
    return;
}

sub commit_durable
{
    my ($name, $interval, $goal_ms) = @_;
    my $node = Bench::server();
    my $repository =
      Bench::repository($name, undef, s3 => 1, node => $node, stream => { 'flush-interval' => $interval });
    my $stream = start_stream($name, $node, $repository);
    my $seconds = Bench::rounds(20, 8);
    my $load = Bench::load($node, '-c', 4, '-j', 2, '-T', $seconds + 30);

    sleep 2;
    my @us = split /\n/,
      Bench::command("$ENV{WALSTREAM_BIN}/tests/bench/lag_probe", $node->connstr('postgres'), 'walstream',
        $seconds);
    die "pgbench ended: " . $load->log_text unless $load->running;
    $load->stop(signal => 'INT');
    die 'only ' . @us . " commits were followed\n" if @us < $seconds * 10;
    my $status = WalTest::status($repository->{config});
    die "the stream lost its connection\n" if $status->{counters}{connections} != 1;
    note_stream($stream);
    $stream->stop;
    Bench::drop_slots($node);

    Bench::row($name,
        what => "commit to durable in S3, flush-interval = $interval, p99",
        ours => Bench::percentile(0.99, @us) / 1000,
        unit => 'ms',
        goal => $goal_ms,
        details => {
            commits => scalar @us,
            p50_ms => Bench::percentile(0.5, @us) / 1000,
            p90_ms => Bench::percentile(0.9, @us) / 1000,
            max_ms => Bench::percentile(1, @us) / 1000,
            wal_mb_per_s => $status->{counters}{received_bytes} / 1e6 / ($seconds + 2),
            pieces => $status->{counters}{pieces_stored},
            segments => $status->{counters}{parts_stored},
            segments_dropped => $status->{counters}{parts_dropped},
            upload_failures => $status->{counters}{upload_failures},
            stalls => $status->{counters}{stream_stalls},
            load_average => Bench::loads(),
        });
    return;
}

sub commit_1s
{
    return commit_durable('commit-1s', '1s', 1200);
}

sub commit_100ms
{
    return commit_durable('commit-100ms', '100ms', 250);
}

sub synchronous_standby
{
    my ($node, $name) = @_;
    $node->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '$name'");
    $node->safe_psql('postgres', 'SELECT pg_reload_conf()');
    return if $name eq '';
    WalTest::wait_until(
        sub {
            $node->safe_psql('postgres', "SET synchronous_commit = local;"
                  . "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") eq '1';
        },
        30,
        "$name is the synchronous standby");
    return;
}

sub tps
{
    my ($node, $seconds, @options) = @_;
    my $text = WalTest::pgbench($node, '-c', 32, '-j', 2, '-T', $seconds, @options);
    my ($tps) = $text =~ /^tps = ([0-9.]+)/m;
    return $tps // die "pgbench printed no rate: $text\n";
}

sub synchronous
{
    my $node = Bench::server();
    my $seconds = Bench::rounds(10, 4);
    my $receivewal = $node->installed_command('pg_receivewal');
    my $round = 0;
    my %counters;

    my $result = Bench::pairs(
        Bench::rounds(4, 2),
        sub {
            my $repository =
              Bench::repository('sync', undef, s3 => 1, node => $node, stream => { synchronous => 'on' });
            my $stream = start_stream('sync', $node, $repository);
            synchronous_standby($node, 'walstream');
            my $tps = tps($node, $seconds);
            synchronous_standby($node, '');
            %counters = %{ WalTest::status($repository->{config})->{counters} };
            die "the stream lost its connection\n" if $counters{connections} != 1;
            die "no piece was stored\n" unless $counters{pieces_stored};
            note_stream($stream);
            $stream->stop;
            Bench::drop_slots($node);
            return $tps;
        },
        sub {
            my $dir = WalTest::dir('received-' . ++$round);
            my @base = ($receivewal, '-D', $dir, '-d', $node->connstr('postgres'), '-S', 'received');
            Bench::command(@base, '--create-slot');
            $node->safe_psql('postgres', 'CHECKPOINT');
            my $daemon = WalTest::daemon('pg_receivewal', [ @base, '--synchronous' ]);
            synchronous_standby($node, 'pg_receivewal');
            my $tps = tps($node, $seconds);
            synchronous_standby($node, '');
            die "pg_receivewal has received nothing\n" unless Bench::names_in($dir);
            $daemon->stop(signal => 'INT');
            Bench::drop_slots($node);
            remove_tree($dir);
            return $tps;
        });
    $result->{details}{pieces_in_last_round} = $counters{pieces_stored};
    Bench::row('synchronous', %$result,
        what => 'synchronous commit through S3, 32 clients, transactions per second',
        unit => 'tps', peer_name => 'pg_receivewal', goal => 0.5, at_least => 1);
    return;
}

# Milliseconds between two messages of a server's log.
sub log_ms
{
    my ($log, $from, $to) = @_;
    my @ms;

    for my $regex ($from, $to)
    {
        my ($date, $h, $m, $s) = $log =~ /^(\S+) (\d+):(\d+):([0-9.]+) .*?$regex/m
          or die "there is no \"$regex\" in the server's log\n";
        push @ms, 1000 * ($h * 3600 + $m * 60 + $s);
    }
    $ms[1] += 86400000 if $ms[1] < $ms[0];
    return $ms[1] - $ms[0];
}

my $replay_count = 0;

# Replays the recording; ms to the end of recovery, ms of redo alone, largest prefetcher in KiB.
sub replay_once
{
    my ($recording, %restore) = @_;
    my $node = WalTest::restore_node(
        'replay' . ++$replay_count,
        backup => $recording->{base},
        %restore,
        start => 0,
        conf => { log_line_prefix => '%m [%p] ', fsync => 'on', max_wal_size => '4GB', log_timezone => 'UTC' });
    my $largest = 0;

    $node->start(fail_ok => 1) or die 'the server does not start: ' . WalTest::slurp($node->logfile);
    WalTest::wait_until(
        sub {
            for my $pid (Bench::processes(qr/walfetch-direct --prefetcher .*\Q$restore{config}\E/))
            {
                my $kib = Bench::process_kib($pid, 'VmHWM');
                $largest = $kib if $kib > $largest;
            }
            return WalTest::slurp($node->logfile) =~ /archive recovery complete/;
        },
        300,
        'recovery has ended') if $restore{config};
    WalTest::wait_until(sub { WalTest::slurp($node->logfile) =~ /archive recovery complete/ }, 300,
        'recovery has ended');
    my $log = WalTest::slurp($node->logfile);
    my $restored = () = $log =~ /restored log file/g;
    die "only $restored segments were replayed\n" if $restored < @{ $recording->{segments} };
    my $rows = $node->safe_psql('postgres', 'SELECT count(*) FROM pgbench_history');
    $node->stop('immediate');
    remove_tree($node->data_dir);
    return {
        ms => log_ms($log, 'starting archive recovery', 'archive recovery complete'),
        redo_ms => log_ms($log, 'redo starts at', 'redo done at'),
        largest_kib => $largest,
        rows => $rows
    };
}

sub replay
{
    my $recording = Bench::recording();
    my $repository = Bench::repository('replay', $recording, s3 => 1);
    my (@redo, @peer_redo);
    my $rows;

    $repository->push($_) for @{ $recording->{segments} };
    note_memory('walpush', $repository->{largest_kib});
    my $look = sub {
        my ($r) = @_;
        die "$r->{rows} rows came back, not $rows\n" if defined $rows && $r->{rows} != $rows;
        $rows = $r->{rows};
        return $r;
    };
    my $result = Bench::pairs(
        Bench::rounds(4, 2),
        sub {
            my $r = $look->(replay_once($recording, config => $repository->{config}));
            push @redo, $r->{redo_ms};
            note_memory('walfetch', $r->{largest_kib});
            die "there was no prefetcher\n" unless $r->{largest_kib};
            return $r->{ms};
        },
        sub {
            my $r = $look->(replay_once($recording, restore_command => "/bin/cp $recording->{wal}/%f %p"));
            push @peer_redo, $r->{redo_ms};
            return $r->{ms};
        });
    $result->{details}{redo_ms} = Bench::median(@redo);
    $result->{details}{peer_redo_ms} = Bench::median(@peer_redo);
    $result->{details}{redo_ratio} = Bench::median(map { $redo[$_] / $peer_redo[$_] } 0 .. $#redo);
    Bench::row('replay', %$result,
        what => 'replay of ' . @{ $recording->{segments} } . ' segments from S3 with walfetch',
        unit => 'ms', peer_name => 'cp', goal => 1.05);
    return;
}

# The other rows have noted what they saw; here is what they do not do.
sub memory
{
    my $node = Bench::server();
    my $recording = Bench::recording();
    my $repository = Bench::repository('memory', undef, s3 => 1, node => $node);
    my $stream = start_stream('memory', $node, $repository);
    my $load = Bench::load($node, '-c', 4, '-j', 2, '-T', 120);
    my ($gateway) = WalTest::slurp("$ENV{TESTDIR}/rgw/gateway.pid") =~ /(\d+)/;
    my $down = Bench::rounds(20, 5);

    # a store that takes connections and does not answer, under load that is more than the memory
    sleep 3;
    kill 'STOP', $gateway or die "could not stop the gateway: $!\n";
    my $ok = eval {
        my $end = time + $down;
        my $begin = Bench::segment_now($node);
        while (time < $end || Bench::segments_between($begin, Bench::segment_now($node)) < 8)
        {
            $node->safe_psql('postgres', "CREATE TABLE IF NOT EXISTS memory_filler (t text);"
                  . "INSERT INTO memory_filler SELECT md5(g::text) FROM generate_series(1, 100000) g");
        }
        1;
    };
    my $error = $@;
    kill 'CONT', $gateway;
    die $error unless $ok;
    $load->stop(signal => 'INT');
    # whole parts as well
    write_segments($node, 6);
    WalTest::wait_durable($repository->{config},
        $node->safe_psql('postgres', 'SELECT pg_switch_wal()'), 180);
    my $stalled = WalTest::status($repository->{config})->{counters};
    my $kib = note_stream($stream);
    my $anonymous = Bench::process_kib($stream->pid, 'RssAnon');
    $stream->stop;
    Bench::drop_slots($node);

    my $fetched = Bench::repository('memory-alone', $recording, s3 => 1);
    for my $segment (@{ $recording->{segments} }[ 0 .. 5 ])
    {
        $fetched->push($segment);
        my $out = "$fetched->{dir}/fetched";
        my $r = Bench::spawn_ok($ENV{TESTDIR}, WalTest::tool('walfetch'), '--config', $fetched->{config},
            $segment, $out);
        unlink $out;
        note_memory('walfetch', $r->{rss_kib});
    }
    note_memory('walpush', $fetched->{largest_kib});

    my %goal = (walstream => 96, walpush => 32, walfetch => 32);
    for my $tool (qw(walstream walpush walfetch))
    {
        Bench::row("memory-$tool",
            what => "largest resident set of $tool",
            ours => $largest_kib{$tool} / 1024,
            unit => 'MiB',
            goal => $goal{$tool},
            $tool eq 'walstream'
            ? (details => {
                    with_the_store_down_mib => $kib / 1024,
                    anonymous_now_mib => $anonymous / 1024,
                    stalls => $stalled->{stream_stalls} })
            : ());
    }
    return;
}

my @all = (
    [ 'push-streamed', \&push_streamed ],
    [ 'start-up', \&start_up ],
    [ 'push-file', \&push_file ],
    [ 'push-s3', \&push_s3 ],
    [ 'drain', \&drain ],
    [ 'commit-1s', \&commit_1s ],
    [ 'commit-100ms', \&commit_100ms ],
    [ 'synchronous', \&synchronous ],
    [ 'replay', \&replay ],
    [ 'memory', \&memory ],
    Backup::rows());
my %known = map { $_->[0] => 1 } @all;
my @chosen = split /[\s,]+/, $ENV{ROWS} // '';

if (@chosen == 1 && $chosen[0] eq 'list')
{
    Bench::say_line('%s', $_->[0]) for @all;
    exit 0;
}
for my $name (@chosen)
{
    next if $known{$name};
    Bench::say_line('there is no row "%s"; there are: %s', $name, join ' ', map { $_->[0] } @all);
    exit 2;
}
for my $row (@all)
{
    my ($name, $sub) = @$row;
    next if @chosen && !grep { $_ eq $name } @chosen;
    Bench::say_line('%s ...', $name);
    eval { $sub->(); 1 } or Bench::failed($name, $@);
}
exit(Bench::report(scalar @chosen) ? 0 : 1);
