# SPDX-License-Identifier: PostgreSQL
#
# walstream under faults, while a server writes WAL: killed at calls of libc, calls that fail, no memory, a store that
# is down, cannot be written, is slow or lies. What the server is told as flushed is in the repository at
# any moment; in the end all WAL is there, byte for byte as on the server, without a gap.
#
# Others lost data in these ways:
#   pgmoneta (wal.c)                    flush reported for what was not durable
#   pghoard (walreceiver.py)            an idle open segment was padded and shipped, then begun again
#   WAL-G (wal_receive_handler.go)      the upload stopped the receiver; errors were fatal
#   pgrwl#219, #234                     the store went away; the disk was full
#   databasus#680, pgmoneta#188         resumed from stale local files, or from the server's newest WAL
#   litestream#136, #224, #535, #805    missing pieces, found only at restore
#   pgbackrest#1290, #1116, #1433       503, or 200 with an error, taken as success

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use FailNth;
use File::Find;
use Test::More;
use Time::HiRes qw(time usleep);
use WalTest;
use WalTest::S3;

my $walfetch = WalTest::tool('walfetch-direct');
my $sanitized = FailNth::sanitized(WalTest::tool('walstream'));
my $failnth = "$ENV{WALSTREAM_BIN}/tests/failnth.so";
my $mb = 1 << 20;
my $full = $ENV{WALTEST_FULL} ? 1 : 0;
my $points = $full ? 200 : FailNth::quick() ? 8 : 30;

# A server that keeps all its WAL, to compare with.
my $node = WalTest::node('primary', conf => { wal_keep_size => '8GB', max_wal_size => '4GB', max_replication_slots => 20 });
my $datadir = $node->data_dir;
$node->safe_psql('postgres', 'CREATE TABLE load (n int, t text)');

# About $kb KB of WAL, which does not compress to nothing.
sub load
{
    my ($kb) = @_;
    $node->safe_psql('postgres',
        "INSERT INTO load SELECT g, (SELECT string_agg(md5(random()::text || g || i), '') FROM generate_series(1, 30) i) FROM generate_series(1, $kb) g");
    return;
}

sub query
{
    my ($sql) = @_;
    return $node->safe_psql('postgres', $sql);
}

sub start_number
{
    my ($name) = @_;
    return (hex(substr $name, 8, 8) << 32) + hex(substr $name, 16, 8) * $mb;
}

# The beginning and the end of the gap-free WAL in a file:// repository, from the names of its objects.
sub durable
{
    my ($repo) = @_;
    my @ranges;

    find(
        {
            no_chdir => 1,
            wanted => sub {
                return if m{/\.tmp\.};
                push @ranges, [ start_number($1), start_number($1) + $mb ] if m{/wal/.*/([0-9A-F]{24})$};
                push @ranges, [ start_number($1) + hex $2, start_number($1) + hex $3 ]
                  if m{/live/.*/([0-9A-F]{24})/([0-9A-F]{8})-([0-9A-F]{8})$};
            }
        },
        $repo);
    @ranges = sort { $a->[0] <=> $b->[0] } @ranges;
    return (0, 0) unless @ranges;
    my ($start, $end) = @{ $ranges[0] };
    for my $range (@ranges)
    {
        last if $range->[0] > $end;
        $end = $range->[1] if $range->[1] > $end;
    }
    return ($start, $end);
}

# Complaints if the server was told more than the repository has. Asked first, looked at afterwards.
sub told_too_much
{
    my ($slot, $repo) = @_;
    my @told = split /\n/, query(
        "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '$slot' AND restart_lsn IS NOT NULL
         UNION ALL SELECT flush_lsn FROM pg_stat_replication WHERE flush_lsn IS NOT NULL");
    my ($start, $end) = durable($repo);
    # before anything is stored the slot stands at the segment that the stream begins with
    return map { "the server was told $_, the repository ends at " . sprintf('%X', $end) }
      grep { $end > 0 && WalTest::lsn_number($_) > $end } @told;
}

# All WAL since $first is in the repository: each segment that is finished, and the open one as far as it goes.
sub all_there
{
    my ($label, $config, $first) = @_;
    my $dest = FailNth::folder() . '/fetched';
    my $current = query('SELECT pg_walfile_name(pg_current_wal_flush_lsn())');
    my @names = sort grep { /^[0-9A-F]{24}$/ && start_number($_) >= $first && $_ le $current }
      map { s{.*/}{}r } glob("$datadir/pg_wal/*");
    my @wrong;

    for my $name (@names)
    {
        my $length = $name eq $current ? WalTest::lsn_number(query('SELECT pg_current_wal_flush_lsn()')) - start_number($name) : $mb;
        next if $length == 0;
        WalTest::wait_durable($config, query('SELECT pg_current_wal_flush_lsn()'), 30) if $name eq $current;
        unlink $dest;
        my $run = FailNth::run([ $walfetch, '--config', $config, '--restore.prefetch=0', '--timeout=120s', $name, $dest ]);
        push @wrong, "$name: exit $run->{exit}: $run->{stderr}" and next if $run->{exit} != 0;
        push @wrong, "$name differs"
          if substr(FailNth::slurp($dest), 0, $length) ne substr(FailNth::slurp("$datadir/pg_wal/$name"), 0, $length);
    }
    my $missing = @names ? (start_number($names[-1]) - start_number($names[0])) / $mb + 1 - @names : 0;
    ok(@names > 1 && $missing == 0 && !@wrong, "$label: " . scalar(@names) . ' segments are there, each byte as on the server')
      or diag("missing on the server: $missing", join "\n", @wrong);
    return;
}

# How much memory it has had at most, in MiB.
sub most_memory
{
    my ($daemon) = @_;
    my ($kb) = FailNth::slurp('/proc/' . $daemon->pid . '/status') =~ /^VmHWM:\s+(\d+) kB/m;
    return $kb / 1024;
}

sub current_lsn { return query('SELECT pg_current_wal_flush_lsn()') }

# Where a comparison begins: what was written before has been compared.
sub open_segment { return start_number(query('SELECT pg_walfile_name(pg_current_wal_flush_lsn())')) }

# ---- calls that fail, and calls at which walstream is killed ----

my $config = WalTest::config_for($node, stream => { 'flush-interval' => '20ms', memory => '32MiB' });
my $repo = WalTest::repo_dir($config);
WalTest::run_ok('init', WalTest::tool('walctl'), '--config', $config, 'init');
my $stream = WalTest::walstream($config);
load(1500);
WalTest::wait_durable($config, current_lsn(), 30);
my ($first) = durable($repo);
all_there('without faults', $config, $first);
is($stream->stop, 0, 'walstream ends well');
my $rounds = 0;

# One life of walstream with a fault in it, under load; complaints.
sub life
{
    my ($label, %plan) = @_;
    my @complaints;
    my %env = (LD_PRELOAD => $failnth, map { ('FAILNTH_' . uc $_ => $plan{$_}) } grep { $_ ne 'ends' } keys %plan);
    my $daemon = WalTest::walstream($config, name => 'life', env => \%env, wait => 0);
    my $until = time + 3;

    for (my $i = 0; time < $until && $i < ($plan{ends} ? 20 : 3); $i++)
    {
        load(100 + 150 * ($i % 3));
        usleep(120_000) if $i % 3 == 1;    # an idle open segment
        push @complaints, told_too_much('walstream', $repo);
        last unless $daemon->running;
    }
    my $exit = $plan{ends} ? $daemon->wait_exit(0) : $daemon->stop(seconds => 40);
    if (!defined $exit)
    {
        # fewer calls than that within its time: as good a moment as any
        $daemon->kill9;
        $exit = 128 + 9;
    }
    push @complaints, "exit $exit: " . $daemon->log_text unless $exit == 128 + 9 && $plan{ends} || $exit <= 2;
    push @complaints, told_too_much('walstream', $repo);
    $rounds++;
    return map { "$label: $_" } @complaints;
}

if ($sanitized)
{
    pass('built with a sanitizer: faults in calls of libc are left out');
}
else
{
    my $count_file = FailNth::folder() . '/counts';
    my $changes = 'open,openat,read,pread,write,writev,fsync,close,linkat,mkdirat,unlinkat,send,recv,connect';
    my %calls;

    for my $functions ($changes, 'malloc,calloc,realloc')
    {
        unlink $count_file;
        my @complaints = life('counting', func => $functions, count_file => $count_file);
        $calls{$functions} = (split /\n/, FailNth::slurp($count_file))[0] // 0;
        is_deeply(\@complaints, [], "calls of $functions are counted: $calls{$functions}");
    }

    my @complaints;
    my $kill = 0;
    for my $n (FailNth::sample($calls{$changes}, $points))
    {
        $kill = $kill % 2 + 1;
        push @complaints, life("killed at call $n", func => $changes, n => $n, kill => $kill, ends => 1);
    }
    is_deeply(\@complaints, [], 'killed at calls: the server was never told too much') or diag(@complaints);

    @complaints = ();
    for my $n (FailNth::sample($calls{'malloc,calloc,realloc'}, $points / 3))
    {
        push @complaints, life("no memory at call $n", func => 'malloc,calloc,realloc', n => $n);
    }
    is_deeply(\@complaints, [], 'no memory for once: it goes on, or ends in order') or diag(@complaints);

    my %errors = (
        openat => 'EACCES', fsync => 'EIO', writev => 'ENOSPC', linkat => 'EIO', mkdirat => 'ENOSPC', send => 'EPIPE',
        recv => 'ECONNRESET', connect => 'ECONNREFUSED', read => 'EIO', close => 'EIO');
    @complaints = ();
    for my $function (sort keys %errors)
    {
        push @complaints, life("$function fails, call $_", func => $function, errno => $errors{$function}, n => $_)
          for $full ? (1 .. 20) : $function =~ /^(?:openat|fsync|writev|send|recv)$/ ? (3, 9) : (2);
    }
    is_deeply(\@complaints, [], 'calls that fail: it goes on, or ends in order') or diag(@complaints);
}

# kill -9 at random moments, which every build can take
my @random;
for my $round (1 .. ($full ? 20 : 3))
{
    $stream = WalTest::walstream($config);
    load(400);
    usleep(100_000 * $round);
    $stream->kill9;
    push @random, told_too_much('walstream', $repo);
}
is_deeply(\@random, [], 'killed at random moments');

$stream = WalTest::walstream($config);
load(1200);
WalTest::wait_durable($config, current_lsn(), 60);
all_there("after $rounds lives", $config, $first);
$first = open_segment();

# ---- a file:// store that cannot be written for a while: pgrwl#234 ----

sub chmod_all
{
    my ($mode) = @_;
    my @dirs;
    chmod 0700, $repo;
    find({ no_chdir => 1, wanted => sub { push @dirs, $_ if -d $_ } }, $repo);
    chmod $mode, $_ for reverse @dirs;
    return;
}

chmod_all(0500);
my $begin = time;
load(1000) while time < $begin + ($full ? 20 : 5);
$begin = time;
query('CHECKPOINT');
cmp_ok(time - $begin, '<', 120, 'not writable: a checkpoint of the server is not held up');
my $state;
WalTest::wait_until(
    sub { $state = WalTest::status($config) // {}; ($state->{last_error}{message} // '') =~ /Permission denied/ },
    60, 'the status tells the error');
pass('not writable: the status says so');
ok($stream->running, 'not writable: walstream goes on');
is_deeply([ told_too_much('walstream', $repo) ], [], 'not writable: nothing was told that is not there');
chmod_all(0700);
WalTest::wait_durable($config, current_lsn(), 90);
all_there('writable again', $config, $first);
is($stream->stop, 0, 'walstream ends well');

# ---- S3: down under load, and back ----

my $rgw = WalTest::rgw();
my $proxy = WalTest::S3::Proxy->start($rgw->{RGW_HTTP});
my $s3 = WalTest::s3('stream', tls => 0);
my %settings = (slot => 'walstream_s3', 'flush-interval' => '50ms', memory => '32MiB');
my $clean_config = WalTest::config_for($node, repository => $s3, stream => {%settings});
my $s3_config = WalTest::config_for(
    $node,
    repository => { %$s3, endpoint => $proxy->{endpoint} },
    stream => { %settings, socket => WalTest::short_dir() . '/walstream.sock' });
WalTest::run_ok('init on S3', WalTest::tool('walctl'), '--config', $clean_config, 'init');
$stream = WalTest::walstream($s3_config, name => 'walstream_s3');
load(1500);
WalTest::wait_durable($s3_config, current_lsn(), 30);
my $s3_first = open_segment();

$proxy->down;
$begin = time;
my $seconds = $full ? 60 : 20;
my $written = 0;
while (time < $begin + $seconds || $written < 60_000)
{
    # several times the memory, and then on and on
    if ($written < 60_000) { load(5000); $written += 5000 }
    else { load(50); usleep(200_000) }
}
my $told = query("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'walstream_s3'");
$begin = time;
query('CHECKPOINT');
cmp_ok(time - $begin, '<', 120, 'store down: a checkpoint of the server is not held up');
# each upload is tried for 20 s before it counts as failed
WalTest::wait_until(
    sub { $state = WalTest::status($s3_config) // {}; defined $state->{last_error} && $state->{counters}{stream_stalls} >= 1 },
    60, 'the status tells the error');
pass('store down: the stream was closed when the buffers were full');
cmp_ok($state->{stream}{lag_bytes} // 0, '>', 0, 'store down: the status tells the lag');
like($state->{last_error}{message}, qr/could not store "\S+"/, 'store down: the status tells the error');
ok(WalTest::lsn_number($state->{stream}{durable_lsn}) >= WalTest::lsn_number($told), 'store down: the server was not told more than what is durable');
cmp_ok(most_memory($stream), '<=', 96, 'store down: memory is bounded') unless $sanitized;
$proxy->up;
WalTest::wait_durable($s3_config, current_lsn(), 300);
cmp_ok(most_memory($stream), '<=', 96, 'store back: memory is bounded') unless $sanitized;
all_there('store back', $s3_config, $s3_first);

# ---- S3: answers that are wrong, late, cut, lost ----

$s3_first = open_segment();
my @actions = (
    'status 503 SlowDown', 'status 500 InternalError', 'status 200 InternalError', 'cut-request 20000', 'delay 300', 'reset',
    'pass-reset', 'pass-status 200 InternalError', 'pass-status 503 SlowDown', 'html 502', 'cut-answer 10');
my @rules = map { $proxy->add('PUT', '.', $actions[ $_ % @actions ], skip => 2 * $_) } 0 .. 54;
my ($loads, $hits) = (0, 0);
# however many uploads that makes
WalTest::wait_until(
    sub {
        load(300);
        usleep(100_000);
        $hits = 0;
        $hits += $proxy->hits($_) for @rules;
        return ++$loads >= 30 && $hits > 12;
    },
    300, 'S3 has answered wrongly');
pass("S3 answers wrongly: $hits times");
$proxy->clear;
WalTest::wait_durable($s3_config, current_lsn(), 300);
ok($stream->running, 'S3 answers wrongly: walstream goes on');
is($stream->stop, 0, 'S3 answers wrongly: walstream ends well');
$stream = WalTest::walstream($clean_config, name => 'walstream_clean');
all_there('S3 answers wrongly, seen past the proxy', $clean_config, $s3_first);

# ---- a wrong byte on the way back ----

my ($name) = query("SELECT pg_walfile_name(pg_current_wal_lsn() - 3 * $mb)");
my $host = WalTest::dir('host');
mkdir "$host/global" or die "mkdir: $!";
system('cp', "$datadir/global/pg_control", "$host/global/pg_control") == 0 or die 'cp';
open my $fh, '>', "$host/recovery.signal" or die "recovery.signal: $!";
close $fh or die "recovery.signal: $!";

sub fetch_through
{
    my ($timeout) = @_;
    return FailNth::run([ $walfetch, '--config', $s3_config, '--restore.prefetch=0', "--timeout=$timeout", $name, 'fetched' ],
        cwd => $host);
}

for my $at (0, 60, 5000, 100_000)
{
    my $rule = $proxy->add('GET', $name, "corrupt $at", times => 0);
    my $run = WalTest::give_up(
        5, \&fetch_through,
        sub { $proxy->hits($rule) > 0 && $_[0]{stderr} =~ /\Q$name\E/ },
        "a wrong byte at $at, always");
    is($run->{exit}, 200, "a wrong byte at $at, always: 200");
    like($run->{stderr}, qr/$name/, "a wrong byte at $at, always: the object is named");
    ok(!-e "$host/fetched", "a wrong byte at $at, always: nothing is delivered");
    cmp_ok($proxy->hits($rule), '>=', 1, "a wrong byte at $at, always: the fault was there");
    $proxy->clear;
    $proxy->add('GET', $name, "corrupt $at");
    $run = fetch_through('120s');
    is($run->{exit}, 0, "a wrong byte at $at, once: fetched again") or diag($run->{stderr});
    is(FailNth::slurp("$host/fetched"), FailNth::slurp("$datadir/pg_wal/$name"), "a wrong byte at $at, once: right") if $run->{exit} == 0;
    unlink "$host/fetched";
    $proxy->clear;
}

is($stream->stop, 0, 'walstream ends well');
$node->stop;
$proxy->stop;
done_testing();
