# SPDX-License-Identifier: PostgreSQL
#
# walbackup under faults. Each call of each function of libc fails once, or walbackup is killed before or after it:
# what is a backup afterwards is complete and right, the server goes on and is in no backup, the next run
# succeeds. Then: stops by signal, a server that goes down, damaged pages, files that come, grow, shrink and go
# meanwhile, and a store that answers wrongly or not at all.
#
# Others lost data in these ways; the tests that keep us from it name the case:
#   pgbackrest#1290, #1116, #1433   503, or 200 with an error, taken as success
#   pgbackrest#842                  what was written with an error counted as written
#   wal-g#2259                      a failed upload that was not noticed
#   pgBackRest 2.04, 2.32           what a failed run left was taken up by a wrong rule
#   pgBackRest 2.23                 a file vanished, and the manifest was damaged

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use FailNth;
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time usleep);
use WalTest;
use WalTest::S3;

my $walbackup = WalTest::tool('walbackup');
my $walctl = WalTest::tool('walctl');
my $sanitized = FailNth::sanitized($walbackup);
my $page = 8192;

# In memory where that can be, as small as a cluster gets: each backup reads all of it.
my $node = WalTest::node('primary', checksums => 1, start => 0);
my $top = FailNth::folder();
my $config = WalTest::config_for(
    $node,
    cluster => { data => $node->data_dir },
    repository => { url => "file://$top/repo" },
    backup => { 'wal-timeout' => '120s', jobs => 2 });
make_path("$top/repo");
# WAL waits for as long as this file is there
my $hold = "$top/hold";
WalTest::archive_with($node, $config);
WalTest::set_conf($node,
    archive_command => "while test -e $hold; do sleep 0.1; done; " . WalTest::tool('walpush') . " --config $config %p");
WalTest::set_conf($node, autovacuum => 'off');
$node->start;
WalTest::run_ok('init', $walctl, '--config', $config, 'init');
$node->safe_psql('postgres', $_)
  for "UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'", 'DROP DATABASE template0';
# more than one part: it does not compress well
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE kept AS SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 8) j) AS t
  FROM generate_series(1, 40000) i;
SQL
my $sysid = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
my $folder = "$top/repo/test/$sysid/backup";

# ---- what must hold after whatever happened ----

# Labels of what counts as a backup: what has a manifest.
sub complete
{
    return map { m{/([^/]+)/manifest$} ? $1 : () } glob "$folder/*/manifest";
}

# What a failed run left; the next one would take it up.
sub remove_garbage
{
    my %complete = map { $_ => 1 } complete();

    remove_tree($_) for grep { !$complete{ s{.*/}{}r } } glob "$folder/*";
    return;
}

# The server has no session of a backup any more: with it ends the backup that it was in.
sub server_is_free
{
    my $free = eval {
        WalTest::wait_until(
            sub {
                return $node->safe_psql('postgres',
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walbackup'") eq '0';
            },
            15, 'the session has ended');
    };
    return $free ? 1 : 0;
}

# What info says of each backup.
sub backups_of
{
    my ($conf) = @_;
    my $info = WalTest::run([ $walctl, '--config', $conf, 'info', '--output=json' ]);
    my $clusters = decode_json($info->{stdout})->{clusters};

    die "info tells of no cluster: $info->{stderr}" if $info->{exit} != 0 || @$clusters != 1;
    return @{ $clusters->[0]{backups} };
}

# Complaints about all backups that there are: what info says of them, and each byte of them.
sub backups_wrong
{
    my ($conf, @options) = @_;
    my $verify = WalTest::run([ $walctl, '--config', $conf, 'verify', '--backups', @options ], timeout => 300);
    my @wrong;

    push @wrong, "verify: $verify->{stdout}$verify->{stderr}" if $verify->{exit} != 0;
    for my $backup (backups_of($conf))
    {
        push @wrong, "$backup->{label}: $backup->{fault}" if $backup->{state} eq 'complete' && !$backup->{restorable};
    }
    return @wrong;
}

my $labels = 0;

sub command
{
    my ($label, @options) = @_;
    return ($walbackup, '--config', $config, 'full', '--checkpoint=fast', '--timeout=60s', '--label', $label, @options);
}

# ---- each call fails, or walbackup dies there ----

WalTest::run_ok('a backup without a fault', command('good'));
is_deeply([ complete() ], ['good'], 'it is there');

sub sweep
{
    my ($what, $most, %plan) = @_;
    my $killed = $plan{kill} ? 1 : 0;
    my (@complaints, $faults);
    my $begin = time;

    my $count = FailNth::run([ command('count' . ++$labels) ], func => $plan{func});
    my $calls = $count->{counts}[0] // 0;
    push @complaints, "without a fault: $count->{stderr}" if $count->{exit} != 0;
    for my $n (FailNth::sample($calls, FailNth::quick() ? int($most / 3) + 1 : $most))
    {
        # the last one is behind all calls
        next if $n > $calls && !$ENV{WALTEST_FULL};
        my $label = 'fault' . ++$labels;
        my $run = FailNth::run([ command($label) ], %plan, n => $n);
        my $there = grep { $_ eq $label } complete();

        $faults++ if $run->{signal} || !@{ $run->{counts} } || $run->{counts}[0] >= $n;
        push @complaints, "call $n: exit 0, and there is no backup" if $run->{exit} == 0 && !$there;
        push @complaints, "call $n: ended by signal $run->{signal}: $run->{stderr}" if $run->{signal} && !$killed;
        push @complaints, "call $n: exit $run->{exit}: $run->{stderr}"
          if !$killed && $run->{exit} != 0 && ($run->{exit} > 2 || $run->{stderr} !~ /(?:ERROR|FATAL):\s+\S|Fatal Internal Error in libarchive: Out of memory/);
        push @complaints, "call $n: the server is left in a backup" if !server_is_free();
        last if @complaints > 5;
    }
    # what the failed runs left is there for this one to take up
    my $again = WalTest::run([ command('after' . ++$labels) ]);
    push @complaints, "the next run failed: $again->{stderr}" if $again->{exit} != 0;
    push @complaints, backups_wrong($config);
    ok(!@complaints, sprintf '%s (%d of %d calls, %.0f s)', $what, $faults, $calls, time - $begin)
      or diag(join "\n", @complaints);
    remove_tree($_) for grep { !m{/good$} } glob "$folder/*";
    return $faults;
}

if ($sanitized)
{
    pass('built with a sanitizer: faults in calls of libc are left out');
}
else
{
    my $total = 0;

    # a connection that broke stays so: after a write that failed libpq waits for what the reads say
    $total += sweep("$_->[0] fails with $_->[1]", $_->[2] // 3, func => $_->[0], errno => $_->[1], keep => $_->[3] // 0) for
      [ 'open,openat', 'EIO', 6 ], [ 'openat', 'EMFILE' ], [ 'read,pread', 'EIO', 6 ], [ 'write,writev,pwrite', 'ENOSPC', 5 ],
      [ 'fstat,fstatat,statx', 'EIO', 5 ], [ 'fsync,fdatasync,close', 'EIO', 5 ], [ 'linkat,mkdirat,renameat2', 'EIO', 4 ],
      [ 'connect,send,recv', 'ECONNRESET', 9, 1 ], [ 'malloc,calloc,realloc', 'ENOMEM', 9 ];
    cmp_ok($total, '>', FailNth::quick() ? 8 : 30, 'there were faults');

    # the end of it, call by call: the last parts, the manifest, the answer
    my $store = 'linkat,writev,fsync,mkdirat';
    for my $kill (1, 2)
    {
        my $when = $kill == 1 ? 'before' : 'after';
        sweep("killed $when a call of the store", 9, func => $store, kill => $kill);
        sweep("killed $when a call of the server's connection", 5, func => 'connect,send,recv', kill => $kill);
    }
    sweep('killed before a read', 6, func => 'read,pread', kill => 1);
}

# ---- stopped, killed, and a server that goes away ----

# Starts a backup that reads $rate a second, does something to it once it copies files, and returns what it came to.
sub in_the_middle
{
    my ($label, $rate, $action) = @_;
    my $run = WalTest::daemon($label, [ command($label, "--rate-limit=$rate") ]);

    $run->wait_log(qr/backup starts at/, 30);
    usleep(500_000);
    $action->($run);
    # undisturbed it would take several minutes
    my $exit = $run->wait_exit(60);
    return { exit => $exit // 'none', stderr => $run->log_text };
}

for my $case (
    [ 'kill9', sub { $_[0]->kill9 }, 128 + 9, undef ],
    [ 'term', sub { $_[0]->signal('TERM') }, 1, qr/ERROR:  .*cancel/ ],
    [ 'int', sub { $_[0]->signal('INT') }, 1, qr/ERROR:  .*cancel/ ],
    [
        'session', sub {
            $node->safe_psql('postgres',
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'walbackup'");
        },
        1, qr/ERROR:  .*session of the backup was lost/
    ],
    [ 'immediate', sub { $node->stop('immediate') }, 1, qr/ERROR:  .*session of the backup was lost/ ],
    [ 'fast', sub { $node->stop('fast') }, 1, qr/ERROR:  .*session of the backup was lost/ ])
{
    my ($label, $action, $exit, $message) = @$case;
    my $run = in_the_middle($label, '64kB', $action);

    is($run->{exit}, $exit, "$label: exit $exit");
    like($run->{stderr}, $message, "$label: and why") if defined $message;
    ok(!-e "$folder/$label/manifest", "$label: no backup");
    $node->start if $label eq 'immediate' || $label eq 'fast';
    ok(server_is_free(), "$label: the server is in no backup");
}
WalTest::run_ok('the next backup', command('next'));
{
    # one at a time
    my $other;
    my $run = in_the_middle(
        'first', '8MB',
        sub {
            my ($first) = @_;
            $first->signal('STOP');    # it is there as long as that takes
            $other = WalTest::run([ command('second') ]);
            $first->signal('CONT');
        });
    is($run->{exit}, 0, 'another backup meanwhile: the first one succeeds') or diag($run->{stderr});
    is($other->{exit}, 1, 'the other one is refused');
    like($other->{stderr}, qr/another walbackup/, 'and why');
    $run = WalTest::run_exit('a label that is taken', 1, command('first'));
    like($run->{stderr}, qr/"first"/, 'it is named');
}
{
    # all bundles are finished when WAL does not come; the next run takes them up, and is whole without them
    open my $fh, '>', $hold or die "$hold: $!";
    close $fh or die "$hold: $!";
    my $run = WalTest::run_exit('WAL does not come', 1, command('waited', '--wal-timeout=1s'));
    like($run->{stderr}, qr/lacks WAL from/, 'and why');
    ok(!-e "$folder/waited/manifest", 'no backup');
    unlink $hold or die "$hold: $!";
    $node->safe_psql('postgres', 'UPDATE kept SET i = -i WHERE i % 4000 = 1');
    $run = WalTest::run_ok('the next run', command('resumed', '--output=json'));
    cmp_ok(decode_json($run->{stdout})->{reused_bytes}, '>', 1_000_000, 'it takes up what is stored');
}
is_deeply([ backups_wrong($config) ], [], 'all of this did no harm');

# ---- damaged pages ----

my $kept = $node->safe_psql('postgres', "SELECT pg_relation_filepath('kept')");
my $sound;

# Overwrites bytes of a page while the server is down.
sub patch
{
    my ($at, $bytes) = @_;

    open my $fh, '+<:raw', $node->data_dir . "/$kept" or die "$kept: $!";
    seek $fh, $at, 0 or die "seek: $!";
    print $fh $bytes;
    close $fh or die "$kept: $!";
    return;
}

$node->stop;
{
    $sound = WalTest::slurp($node->data_dir . "/$kept");
    # block 7: another byte; block 9: the same, and an LSN of the future, as of a page that is half written
    patch(7 * $page + 5000, chr(ord(substr $sound, 7 * $page + 5000, 1) ^ 0x10));
    patch(9 * $page + 5000, chr(ord(substr $sound, 9 * $page + 5000, 1) ^ 0x10));
    patch(9 * $page, pack 'LL', 0x7fff, 0);
    $node->start;
    my $run = WalTest::run_ok('a damaged page: the backup succeeds', command('damaged', '--output=json'));
    like($run->{stderr}, qr/WARNING:  page checksum mismatch in file "\Q$kept\E", block 7:/, 'the file and the block are named');
    unlike($run->{stderr}, qr/block 9:/, 'a page that may be torn is not');
    is(decode_json($run->{stdout})->{damaged_blocks}, 1, 'it is counted');
    my ($backup) = grep { $_->{label} eq 'damaged' } backups_of($config);
    is($backup->{damaged_blocks}, 1, 'it is recorded');
    $node->stop;
    patch($_ * $page, substr $sound, $_ * $page, $page) for 7, 9;
    $node->start;
}

# ---- files that come and go ----

{
    $node->safe_psql('postgres', 'CREATE TABLE grows (i int, t text)');
    my $churn = WalTest::daemon('churn', [ 'sh', '-c', 'while :; do ' . join(' ', map { "'$_'" }
          $node->installed_command('psql'), '-X', '-q', '-d', $node->connstr('postgres'), '-f', "$top/churn.sql") . ' || exit 1; done' ]);
    open my $fh, '>', "$top/churn.sql" or die "churn.sql: $!";
    # growing over a megabyte and more, cut off, dropped; temporary files; a relation with all its forks
    print $fh <<'SQL';
INSERT INTO grows SELECT i, repeat('g', 400) FROM generate_series(1, 4000) i;
CREATE TABLE short_lived AS SELECT i FROM generate_series(1, 3000) i;
CREATE INDEX ON short_lived (i);
VACUUM short_lived;
DELETE FROM grows WHERE i > 100;
VACUUM grows;
DROP TABLE short_lived;
TRUNCATE grows;
CREATE UNLOGGED TABLE u AS SELECT 1 AS i;
DROP TABLE u;
SQL
    close $fh or die "churn.sql: $!";
    my $vanished = 0;
    # more of them where none has met a file that goes
    for my $i (1 .. 40)
    {
        last if $i > (FailNth::quick() ? 2 : 4) && $vanished > 0;
        my @kind = $i % 2 ? 'full' : 'incremental';
        my $run = WalTest::run([ $walbackup, '--config', $config, @kind, '--checkpoint=fast', '--label', "moving$i", '--output=json',
            '--rate-limit=20MB' ]);
        is($run->{exit}, 0, "files come, grow, shrink and go: backup $i succeeds (pgBackRest 2.23)") or diag($run->{stderr});
        $vanished += decode_json($run->{stdout})->{vanished_files} if $run->{exit} == 0;
    }
    cmp_ok($vanished, '>', 0, 'there were files that vanished');
    $churn->kill9;
}
is_deeply([ backups_wrong($config) ], [], 'all backups are right');

# what was made after a failed run, and while files came and went: servers with the rows of that time
{
    my $rows = WalTest::rows($node, 'kept');
    for my $label ('resumed', FailNth::quick() ? 'moving2' : 'moving4')
    {
        my $restored = WalTest::restore("from_$label", config => $config, args => [ '--backup', $label ]);
        WalTest::same_rows(WalTest::rows($restored, 'kept'), $rows, "restored from $label: the same rows");
        $restored->safe_psql('postgres', 'CREATE EXTENSION amcheck');
        is($restored->safe_psql('postgres', q{SELECT v.* FROM pg_class c, verify_heapam(c.oid) v
            WHERE c.relkind = 'r' AND c.relpersistence = 'p'}), '', "restored from $label: without damage");
        $restored->stop('immediate');
    }
}

# ---- a store that answers wrongly, or not at all ----

my $rgw = WalTest::rgw();
my $proxy = WalTest::S3::Proxy->start($rgw->{RGW_HTTP});
my $s3 = WalTest::s3('walbackup', tls => 0);
my %common = (cluster => { data => $node->data_dir }, backup => { 'wal-timeout' => '120s', jobs => 2 });
my $clean = WalTest::config_for($node, %common, repository => $s3);
my $through = WalTest::config_for($node, %common, repository => { %$s3, endpoint => $proxy->{endpoint} });
WalTest::run_ok('init on S3', $walctl, '--config', $clean, 'init');
# WAL comes past the proxy
my $stream = WalTest::walstream($clean);

sub s3_command
{
    my ($label, @options) = @_;
    return [ $walbackup, '--config', $through, 'full', '--checkpoint=fast', '--timeout=120s', '--label', $label, @options ];
}

# What is in the bucket, asked past the proxy: is there a backup of this name?
sub s3_has
{
    my ($label) = @_;
    return scalar grep { $_->{label} eq $label && $_->{state} eq 'complete' && $_->{restorable} } backups_of($clean);
}

my %objects = (start => '/start$', part => '/bundle/.*/0', index => '/bundle/.*/index$', manifest => '/manifest$');
for my $object (qw(start part index manifest))
{
    # the small ones are put as the large ones are
    my $few = $object eq 'start' || $object eq 'index';
    for my $case (
        [ '503 (pgbackrest#1290)', 'status 503 SlowDown' ],
        [ '200 with an error (pgbackrest#1116)', 'status 200 InternalError' ],
        [ 'done, but the answer is lost', 'pass-reset' ],
        [ 'done, but 500', 'pass-status 500 InternalError' ],
        [ 'request cut', 'cut-request 100' ])
    {
        my ($what, $action) = @$case;
        my $label = 'once' . ++$labels;

        next if $few && $action =~ /^(?:status 200|pass-status|cut)/;

        # a label that we have put without hearing of it may be another's: start may be refused
        my $rule = $proxy->add('PUT', $objects{$object}, $action);
        my $run = WalTest::run(s3_command($label));
        my $there = s3_has($label) ? 1 : 0;
        my $lost = $object eq 'start' && $action =~ /^pass/;
        cmp_ok($proxy->hits($rule), '>=', 1, "$object, $what: the fault was there");
        ok($run->{exit} == ($there ? 0 : 1), "$object, $what: exit code and bucket say the same") or diag($run->{stderr});
        ok($there || $lost, "$object, $what: the backup is there") or diag($run->{stderr});
        $proxy->clear;
    }
    for my $case ([ '503', 'status 503 SlowDown' ], [ 'done, but the answer is lost', 'pass-reset' ])
    {
        my ($what, $action) = @$case;
        my $label = 'always' . ++$labels;

        next if $few && $action !~ /^pass/;

        my $rule = $proxy->add('PUT', $objects{$object}, $action, times => 0);
        my $run = WalTest::give_up(
            2,
            sub { my ($timeout) = @_; WalTest::run([ map { s/^--timeout=120s$/--timeout=$timeout/r } @{ s3_command($label) } ]) },
            sub { $proxy->hits($rule) > 0 },
            "$object, $what, always");
        cmp_ok($proxy->hits($rule), '>=', 1, "$object, $what, always: the fault was there");
        $proxy->clear;
        is($run->{exit}, 1, "$object, $what, always: refused") or diag($run->{stderr});
        like($run->{stderr}, qr/ERROR:  .*"$label"/, "$object, $what, always: a message");
        # the manifest may be there, and then the backup is good; nobody said that it is
        ok(!s3_has($label), "$object, $what, always: no backup") if $object ne 'manifest' || $action =~ /503/;
    }
}
# nothing is taken up: who stores nothing does not notice
for my $case ([ 'down for ever', 0, 1, 3, '64kB' ], [ 'down for some seconds', 2, 0, 300, '4MB' ])
{
    my ($label, $seconds, $exit, $timeout, $rate) = @$case;
    my $name = $label =~ s/ /-/gr;
    my $run = WalTest::daemon($name,
        [ map { s/^--timeout=120s$/--timeout=${timeout}s/r } @{ s3_command($name, "--rate-limit=$rate", '--no-resume') } ]);

    $run->wait_log(qr/backup starts at/, 30);
    usleep(300_000);
    $proxy->down;
    if ($seconds)
    {
        usleep($seconds * 1_000_000);
        $proxy->up;
    }
    # undisturbed it would take several minutes if it is not to succeed
    is($run->wait_exit(60) // 'none', $exit, "the store is $label: exit $exit") or diag($run->log_text);
    $proxy->up if !$seconds;
    like($run->log_text, qr/ERROR:  .*"$name".*could not/, "the store is $label: a message") if $exit;
    is(s3_has($name) ? 1 : 0, $exit ? 0 : 1, "the store is $label: what is there");
}
is_deeply([ backups_wrong($clean) ], [], 'all backups in the bucket are right');
ok(server_is_free(), 'the server is in no backup');
is($stream->stop, 0, 'walstream stops');

$node->stop;
$proxy->stop;
done_testing();
