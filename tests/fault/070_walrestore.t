# SPDX-License-Identifier: PostgreSQL
#
# walrestore under faults, and walctl verify on what is damaged. Each call of each function of libc fails once, or
# walrestore is killed before or after it: no server starts on what is left, and the same command, given again,
# makes what it would have made at once. Then: a full disk, objects that are damaged, exchanged or gone, a store
# that breaks, and folders that are not ours to write to.
#
# Others lost data in these ways; the tests that keep us from it name the case:
#   barman 3.15     a tablespace folder that was not empty was overwritten
#   barman 3.17     the target folder itself was removed
#   pgBackRest 2.28 stale files stayed in a restored directory
#   wal-e#144       a file of 0 bytes, left by a failure, counted as restored

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use Digest::MD5;
use FailNth;
use File::Find ();
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time usleep);
use WalTest;
use WalTest::S3;

my $walrestore = WalTest::tool('walrestore');
my $walctl = WalTest::tool('walctl');
my $sanitized = FailNth::sanitized($walrestore);
my $top = FailNth::folder();
my $postgres = WalTest::install_path(15) . '/bin/postgres';

# A full backup and an incremental one; a tablespace; blocks of one file from both.
my $node = WalTest::node('primary', checksums => 1, start => 0);
my $config = WalTest::config_for(
    $node,
    cluster => { data => $node->data_dir },
    repository => { url => "file://$top/repo" },
    backup => { 'wal-timeout' => '120s', jobs => 2 });
make_path("$top/repo", "$top/space");
WalTest::archive_with($node, $config);
WalTest::set_conf($node, autovacuum => 'off');
$node->start;
WalTest::run_ok('init', $walctl, '--config', $config, 'init');
$node->safe_psql('postgres', $_) for (
    "UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'",
    'DROP DATABASE template0',
    "CREATE TABLESPACE space LOCATION '$top/space'",
    'CREATE TABLE away (i int, t text) TABLESPACE space',
    "INSERT INTO away SELECT i, md5(i::text) FROM generate_series(1, 3000) i",
    <<'SQL');
CREATE TABLE kept AS SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 8) j) AS t
  FROM generate_series(1, 40000) i;
SQL
# else the first who reads a page changes it
$node->safe_psql('postgres', 'VACUUM (FREEZE) kept');
WalTest::backup($config, 'full', '--label=first');
$node->safe_psql('postgres', 'UPDATE kept SET i = -i WHERE i % 1000 = 0; UPDATE away SET t = 0 WHERE i < 10');
WalTest::backup($config, 'incremental', '--label=second');
my $sysid = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
my $oid = $node->safe_psql('postgres', "SELECT oid FROM pg_tablespace WHERE spcname = 'space'");
my $rows = [ map { @{ WalTest::rows($node, $_, '1, 2') } } qw(kept away) ];
# what a restore may not touch is not in its way
my $folder = "$top/repo/test/$sysid/backup";

my $to = "$top/to";
my $space = "$top/restored";

sub command
{
    my (@options) = @_;
    return ($walrestore, '--config', $config, '--to', $to, '--tablespace', "$oid=$space", '--timeout=60s', '--jobs=2', @options);
}

sub clean { remove_tree($to, $space); return; }

# Each file's digest and mode, by path.
sub tree
{
    my (@roots) = @_;
    my %found;

    File::Find::find(
        {
            no_chdir => 1,
            wanted => sub {
                my @st = lstat $_;
                return $found{$_} = 'link ' . readlink $_ if -l _;
                return $found{$_} = sprintf('folder %o', $st[2] & 07777) if -d _;
                open my $fh, '<:raw', $_ or die "$_: $!";
                $found{$_} = sprintf('%o %d ', $st[2] & 07777, $st[7]) . Digest::MD5->new->addfile($fh)->hexdigest;
            }
        },
        grep { -e } @roots);
    return \%found;
}

# Complaints about two trees that should be the same. PostgreSQL's manifest has the time it was made.
sub differ
{
    my ($got, $want) = @_;
    my %names = map { $_ => 1 } keys %$got, keys %$want;
    my @wrong = grep { ($got->{$_} // 'absent') ne ($want->{$_} // 'absent') } sort keys %names;

    splice @wrong, 5 if @wrong > 5;
    return map { "$_ is " . ($got->{$_} // 'absent') . ', not ' . ($want->{$_} // 'absent') } @wrong;
}

# Whether a server would start there. It is asked, and stopped when it has not refused for long.
sub starts
{
    my ($dir) = @_;
    return 0 unless -d $dir;
    my $run = WalTest::run(
        [ $postgres, '-D', $dir, '-c', 'listen_addresses=', '-c', 'unix_socket_directories=', '-c', 'archive_mode=off' ],
        timeout => 120);
    return $run->{timed_out} || $run->{stderr} =~ /starting PostgreSQL/ ? 1 : 0;
}

# ---- each call fails, or walrestore dies there ----

WalTest::run_ok('a restore without a fault', command());
my $reference = tree($to, $space);
cmp_ok(scalar keys %$reference, '>', 500, 'there are files');
ok($reference->{"$to/global/pg_control"}, 'with pg_control');
is(scalar(grep { /walrestore|incomplete/ } keys %$reference), 0, 'and nothing of ours');

# Complaints about one run with a fault, and what comes after it. before: the folders as they were.
sub judge
{
    my ($run, $killed, $before, @command) = @_;
    my @complaints;
    my $left = tree($to, $space);
    my $marker = delete $left->{"$to/walrestore.incomplete"};

    delete $left->{"$to/walrestore.incomplete.walrestore"};
    push @complaints, "ended by signal $run->{signal}: $run->{stderr}" if $run->{signal} && !$killed;
    push @complaints, "exit $run->{exit}: $run->{stderr}"
      if !$killed && $run->{exit} != 0 && ($run->{exit} > 2 || $run->{stderr} !~ /(?:ERROR|FATAL):\s+\S/);
    push @complaints, 'exit 0, and the marker is there' if $run->{exit} == 0 && defined $marker;

    # all that was to be, or a directory that was not touched yet: a server may start. Else none does.
    my @incomplete = differ($left, $reference);
    push @complaints, map { "exit 0, and $_" } @incomplete if $run->{exit} == 0;
    if ($run->{exit} != 0 && @incomplete && differ($left, $before))
    {
        push @complaints, 'a server starts on what is left' if starts($to);
        push @complaints, 'what is there has no marker' if !defined $marker && keys %$left > 1;
    }
    return @complaints if !@incomplete && !defined $marker;

    my $again = FailNth::run(\@command);
    push @complaints, "the same command again failed: $again->{stderr}" if $again->{exit} != 0;
    push @complaints, map { "in the end $_" } differ(tree($to, $space), $reference);
    return @complaints;
}

sub sweep
{
    my ($what, $most, $prepare, $command, %plan) = @_;
    my $killed = $plan{kill} ? 1 : 0;
    my (@complaints, $faults);
    my $begin = time;

    $prepare->();
    my $count = FailNth::run($command, func => $plan{func});
    my $calls = $count->{counts}[0] // 0;
    push @complaints, "without a fault: $count->{stderr}" if $count->{exit} != 0;
    for my $n (FailNth::sample($calls, FailNth::quick() ? int($most / 3) + 1 : $most))
    {
        next if $n > $calls && !$ENV{WALTEST_FULL};
        $prepare->();
        my $before = tree($to, $space);
        my $run = FailNth::run($command, %plan, n => $n);

        $faults++ if $run->{signal} || !@{ $run->{counts} } || $run->{counts}[0] >= $n;
        push @complaints, map { "call $n: $_" } judge($run, $killed, $before, @$command);
        last if @complaints > 5;
    }
    ok(!@complaints, sprintf '%s (%d of %d calls, %.0f s)', $what, $faults, $calls, time - $begin)
      or diag(join "\n", @complaints);
    return $faults;
}

# An older state of the cluster with things that do not belong, and a file that was changed in place.
sub older
{
    clean();
    my $run = WalTest::run([ command('--backup=first') ]);
    die "restore: $run->{stderr}" if $run->{exit} != 0;
    my ($file) = grep { -s > 100_000 } glob "$to/base/*/*";
    open my $fh, '+<:raw', $file or die "$file: $!";
    print $fh 'damaged';
    close $fh or die "$file: $!";
    make_path("$to/base/77777", "$space/stray") or die "could not make a folder: $!";
    for my $name ("$to/base/77777/1", "$to/stray", "$to/pg_wal/000000010000000000000001")
    {
        open $fh, '>', $name or die "$name: $!";
        print $fh 'not ours';
        close $fh or die "$name: $!";
    }
    rmdir "$space/stray" or die "stray: $!";
    return;
}

my @fresh = ([ \&clean, [ command() ] ], [ \&older, [ command('--delta') ] ]);

if ($sanitized)
{
    pass('built with a sanitizer: faults in calls of libc are left out');
}
else
{
    my $total = 0;

    clean();
    my $synced = FailNth::run([ command() ], func => 'fsync');
    cmp_ok($synced->{counts}[0], '>=', scalar(grep { !/^link/ } values %$reference), 'each file and folder is synced');

    $total += sweep("$_->[0] fails with $_->[1]", $_->[2], @{ $fresh[0] }, func => $_->[0], errno => $_->[1]) for
      [ 'open,openat', 'EIO', 9 ], [ 'read,pread', 'EIO', 6 ], [ 'write,pwrite,ftruncate', 'ENOSPC', 7 ],
      [ 'fstat,fstatat,statx', 'EIO', 4 ], [ 'fsync,fdatasync,close', 'EIO', 8 ],
      [ 'mkdirat,mkdir,renameat,unlinkat', 'EIO', 9 ], [ 'malloc,calloc,realloc', 'ENOMEM', 9 ];
    for my $i (0, 1)
    {
        my $where = $i ? 'over an older directory' : 'into nothing';
        my $changes = 'openat,pwrite,write,ftruncate,fsync,mkdir,mkdirat,renameat,unlinkat';

        $total += sweep("$where, killed before a change", 12, @{ $fresh[$i] }, func => $changes, kill => 1);
        $total += sweep("$where, killed after a change", 6, @{ $fresh[$i] }, func => $changes, kill => 2);
        # every step from the beginning and to the end: the marker, pg_control
        $total += sweep("$where, killed before a rename", 20, @{ $fresh[$i] }, func => 'renameat,unlinkat,mkdir', kill => 1);
    }
    $total += sweep("over an older directory, $_->[0] fails", $_->[1], @{ $fresh[1] }, func => $_->[0], errno => 'EIO') for
      [ 'unlinkat,renameat', 6 ], [ 'read,pread', 5 ], [ 'open,openat', 6 ];
    cmp_ok($total, '>', FailNth::quick() ? 15 : 60, 'there were faults');

    # a disk that is full, and stays so
    for my $function (qw(pwrite ftruncate mkdirat fsync))
    {
        clean();
        my $run = FailNth::run([ command() ], func => $function, errno => 'ENOSPC', n => 3, keep => 1);
        is($run->{exit}, 1, "disk full at $function: refused");
        like($run->{stderr}, qr/No space left on device/, "disk full at $function: said so");
        is_deeply([ judge($run, 0, {}, command()) ], [], "disk full at $function: with room, the same command succeeds");
    }
}

# what was restored is a server with these rows
$node->stop;
{
    my $restored = WalTest::restore('restored', config => $config,
        args => [ '--tablespace', "$oid=" . WalTest::dir('restored-space') ]);
    WalTest::same_rows([ map { @{ WalTest::rows($restored, $_, '1, 2') } } qw(kept away) ], $rows, 'the rows are back');
    $restored->stop('immediate');
}

# ---- folders that are not ours ----

{
    clean();
    make_path($space);
    open my $fh, '>', "$space/precious" or die "precious: $!";
    print $fh "do not touch\n";
    close $fh or die "precious: $!";
    my $run = WalTest::run_exit('a tablespace folder that is not empty: refused (barman 3.15)', 1, command());
    like($run->{stderr}, qr/\Q$space\E.*not empty/, 'and why');
    is(FailNth::slurp("$space/precious"), "do not touch\n", 'it is untouched');
    ok(!-e $to, 'and nothing was made');
    WalTest::run_exit('over nothing, with --delta: refused all the same', 1, command('--delta'));
    is(FailNth::slurp("$space/precious"), "do not touch\n", 'it is untouched');

    # an interrupted restore does not make another folder ours
    remove_tree($space);
    if (!$sanitized)
    {
        $run = FailNth::run([ command() ], func => 'ftruncate', n => 5, kill => 1);
        ok(-e "$to/walrestore.incomplete", 'an interrupted restore') or diag($run->{stderr});
        make_path("$top/other");
        copy($config, "$top/other/precious") or die "precious: $!";
        $run = WalTest::run_exit('the same with another tablespace folder: refused', 1, $walrestore, '--config', $config,
            '--to', $to, '--tablespace', "$oid=$top/other");
        ok(-e "$top/other/precious", 'it is untouched');
        remove_tree("$top/other");
    }

    # links that lead out
    older();
    make_path("$top/outside/base", "$top/outside/wal");
    copy($config, "$top/outside/$_") or die "outside: $!" for 'base/precious', 'wal/precious', 'precious';
    remove_tree("$to/base", "$to/pg_wal");
    symlink "$top/outside/base", "$to/base" or die "symlink: $!";
    symlink "$top/outside/wal", "$to/pg_wal" or die "symlink: $!";
    symlink "$top/outside", "$to/pg_tblspc/99999" or die "symlink: $!";
    symlink "$top/outside/precious", "$to/linked" or die "symlink: $!";
    link "$top/outside/precious", "$to/hard" or die "link: $!";
    unlink "$to/PG_VERSION";
    link "$top/outside/precious", "$to/PG_VERSION" or die "link: $!";
    my $outside = tree("$top/outside");
    WalTest::run_ok('links that lead out', command('--delta'));
    is_deeply([ differ(tree("$top/outside"), $outside) ], [], 'what they lead to is untouched');
    is_deeply([ differ(tree($to, $space), $reference) ], [], 'and the directory is right');
    remove_tree("$top/outside");

    clean();
    for my $case (
        [ '..', [ '--to', "$to/new/../../escaped" ], qr/"\.\."/ ],
        [ '/', [ '--to', '/' ], qr/root directory|not empty/ ],
        [ 'a file', [ '--to', $config ], qr/not a directory/ ],
        [ 'the repository', [ '--to', "$top/repo" ], qr/not empty/ ],
        [ 'the tablespace in the data directory', [ '--to', $to, '--tablespace', "$oid=$to/inside" ], qr/inside each other/ ],
        [ 'another cluster\'s repository', [ '--to', $to, '--cluster.name=other' ], qr/"other"/ ])
    {
        my ($label, $args, $message) = @$case;
        my $run = WalTest::run([ $walrestore, '--config', $config, @$args, grep({ /^--tablespace/ } @$args) ? () : ('--tablespace', "$oid=$space") ]);
        cmp_ok($run->{exit}, '>=', 1, "to $label: refused");
        like($run->{stderr}, $message, "to $label: why");
        ok(!-e "$top/escaped" && !-e $to && !-e $space, "to $label: nothing was made");
    }

    # a key that does not fit is told before anything is written
    my $key = WalTest::run_ok('a key', $walctl, 'keygen', "$top/identity");
    WalTest::run_ok('another key', $walctl, 'keygen', "$top/wrong");
    my ($recipient) = $key->{stdout} =~ /(age1\w+)/;
    $node->start;
    my %sealed = (cluster => { data => $node->data_dir }, backup => { 'wal-timeout' => '120s' });
    my $encrypting = WalTest::config_for($node, %sealed, encryption => { recipient => $recipient });
    my $url = 'file://' . WalTest::repo_dir($encrypting);
    WalTest::run_ok('init, encrypted', $walctl, '--config', $encrypting, 'init');
    WalTest::backup($encrypting, 'full', '--label=sealed');
    $node->stop;
    for my $case ([ 'wrong identity', "$top/wrong" ], [ 'no identity', undef ])
    {
        my ($label, $file) = @$case;
        my $conf = WalTest::config_for($node, repository => { url => $url },
            encryption => { recipient => $recipient, 'identity-file' => $file });
        my $run = WalTest::run([ map { $_ eq $config ? $conf : $_ } command('--target=immediate') ]);
        is($run->{exit}, 1, "$label: refused") or diag($run->{stderr});
        like($run->{stderr}, qr/identity|key id/, "$label: why");
        ok(!-e $to && !-e $space, "$label: nothing was made");
        $run = WalTest::run([ $walctl, '--config', $conf, 'verify', '--backups' ]);
        is($run->{exit}, 1, "$label: verify fails");
        like("$run->{stdout}$run->{stderr}", qr/key ids [0-9a-f]{16}/, "$label: and names the key");
        unlike($run->{stdout}, qr/DAMAGED|MISSING|good/, "$label: nothing is called damaged, or good");
    }
}

# ---- damaged objects: walrestore fails and names it, verify finds it and says what is lost ----

sub part_path
{
    my ($root, $label, $bundle, $part) = @_;
    return sprintf '%s/test/%s/backup/%s/bundle/%08X/%08X', $root, $sysid, $label, $bundle, $part;
}

sub flip
{
    my ($path, $at) = @_;
    my $bytes = FailNth::slurp($path);

    $at = int(length($bytes) / 2) if !defined $at;
    substr $bytes, $at, 1, chr(ord(substr $bytes, $at, 1) ^ 0x20);
    return put($path, $bytes);
}

sub put
{
    my ($path, $bytes) = @_;

    unlink $path;
    open my $fh, '>:raw', $path or die "$path: $!";
    print $fh $bytes;
    close $fh or die "$path: $!";
    return;
}

sub swap
{
    my ($one, $other) = map { [ $_, FailNth::slurp($_) ] } @_;

    put($one->[0], $other->[1]);
    put($other->[0], $one->[1]);
    return;
}

# of the chain that is restored: the older backup is damaged as well as the newer one
my $part = 'backup/first/bundle/00000000/00000000';
for my $case (
    [ 'a byte of a part is flipped', $part, sub { flip(part_path($_[0], 'first', 0, 0)) }, 'first and the 1' ],
    [ 'the first byte of a part is flipped', $part, sub { flip(part_path($_[0], 'first', 0, 0), 0) }, 'first and the 1' ],
    [ 'a part is cut short', $part, sub { truncate part_path($_[0], 'first', 0, 0), 100_000 or die "$!" }, 'first and the 1' ],
    [ 'a part lacks its last byte', $part, sub { my $p = part_path($_[0], 'first', 0, 0); truncate $p, (-s $p) - 1 or die "$!" }, 'first and the 1' ],
    [ 'a part is empty (wal-e#144)', $part, sub { truncate part_path($_[0], 'first', 0, 0), 0 or die "$!" }, 'first and the 1' ],
    [ 'a part is missing', $part, sub { unlink part_path($_[0], 'first', 0, 0) or die "$!" }, 'first and the 1' ],
    [
        'two parts are exchanged', qr{backup/first/bundle/0000000[01]/00000000},
        sub { swap(part_path($_[0], 'first', 0, 0), part_path($_[0], 'first', 1, 0)) }, 'first and the 1'
    ],
    [
        'a part of another backup is there', 'backup/second/bundle/00000000/00000000',
        sub { put(part_path($_[0], 'second', 0, 0), FailNth::slurp(part_path($_[0], 'first', 0, 0))) }, 'second'
    ],
    [ 'a byte of the manifest is flipped', 'backup/second/manifest', sub { flip("$_[0]/test/$sysid/backup/second/manifest") }, 'second' ],
    [ 'a byte of the parent\'s manifest is flipped', 'backup/first/manifest|"first"', sub { flip("$_[0]/test/$sysid/backup/first/manifest") }, 'first and the 1' ],
    [ 'the manifest is cut short', 'backup/second/manifest|manifest of backup "second"', sub { truncate "$_[0]/test/$sysid/backup/second/manifest", 2000 or die "$!" }, 'second' ],
    [
        'the manifest is another backup\'s', 'backup/second/manifest|"second"',
        sub { put("$_[0]/test/$sysid/backup/second/manifest", FailNth::slurp("$_[0]/test/$sysid/backup/first/manifest")) }, 'second'
    ],
    [ 'the parent is gone', '"first"', sub { unlink "$_[0]/test/$sysid/backup/first/manifest" or die "$!" }, 'second' ])
{
    my ($label, $names, $break, $lost) = @$case;
    my $copy = "$top/damaged";

    clean();
    remove_tree($copy);
    system('cp', '-a', "$top/repo", $copy) == 0 or die 'cp failed';
    $break->($copy);
    my @with = ('--config', $config, "--repository.url=file://$copy");
    my $run = WalTest::give_up(
        3,
        sub { WalTest::run([ $walrestore, @with, '--to', $to, '--tablespace', "$oid=$space", "--timeout=$_[0]", '--backup=second' ]) },
        sub { $_[0]{stderr} =~ /$names/ },
        $label);
    # 2: it is known before anything is written that the backup cannot be restored
    ok($run->{exit} == 1 || $run->{exit} == 2, "$label: not restored") or diag($run->{stderr});
    like($run->{stderr}, qr/$names/, "$label: walrestore names it");
    ok(!starts($to), "$label: no server starts on what is left");
    ok($run->{exit} == 1 || !-e $to, "$label: 2 tells that nothing was written");
    # the names and sizes of parts are looked at before anything is written
    ok(!-e $to && !-e $space, "$label: nothing was written") if $label =~ /missing|cut short|lacks|empty|gone/;

    my $verify = WalTest::run([ $walctl, @with, 'verify', '--backups', '--output=json' ]);
    is($verify->{exit}, 1, "$label: verify fails");
    my @findings = grep { $_->{verdict} =~ /^(?:damaged|missing)$/ } @{ decode_json($verify->{stdout})->{findings} };
    ok((grep { "$_->{object} $_->{message}" =~ $names } @findings), "$label: verify names it");
    ok((grep { "$_->{message} $_->{consequence}" =~ /$lost/ } @findings), "$label: verify says what is lost");

    # with the objects as they were the same command goes on
    $run = WalTest::run([ command('--backup=second') ]);
    is($run->{exit}, 0, "$label: with a good repository the restore succeeds") or diag($run->{stderr});
    is_deeply([ differ(tree($to, $space), $reference) ], [], "$label: and is right") if $label =~ /flipped$|missing/;
}

# Damaged WAL: which backups cannot be restored without it, and from which on it is not needed.
my $info = WalTest::run([ $walctl, '--config', $config, 'info', '--output=json' ]);
my %made = map { $_->{label} => $_ } @{ decode_json($info->{stdout})->{clusters}[0]{backups} };
for my $case ([ 'first', qr/; the first one is second, of \d{4}-.*; backup first cannot be restored$/ ],
    [ 'second', qr/; there is none; backup second cannot be restored$/ ])
{
    my ($label, $consequence) = @$case;
    my $copy = "$top/damaged";
    my $number = int(WalTest::lsn_number($made{$label}{start_lsn}) / (1 << 20));
    my $segment = sprintf 'wal/00000001/00000000/0000000100000000%08X', $number;

    remove_tree($copy);
    system('cp', '-a', "$top/repo", $copy) == 0 or die 'cp failed';
    flip("$copy/test/$sysid/$segment");
    my $verify = WalTest::run([ $walctl, '--config', $config, "--repository.url=file://$copy", 'verify', '--output=json' ]);
    my @findings = @{ decode_json($verify->{stdout})->{findings} };
    is(scalar @findings, 1, "WAL of backup $label is damaged: verify finds it");
    is("$findings[0]{verdict} $findings[0]{object}", "damaged $segment", "WAL of backup $label is damaged: it is named");
    like($findings[0]{consequence}, $consequence, "WAL of backup $label is damaged: what it means");
}

# ---- verify of a share, of a sample, of what is new ----

sub verified
{
    my ($root, @options) = @_;
    my $run = WalTest::run([ $walctl, '--config', $config, "--repository.url=file://$root", 'verify', '--output=json', @options ]);
    return { exit => $run->{exit}, %{ decode_json($run->{stdout}) } };
}

{
    my $all = verified("$top/repo");
    my @shares = map { verified("$top/repo", "--shard=$_/3") } 1 .. 3;
    my ($objects, $bytes) = (0, 0);

    for my $share (@shares)
    {
        is($share->{exit}, 0, 'a share: verified');
        cmp_ok($share->{objects_verified}, '<', $all->{objects_verified}, 'a share is not all of it');
        $objects += $share->{objects_verified};
        $bytes += $share->{plain_bytes};
    }
    is("$objects $bytes", "$all->{objects_verified} $all->{plain_bytes}", 'three shares are everything, and nothing twice');

    # what is damaged is in one of them
    my $copy = "$top/damaged";
    remove_tree($copy);
    system('cp', '-a', "$top/repo", $copy) == 0 or die 'cp failed';
    flip(part_path($copy, 'first', 0, 0));
    is(scalar(grep { verified($copy, '--backups', "--shard=$_/3")->{damaged} > 0 } 1 .. 3), 1, 'one of the shares has what is damaged');
    is(verified($copy, '--backups', '--sample=100%')->{damaged}, 1, 'a sample of 100 % has it');

    # a tenth of a few dozen: never all, and not always nothing
    my @samples = map { verified("$top/repo", '--wal', '--sample=30')->{objects_verified} } 1 .. 20;
    my $wal = verified("$top/repo", '--wal')->{objects_verified};
    cmp_ok($wal, '>=', 4, 'there is WAL');
    ok((grep { $_ > 0 } @samples) && (grep { $_ < $wal } @samples), "samples of 30 % are parts of $wal: @samples");

    # of backups the time when they were made counts, of WAL that when it was stored
    my $new = verified("$top/repo", '--backups', "--since=$made{second}{stopped}");
    is($new->{objects_verified}, $made{second}{parts}, 'what was made since then');
    my @segments = sort glob "$copy/test/$sysid/wal/00000001/*/*";
    utime time - 3 * 86400, time - 3 * 86400, $_ or die "$_: $!" for @segments[ 0, 1 ];
    is(verified($copy, '--wal', '--since=2d')->{objects_verified}, $wal - 2, 'what was stored since then');
}

# ---- a store that breaks ----

$node->start;
my $rgw = WalTest::rgw();
my $proxy = WalTest::S3::Proxy->start($rgw->{RGW_HTTP});
my $s3 = WalTest::s3('walrestore', tls => 0);
my %common = (cluster => { data => $node->data_dir }, backup => { 'wal-timeout' => '120s', jobs => 2 });
my $clean = WalTest::config_for($node, %common, repository => $s3);
my $through = WalTest::config_for($node, %common, repository => { %$s3, endpoint => $proxy->{endpoint} });
WalTest::run_ok('init on S3', $walctl, '--config', $clean, 'init');
my $stream = WalTest::walstream($clean);
WalTest::backup($clean, 'full', '--label=s3');
is($stream->stop, 0, 'walstream stops');
$node->stop;

sub s3_restore
{
    my ($timeout) = @_;
    return WalTest::run([ map { $_ eq $config ? $through : /^--timeout/ ? "--timeout=$timeout" : $_ } command('--target=immediate') ]);
}

clean();
is(s3_restore('120s')->{exit}, 0, 'a restore from S3');
my $s3_reference = tree($to, $space);
for my $case (
    [ '503', 'status 503 SlowDown' ],
    [ '200 with an error', 'status 200 InternalError' ],
    [ 'connection reset', 'reset' ],
    [ 'cut in the middle', 'cut-answer 300000' ],
    [ 'reset in the middle', 'reset-answer 200000' ],
    [ 'a bit flipped on its way', 'corrupt 100000' ],
    [ 'shorter than it is', 'shorten 1000' ])
{
    my ($label, $action) = @$case;

    clean();
    my $rule = $proxy->add('GET', '/bundle/.*/0000000', $action);
    my $run = s3_restore('120s');
    cmp_ok($proxy->hits($rule), '>=', 1, "$label, once: the fault was there");
    is_deeply([ $run->{exit}, differ(tree($to, $space), $s3_reference) ], [0], "$label, once: restored") or diag($run->{stderr});
    $proxy->clear;
}
for my $case (
    [ '503', sub { $proxy->add('GET', '.', 'status 503 SlowDown', times => 0) }, sub { $proxy->clear } ],
    [ '403', sub { $proxy->add('GET', '.', 'status 403 AccessDenied', times => 0) }, sub { $proxy->clear } ],
    [ 'cut answers of parts', sub { $proxy->add('GET', '/bundle/', 'cut-answer 1000', times => 0) }, sub { $proxy->clear } ],
    [ 'the store is down', sub { $proxy->down }, sub { $proxy->up } ])
{
    my ($label, $break, $mend) = @$case;

    clean();
    $break->();
    my $run = s3_restore('2s');
    is($run->{exit}, 1, "$label, always: failed");
    like($run->{stderr}, qr/ERROR:  .*could not/, "$label, always: a message");
    ok(!starts($to), "$label, always: no server starts on what is left");
    my $verify = WalTest::run([ $walctl, '--config', $through, 'verify', '--backups', '--timeout=2s', '--output=json' ]);
    is($verify->{exit}, 1, "$label, always: verify fails");
    unlike($verify->{stdout}, qr/"verdict": "(?:damaged|missing)"/, "$label, always: verify calls nothing damaged");
    $mend->();
    is_deeply([ s3_restore('120s')->{exit}, differ(tree($to, $space), $s3_reference) ], [0], "$label: and when it is over, the same command succeeds");
}

# a part that was removed, or a copy of the bucket that is not complete: known before anything is written
my $driver = WalTest::S3::Driver->start($rgw, prefix => substr $s3->{url}, length "s3://$rgw->{RGW_BUCKET}/");
my $gone = "test/$sysid/backup/s3/bundle/00000000/00000000";
for my $case (
    [ 'removed', qr/is missing/ ],
    [ 'removed, and another put in its place', qr/has 1000 bytes, where the manifest says \d+/, "put $gone 1000 1" ])
{
    my ($label, $regex, @put) = @$case;

    clean();
    like($driver->do("remove $gone"), qr{^ok}, "a part is $label");
    like($driver->do($_), qr{^ok}, "a part is $label: put") for @put;
    my $run = s3_restore('20s');
    is($run->{exit}, 1, "a part is $label: refused");
    like($run->{stderr}, qr/part 0 of bundle 0 of backup "s3" .*$regex/, "a part is $label: named");
    like($run->{stderr}, qr/HINT:  There is no other backup/, "a part is $label: nothing else will do");
    ok(!-e $to && !-e $space, "a part is $label: nothing was written");
}
ok($driver->stop, 'the driver ends');

$proxy->stop;
done_testing();
