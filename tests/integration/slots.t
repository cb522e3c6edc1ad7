#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# The slot, and where the stream goes on: after kills, restarts, a lost slot, a slot that says
# something else than the repository. walstream has no state of its own; what counts is what the
# repository holds. All of it is compared byte by byte with what the server archived by cp.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalRepo;
use Test::More;
use Time::HiRes qw(time usleep);

my $mib = 1024 * 1024;
my $walctl = WalTest::tool('walctl');
my $walstream = WalTest::tool('walstream');
my @versions = WalTest::versions();

lost_slot($_) for @versions;
for my $version (grep { $_ == 15 || $_ == $versions[-1] } @versions)
{
    my ($node, $config, $archive) = server("main$version", $version);

    killed_many_times($version, $node, $config, $archive);
    idle_and_on($version, $node, $config, $archive);
    slot_and_repository_differ($version, $node, $archive);
    under_a_running_walstream($version, $node, $config, $archive);
    stopping($version, $node, $config);
    $node->stop('fast');
}
refusals($versions[-1]);
no_sql_connection($versions[0]);
two_servers_one_timeline($versions[0]);
pace($versions[-1]);
done_testing();

# A server that archives by cp, so that there is a copy to compare with, and a repository for it.
sub server
{
    my ($name, $version, %conf) = @_;
    my $archive = WalTest::dir("archive-$name");
    my $node = WalTest::node(
        $name,
        version => $version,
        conf => {
            archive_mode => 'on',
            archive_command => "cp %p $archive/%f.tmp && mv $archive/%f.tmp $archive/%f",
            %conf
        });
    my $config = WalTest::config_for($node);

    WalRepo::create_rows($node);
    WalTest::run_ok("$name: init", $walctl, '--config', $config, 'init');
    return ($node, $config, $archive);
}

sub errors
{
    my ($stream) = @_;
    return grep { /\bwalstream: (?:ERROR|FATAL):/ } split /\n/, $stream->log_text;
}

sub gaps
{
    my ($config) = @_;
    return sort grep { m{^gap/} } keys %{ WalRepo::objects($config) };
}

sub same_bytes
{
    my ($node, $config, $archive, $from, $to, $label) = @_;
    my ($compared, @wrong) = WalRepo::bytes_wrong($config, 1, $from, $to,
        WalRepo::wal_reader(1, $archive, $node->data_dir . '/pg_wal'));

    cmp_ok($compared, '>', 0, "$label: something was compared");
    return is_deeply(\@wrong, [], "$label: the same bytes as the server's");
}

# What walstream is at; "" when it does not answer.
sub state_of
{
    my $status = WalTest::status($_[0]);
    return $status ? $status->{stream}{state} : '';
}

sub flush_lsn
{
    return WalRepo::current_lsn($_[0]);
}

sub slot
{
    my ($node, $column) = @_;
    return $node->safe_psql('postgres',
        "SELECT $column FROM pg_replication_slots WHERE slot_name = 'walstream'");
}

# Rows in the background until it is stopped.
my $load_count = 0;

sub load
{
    my ($node, $rate) = @_;
    my $script = WalTest::dir('load' . ++$load_count) . '/load.sql';

    open my $fh, '>', $script or die "could not create $script: $!";
    print $fh "INSERT INTO events (note, server) SELECT repeat(md5(random()::text), 8), 'load' "
      . "FROM generate_series(1, 10);\n";
    close $fh;
    return WalTest::daemon(
        "load$load_count",
        [
            $node->installed_command('pgbench'), '-n', '-c', 2, '-T', 600, '-R', $rate, '-f', $script,
            'postgres'
        ],
        env => { PGHOST => $node->host, PGPORT => $node->port });
}

# max_slot_wal_keep_size is exceeded while walstream is away. With archiving into the repository
# nothing is missing in the end; without, the hole is noted and said.
sub lost_slot
{
    my ($version) = @_;

    for my $archiving (0, $version == 15 || $version == $versions[-1] ? 1 : ())
    {
        my $label = "PostgreSQL $version, lost slot" . ($archiving ? ' beside walpush' : '');
        my $node = WalTest::node("lost$version$archiving", version => $version);
        my $config = WalTest::config_for($node);

        WalRepo::create_rows($node);
        WalTest::run_ok("$label: init", $walctl, '--config', $config, 'init');
        WalTest::archive_with($node, $config) if $archiving;
        WalTest::set_conf($node, max_slot_wal_keep_size => '1MB', max_wal_size => '4MB');
        $node->restart;

        my $stream = WalTest::walstream($config, name => "ws-lost$version$archiving");
        my $begin = flush_lsn($node);
        is(slot($node, 'slot_type'), 'physical', "$label: walstream makes its slot");
        WalRepo::add_rows($node, 1000);
        WalTest::wait_durable($config, flush_lsn($node));
        $stream->stop;
        for (1 .. 4)
        {
            WalRepo::add_rows($node, 5000);
            $node->safe_psql('postgres', 'SELECT pg_switch_wal(); CHECKPOINT');
        }
        is(slot($node, 'wal_status'), 'lost', "$label: the slot is lost");
        if ($archiving)
        {
            my $segment = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');
            $node->poll_query_until('postgres', "SELECT last_archived_wal >= '$segment' FROM pg_stat_archiver")
              or die "$segment is not archived";
        }
        my ($held) = reverse WalRepo::ranges($config, 1);

        $stream = WalTest::walstream($config, name => "ws-lost$version$archiving-again");
        WalRepo::add_rows($node, 1000);
        WalTest::wait_durable($config, flush_lsn($node));
        $node->poll_query_until('postgres',
            "SELECT restart_lsn >= '" . flush_lsn($node) . "'::pg_lsn - 1048576 FROM pg_replication_slots")
          or die 'the new slot does not move';
        isnt(slot($node, 'wal_status'), 'lost', "$label: the new slot works");
        is(slot($node, 'active'), 't', "$label: the new slot is used");
        ok((grep { /replication slot "walstream" is lost/ } errors($stream)), "$label: said");

        my @missing = grep { /WAL is missing/ } errors($stream);
        if ($archiving)
        {
            is_deeply([ @missing, gaps($config) ], [], "$label: no gap");
            WalRepo::covers($config, 1, $begin, flush_lsn($node), "$label: nothing is missing");
        }
        else
        {
            my ($before, $behind) = (WalRepo::ranges($config, 1))[ -2, -1 ];
            my @gaps = gaps($config);
            is($before->[1], $held->[1], "$label: the hole begins where the repository ended");
            is(scalar @missing, 1, "$label: the hole is said once");
            my ($from, $to) = ($missing[0] // '') =~ m{from ([0-9A-F]+/[0-9A-F]+) to ([0-9A-F]+/[0-9A-F]+)};
            is_deeply(
                [ map { WalTest::lsn_number($_ // '0/0') } $from, $to ],
                [ $before->[1], $behind->[0] ],
                "$label: said with its LSNs");
            is_deeply(
                \@gaps,
                [ sprintf 'gap/00000001/%016X-%016X', $before->[1], $behind->[0] ],
                "$label: the hole is noted");

            # a new connection does not find it again
            $stream->stop;
            $stream = WalTest::walstream($config, name => "ws-lost$version-third");
            WalRepo::add_rows($node, 10);
            WalTest::wait_durable($config, flush_lsn($node));
            is_deeply([ errors($stream) ], [], "$label: no errors after the next start");
            is_deeply([ gaps($config) ], \@gaps, "$label: noted once");
        }
        is($stream->stop, 0, "$label: walstream stops");
        $node->stop('fast');
    }
    return;
}

# Peer bug: resume from stale local files below the slot position (databasus/databasus#680). Here there are none.
sub killed_many_times
{
    my ($version, $node, $config, $archive) = @_;
    my $label = "PostgreSQL $version, killed";
    my $begin = flush_lsn($node);
    my $stream = WalTest::walstream($config, name => "ws-killed$version");
    my $load = load($node, 150);
    my $kills = WalTest::quick() ? 5 : 18;
    my $advanced = 0;
    my $last = 0;
    my $stored = sub { (map { $_->[1] } (WalRepo::ranges($config, 1))[-1])[0] };

    for my $n (1 .. $kills)
    {
        usleep(100_000 + int rand 500_000);
        die 'the load ended: ' . $load->log_text unless $load->running;
        # one in three has time to store something, however busy the machine is
        WalTest::wait_until(sub { ($stored->() // 0) > $last }, 60, 'WAL comes in') if $n % 3 == 1;
        $stream->kill9;
        # the socket is left behind as a crash leaves it
        my $end = $stored->();
        $advanced++ if defined $end && $end > $last;
        $last = $end // $last;
        $stream = WalTest::walstream($config, name => "ws-killed$version-$n", wait => $n % 3 ? 0 : 30);
    }
    cmp_ok($advanced, '>=', int($kills / 3), "$label: WAL came in between the kills");
    usleep(500_000);
    $load->stop(signal => 'INT');
    # enough for some complete segments
    WalRepo::add_rows($node, 1000)
      while WalTest::lsn_number(flush_lsn($node)) < WalTest::lsn_number($begin) + 6 * $mib;
    $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
    WalRepo::add_rows($node, 10);
    my $end = flush_lsn($node);
    WalTest::wait_until(sub { WalTest::status($config) }, 30, 'walstream answers');
    WalTest::wait_durable($config, $end);
    is(scalar WalRepo::ranges($config, 1), 1, "$label: one range, no gap");
    WalRepo::covers($config, 1, $begin, $end, "$label: all of it");
    same_bytes($node, $config, $archive, $begin, $end, $label);
    is_deeply([ errors($stream) ], [], "$label: no errors");
    is_deeply([ gaps($config) ], [], "$label: no gap noted");

    # complete segments come back as they were, also those that exist as pieces only
    my $reader = WalRepo::wal_reader(1, $archive, $node->data_dir . '/pg_wal');
    my $first = WalTest::lsn_number($begin);
    my $stop = WalTest::lsn_number($end);
    my @wrong;
    my $pieces_only = 0;
    my $count = 0;

    $first += $mib - $first % $mib if $first % $mib;
    for (my $lsn = $first; $lsn + $mib <= $stop; $lsn += $mib)
    {
        my $name = WalRepo::segment_name(1, $lsn);
        my $got = WalRepo::fetch($config, $name);
        $count++;
        $pieces_only++ unless -e WalRepo::base($config) . '/wal/00000001/' . substr($name, 8, 8) . "/$name";
        push @wrong, $name if !defined $got || $got ne $reader->($lsn, $lsn + $mib);
    }
    cmp_ok($count, '>', WalTest::quick() ? 0 : 3, "$label: there are complete segments ($count, $pieces_only of pieces)");
    is_deeply(\@wrong, [], "$label: walfetch returns each complete segment");
    is($stream->stop, 0, "$label: walstream stops");
    return;
}

# Peer bug: after 10 s without data the open segment is zero-padded, stored under its final name, and then begun
# again at offset 0 (pghoard, walreceiver.py). Write, be idle in mid-segment, write on, compare.
sub idle_and_on
{
    my ($version, $node, $config, $archive) = @_;
    my $label = "PostgreSQL $version, idle in mid-segment";
    my $begin = flush_lsn($node);
    my $stream = WalTest::walstream($config, name => "ws-idle$version");

    for my $restart (0, 1, 2)
    {
        $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
        WalRepo::add_rows($node, 200);
        WalTest::wait_durable($config, flush_lsn($node));
        if ($restart)
        {
            $restart == 1 ? $stream->stop : $stream->kill9;
            $stream = WalTest::walstream($config, name => "ws-idle$version-$restart");
        }
        my ($before, $grown);
        # the server itself writes now and then
        for (1 .. 20)
        {
            my $lsn = flush_lsn($node);

            WalTest::wait_durable($config, $lsn);
            $before = scalar keys %{ WalRepo::objects($config) };
            sleep($restart ? 1 : 4);
            $grown = scalar(keys %{ WalRepo::objects($config) }) - $before;
            last if flush_lsn($node) eq $lsn;
        }
        cmp_ok($grown, '<=', 3, "$label: nothing is stored while nothing is written") unless $restart;
        WalRepo::add_rows($node, 6000);
        WalTest::wait_durable($config, flush_lsn($node));
    }
    $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
    WalTest::wait_durable($config, flush_lsn($node));
    WalRepo::covers($config, 1, $begin, flush_lsn($node), "$label: nothing is missing");
    same_bytes($node, $config, $archive, $begin, flush_lsn($node), $label);
    is_deeply([ errors($stream) ], [], "$label: no errors");
    is($stream->stop, 0, "$label: walstream stops");
    return;
}

# Peer bug: the start is taken from the server's current position, so that WAL which the slot still holds is
# skipped (pgmoneta/pgmoneta#188).
sub slot_and_repository_differ
{
    my ($version, $node, $archive) = @_;
    my $label = "PostgreSQL $version, old slot, empty repository";
    my $config = WalTest::config_for($node, stream => { slot => 'older' });

    WalTest::run_ok("$label: init", $walctl, '--config', $config, 'init');
    $node->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('older', true)});
    my $restart = $node->safe_psql('postgres',
        q{SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'older'});
    WalRepo::add_rows($node, 9000);
    $node->safe_psql('postgres', 'CHECKPOINT');
    my $stream = WalTest::walstream($config, name => "ws-older$version");
    WalTest::wait_durable($config, flush_lsn($node));
    WalRepo::covers($config, 1, $restart, flush_lsn($node), "$label: all that the slot has kept");
    same_bytes($node, $config, $archive, $restart, flush_lsn($node), $label);
    is_deeply([ errors($stream) ], [], "$label: no errors");
    $stream->stop;

    # the slot is ahead, the server still has the WAL: no hole
    $label = "PostgreSQL $version, slot ahead of the repository";
    WalTest::set_conf($node, wal_keep_size => '256MB');
    $node->reload;
    $node->poll_query_until('postgres', q{SELECT current_setting('wal_keep_size') = '256MB'});
    WalRepo::add_rows($node, 9000);
    $node->safe_psql('postgres',
        q{SELECT pg_replication_slot_advance('older', pg_current_wal_flush_lsn()); CHECKPOINT});
    WalRepo::add_rows($node, 100);
    $stream = WalTest::walstream($config, name => "ws-older$version-ahead");
    WalTest::wait_durable($config, flush_lsn($node));
    WalRepo::covers($config, 1, $restart, flush_lsn($node), "$label: nothing is missing");
    is_deeply([ errors($stream), gaps($config) ], [], "$label: no errors, no gap");
    same_bytes($node, $config, $archive, $restart, flush_lsn($node), $label);
    is($stream->stop, 0, "$label: walstream stops");
    $node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('older')});
    WalTest::set_conf($node, wal_keep_size => '0');
    $node->reload;
    return;
}

# The server is restarted, the connection cut, the slot dropped while walstream runs.
sub under_a_running_walstream
{
    my ($version, $node, $config, $archive) = @_;
    my $label = "PostgreSQL $version, trouble under a running walstream";
    my $stream = WalTest::walstream($config, name => "ws-trouble$version");
    WalTest::wait_durable($config, flush_lsn($node));
    my $begin = flush_lsn($node);

    for my $mode ('fast', 'immediate')
    {
        WalRepo::add_rows($node, 300);
        my $start = time;
        $node->stop($mode);
        cmp_ok(time - $start, '<', 200, "$label: a server that stops ($mode) is not held up");
        $node->start;
        WalRepo::add_rows($node, 300);
        WalTest::wait_durable($config, flush_lsn($node));
    }
    $node->safe_psql('postgres', <<'SQL');
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'walstream';
SQL
    # it may be back before it can be dropped
    WalTest::wait_until(
        sub {
            my ($rc) = $node->psql('postgres', <<'SQL');
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'walstream' AND active;
SELECT pg_sleep(0.02);
SELECT pg_drop_replication_slot('walstream');
SQL
            return $rc == 0;
        },
        30, 'the slot is dropped');
    WalRepo::add_rows($node, 5000);
    WalTest::wait_durable($config, flush_lsn($node));
    is(slot($node, 'active'), 't', "$label: a dropped slot is made again");
    WalRepo::covers($config, 1, $begin, flush_lsn($node), "$label: nothing is missing");
    same_bytes($node, $config, $archive, $begin, flush_lsn($node), $label);
    is_deeply([ errors($stream), gaps($config) ], [], "$label: no errors, no gap");
    is($stream->stop, 0, "$label: walstream stops");
    return;
}

# SIGTERM under load, SIGHUP, --endpos.
sub stopping
{
    my ($version, $node, $config) = @_;
    my $label = "PostgreSQL $version, stopping";
    my $load = load($node, 200);
    # pieces that would wait for an hour
    my $stream = WalTest::walstream(
        $config,
        name => "ws-stopping$version",
        args => ['--stream.flush-interval=1h']);

    usleep(1_500_000);
    my $lsn = flush_lsn($node);
    WalTest::wait_until(
        sub {
            my $status = WalTest::status($config) or return 0;
            my $received = $status->{stream}{received_lsn} or return 0;
            return WalTest::lsn_number($received) >= WalTest::lsn_number($lsn);
        },
        60, "WAL up to $lsn is received");
    my $start = time;
    is($stream->stop, 0, "$label: SIGTERM under load");
    cmp_ok(time - $start, '<', 120, "$label: soon");
    $load->stop(signal => 'INT');
    my ($last) = reverse WalRepo::ranges($config, 1);
    cmp_ok($last->[1], '>=', WalTest::lsn_number($lsn), "$label: the open piece is stored");

    # --endpos: under load, at rest, in the past
    $load = load($node, 300);
    my $target = $node->safe_psql('postgres', q{SELECT pg_current_wal_flush_lsn() + 2000000});
    my $result = WalTest::run([ $walstream, '--config', $config, '--endpos', $target ]);
    is($result->{exit}, 0, "$label: --endpos under load");
    ($last) = reverse WalRepo::ranges($config, 1);
    cmp_ok($last->[1], '>=', WalTest::lsn_number($target), "$label: --endpos under load is durable");
    $load->stop(signal => 'INT');
    WalRepo::add_rows($node, 100);
    $target = flush_lsn($node);
    $result = WalTest::run([ $walstream, '--config', $config, '--endpos', $target ]);
    is($result->{exit}, 0, "$label: --endpos ends by itself");
    ($last) = reverse WalRepo::ranges($config, 1);
    cmp_ok($last->[1], '>=', WalTest::lsn_number($target), "$label: --endpos is durable");
    $result = WalTest::run([ $walstream, '--config', $config, '--endpos', $target ]);
    is($result->{exit}, 0, "$label: --endpos that is durable already");

    # SIGHUP: the interval of a running walstream changes
    my $text = WalTest::slurp($config);
    my $write = sub {
        my ($interval) = @_;
        (my $changed = $text) =~ s/flush-interval = \S+/flush-interval = $interval/ or die 'no interval';
        open my $fh, '>', $config or die "could not write $config: $!";
        print $fh $changed;
        close $fh or die "could not write $config: $!";
    };
    $write->('1h');
    $stream = WalTest::walstream($config, name => "ws-reload$version");
    WalRepo::add_rows($node, 10);
    $target = flush_lsn($node);
    sleep 2;
    my $status;
    WalTest::wait_until(sub { $status = WalTest::status($config) }, 60, 'walstream answers');
    my $durable = $status->{stream}{durable_lsn};
    cmp_ok(WalTest::lsn_number($durable), '<', WalTest::lsn_number($target), "$label: waits for an hour");
    $write->('100ms');
    $stream->signal('HUP');
    WalTest::wait_durable($config, $target, 5);
    pass("$label: SIGHUP brings the new flush-interval");
    $write->('nonsense');
    $stream->signal('HUP');
    $stream->wait_log(qr/ERROR.*could not reload the configuration/);
    $write->('200ms');
    WalRepo::add_rows($node, 10);
    WalTest::wait_durable($config, flush_lsn($node), 5);
    pass("$label: goes on with the old configuration when the new one is wrong");
    is($stream->stop, 0, "$label: stops");
    return;
}

# What can never work is said, and nothing is stored.
sub refusals
{
    my ($version) = @_;
    my $label = "PostgreSQL $version, refused";
    my ($node, $config) = server("refused$version", $version, wal_level => 'logical');

    $node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('walstream', 'test_decoding')})
      if -e $node->config_data('--pkglibdir') . '/test_decoding.so';
    $node->safe_psql('postgres', q{SELECT pg_create_logical_replication_slot('walstream', 'pgoutput')})
      if slot($node, 'slot_type') eq '';
    my $result = WalTest::run([ $walstream, '--config', $config ]);
    is($result->{exit}, 2, "$label: a logical slot");
    like($result->{stderr}, qr/slot "walstream" is not a physical one/, "$label: a logical slot, said");
    is_deeply(WalRepo::objects($config), {}, "$label: a logical slot: nothing stored");
    $node->safe_psql('postgres', q{SELECT pg_drop_replication_slot('walstream')});

    # another cluster at the same address: first from the start, then under a running walstream
    my $stream = WalTest::walstream($config, name => "ws-refused$version");
    WalRepo::add_rows($node, 10);
    WalTest::wait_durable($config, flush_lsn($node));
    $node->stop('fast');
    my $before = WalRepo::fingerprint($config);
    my $other = WalTest::node("other$version", version => $version, start => 0,
        conf => { port => $node->port, unix_socket_directories => $node->host });
    {
        local $other->{_port} = $node->port;
        local $other->{_host} = $node->host;
        $other->start;
        $stream->wait_log(qr/ERROR.*the server has system identifier \d+, the repository is for \d+/);
        pass("$label: another cluster under a running walstream");
        is($stream->stop, 0, "$label: walstream stops");
        $result = WalTest::run([ $walstream, '--config', $config ]);
        is($result->{exit}, 1, "$label: another cluster from the start");
        like($result->{stderr}, qr/walctl init/, "$label: another cluster from the start, said");
        is_deeply(WalRepo::fingerprint($config), $before, "$label: nothing stored for it");
        $other->stop('fast');
    }
    return;
}

# pg_hba.conf lets the role replicate and nothing else: the slot cannot be looked at by SQL.
sub no_sql_connection
{
    my ($version) = @_;
    my $label = "PostgreSQL $version, replication connections only";
    my ($node, $config, $archive) = server("nosql$version", $version);

    $node->safe_psql('postgres', 'CREATE ROLE walstream REPLICATION LOGIN');
    my $hba = $node->data_dir . '/pg_hba.conf';
    my $text = WalTest::slurp($hba);
    open my $fh, '>', $hba or die "could not write $hba: $!";
    print $fh "local replication walstream trust\nlocal all walstream reject\n$text";
    close $fh or die "could not write $hba: $!";
    $node->reload;
    WalTest::wait_until(
        sub { ($node->psql('postgres', 'SELECT 1', extra_params => [ '-U', 'walstream' ]))[0] != 0 },
        60, 'the role cannot use SQL');
    my $begin = flush_lsn($node);

    my $limited = WalTest::config_for(
        $node,
        cluster => { conninfo => $node->connstr . ' user=walstream' },
        repository => { url => 'file://' . WalTest::repo_dir($config) });
    for my $n (1, 2)
    {
        my $stream = WalTest::walstream($limited, name => "ws-nosql$n");
        WalRepo::add_rows($node, 1000);
        WalTest::wait_durable($limited, flush_lsn($node));
        like($stream->log_text, qr/WARNING.*could not look at the health of replication slot/,
            "$label: said, start $n");
        is_deeply([ errors($stream) ], [], "$label: no errors, start $n");
        is($stream->stop, 0, "$label: stops, start $n");
    }
    WalRepo::covers($config, 1, $begin, flush_lsn($node), "$label: nothing is missing");
    same_bytes($node, $config, $archive, $begin, flush_lsn($node), $label);
    $node->stop('fast');
    return;
}

# A copy of the data directory is started beside the original: the same system identifier, the same timeline,
# other WAL.
sub two_servers_one_timeline
{
    my ($version) = @_;
    my $label = "PostgreSQL $version, two servers on one timeline";
    my ($first, $config, $archive) = server("twin1$version", $version);

    # in the middle of a segment
    $first->safe_psql('postgres', 'SELECT pg_switch_wal()');
    my $stream = WalTest::walstream($config, name => 'ws-twin1');
    WalRepo::add_rows($first, 300);
    WalTest::wait_durable($config, flush_lsn($first));
    $stream->stop;
    $first->stop('fast');
    my $second = WalTest::restore_node(
        "twin2$version", version => $version, backup => $first->data_dir, mode => 'standby',
        restore_command => '', start => 0);
    unlink $second->data_dir . '/standby.signal';
    $first->start;
    $second->start;
    WalRepo::add_rows($first, 400);
    WalRepo::add_rows($second, 500);

    my $config2 = WalTest::config_for(
        $second, repository => { url => 'file://' . WalTest::repo_dir($config) });
    $stream = WalTest::walstream($config, name => 'ws-twin1-again');
    WalTest::wait_durable($config, flush_lsn($first));
    my $before = WalRepo::fingerprint($config);
    my $other = WalTest::walstream($config2, name => 'ws-twin2');
    $other->wait_log(qr/ERROR.*other WAL.*SHA-256 [0-9a-f]{64} here, [0-9a-f]{64} in the repository/);
    pass("$label: the second one is refused, with both digests");
    WalRepo::add_rows($second, 6000);
    sleep 1;
    # the first one may write a little by itself meanwhile
    my $meanwhile = WalRepo::fingerprint($config);
    my $stored = (WalRepo::ranges($config, 1))[-1][1];
    my $end = flush_lsn($first);
    is_deeply({ map { $_ => $meanwhile->{$_} } keys %$before }, $before, "$label: what there was is unchanged");
    cmp_ok($stored, '<=', WalTest::lsn_number($end), "$label: nothing of the second one is stored");
    same_bytes($first, $config, $archive, 0, $end, $label);
    my $status;
    WalTest::wait_until(
        sub { $status = WalTest::status($config2) // {}; defined $status->{last_error} },
        60, 'the status tells the error');
    is($status->{last_error}{kind}, 'conflict', "$label: the status says it");
    is($other->stop, 0, "$label: the second one stops");

    # both run, and the conflict comes with a segment that the first one has stored by then: an upload
    # fails, and the stream must begin again rather than wait for it
    $label .= ', found by an upload';
    my ($third, $config3) = server("twin3$version", $version);
    my $fourth = copy_of($third, "twin4$version");
    $_->start for $third, $fourth;
    my $config4 = WalTest::config_for(
        $fourth,
        stream => { 'flush-interval' => '1h' },
        repository => { url => 'file://' . WalTest::repo_dir($config3) });
    $other = WalTest::walstream($config4, name => 'ws-twin4');
    WalTest::wait_until(sub { state_of($config4) eq 'streaming' }, 30, 'streaming');
    my $stream3 = WalTest::walstream($config3, name => 'ws-twin3', args => ['--stream.flush-interval=1h']);
    $_->safe_psql('postgres', 'CREATE TABLE filler AS SELECT random() FROM generate_series(1, 2000)')
      for $third, $fourth;
    my $segment = $third->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');
    WalRepo::add_rows($third, 10);
    my $key = 'wal/00000001/' . substr($segment, 8, 8) . "/$segment";
    WalTest::wait_until(sub { -e WalRepo::base($config3) . "/$key" }, 30, "$segment is stored");
    my $kept = WalRepo::fingerprint($config3);
    $fourth->safe_psql('postgres', 'SELECT pg_switch_wal()');
    WalRepo::add_rows($fourth, 10);
    $other->wait_log(qr/ERROR.*"$key" exists with other bytes.*SHA-256 [0-9a-f]{64}.*SHA-256 [0-9a-f]{64}/);
    pass("$label: refused, with both digests");
    WalTest::wait_until(sub { state_of($config4) eq 'waiting' }, 10,
        'walstream waits before the next try');
    pass("$label: walstream does not wait for the refused upload");
    my $now = WalRepo::fingerprint($config3);
    is_deeply({ map { $_ => $now->{$_} } keys %$kept }, $kept, "$label: nothing was overwritten");
    is($other->stop, 0, "$label: stops");
    is($_->stop, 0, "$label: the first one stops") for $stream, $stream3;
    $_->stop('fast') for $first, $second, $third, $fourth;
    return;
}

# A copy of a stopped server's files.
sub copy_of
{
    my ($node, $name) = @_;

    $node->stop('fast');
    my $copy = WalTest::restore_node(
        $name, version => $node->pg_version->major, backup => $node->data_dir, mode => 'standby',
        restore_command => '', start => 0);
    unlink $copy->data_dir . '/standby.signal';
    return $copy;
}

# How often pieces are cut: flush-interval, and the bound on requests.
sub pace
{
    my ($version) = @_;
    my $label = "PostgreSQL $version, pace";
    my ($node, $config) = server("pace$version", $version);
    my $load = load($node, 20);
    my %pieces;

    for my $case (
        [ 'every 100 ms', 10, 40, [ '--stream.flush-interval=100ms' ] ],
        [ 'two a second', 2, 10, [ '--stream.flush-interval=100ms', '--stream.max-put-rate=2' ] ])
    {
        my ($name, $most, $enough, $args) = @$case;
        my $start = time;
        my $stream = WalTest::walstream($config, name => "ws-pace-$name", args => $args);
        my $status;
        WalTest::wait_until(
            sub { $status = WalTest::status($config) // return 0; $status->{counters}{pieces_stored} >= $enough },
            60, "$enough pieces are stored");
        my $seconds = time - $start;
        my $stored = $status->{counters}{pieces_stored};

        cmp_ok($status->{stream}{last_delay_seconds}, '<', 60, "$label: $name: delay");
        # some wait for nothing: the first one, the end of a segment
        cmp_ok($stored, '<=', $most * $seconds + 5, "$label: $name: no more than $most a second");
        $pieces{$name} = $stored / $seconds;
        is($stream->stop, 0, "$label: $name: stops");
    }
    cmp_ok($pieces{'every 100 ms'}, '>', $pieces{'two a second'}, "$label: as often as it may");
    $load->stop(signal => 'INT');
    $node->stop('fast');
    return;
}
