# SPDX-License-Identifier: PostgreSQL
#
# walpush under faults. Each call of each function of libc fails once, or walpush is killed before or after it: exit
# 0 is said only of what is there and right, nothing is half-visible, and the next run comes to its end.
# Then: two hosts at once, other bytes under the same name, files that are no WAL, a full disk, stores that
# answer wrongly or not at all, a walstream that hangs or dies, and an outage seen from the server.
#
# Others lost data in these ways; the tests that keep us from it name the case:
#   pgbackrest#1290, #1116, #1433   503, or 200 with an error, taken as success
#   pgbackrest#842                  temporary file renamed after a write error
#   wal-g#2259                      a failed upload that was not noticed
#   pgbackrest#2629                 one bad segment
#   pgbackrest#1299                 warnings on stderr broke pushing
#   plugin-barman-cloud#266         the same segment sent many times
#   barman#507                      a duplicate refused after SIGKILL

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use FailNth;
use File::Copy qw(copy);
use File::Find;
use File::Path qw(make_path remove_tree);
use Test::More;
use Time::HiRes qw(time);
use WalTest;
use WalTest::S3;

my $direct = WalTest::tool('walpush-direct');
my $walpush = WalTest::tool('walpush');
my $sanitized = FailNth::sanitized($direct);
my $mb = 1 << 20;

# Real WAL: full segments of 1 MB, and one that ends with a switch.
my $node = WalTest::node('primary');
my $datadir = $node->data_dir;
WalTest::pgbench_init($node, 2);
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
my $config = WalTest::config_for($node);
my $repo = WalTest::repo_dir($config);
WalTest::run_ok('init', WalTest::tool('walctl'), '--config', $config, 'init');
my ($sysid) = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()') =~ /^(\d+)$/;
my $current = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
my @segments = sort grep { /^[0-9A-F]{24}$/ && $_ lt $current } map { s{.*/}{}r } glob("$datadir/pg_wal/*");
cmp_ok(scalar @segments, '>=', 14, 'there is WAL to archive');
my $segment = $segments[1];

# What walpush sees of a server: its control file and pg_wal, in memory where that can be.
my $top = FailNth::folder();
my $host = "$top/host";
make_path("$host/global", "$host/pg_wal");
copy("$datadir/global/pg_control", "$host/global/pg_control") or die "pg_control: $!";
copy("$datadir/pg_wal/$_", "$host/pg_wal/$_") or die "$_: $!" for @segments;
my $bytes = FailNth::slurp("$host/pg_wal/$segment");

sub object_path
{
    my ($root, $name) = @_;
    my ($tli, $log) = $name =~ /^(.{8})(.{8}).{8}$/ or die "$name is no segment";
    return "$root/test/$sysid/wal/$tli/$log/$name";
}

sub is_right
{
    my ($path, $want) = @_;
    my $plain = `lz4 -dc '$path' 2>/dev/null`;
    return $? == 0 && $plain eq $want;
}

# A repository of this cluster without WAL.
sub fresh
{
    my ($name) = @_;
    my $root = "$top/$name";
    remove_tree($root);
    make_path("$root/test/$sysid");
    copy("$repo/test/$sysid/cluster.json", "$root/test/$sysid/cluster.json") or die "cluster.json: $!";
    return $root;
}

# Every file below root that can be seen, and the number of temporary ones.
sub visible
{
    my ($root) = @_;
    my @seen;
    my $temps = 0;

    find(
        {
            no_chdir => 1,
            wanted => sub {
                return unless -f $_;
                if (m{/\.tmp\.[^/]+$}) { $temps++ }
                else { push @seen, substr $_, length("$root/test/$sysid/") }
            }
        },
        $root);
    return ([ sort @seen ], $temps);
}

sub push_args
{
    my ($root, $name, @options) = @_;
    return ($direct, '--config', $config, "--repository.url=file://$root", @options, "pg_wal/$name");
}

# ---- each call fails, or walpush dies there ----

my $reference;
{
    my $root = fresh('reference');
    my $run = FailNth::run([ push_args($root, $segment) ], cwd => $host);
    is($run->{exit}, 0, 'a segment is stored') or diag($run->{stderr});
    ok(is_right(object_path($root, $segment), $bytes), 'lz4 opens it: the same bytes');
    $reference = FailNth::slurp(object_path($root, $segment));
}

# Complaints about one run with a fault, and what comes after it.
sub judge
{
    my ($root, $run, $killed) = @_;
    my @complaints;
    my $path = object_path($root, $segment);
    my $there = FailNth::slurp($path);
    my ($seen, $temps) = visible($root);

    push @complaints, 'exit 0, but the object is not there' if $run->{exit} == 0 && $there eq '';
    push @complaints, 'what is visible is not right'
      if -e $path && $there ne $reference && !is_right($path, $bytes);
    push @complaints, "other files: @$seen" if grep { $_ ne 'cluster.json' && "$root/test/$sysid/$_" ne $path } @$seen;
    push @complaints, "ended by signal $run->{signal}: $run->{stderr}" if $run->{signal} && !$killed;
    push @complaints, "exit $run->{exit} without a message"
      if !$killed && $run->{exit} != 0 && $run->{stderr} !~ /(?:ERROR|FATAL):\s+\S/;
    push @complaints, 'a temporary file is left' if $temps && !$killed && !$run->{may_leave};

    # PostgreSQL asks again
    my $again = FailNth::run([ push_args($root, $segment) ], cwd => $host);
    push @complaints, "the next run failed: $again->{stderr}" if $again->{exit} != 0;
    $there = FailNth::slurp($path);
    push @complaints, 'the object is not right in the end'
      if $there ne $reference && !is_right($path, $bytes);
    ($seen) = visible($root);
    push @complaints, "in the end there is: @$seen" if @$seen != 2;
    return @complaints;
}

sub sweep
{
    my ($label, $most, %plan) = @_;
    my $killed = $plan{kill} ? 1 : 0;
    my @complaints;
    my $faults = 0;

    my $count = FailNth::run([ push_args(fresh('sweep'), $segment) ], cwd => $host, func => $plan{func});
    my $calls = $count->{counts}[0] // 0;
    for my $n (FailNth::sample($calls, FailNth::quick() ? 6 : $most))
    {
        my $root = fresh('sweep');
        my $run = FailNth::run([ push_args($root, $segment, '--timeout=5s') ], cwd => $host, %plan, n => $n);

        $run->{may_leave} = $plan{func} eq 'unlinkat';
        $faults++ if $run->{signal} || !@{ $run->{counts} } || $run->{counts}[0] >= $n;
        push @complaints, map { "call $n: $_" } judge($root, $run, $killed);
        last if @complaints > 5;
    }
    ok($count->{exit} == 0 && !@complaints, "$label ($faults of $calls calls)")
      or diag(join "\n", $count->{stderr}, @complaints);
    return $faults;
}

if ($sanitized)
{
    pass('built with a sanitizer: faults in calls of libc are left out');
}
else
{
    my %errors = (
        open => [qw(EMFILE EIO)],
        openat => [qw(EACCES EIO)],
        read => [qw(EIO)],
        pread => [qw(EIO EINTR)],
        write => [qw(EIO)],
        writev => [qw(ENOSPC EIO EINTR)],
        fstat => [qw(EIO)],
        fstatat => [qw(EIO)],
        fsync => [qw(EIO ENOSPC)],
        fdatasync => [qw(EIO)],
        close => [qw(EIO)],
        linkat => [qw(EIO EEXIST ENOSPC)],
        mkdirat => [qw(ENOSPC EEXIST)],
        unlinkat => [qw(EIO)],
        malloc => [qw(ENOMEM)],
        calloc => [qw(ENOMEM)],
        realloc => [qw(ENOMEM)]);
    my $total = 0;

    for my $function (sort keys %errors)
    {
        $total += sweep("$function fails with $_", 14, func => $function, errno => $_)
          for FailNth::quick() ? $errors{$function}[0] : @{ $errors{$function} };
    }
    cmp_ok($total, '>', 60, 'there were faults');

    # barman#507: SIGKILL, and then the same file again
    my $changes = 'open,openat,read,pread,write,writev,fsync,fdatasync,close,link,linkat,mkdir,mkdirat,rename,renameat2';
    for my $kill (1, 2)
    {
        my $when = $kill == 1 ? 'before' : 'after';
        cmp_ok(sweep("killed $when a call", 50, func => $changes, kill => $kill), '>',
            FailNth::quick() ? 5 : 15,
            "many calls to be killed $when");
        sweep("killed $when an allocation", 10, func => 'malloc,calloc,realloc', kill => $kill);
    }

    # disk full, and full again for the next tries: pgbackrest#842
    for my $function (qw(writev mkdirat fsync linkat))
    {
        my $root = fresh('full');
        my $run = WalTest::give_up(
            3,
            sub {
                return FailNth::run(
                    [ push_args($root, $segment, "--timeout=$_[0]") ],
                    cwd => $host, func => $function, errno => 'ENOSPC', n => 1, keep => 1);
            },
            sub { $_[0]{stderr} =~ /No space left/ },
            "disk full at $function");
        is($run->{exit}, 1, "disk full at $function: refused");
        like($run->{stderr}, qr/No space left on device/, "disk full at $function: said so");
        is_deeply([ judge($root, $run, 0) ], [], "disk full at $function: nothing is left, and later it succeeds");
    }

    # a history file says nothing of its cluster: nothing is guessed where the control file cannot be read
    my $root = fresh('control');
    my @command = push_args($root, '00000002.history');
    my $calls = FailNth::run(\@command, cwd => foreign_host(), func => 'open')->{counts}[0];
    my (@stored, %exits);
    for my $n (1 .. $calls)
    {
        my $run = FailNth::run(\@command, cwd => foreign_host(), func => 'open', errno => 'EIO', n => $n);
        my ($seen) = visible($root);
        push @stored, "call $n: @$seen" if @$seen != 1;
        $exits{ $run->{exit} }++;
    }
    is_deeply([ \@stored, $exits{0} // 0 ], [ [], 0 ],
        'a control file that cannot be read: a history file does not get into the repository of another cluster');
}

# A host of another cluster with the same configuration, as after pg_upgrade: only its control file tells.
sub foreign_host
{
    my $path = "$top/foreign";

    return $path if -d $path;
    my $other = WalTest::node('other', start => 0);
    make_path("$path/global", "$path/pg_wal");
    copy($other->data_dir . '/global/pg_control', "$path/global/pg_control") or die "pg_control: $!";
    my ($wal) = sort glob($other->data_dir . '/pg_wal/0*');
    copy($wal, "$path/pg_wal/$segment") or die "$wal: $!";
    open my $fh, '>', "$path/pg_wal/00000002.history" or die "history: $!";
    print $fh "1\t0/2000000\tno recovery target specified\n";
    close $fh or die "history: $!";
    return $path;
}

# ---- many at once, twice, other bytes ----

# Starts all at once; returns what each came to.
sub together
{
    my (@jobs) = @_;    # [ folder, @command ]
    my @running;

    for my $i (0 .. $#jobs)
    {
        my ($cwd, @command) = @{ $jobs[$i] };
        push @running, WalTest::daemon("together$i", \@command, cwd => $cwd);
    }
    return map { { exit => $_->wait_exit(60) // 'none', stderr => $_->log_text } } @running;
}

# other bytes that pass for the segment: the log of another life of the same cluster
my $twin = "$top/twin";
make_path("$twin/pg_wal", "$twin/global");
copy("$host/global/pg_control", "$twin/global/pg_control") or die "pg_control: $!";
{
    my $other = $bytes;
    # within the data of a full page image or row, not in a header
    my $at = index $other, 'pgbench_accounts';
    $at = int(length($other) / 2) + 4000 if $at < 0;
    substr $other, $at, 1, chr(ord(substr $other, $at, 1) ^ 1);
    open my $fh, '>:raw', "$twin/pg_wal/$segment" or die "twin: $!";
    print $fh $other;
    close $fh or die "twin: $!";
}

for my $round (1 .. ($ENV{WALTEST_FULL} ? 20 : FailNth::quick() ? 2 : 5))
{
    my $root = fresh('together');
    my @command = ($walpush, '--config', $config, "--repository.url=file://$root", "pg_wal/$segment");
    my @results = together(map { [ $host, @command ] } 1 .. 10);

    is(join(' ', map { $_->{exit} } @results), join(' ', (0) x 10), "round $round: ten hosts push the same file: all succeed")
      or diag(map { $_->{stderr} } @results);
    my ($seen, $temps) = visible($root);
    is(scalar @$seen, 2, "round $round: there is one object");
    is($temps, 0, "round $round: nothing else");
    ok(is_right(object_path($root, $segment), $bytes), "round $round: it is right");

    # and with two kinds of bytes: whoever is first has it
    $root = fresh('together');
    @command = ($walpush, '--config', $config, "--repository.url=file://$root", "pg_wal/$segment");
    @results = together(map { [ $_ % 2 ? $host : $twin, @command ] } 0 .. 7);
    my $first = is_right(object_path($root, $segment), $bytes) ? 1 : 0;
    ok($first || is_right(object_path($root, $segment), FailNth::slurp("$twin/pg_wal/$segment")),
        "round $round: two kinds of bytes: one of them is there");
    is(join(' ', map { $results[$_]{exit} } 0 .. 7), join(' ', map { $_ % 2 == $first ? 0 : 1 } 0 .. 7),
        "round $round: who had it succeeds, the others fail");
}
{
    my $root = fresh('twice');
    my @command = ($direct, '--config', $config, "--repository.url=file://$root", "pg_wal/$segment");
    for my $program ($direct, $walpush)
    {
        $command[0] = $program;
        my $name = $program =~ s{.*/}{}r;
        WalTest::run_ok("$name: the first time", @command, { cwd => $host });
        my $inode = (stat object_path($root, $segment))[1];
        WalTest::run_ok("$name: twice the same file", @command, { cwd => $host });

        my $run = WalTest::run_exit("$name: same name, other bytes", 1, @command, { cwd => $twin });
        my ($ours) = `sha256sum '$host/pg_wal/$segment'` =~ /^([0-9a-f]{64})/;
        my ($theirs) = `sha256sum '$twin/pg_wal/$segment'` =~ /^([0-9a-f]{64})/;
        like($run->{stderr}, qr/$ours/, "$name: the digest of the object is named");
        like($run->{stderr}, qr/$theirs/, "$name: the digest of the file is named");
        is((stat object_path($root, $segment))[1], $inode, "$name: the object is not replaced");
        ok(is_right(object_path($root, $segment), $bytes), "$name: and as it was");
    }
}

# ---- what must not be archived ----

my $next = $segments[2];
my $cases = 0;

sub put_file
{
    my ($name, $content) = @_;
    open my $fh, '>:raw', "$host/pg_wal/$name" or die "$name: $!";
    print $fh $content;
    return close $fh || die "$name: $!";
}

sub patched
{
    my ($at, $new) = @_;
    my $copy = $bytes;
    substr $copy, $at, length $new, $new;
    return $copy;
}

my $padded = substr($bytes, 0, 300_000) . "\0" x ($mb - 300_000 - 32) . "walstream: padded WAL segment\0\0\0";
my $bad_root = fresh('bad');
for my $case (
    [ 'empty', '', qr/has 0 bytes/ ],
    [ 'truncated', substr($bytes, 0, $mb - 1), qr/has 1048575 bytes.*have 1048576/ ],
    [ 'half (pgbackrest#842)', substr($bytes, 0, $mb / 2), qr/has 524288 bytes/ ],
    [ 'too long', $bytes . 'x', qr/has 1048577 bytes/ ],
    [ 'of another segment size', $bytes . $bytes, qr/has 2097152 bytes/ ],
    [ 'garbage', join('', map { chr(($_ * 7919) % 251) } 1 .. $mb), qr/magic/ ],
    [ 'zeros', "\0" x $mb, qr/zeros/ ],
    [ 'of another system', patched(24, pack('Q<', $sysid ^ 1)), qr/another database system/ ],
    [ 'with a header of another segment size', patched(32, pack('L<', 16 << 20)), qr/segments of 16777216 bytes/ ],
    [ 'of another server version', patched(0, pack('S<', 0xD101)), qr/magic/ ],
    [ 'another segment', FailNth::slurp("$host/pg_wal/$next"), qr/address/ ],
    [ 'with a page of another address', patched(5 * 8192 + 8, pack('Q<', 0x123000)), qr/address|complete/ ],
    [ 'unfinished', substr($bytes, 0, 300_000) . "\0" x ($mb - 300_000), qr/not a complete WAL segment/ ],
    [ 'put together from pieces', $padded, qr/put it together from pieces/ ])
{
    my ($label, $content, $message) = @$case;
    my $name = $segment;
    my $saved = "$host/pg_wal/$segment.saved";

    rename "$host/pg_wal/$segment", $saved or die "rename: $!";
    put_file($name, $content);
    my $run = WalTest::run([ push_args($bad_root, $name) ], cwd => $host);
    is($run->{exit}, 1, "a file that is $label: refused");
    like($run->{stderr}, $message, "a file that is $label: why");
    like($run->{stderr}, qr/$name/, "a file that is $label: named");
    unlink "$host/pg_wal/$name";
    rename $saved, "$host/pg_wal/$segment" or die "rename: $!";
    $cases++;
}
for my $case (
    [ 'a folder', '0000000100000000000000F1', sub { mkdir $_[0] }, 2, qr/regular file|Is a directory/ ],
    [ 'missing', '0000000100000000000000F2', sub { 1 }, 1, qr/No such file/ ],
    [ 'unreadable', '0000000100000000000000F3', sub { copy("$host/pg_wal/$segment", $_[0]) && chmod 0, $_[0] }, 1, qr/Permission denied/ ],
    [ 'a pipe', '0000000100000000000000F4', sub { POSIX::mkfifo($_[0], 0600) }, 2, qr/regular file/ ],
    [ 'not named as WAL', 'postgresql.conf', sub { copy("$host/pg_wal/$segment", $_[0]) }, 2, qr/not the name of a WAL file/ ],
    [ 'named in lower case', '0000000100000000000000fa', sub { copy("$host/pg_wal/$segment", $_[0]) }, 2, qr/not the name of a WAL file/ ],
    [ 'a number that 1 MB segments do not have', '000000010000000000001000', sub { copy("$host/pg_wal/$segment", $_[0]) }, 1, qr/no name of a WAL segment|address/ ],
    [ 'no history', '00000009.history', sub { put_file('00000009.history', "walk\n") }, 1, qr/history/ ],
    [ 'no backup history', "$segment.00000028.backup", sub { put_file("$segment.00000028.backup", "walk\n") }, 1, qr/backup history/ ])
{
    my ($label, $name, $make, $exit, $message) = @$case;
    my $path = "$host/pg_wal/$name";

    $make->($path) or die "$name: $!";
    my $run = WalTest::run([ push_args($bad_root, $name) ], cwd => $host);
    is($run->{exit}, $exit, "a file that is $label: refused");
    like($run->{stderr}, $message, "a file that is $label: why");
    rmdir $path or unlink $path;
}
is_deeply([ visible($bad_root) ], [ ['cluster.json'], 0 ], 'nothing of these is in the repository');

# one bad segment holds up only itself (pgbackrest#2629): the others are taken
WalTest::run_ok('another file is archived after that', push_args($bad_root, $next), { cwd => $host });

# pgbackrest#1299: walpush talks on stderr, and succeeds
{
    my $run = WalTest::run_ok('with messages on stderr', push_args(fresh('talk'), $segment, '--log-level=debug'), { cwd => $host });
    like($run->{stderr}, qr/DEBUG/, 'there were some');
}

# ---- a store that answers wrongly, or not at all ----

my $rgw = WalTest::rgw();
my $proxy = WalTest::S3::Proxy->start($rgw->{RGW_HTTP});
my $s3 = WalTest::s3('faults', tls => 0);
my $through = { %$s3, endpoint => $proxy->{endpoint} };
my $clean_config = WalTest::config_for($node, repository => $s3);
my $s3_config = WalTest::config_for($node, repository => $through);
WalTest::run_ok('init on S3', WalTest::tool('walctl'), '--config', $clean_config, 'init');

# Whether the segment is in the bucket, and right: asked past the proxy.
sub fetched
{
    my ($name) = @_;
    my $dest = "$top/fetched";
    unlink $dest;
    my $run = WalTest::run(
        [ WalTest::tool('walfetch-direct'), '--config', $clean_config, '--restore.prefetch=0', $name, $dest ], cwd => $host);
    return 'absent' if $run->{exit} == 1;
    return 'right' if $run->{exit} == 0 && FailNth::slurp($dest) eq FailNth::slurp("$host/pg_wal/$name");
    return "exit $run->{exit}";
}

my @left = @segments[ 3 .. $#segments ];
sub s3_name { return shift @left // die 'too few segments' }

# One that the stream does not bring: an upload must be asked for.
sub partial_name
{
    my $name = s3_name();
    rename "$host/pg_wal/$name", "$host/pg_wal/$name.partial" or die "rename: $!";
    return "$name.partial";
}

# for ever: no success is told, and it ends in time; once: it is tried again
for my $case (
    [ '503 SlowDown (pgbackrest#1290)', 'status 503 SlowDown', 'absent' ],
    [ '200 with an error (pgbackrest#1116, #1433)', 'status 200 InternalError', 'absent' ],
    [ 'done, but the answer is lost', 'pass-reset', 'right' ],
    [ 'no answer', 'stall', 'absent' ])
{
    my ($label, $action, $after) = @$case;
    my $name = s3_name();
    my $rule = $proxy->add('PUT', '/wal/', $action, times => 0);
    my $run = WalTest::give_up(
        3,
        sub { WalTest::run([ $direct, '--config', $s3_config, "--timeout=$_[0]", "pg_wal/$name" ], cwd => $host) },
        sub { $proxy->hits($rule) > 0 && ($after eq 'absent' || fetched($name) eq $after) },
        "$label, always");
    cmp_ok($proxy->hits($rule), '>=', 1, "$label, always: the fault was there");
    is($run->{exit}, 1, "$label, always: refused");
    like($run->{stderr}, qr/could not archive "$name"/, "$label, always: a message");
    $proxy->clear;
    is(fetched($name), $after, "$label, always: the segment is $after in the bucket");

    next if $action eq 'stall';
    $rule = $proxy->add('PUT', '/wal/', $action);
    $name = s3_name() if $after eq 'right';
    $run = WalTest::run([ $direct, '--config', $s3_config, '--timeout=120s', "pg_wal/$name" ], cwd => $host);
    is($run->{exit}, 0, "$label, once: stored") or diag($run->{stderr});
    is($proxy->hits($rule), 1, "$label, once: the fault was there");
    is(fetched($name), 'right', "$label, once: the segment is there");
    $proxy->clear;
}

# --timeout holds whoever does not answer: the store, or walstream whose store does not
for my $case (
    [ 'no answer at all', sub { $proxy->add('*', '.', 'stall', times => 0) }, sub { $proxy->clear } ],
    [ 'connections refused', sub { $proxy->down }, sub { $proxy->up } ])
{
    my ($label, $break, $mend) = @$case;
    $break->();
    for my $program ($direct, $walpush)
    {
        my $run = WalTest::run([ $program, '--config', $s3_config, '--timeout=2s', "pg_wal/$segment" ], cwd => $host);
        is($run->{exit}, 1, "$label: refused");
        WalTest::in_time($run, 2, $label);
        like($run->{stderr}, qr/ERROR:  could not archive/, "$label: a message");
    }
    $mend->();
}

# ---- walstream hangs, or dies ----

my $stream = WalTest::walstream($s3_config);

# Long before its time-out walpush goes on alone.
my @patient = ($walpush, '--config', $s3_config, '--timeout=1000s');
my $soon = 500;

# Starts walpush on a segment that the store does not take from walstream, does something to walstream, and waits.
sub push_while
{
    my ($label, $action) = @_;
    my $name = partial_name();
    my $rule = $proxy->add('PUT', "/wal/.*$name", 'stall');
    my $begin = time;
    my $pushing = WalTest::daemon("push-$name", [ @patient, "pg_wal/$name" ], cwd => $host);

    WalTest::wait_until(sub { $proxy->hits($rule) }, 20, 'the upload has begun');
    $action->();
    is($pushing->wait_exit($soon), 0, "$label: walpush succeeds alone") or diag($pushing->log_text);
    cmp_ok(time - $begin, '<', $soon, "$label: soon");
    is(fetched($name), 'right', "$label: the segment is there");
    $proxy->clear;
    return;
}

push_while('walstream is stopped', sub { $stream->signal('STOP') });
{
    my $name = partial_name();
    my $run = WalTest::run_ok('walstream does not say a word', @patient, "pg_wal/$name", { cwd => $host, timeout => $soon });
    is(fetched($name), 'right', 'the segment is there');
}
$stream->signal('CONT');
WalTest::wait_until(sub { WalTest::status($s3_config) }, 30, 'walstream answers again');
# it serves one cluster, and says so: another with the same configuration finds nothing of its own and fails
for my $name ('00000002.history', $segment)
{
    my $run = WalTest::run([ $walpush, '--config', $s3_config, "pg_wal/$name" ], cwd => foreign_host());
    is($run->{exit}, 1, "$name of another cluster: refused");
    like($run->{stderr}, qr/holds no cluster "test" with system identifier/, "$name of another cluster: why");
    is(fetched($name), 'absent', "$name of another cluster: not stored") if $name =~ /history/;
}
push_while('walstream is killed', sub { $stream->kill9 });

# a stalled store behind walstream: the time-out is walpush's all the same
$stream = WalTest::walstream($s3_config);
{
    my $name = partial_name();
    $proxy->add('PUT', "/wal/.*$name", 'stall', times => 0);
    my $run = WalTest::run([ $walpush, '--config', $s3_config, '--timeout=3s', "pg_wal/$name" ], cwd => $host);
    is($run->{exit}, 1, "walstream's store does not answer: refused");
    WalTest::in_time($run, 3, "walstream's store does not answer");
    like($run->{stderr}, qr/ERROR:  \S/, "walstream's store does not answer: a message");
    is(fetched($name), 'absent', "walstream's store does not answer: nothing is stored");
    $proxy->clear;
    WalTest::run_ok('and when it does', $walpush, '--config', $s3_config, "pg_wal/$name", { cwd => $host });
    is(fetched($name), 'right', 'the segment is there');
}

# ---- an outage, seen from the server ----

WalTest::archive_with($node, $s3_config, '--timeout=4s');
$node->restart;
for my $case ([ 'with walstream', sub { 1 } ], [ 'without walstream', sub { $stream->stop } ])
{
    my ($label, $prepare) = @$case;

    $prepare->();
    my $failed = sub { $node->safe_psql('postgres', 'SELECT failed_count FROM pg_stat_archiver') };
    my $before = $failed->();
    $proxy->down;
    # rows, as walstream cannot store them either: walpush must ask for an upload
    $node->safe_psql('postgres',
        "INSERT INTO pgbench_history SELECT 1, 1, g, 1, now(), repeat('x', 20) FROM generate_series(1, 12000) g");
    my $wal = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_switch_wal())');
    # before a checkpoint can take it away
    copy("$datadir/pg_wal/$wal", "$host/pg_wal/$wal") or die "$wal: $!";
    WalTest::wait_until(sub { $failed->() > $before }, 60, 'archiving fails');
    $proxy->up;
    # PostgreSQL sleeps for a minute after three failures; the end of the next segment wakes it
    $node->safe_psql('postgres', 'SELECT txid_current(); SELECT pg_switch_wal()');
    WalTest::wait_until(sub { my @ready = glob "$datadir/pg_wal/archive_status/*.ready"; !@ready }, 300, "$label: all is archived");
    ok(-e "$datadir/pg_wal/archive_status/$wal.done" || !-e "$datadir/pg_wal/$wal", "$label: archived after the outage");
    is(fetched($wal), 'right', "$label: the segment is in the bucket");
}

$node->stop;
$proxy->stop;
done_testing();
