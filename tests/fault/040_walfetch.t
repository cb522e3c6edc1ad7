# SPDX-License-Identifier: PostgreSQL
#
# walfetch under faults. Each call of each function of libc fails once, or walfetch-direct is killed before or after
# it, while a server in archive recovery asks for WAL: the file is in place and right, or the answer is
# "could not tell" (200), which stops recovery. It is never "does not exist" (1), at which recovery would end
# and archived commits be lost. The destination is absent or right at any moment, and nothing else is ever
# left in pg_wal. (wal-e#144: a failed fetch left a file of 0 bytes, which was served.)

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use FailNth;
use File::Copy qw(copy);
use File::Path qw(make_path);
use Test::More;
use WalTest;

my $direct = WalTest::tool('walfetch-direct');
my $walfetch = WalTest::tool('walfetch');
my $walctl = WalTest::tool('walctl');
my $walfill = "$ENV{WALSTREAM_BIN}/tests/walfill";
my $sanitized = FailNth::sanitized($direct);
my $mb = 1 << 20;
my $piece_end = 600_000;

# ---- two repositories of the same WAL, one of them encrypted ----

my $node = WalTest::node('primary');
my $datadir = $node->data_dir;
WalTest::pgbench_init($node, 1);
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
my $current = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
$node->stop('immediate');    # without a checkpoint, which would recycle segments
my ($segment, $pieces) = sort grep { /^[0-9A-F]{24}$/ && $_ lt $current } map { s{.*/}{}r } glob("$datadir/pg_wal/*");

# what walfetch sees of a server in archive recovery, in memory where that can be
my $top = FailNth::folder();
for my $role (qw(recovery standby))
{
    make_path("$top/$role/global", "$top/$role/pg_wal");
    copy("$datadir/global/pg_control", "$top/$role/global/pg_control") or die "pg_control: $!";
    open my $fh, '>', "$top/$role/$role.signal" or die "signal file: $!";
    close $fh or die "signal file: $!";
}
my $history_text = "1\t0/2000000\tno recovery target specified\n";
open my $fh, '>', "$top/00000002.history" or die "history: $!";
print $fh $history_text;
close $fh or die "history: $!";

sub make_repository
{
    my ($name, %sections) = @_;
    make_path("$top/$name/repo");
    my $config = WalTest::config(
        "$top/$name",
        cluster => { name => 'test' },
        repository => { url => "file://$top/$name/repo" },
        restore => { spool => "$top/$name/spool", prefetch => 0 },
        %sections);

    WalTest::run_ok("$name: init", $walfill, $config, 'init', $datadir);
    WalTest::run_ok("$name: put", $walfill, $config, 'put', $_) for "$datadir/pg_wal/$segment", "$top/00000002.history";
    for my $range ([ 0, 200_000 ], [ 100_000, 300_000 ], [ 300_000, $piece_end ], [ 700_000, 800_000 ])
    {
        WalTest::run_ok("$name: piece", $walfill, $config, 'piece', "$datadir/pg_wal/$pieces", @$range);
    }
    return $config;
}

my $plain = make_repository('plain');
my $keygen = WalTest::run_ok('keygen', $walctl, 'keygen', "$top/identity");
my ($recipient) = "$keygen->{stdout}$keygen->{stderr}" =~ /\b(age1[0-9a-z]+)/;
my $encrypted =
  make_repository('encrypted', encryption => { recipient => $recipient, 'identity-file' => "$top/identity" });

# name, repository, what must come
my %requests = (
    segment => [ $segment, $plain, FailNth::slurp("$datadir/pg_wal/$segment") ],
    encrypted => [ $segment, $encrypted, FailNth::slurp("$datadir/pg_wal/$segment") ],
    pieces => [
        $pieces, $plain,
        substr(FailNth::slurp("$datadir/pg_wal/$pieces"), 0, $piece_end)
          . "\0" x ($mb - $piece_end - 32)
          . "walstream: padded WAL segment\0\0\0"
    ],
    history => [ '00000002.history', $plain, $history_text ],
    absent => [ '0000000100000000000000FF', $plain, undef ]);

# ---- each call fails, or walfetch-direct dies there ----

sub command_for
{
    my ($program, $request, @options) = @_;
    my ($name, $config) = @{ $requests{$request} };
    return [ $program, '--config', $config, @options, $name, 'pg_wal/RECOVERYXLOG' ];
}

# Complaints about what lies in pg_wal after a run, which is then empty again.
sub look
{
    my ($role, $request, $run) = @_;
    my $dest = "$top/$role/pg_wal/RECOVERYXLOG";
    my $want = $requests{$request}[2];
    my @complaints;

    push @complaints, 'the destination is wrong' if -e $dest && !(defined $want && FailNth::slurp($dest) eq $want);
    push @complaints, 'exit 0 without the file' if $run->{exit} == 0 && !-e $dest;
    opendir my $dir, "$top/$role/pg_wal" or die "pg_wal: $!";
    my @others = grep { !/^(?:\.|\.\.|RECOVERYXLOG)$/ } readdir $dir;
    push @complaints, "left in pg_wal: @others" if @others;
    unlink map { "$top/$role/pg_wal/$_" } @others, 'RECOVERYXLOG';
    return @complaints;
}

sub judge
{
    my ($role, $request, $run, %plan) = @_;
    my @complaints = look($role, $request, $run);
    my $absent = !defined $requests{$request}[2];
    my %allowed =
        $role eq 'standby' ? (0 => !$absent, 1 => 1)
      : (0 => !$absent, 1 => $absent, 200 => 1);

    return @complaints if $plan{kill} && $run->{signal} == 9;
    push @complaints, "ended by signal $run->{signal}: $run->{stderr}" if $run->{signal};
    push @complaints, "exit $run->{exit}: $run->{stderr}" if !$run->{signal} && !$allowed{ $run->{exit} };
    # a disk that is full for good takes no message either
    push @complaints, "exit $run->{exit} without a message"
      if $run->{exit} == 200 && $run->{stderr} !~ /ERROR:  \S/ && !($plan{keep} && $plan{func} =~ /write/);
    return @complaints;
}

my $total = 0;

sub sweep
{
    my ($request, $most, %plan) = @_;
    my $program = delete $plan{front} ? $walfetch : $direct;
    my $role = delete $plan{role} // 'recovery';
    my $what = ($plan{kill} ? "killed $plan{kill}, " : "$plan{errno}, ") . $plan{func};
    my (@complaints, $faults);

    my $command = command_for($program, $request, '--timeout=1s');
    my $cwd = "$top/$role";
    my $patient = command_for($program, $request, '--timeout=60s');
    my $count = FailNth::run($patient, cwd => $cwd, func => $plan{func});
    push @complaints, look($role, $request, $count);
    my $calls = $count->{counts}[0] // 0;
    for my $n (FailNth::sample($calls, FailNth::quick() ? 6 : $most))
    {
        my $run = FailNth::run($command, cwd => $cwd, %plan, n => $n);
        $faults++ if $run->{signal} || !@{ $run->{counts} } || $run->{counts}[0] >= $n;
        push @complaints, map { "call $n: $_" } judge($role, $request, $run, %plan);
        last if @complaints > 5;
    }
    $faults //= 0;
    $total += $faults;
    my $label = "$request, asked by a $role" . ($program eq $walfetch ? ' through walfetch' : '') . ": $what";
    ok(!@complaints, "$label ($faults of $calls calls)") or diag(join "\n", @complaints);

    my $after = FailNth::run($patient, cwd => $cwd);
    my $want = defined $requests{$request}[2] ? 0 : 1;
    my @after = look($role, $request, $after);
    ok($after->{exit} == $want && !@after, "$label: right in the next run") or diag("exit $after->{exit}: $after->{stderr} @after");
    return;
}

for my $request (sort keys %requests)
{
    my $run = FailNth::run(command_for($direct, $request), cwd => "$top/recovery");
    is($run->{exit}, defined $requests{$request}[2] ? 0 : 1, "$request: exit code") or diag($run->{stderr});
    is_deeply([ look('recovery', $request, $run) ], [], "$request: right");
}

if ($sanitized)
{
    pass('built with a sanitizer: faults in calls of libc are left out');
}
else
{
    my %errors = (
        # ENOENT of a file of ours (configuration, identity, folder) does not mean that there is no WAL
        open => [qw(EIO EMFILE ENOENT)],
        openat => [qw(EIO EACCES ESTALE)],
        read => [qw(EIO)],
        pread => [qw(EIO EINTR)],
        readv => [qw(EIO)],
        write => [qw(ENOSPC EIO)],
        writev => [qw(ENOSPC)],
        pwrite => [qw(ENOSPC EIO)],
        ftruncate => [qw(EIO)],
        fstat => [qw(EIO)],
        fstatat => [qw(EIO)],
        linkat => [qw(EIO ENOSPC)],
        close => [qw(EIO)],
        malloc => [qw(ENOMEM)],
        calloc => [qw(ENOMEM)],
        realloc => [qw(ENOMEM)]);
    my $memory = qr/^(?:malloc|calloc|realloc)$/;

    for my $function (sort keys %errors)
    {
        for my $errno (FailNth::quick() ? $errors{$function}[0] : @{ $errors{$function} })
        {
            sweep('segment', 12, func => $function, errno => $errno);
            sweep('pieces', 8, func => $function, errno => $errno) if $errno eq $errors{$function}[0];
        }
        sweep('absent', 6, func => $function, errno => $errors{$function}[0]);
        sweep('history', 6, func => $function, errno => $errors{$function}[0])
          if $function =~ $memory || $function =~ /^(?:open|openat|ftruncate|write)$/;
        sweep('encrypted', 10, func => $function, errno => $errors{$function}[0]) if $function =~ $memory || $function eq 'open';
    }
    # for longer than the time-out
    for my $function ('openat', 'pread', 'read', 'fstat', 'write,pwrite,writev', 'malloc')
    {
        my $errno = $function eq 'malloc' ? 'ENOMEM' : $function =~ /write/ ? 'ENOSPC' : 'EIO';
        sweep($_, 3, func => $function, errno => $errno, keep => 1) for 'segment', 'pieces', 'absent';
        sweep('segment', 2, func => $function, errno => $errno, keep => 1, role => 'standby');
    }

    my $changes = 'open,openat,read,pread,write,pwrite,writev,ftruncate,close,link,linkat,rename,renameat,unlink';
    for my $kill (1, 2)
    {
        sweep('segment', 40, func => $changes, kill => $kill);
        sweep('pieces', 30, func => $changes, kill => $kill);
        sweep('encrypted', 10, func => $changes, kill => $kill);
        # its death is no reason for a server to end recovery, nor for a standby to go down
        sweep('segment', 12, func => $changes, kill => $kill, front => 1);
        sweep('segment', 12, func => $changes, kill => $kill, front => 1, role => 'standby');
    }
    cmp_ok($total, '>', 300, 'there were faults');
}

# ---- a file system without nameless files, or without links ----

for my $errno (qw(EOPNOTSUPP EISDIR))
{
    last if $sanitized;
    # every later attempt of the same kind fails too; the others are the repository's
    my $count = FailNth::run(command_for($direct, 'segment'), cwd => "$top/recovery", func => 'open');
    look('recovery', 'segment', $count);
    my $right = 0;
    for my $n (1 .. $count->{counts}[0])
    {
        my $run = FailNth::run(command_for($direct, 'segment', '--timeout=1s'), cwd => "$top/recovery", func => 'open', errno => $errno, n => $n);
        my @complaints = judge('recovery', 'segment', $run);
        is_deeply(\@complaints, [], "open number $n fails with $errno");
        $right++ if $run->{exit} == 0;
    }
    cmp_ok($right, '>', 0, "a file system where nameless files fail with $errno: the file comes");
}

# ---- a full disk, and a folder that cannot be written ----

{
    chmod 0500, "$top/recovery/pg_wal";
    my $run = WalTest::give_up(
        2,
        sub { FailNth::run(command_for($direct, 'segment', "--timeout=$_[0]"), cwd => "$top/recovery") },
        sub { $_[0]{stderr} =~ /Permission denied/ },
        'pg_wal cannot be written');
    is($run->{exit}, 200, 'pg_wal cannot be written: 200');
    like($run->{stderr}, qr/ERROR:  .*Permission denied/, 'and why');
    chmod 0700, "$top/recovery/pg_wal";
}

# ---- the repository vanishes as a whole, as a file system that is not mounted does ----

rename "$top/plain/repo", "$top/plain/away" or die "rename: $!";
for my $program ($direct, $walfetch)
{
    for my $request (qw(segment history absent))
    {
        my $run = FailNth::run(command_for($program, $request, '--timeout=1s'), cwd => "$top/recovery");
        is($run->{exit}, 200, "$request: the repository is not there: 200, not 1") or diag($run->{stderr});
        $run = FailNth::run(command_for($program, $request, '--timeout=1s'), cwd => "$top/standby");
        is($run->{exit}, 1, "$request: asked by a standby: 1");
    }
}
# an empty folder in its place
mkdir "$top/plain/repo" or die "mkdir: $!";
my $run = FailNth::run(command_for($direct, 'absent', '--timeout=1s'), cwd => "$top/recovery");
is($run->{exit}, 200, 'an empty folder in its place: 200');

done_testing();
