#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# walfetch as restore_command: recovery and standbys on real servers, prefetching, and what must hold when
# something is killed, damaged, missing or full. The repository is filled by walfill.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use Test::More;
use File::Path qw(make_path remove_tree);
use Time::HiRes qw(time usleep);

my $walfill = "$ENV{WALSTREAM_BIN}/tests/walfill";
my $walfetch = WalTest::tool('walfetch');

# ---- helpers ----

sub sessions
{
    my ($config) = @_;
    return grep { -d } glob(WalTest::repo_dir($config) =~ s{/repo$}{/spool/*}r);
}

# Processes that run walfetch-direct as a prefetcher with this configuration.
sub prefetchers
{
    my ($config) = @_;
    my @pids;

    for my $file (glob '/proc/[0-9]*/cmdline')
    {
        open my $fh, '<:raw', $file or next;
        my $line = <$fh> // '';
        push @pids, $file =~ m{/proc/(\d+)/}
          if $line =~ /walfetch-direct\0--prefetcher\0/ && $line =~ /\Q$config\E\0/;
    }
    return @pids;
}

sub wal_names
{
    my ($dir) = @_;
    opendir my $handle, $dir or die "could not open $dir: $!";
    return sort grep { !/^\.\.?$/ } readdir $handle;
}

# Only what PostgreSQL itself puts there.
sub foreign_files
{
    my ($node) = @_;
    return grep { !/^(?:[0-9A-F]{24}(?:\.partial|\.[0-9A-F]{8}\.backup)?|[0-9A-F]{8}\.history|archive_status|summaries)$/ }
      wal_names($node->data_dir . '/pg_wal');
}

sub ready_segments
{
    my ($config) = @_;
    return map { grep { /^[0-9A-F]{24}$/ } wal_names($_) } sessions($config);
}

sub object_path
{
    my ($config, $key) = @_;
    my @paths = glob WalTest::repo_dir($config) . "/test/*/$key";
    return $paths[0];
}

sub segment_key
{
    my ($name) = @_;
    return sprintf 'wal/%s/%s/%s', substr($name, 0, 8), substr($name, 8, 8), $name;
}

# Returns what mends it.
sub damage
{
    my ($path) = @_;
    my $whole = WalTest::slurp($path);

    chmod 0600, $path;
    open my $fh, '+<:raw', $path or die "could not open $path: $!";
    my $at = int((-s $path) * 3 / 4);
    seek $fh, $at, 0;
    read $fh, my $byte, 1;
    seek $fh, $at, 0;
    print $fh chr(ord($byte) ^ 0x55);
    close $fh or die "could not write $path: $!";
    return sub {
        open my $out, '>:raw', $path or die "could not open $path: $!";
        print $out $whole;
        close $out or die "could not write $path: $!";
    };
}

# ---- a primary that archives ----

my $primary = WalTest::node('primary');
my $config = WalTest::config_for($primary);
WalTest::run_ok('repository made', $walfill, $config, 'init', $primary->data_dir);
WalTest::set_conf($primary, archive_mode => 'on', archive_command => "$walfill $config put %p");
$primary->restart;
WalTest::pgbench_init($primary, 2);
my $backup = WalTest::base_backup($primary, WalTest::dir('base'));
WalTest::pgbench($primary, '-c', 2, '-t', 1500);
$primary->safe_psql('postgres',
    'CREATE TABLE filler AS SELECT g, md5(g::text) FROM generate_series(1, 150000) g');
$primary->safe_psql('postgres', 'CHECKPOINT; SELECT pg_switch_wal()');
my $want = WalTest::rows($primary, 'pgbench_history', 'tid, bid, aid, delta, mtime');
my $last = $primary->safe_psql('postgres',
    "SELECT pg_walfile_name(pg_switch_wal())");
WalTest::wait_until(
    sub { $primary->safe_psql('postgres', 'SELECT last_archived_wal FROM pg_stat_archiver') ge $last },
    60, "$last is archived");
my @archived = sort map { m{([0-9A-F]{24})$} ? $1 : () }
  glob(WalTest::repo_dir($config) . '/test/*/wal/00000001/*/*');
cmp_ok(scalar @archived, '>', 20, 'more than 20 segments are archived');

sub check_restored
{
    my ($node, $label) = @_;
    WalTest::same_rows(WalTest::rows($node, 'pgbench_history', 'tid, bid, aid, delta, mtime'),
        $want, "$label: all rows are back");
    is($node->safe_psql('postgres', 'SELECT count(*) FROM filler'), 150000, "$label: filler too");
    is_deeply([ foreign_files($node) ], [], "$label: pg_wal has files of PostgreSQL only");
    return;
}

# ---- recovery ----

my $restored = WalTest::restore_node('restored', backup => $backup, config => $config);
check_restored($restored, 'recovery');
my @pids;
WalTest::wait_until(sub { @pids = prefetchers($config); @pids == 1 }, 60, 'one prefetcher runs');
is(scalar @pids, 1, 'one prefetcher runs');
is(scalar sessions($config), 1, 'in one session');
open my $status, '<', "/proc/$pids[0]/status" or die;
my ($rss) = map { /^VmHWM:\s+(\d+) kB/ ? $1 : () } <$status>;
# a sanitizer has memory of its own
my $limit_kb = WalTest::quick() ? 512 * 1024 : 32 * 1024;
cmp_ok($rss, '<', $limit_kb, "the prefetcher stays below $limit_kb kB resident ($rss kB)");
is(readlink "/proc/$pids[0]/cwd", '/', 'the prefetcher is not in the data directory');

# ---- answers, by hand, in the directory of the running server ----

my $cwd = $restored->data_dir;
my $out = WalTest::dir('out');
my $middle = $archived[ @archived / 2 ];

sub fetch
{
    my ($label, $exit, $name, @options) = @_;
    my %opt = @options && ref $options[-1] ? %{ pop @options } : ();
    unlink "$out/$name";
    return WalTest::run_exit($label, $exit, $walfetch, '--config', $opt{config} // $config,
        @options, $name, "$out/$name", { cwd => $cwd, %opt });
}

for my $try (1 .. 3)
{
    fetch("asked $try times", 0, $middle);
    is(-s "$out/$middle", 1024 * 1024, "asked $try times: the whole segment");
}
my $bytes = WalTest::slurp("$out/$middle");
fetch('without prefetching', 0, $middle, '--restore.prefetch=0');
ok(WalTest::slurp("$out/$middle") eq $bytes, 'without prefetching: the same bytes');
fetch('absent segment', 1, '0000000100000000000000FF');
ok(!-e "$out/0000000100000000000000FF", 'absent segment: nothing is made');
fetch('absent history', 1, '00000007.history');
fetch('absent backup file', 1, "$middle.00000028.backup");
fetch('absent, without prefetching', 1, '00000007.history', '--restore.prefetch=0');

my $next = $archived[ @archived / 2 + 1 ];
WalTest::wait_until(sub { grep { $_ eq $next } ready_segments($config) }, 20, 'the next one is ready');
# nobody needs the repository for that
my $object = object_path($config, segment_key($next));
rename $object, "$object.away" or die "could not rename $object: $!";
my $result = fetch('a ready one', 0, $next);
rename "$object.away", $object or die "could not rename $object.away: $!";
is(-s "$out/$next", 1024 * 1024, 'a ready one: the whole segment');
WalTest::wait_until(sub { !grep { $_ eq $next } ready_segments($config) }, 20, 'it was taken');

# ---- usage and configuration are never "the archive ends here" ----

fetch('wrong option, called by a server', 200, $middle, '--no-such-option');
fetch('no configuration, called by a server', 200, $middle, { config => "$out/none.conf" });
WalTest::run_exit('wrong option by hand', 2, $walfetch, '--no-such-option', { cwd => $out });
WalTest::run_exit('no WAL file name by hand', 2, $walfetch, '--config', $config, 'x', 'y', { cwd => $out });
WalTest::run_exit('by hand, no server', 0, $walfetch, '--config', $config, $middle, "$out/hand", { cwd => $out });
ok(WalTest::slurp("$out/hand") eq $bytes, 'by hand: the same bytes');
fetch('no helper to be found', 200, '0000000100000000000000FE',
    '--restore.prefetch=0', { env => { WALSTREAM_LIBEXEC => '/nonexistent' } });
{
    my $killer = WalTest::dir('killer');
    open my $fh, '>', "$killer/walfetch-direct" or die;
    print $fh "#!/bin/sh\nkill -9 \$\$\n";
    close $fh;
    chmod 0755, "$killer/walfetch-direct";
    fetch('the helper is killed', 200, '0000000100000000000000FE',
        '--restore.prefetch=0', { env => { WALSTREAM_LIBEXEC => $killer } });
}

for my $code (2, 42, 127)
{
    my $odd = WalTest::dir("odd_$code");
    open my $fh, '>', "$odd/walfetch-direct" or die;
    print $fh "#!/bin/sh\nexit $code\n";
    close $fh;
    chmod 0755, "$odd/walfetch-direct";
    fetch("the helper ends with exit code $code", 200, '0000000100000000000000FE',
        '--restore.prefetch=0', { env => { WALSTREAM_LIBEXEC => $odd } });
}

# ---- damage, and a repository that is not there ----

# one that lies behind the position, where nothing is prefetched
my $broken = $archived[2];
my $mend = damage(object_path($config, segment_key($broken)));
$result = fetch('damaged object', 200, $broken);
like($result->{stderr}, qr/\Q$broken\E/, 'damaged object: it is named');
ok(!-e "$out/$broken", 'damaged object: nothing is made');
fetch('damaged object, without prefetching', 200, $broken, '--restore.prefetch=0');
$mend->();
fetch('mended object', 0, $broken);

$broken = $archived[-8];
$mend = damage(object_path($config, segment_key($broken)));
my $failed = WalTest::restore_node('damaged', backup => $backup, config => $config, start => 0);
$failed->start(fail_ok => 1);
WalTest::wait_until(sub { !-e $failed->data_dir . '/postmaster.pid' }, 60, 'recovery stops');
$failed->{_pid} = undef;
my $log = WalTest::slurp($failed->logfile);
like($log, qr/ERROR:  could not restore "\Q$broken\E".*\n.*FATAL:  could not restore file/,
    'recovery stops at a damaged segment');
unlike($log, qr/archive recovery complete/, 'and does not end there');
$mend->();

my $top = WalTest::repo_dir($config) . '/test';
rename $top, "$top.away" or die "could not rename $top: $!";
fetch('repository gone, through the prefetcher', 200, '0000000100000000000000FD', '--timeout', '2s');
fetch('repository gone', 200, '0000000100000000000000FD', '--timeout', '2s', '--restore.prefetch=0');
open my $fh, '>', $restored->data_dir . '/standby.signal' or die;
close $fh;
fetch('repository gone, on a standby', 1, '0000000100000000000000FD', '--timeout', '2s');
fetch('wrong option, on a standby', 1, $middle, '--no-such-option');
unlink $restored->data_dir . '/standby.signal';
rename "$top.away", $top or die "could not rename $top.away: $!";
fetch('repository back', 0, $middle);

# ---- kill -9 of the prefetcher ----

kill 'KILL', prefetchers($config);
WalTest::wait_until(sub { !prefetchers($config) }, 10, 'the prefetcher is gone');
is(scalar sessions($config), 1, 'it left its directory');
fetch('after kill -9 of the prefetcher', 0, $middle);
# What the killed one had ready is still taken, without asking anybody; the first call that finds nothing starts a new one.
WalTest::wait_until(
    sub {
        return 1 if prefetchers($config) == 1;
        unlink "$out/$middle";
        WalTest::run([ $walfetch, '--config', $config, $middle, "$out/$middle" ], cwd => $cwd);
        return 0;
    },
    60, 'a new prefetcher runs');
is(scalar prefetchers($config), 1, 'a new one runs');
is(scalar sessions($config), 1, 'in the same session');

# ---- a prefetcher that hangs ----

kill 'STOP', prefetchers($config);
# long before its time-out
$result = fetch('the prefetcher hangs', 0, $archived[1], '--timeout', '1000s', { timeout => 500 });
cmp_ok($result->{ms}, '<', 500_000, 'the prefetcher hangs: no long wait');
kill 'CONT', prefetchers($config);

# ---- the end of the server is the end of the prefetcher ----

my ($old_session) = sessions($config);
$restored->stop;
WalTest::wait_until(sub { !prefetchers($config) }, 20, 'the prefetcher ends with its server');
is(scalar sessions($config), 0, 'and takes its directory along');

# ---- what an earlier restore left is not served ----

make_path($old_session);
chmod 0700, $old_session;
for my $name (@archived)
{
    open my $left, '>:raw', "$old_session/$name" or die;
    print $left "\0" x (1024 * 1024);
    close $left;
}
open my $lock, '>', "$old_session/lock" or die;
close $lock;
my $again = WalTest::restore_node('again', backup => $backup, config => $config);
check_restored($again, 'with left-overs');
ok(!-d $old_session, 'left-overs are removed');
$again->stop;

# ---- kill -9 in the middle, again and again ----

my $stormy = WalTest::restore_node('stormy', backup => $backup, config => $config, start => 0);
{
    my $killer = fork // die;
    if (!$killer)
    {
        $SIG{TERM} = 'DEFAULT';
        for (;;)
        {
            kill 'KILL', prefetchers($config);
            usleep(60_000);
        }
    }
    $stormy->start;
    WalTest::wait_until(
        sub { ($stormy->psql('postgres', 'SELECT pg_is_in_recovery()'))[1] eq 'f' },
        600, 'recovery ends while prefetchers are killed');
    kill 'KILL', $killer;
    waitpid $killer, 0;
}
check_restored($stormy, 'prefetchers killed');
$stormy->stop;

# walfetch killed: PostgreSQL stops, a new start goes on
my $hit = WalTest::restore_node('hit', backup => $backup, config => $config, start => 0);
$cwd = $hit->data_dir;
for my $delay (1, 2, 4, 8, 16, 32)
{
    my $name = $archived[$delay % @archived];
    my $pid = fork // die;
    if (!$pid)
    {
        chdir $cwd;
        open STDERR, '>', '/dev/null';
        exec $walfetch, '--config', $config, $name, 'pg_wal/RECOVERYXLOG' or POSIX::_exit(127);
    }
    usleep($delay * 1000);
    kill 'KILL', $pid;
    waitpid $pid, 0;
    my @left = foreign_files($hit);
    is_deeply([ grep { $_ ne 'RECOVERYXLOG' } @left ], [], "killed after $delay ms: nothing of ours is left");
    my $size = -s "$cwd/pg_wal/RECOVERYXLOG";
    ok(!defined $size || $size == 1024 * 1024, "killed after $delay ms: none or all of the file");
    unlink "$cwd/pg_wal/RECOVERYXLOG";
}

# ---- a spool on another file system, one that is full, one that cannot be used ----

{
    my $shm = "/dev/shm/wst.$$";
    mkdir $shm, 0700 or die "could not create $shm: $!";
    my $node = WalTest::restore_node('otherfs', backup => $backup, config => $config,
        walfetch => [ "--restore.spool=$shm", '--restore.prefetch=4MiB' ]);
    check_restored($node, 'spool on another file system');
    my @count = map { glob "$_/0*" } glob "$shm/*";
    cmp_ok(scalar @count, '<=', 4, 'no more is ready than allowed');
    $node->stop;
    WalTest::wait_until(sub { !glob "$shm/*" }, 20, 'the spool is empty again');
    remove_tree($shm);
}
{
    my $node = WalTest::restore_node('nospool', backup => $backup, config => $config,
        walfetch => ['--restore.spool=/proc/nothing']);
    check_restored($node, 'no spool');
    $log = WalTest::slurp($node->logfile);
    my $warnings = () = $log =~ /no WAL is prefetched/g;
    cmp_ok($warnings, '>=', 1, 'no spool: there is a warning');
    cmp_ok($warnings, '<=', 6, 'no spool: but not for each segment');
    $node->stop;
}

# ---- a standby fed by pieces ----

my $standby = WalTest::restore_node('standby', backup => $backup, config => $config, mode => 'standby');
WalTest::wait_until(
    sub { ($standby->psql('postgres', 'SELECT count(*) FROM filler'))[1] eq '150000' },
    60, 'the standby has what is archived');
WalTest::set_conf($primary, archive_command => '/bin/true');
$primary->reload;
my $sent = 0;
my $current = '';
for my $round (1 .. 5)
{
    $primary->safe_psql('postgres',
        $round == 1 ? 'CREATE TABLE live (i int)' : "INSERT INTO live VALUES ($round)");
    my ($name, $offset) = split /\|/, $primary->safe_psql('postgres',
        'SELECT file_name, file_offset FROM pg_walfile_name_offset(pg_current_wal_flush_lsn())');
    if ($name ne $current)
    {
        $current = $name;
        $sent = 0;
    }
    WalTest::run_ok("piece $round", $walfill, $config, 'piece',
        $primary->data_dir . "/pg_wal/$name", $sent, $offset) if $offset > $sent;
    $sent = $offset;
    my $begin = time;
    WalTest::wait_until(
        sub { ($standby->psql('postgres', 'SELECT count(*) FROM live'))[1] eq $round - 1 },
        20, "round $round has come");
    cmp_ok(time - $begin, '<', 60, sprintf 'round %d came after %.1f s', $round, time - $begin);
}
is_deeply([ grep { $_ ne 'RECOVERYXLOG' } foreign_files($standby) ], [], 'standby: nothing of ours in pg_wal');
ok(!(grep { $_ eq $current } ready_segments($config)), 'a padded segment is never kept ready');
$standby->promote;
is($standby->safe_psql('postgres', 'SELECT count(*) FROM live'), 4, 'promoted with all rows');

# ---- timelines: what the promoted server archives, beside what the old primary goes on with ----

WalTest::set_conf($standby, archive_mode => 'on', archive_command => "$walfill $config put %p");
$standby->restart;
WalTest::run_ok('history', $walfill, $config, 'put', $standby->data_dir . '/pg_wal/00000002.history');
$standby->safe_psql('postgres', 'INSERT INTO live SELECT generate_series(100, 20099)');
$primary->safe_psql('postgres', 'INSERT INTO live VALUES (-1)');
my $newest = $standby->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');
WalTest::wait_until(
    sub { $standby->safe_psql('postgres', 'SELECT last_archived_wal FROM pg_stat_archiver') ge $newest },
    60, "$newest is archived");
my $dead = (split /\|/, $primary->safe_psql('postgres',
    'SELECT file_name, file_offset FROM pg_walfile_name_offset(pg_current_wal_flush_lsn())'))[1];
WalTest::run_ok('a piece behind the fork', $walfill, $config, 'piece',
    $primary->data_dir . "/pg_wal/$current", $sent, $dead);
my $follower = WalTest::restore_node('follower', backup => $backup, config => $config);
is($follower->safe_psql('postgres', 'SELECT count(*) FROM live'), 20004,
    'recovery follows to the new timeline');
is($follower->safe_psql('postgres', 'SELECT count(*) FROM live WHERE i = -1'), 0,
    'without what the old primary wrote after it');
is_deeply([ foreign_files($follower) ], [], 'pg_wal has files of PostgreSQL only');
my $current_tli = WalTest::restore_node('oldline', backup => $backup, config => $config,
    conf => { recovery_target_timeline => 'current' });
is($current_tli->safe_psql('postgres', 'SELECT count(*) FROM live'), 4,
    'recovery on the old timeline ends where the new one forks off');
$_->stop for $follower, $current_tli, $standby, $primary;

done_testing();
