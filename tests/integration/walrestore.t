#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# walrestore: backups and chains, every kind of target, tablespaces, over what is there already, and
# what it refuses.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use File::Path qw(remove_tree);
use JSON::PP;
use WalTest;
use WalTest::Matrix;
use Test::More;

my $verify = WalTest::install_path(15) . '/bin/pg_verifybackup';
my $number = 0;

# All that the tests of one version need: a cluster, its repository, and what happened when.
sub make_cluster
{
    my ($version) = @_;
    my $node = WalTest::node("primary$version", version => $version, start => 0);
    # once plain, once encrypted
    my %key = $version == 15 ? () : WalTest::Matrix::keygen($version, WalTest::dir("keys$version"));
    my $config = WalTest::config_for(
        $node,
        compression => { method => $version == 15 ? 'lz4' : 'zstd:1' },
        %key ? (encryption => { recipient => $key{recipient}, 'identity-file' => $key{file} }) : ());
    my $spaces = WalTest::dir("spaces$version");
    my %c = (node => $node, config => $config, version => $version, spaces => $spaces);

    WalTest::archive_with($node, $config);
    # what an earlier recovery has left in an included file must not stop ours
    $node->append_conf('included.conf', "recovery_target_time = '2020-01-01'");
    $node->append_conf('postgresql.conf', "include = 'included.conf'");
    $node->start;
    WalTest::run_ok("$version: init", WalTest::tool('walctl'), '--config', $config, 'init');
    mkdir "$spaces/a";
    $node->safe_psql('postgres', "CREATE TABLESPACE a LOCATION '$spaces/a'");
    $c{oid} = $node->safe_psql('postgres', "SELECT oid FROM pg_tablespace WHERE spcname = 'a'");
    $node->safe_psql('postgres', 'CREATE DATABASE other');
    $node->safe_psql('other', "CREATE TABLE o AS SELECT i, repeat('o', 100) FROM generate_series(1, 5000) i");
    $node->safe_psql('postgres', <<'SQL');
CREATE TABLE mark (n int);
CREATE TABLE big AS SELECT i, md5(i::text) AS v, repeat('x', 200) AS f FROM generate_series(1, 30000) i;
CREATE TABLE away (i int, v text) TABLESPACE a;
INSERT INTO away SELECT i, md5(i::text) FROM generate_series(1, 5000) i;
CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS i;
INSERT INTO mark VALUES (1);
SQL
    $c{full} = WalTest::backup($config, 'full', '--label=first')->{label};
    ($c{xid}) = $node->safe_psql('postgres',
        'BEGIN; INSERT INTO mark VALUES (2) RETURNING pg_current_xact_id(); COMMIT') =~ /(\d+)/;
    $node->safe_psql('postgres', 'INSERT INTO mark VALUES (3)');
    $c{lsn} = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
    $node->safe_psql('postgres', 'INSERT INTO mark VALUES (4)');
    $node->safe_psql('postgres', "SELECT pg_create_restore_point('four')");
    $node->safe_psql('postgres', 'INSERT INTO mark VALUES (5)');
    $c{time} = $node->safe_psql('postgres', 'SELECT pg_sleep(0.1); SELECT clock_timestamp()');
    $c{time} =~ s/\s+//;
    $node->safe_psql('postgres', "SELECT pg_sleep(0.1); INSERT INTO mark VALUES (6)");
    $node->safe_psql('postgres', 'UPDATE big SET v = v || 1 WHERE i % 100 = 0; UPDATE away SET v = 0 WHERE i < 50');
    $node->safe_psql('postgres', "INSERT INTO big SELECT i, 'new', 'n' FROM generate_series(1, 500) i");
    $c{second} = WalTest::backup($config, 'incremental', '--label=second')->{label};
    $node->safe_psql('postgres', 'DELETE FROM big WHERE i > 20000; VACUUM big; VACUUM away');
    $node->safe_psql('postgres', 'INSERT INTO away SELECT i, 0 FROM generate_series(1, 2000) i');
    $c{third} = WalTest::backup($config, 'incremental', '--label=third')->{label};
    $node->safe_psql('postgres', 'INSERT INTO mark VALUES (7); SELECT pg_switch_wal()');
    $c{rows} = { map { $_ => WalTest::rows($node, $_, '1, 2') } qw(big away) };
    WalTest::wait_until(
        sub { my @ready = glob($node->data_dir . '/pg_wal/archive_status/*.ready'); !@ready },
        60, 'all WAL is archived');
    return \%c;
}

sub map_option
{
    my ($c) = @_;
    my $to = WalTest::dir('ts' . ++$number . "-$c->{version}");

    return "--tablespace=$c->{oid}=$to";
}

sub restore
{
    my ($c, $name, @args) = @_;
    my %opt = ref $args[-1] eq 'HASH' ? %{ pop @args } : ();

    @args = (map_option($c), @args) unless grep { /^--tablespace/ } @args;
    return WalTest::restore("$name$c->{version}", version => $c->{version}, config => $c->{config},
        args => [ '--output=json', @args ], %opt);
}

sub answer
{
    my ($node) = @_;
    return decode_json($node->{walrestore}{stdout});
}

sub marks
{
    my ($node) = @_;
    return $node->safe_psql('postgres', 'SELECT max(n) FROM mark');
}

sub verify
{
    my ($c, $dir, $label) = @_;

    return if $c->{version} != 15;
    WalTest::run_ok("$label: pg_verifybackup", $verify, '-n', $dir);
    return;
}

# A directory as walrestore leaves it, for a server that adopt_and_start can start.
sub restore_untouched
{
    my ($c, $name, @args) = @_;
    my $node = WalTest::new_cluster("$name$c->{version}", $c->{version});

    mkdir $node->backup_dir;
    mkdir $node->archive_dir;
    $node->{walrestore} = WalTest::run_ok("$c->{version} $name: walrestore", command($c, $node->data_dir, @args));
    return $node;
}

sub command
{
    my ($c, $dir, @args) = @_;
    return (WalTest::tool('walrestore'), '--config', $c->{config}, '--to', $dir, '--output=json', @args);
}

sub adopt_and_start
{
    my ($node) = @_;

    WalTest::adopt($node, {});
    $node->start;
    WalTest::wait_until(
        sub { $node->safe_psql('postgres', 'SELECT pg_is_in_recovery()') eq 'f' },
        120, 'recovery ends');
    return;
}

sub same_rows
{
    my ($c, $node, $label) = @_;

    WalTest::same_rows(WalTest::rows($node, $_, '1, 2'), $c->{rows}{$_}, "$label: table $_")
      for sort keys %{ $c->{rows} };
    return;
}

# Runs walrestore, which must refuse; nothing may be written.
sub refused
{
    my ($c, $label, $exit, $regex, @args) = @_;
    my $result =
      WalTest::run_exit($label, $exit, WalTest::tool('walrestore'), '--config', $c->{config}, @args);

    like($result->{stderr}, $regex, "$label: the reason");
    return;
}

# ---- what every version must do ----

sub test_latest
{
    my ($c) = @_;
    my $v = $c->{version};

    for my $case (
        [ 'from the full backup', 'full', "--backup=$c->{full}", 0 ],
        [ 'from the chain', 'chain', "--backup=$c->{third}", 2 ],
        [ 'from the newest', 'newest', undef, 2 ])
    {
        my ($label, $name, $arg, $chain) = @$case;
        my $node = restore_untouched($c, $name, map_option($c), $arg // ());
        my $answer = answer($node);

        is(scalar @{ $answer->{chain} }, $chain, "$v $label: length of the chain");
        verify($c, $node->data_dir, "$v $label");
        ok(!-e $node->data_dir . '/walrestore.incomplete', "$v $label: no marker is left");
        adopt_and_start($node);
        is(marks($node), 7, "$v $label: everything is there");
        same_rows($c, $node, "$v $label");
        $node->stop;
    }
    return;
}

sub test_targets
{
    my ($c, @only) = @_;
    my %cases = (
        xid => [ 2, "--target-xid=$c->{xid}" ],
        exclusive => [ 1, "--target-xid=$c->{xid}", '--exclusive' ],
        lsn => [ 3, "--target-lsn=$c->{lsn}" ],
        name => [ 4, '--target-name=four' ],
        time => [ 5, "--target-time=$c->{time}" ],
        immediate => [ 1, '--target=immediate', "--backup=$c->{full}" ]);

    for my $kind (@only)
    {
        my ($want, @args) = @{ $cases{$kind} };
        my $node = restore($c, "t$kind", @args);
        my $answer = answer($node);

        is(marks($node), $want, "$c->{version}: target $kind is reached, and no more");
        is($answer->{backup}, 'first', "$c->{version}: target $kind: the backup before it is taken");
        $node->stop;
    }
    return;
}

# ---- once ----

sub test_dry_run
{
    my ($c) = @_;
    my $to = WalTest::dir('dry') . '/data';
    my $result = WalTest::run_ok('dry run', WalTest::tool('walrestore'), '--config', $c->{config},
        '--to', $to, map_option($c), '--dry-run');

    ok(!-e $to, 'a dry run writes nothing');
    like($result->{stdout}, qr/^backup\s+third \(incremental\).*^to fetch.*^time\s+about/ms,
        'it tells what it would do');

    # as under nohup
    my $run =
      WalTest::daemon('nohup', [ command($c, $to, map_option($c), '--dry-run') ], ignore => ['HUP']);
    WalTest::wait_until(sub { $run->signal('HUP'); !$run->running }, 120, 'it ends');
    is($run->wait_exit(0), 0, 'an ignored signal stays ignored') or diag($run->log_text);
    return;
}

sub test_refusals
{
    my ($c) = @_;
    my $full = WalTest::dir('not-empty');
    my $spaces = $c->{spaces};
    my $other = WalTest::node('stranger', version => 15, start => 0);
    my @to = ('--to', WalTest::dir('refused') . '/data');
    my @ts = (map_option($c));

    open my $fh, '>', "$full/mine" or die;
    close $fh;
    refused($c, 'not empty', 1, qr/not empty/, '--to', $full, @ts);
    refused($c, 'no data directory, with --delta', 1, qr/cannot be restored over/, '--to', $full, @ts,
        '--delta');
    refused($c, 'running', 1, qr/server is running/, '--to', $c->{node}->data_dir, @ts, '--delta');
    refused($c, 'another cluster', 1, qr/another cluster/, '--to', $other->data_dir, @ts, '--delta');
    refused($c, 'tablespace not empty', 1, qr/tablespace $c->{oid} is not empty/, @to);
    refused($c, 'no such tablespace', 2, qr/no tablespace 42/, @to, @ts, '--tablespace=42=/tmp/x');
    refused($c, 'tablespace in the data directory', 2, qr/inside each other/,
        @to, "--tablespace=$c->{oid}=$to[1]/ts");
    refused($c, 'no such backup', 2, qr/nowhere/, @to, @ts, '--backup=nowhere');
    refused($c, 'no such database', 2, qr/no database "nowhere"/, @to, @ts, '--only-database=nowhere');
    refused($c, 'a time after the end', 2, qr/./, @to, @ts, '--target-time=2199-01-01 00:00:00Z');
    refused($c, 'a time before the first backup', 2, qr/./, @to, @ts, '--target-time=2001-01-01 00:00:00Z');
    refused($c, 'an LSN behind the end', 2, qr/./, @to, @ts, '--target-lsn=FFF/0');
    refused($c, 'no such restore point', 2, qr/no restore point "never"/, @to, @ts, '--target-name=never');
    ok(!-e $to[1], 'nothing was written');
    ok(-e "$full/mine" && -e $other->data_dir . '/PG_VERSION', 'what was there is there');
    return;
}

sub write_bytes
{
    my ($path, $at, $bytes) = @_;

    open my $fh, -e $path ? '+<:raw' : '>:raw', $path or die "could not open $path: $!";
    seek $fh, $at, 0;
    print $fh $bytes;
    close $fh or die;
    return;
}

sub test_delta
{
    my ($c) = @_;
    my $map = map_option($c);
    my $node = restore_untouched($c, 'delta', $map, "--backup=$c->{full}");
    my $dir = $node->data_dir;
    my $outside = WalTest::dir('outside');
    my $before = answer($node);
    my ($relation) = grep { -s $_ > 100_000 } glob("$dir/base/1/[0-9]*");

    write_bytes("$outside/keep", 0, 'me');
    write_bytes($relation, 8192, 'damage');
    write_bytes("$dir/base/1/999999", 0, 'stray');
    mkdir "$dir/stray" or die;
    write_bytes("$dir/stray/file", 0, 'stray');
    symlink $outside, "$dir/link" or die;
    rename "$dir/pg_xact", "$outside/pg_xact" or die;
    symlink "$outside/pg_xact", "$dir/pg_xact" or die;
    my ($space) = $map =~ /=(\/.*)/;
    write_bytes("$space/mine", 0, 'me');

    my $result = WalTest::run_ok('delta', command($c, $dir, $map, "--backup=$c->{full}", '--delta'));
    my $answer = decode_json($result->{stdout});

    cmp_ok($answer->{keep_bytes}, '>', $before->{write_bytes} / 2, 'most of it was kept');
    cmp_ok($answer->{write_bytes}, '<', $before->{write_bytes} / 4, 'and little of it written again');
    ok(!-e "$dir/base/1/999999" && !-e "$dir/stray" && !-l "$dir/link", 'what does not belong is gone');
    ok(-d "$dir/pg_xact" && !-l "$dir/pg_xact", 'a link in the place of a folder is a folder');
    ok(-e "$outside/keep" && -e "$outside/pg_xact/0000", 'what links pointed to is untouched');
    ok(-e "$space/mine", 'and what is beside the folder of a tablespace');
    unlink "$space/mine";
    verify($c, $dir, 'delta');

    # a server has run in it, and changed what it likes
    adopt_and_start($node);
    $node->safe_psql('postgres', 'INSERT INTO mark VALUES (1000)');
    $node->stop;
    WalTest::run_ok('delta over a used directory', command($c, $dir, $map, '--delta', '--timeline=1'));
    ok(!-e "$dir/postmaster.opts", 'files of the server are gone');
    verify($c, $dir, 'delta from a chain');
    adopt_and_start($node);
    is(marks($node), 7, 'delta from a chain: the state of the backup and its WAL');
    same_rows($c, $node, 'delta from a chain');
    my $conf = WalTest::slurp("$dir/postgresql.auto.conf");
    is(scalar(() = $conf =~ /^restore_command/mg), 1, 'the settings are there once');
    $node->stop;
    return;
}

sub test_killed
{
    my ($c) = @_;
    my $map = map_option($c);
    my $node = WalTest::new_cluster('killed', $c->{version});
    my $dir = $node->data_dir;
    my @command = command($c, $dir, $map, '--jobs=1');
    my ($half, $started) = (0, 0);

    mkdir $node->backup_dir;
    mkdir $node->archive_dir;
    my ($space) = $map =~ /^--tablespace=\d+=(.+)/;

    for my $round (1 .. 60)
    {
        last if $round > 6 && $half > 0;
        my $run = WalTest::daemon("killed$round", \@command);
        my $end;

        WalTest::wait_until(
            sub { -e "$dir/walrestore.incomplete" || !$run->running }, 60, 'it writes');
        select undef, undef, undef, 0.06 * (($round - 1) % 6);
        if ($round == 3)
        {
            $run->signal('TERM');
            $end = $run->wait_exit(60);
            like($run->log_text, qr/directory is incomplete/, 'a signal: it says what is left')
              if $end == 1;
        }
        else
        {
            $end = $run->kill9;
        }
        if ($end == 0)
        {
            last if $half > 0;
            # it was faster than the kill: from the beginning
            remove_tree($_, { keep_root => 1 }) for $dir, $space;
            next;
        }
        next if -e "$dir/global/pg_control" && -e "$dir/backup_manifest";
        $half++;
        $started++
          if WalTest::run(
            [ $node->installed_command('pg_ctl'), '-D', $dir, '-l', "$dir.log", '-w', 'start' ])->{exit} == 0;
    }
    cmp_ok($half, '>', 0, "killed in the middle $half times");
    is($started, 0, 'no server starts on it');
    WalTest::run_ok('the same command again', @command) if -e "$dir/walrestore.incomplete";
    verify($c, $dir, 'after kills');
    adopt_and_start($node);
    same_rows($c, $node, 'after kills');
    $node->stop;
    return;
}

sub test_one_database
{
    my ($c) = @_;
    my $node = restore($c, 'one', '--only-database=postgres');
    my $answer = answer($node);

    cmp_ok($answer->{zero_files}, '>', 100, 'files of the other database are zeros');
    same_rows($c, $node, 'only one database');
    isnt(($node->psql('other', 'SELECT count(*) FROM o'))[0], 0, 'the other one cannot be used');
    $node->safe_psql('postgres', 'DROP DATABASE other');
    is($node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = 'other'"),
        0, 'it can be dropped');
    $node->stop;
    return;
}

sub test_settings
{
    my ($c) = @_;
    my $node = restore($c, 'set', '--target-name=four', '--target-action=pause', { wait => 0 });

    WalTest::wait_until(
        sub {
            ($node->psql('postgres', 'SELECT pg_get_wal_replay_pause_state()'))[1] eq 'paused';
        },
        120,
        'recovery pauses at the target');
    is(marks($node), 4, 'paused at the target');
    $node->stop;

    my $standby = restore($c, 'standby', '--standby', { wait => 0 });
    WalTest::wait_until(
        sub { (($standby->psql('postgres', 'SELECT max(n) FROM mark'))[1] // '') eq '7' },
        120, 'the standby has everything');
    is($standby->safe_psql('postgres', 'SELECT pg_is_in_recovery()'), 't', 'and goes on');
    $standby->stop;
    return;
}

# A copy of the repository in which something is done to parts of backups: { 'first/0' => sub { ... } } gets the
# paths of all parts of its bundle 0. Returns the option that takes it.
sub broken_copy
{
    my ($c, %break) = @_;
    my $copy = WalTest::dir('broken' . ++$number) . '/repo';

    system('cp', '-a', WalTest::repo_dir($c->{config}), $copy) == 0 or die 'cp failed';
    for my $where (keys %break)
    {
        my ($label, $bundle) = split m{/}, $where;
        $break{$where}->(glob sprintf '%s/test/*/backup/%s/bundle/%08X/????????', $copy, $label, $bundle);
    }
    return "--repository.url=file://$copy";
}

# Parts that somebody has removed, or that have not been copied yet: known before the directory is touched.
sub test_missing_parts
{
    my ($c) = @_;
    my $to = WalTest::dir('no-parts') . '/data';
    my @to = ('--to', $to, map_option($c));
    my $gone = sub { unlink($_[0]) or die "$_[0]: $!" };
    my $short = sub { truncate($_[0], (-s $_[0]) - 1) or die "$_[0]: $!" };
    my $third = broken_copy($c, 'third/0' => $gone);
    my $chain = broken_copy($c, 'third/0' => $gone, 'second/0' => $short);
    my $full = broken_copy($c, 'first/0' => $gone);
    my $part = '"backup/third/bundle/00000000/00000000"';

    for my $case (
        [ 'the newest', $third, qr/"third" cannot be restored: part 0 of bundle 0 of backup "third" \($part\) is missing/ ],
        [ 'the newest: another one', $third, qr/HINT:  "--backup=second" has all its parts and reaches the same/ ],
        [ 'the newest, as it is tried', $third, qr/$part.*HINT:  "--backup=second" /s, '--dry-run' ],
        [ 'the newest by name', $third, qr/HINT:  "--backup=second" has all its parts; it is consistent at/,
            '--backup=third', '--target=immediate' ],
        [ 'two of them', $chain, qr/HINT:  "--backup=first" has all its parts and reaches the same/ ],
        [ 'one that is too short', $chain, qr/of backup "second" .* has \d+ bytes, where the manifest says \d+/,
            '--backup=second' ],
        [ 'the full one', $full, qr/"third" cannot be restored: part 0 of bundle 0 of backup "first" / ],
        [ 'the full one: no other', $full, qr/HINT:  There is no other backup that reaches/ ],
        [ 'what the target needs', $full, qr/"first" cannot be restored.*HINT:  There is no other/s, '--target-name=four' ])
    {
        my ($label, $url, $regex, @args) = @$case;
        refused($c, "parts: $label", 1, $regex, @to, $url, @args);
    }
    ok(!-e $to, 'parts: nothing was written');
    my $result = WalTest::run_ok('parts: the one that was named', command($c, $to, $to[2], $third, '--dry-run', '--backup=second'));
    is(decode_json($result->{stdout})->{backup}, 'second', 'parts: it is taken');
    return;
}

# Over a directory that has most of it, only the parts that are fetched must be there.
sub test_needed_parts
{
    my ($c) = @_;
    my $map = map_option($c);
    my $node = restore_untouched($c, 'needed', $map, "--backup=$c->{full}");
    my @delta = ($map, "--backup=$c->{full}", '--delta', '--dry-run');
    my $want = decode_json(WalTest::run_ok('needed parts', command($c, $node->data_dir, @delta))->{stdout})->{fetch_parts};
    my ($refused, $parts) = (0, 0);
    my $url = broken_copy($c);

    for my $path (glob substr($url, length '--repository.url=file://') . '/test/*/backup/first/bundle/*/????????')
    {
        rename $path, "$path.away" or die "$path: $!";
        my $run = WalTest::run([ command($c, $node->data_dir, @delta, $url) ]);
        rename "$path.away", $path or die "$path: $!";
        $parts++;
        $refused++ if $run->{exit} == 1 && $run->{stderr} =~ /cannot be restored: part \d+ of bundle/;
        last if $run->{exit} > 1;
    }
    is($refused, $want, "needed parts: of $parts parts those that are fetched must be there");
    cmp_ok($want, '<', $parts, 'needed parts: not all are');
    return;
}

# Without the key, or with another one, that is known before anything is written.
sub test_keys
{
    my ($c) = @_;
    my %other = WalTest::Matrix::keygen('another key', WalTest::dir('other-keys'));
    my $to = WalTest::dir('no-key') . '/data';

    for my $case ([ 'no key', '' ], [ 'another key', $other{file} ])
    {
        my ($label, $file) = @$case;
        refused($c, $label, 1, qr/identity/, '--to', $to, map_option($c), "--backup=$c->{full}",
            '--target=immediate', "--encryption.identity-file=$file");
    }
    ok(!-e $to, 'nothing was written');
    return;
}

my %wanted = map { $_ => 1 } WalTest::versions();

for my $version (grep { $wanted{$_} } 15, 18)
{
    my $c = make_cluster($version);

    test_latest($c);
    test_targets($c, $version == 15 ? qw(xid exclusive lsn name time immediate) : qw(time));
    if ($version == 15)
    {
        test_dry_run($c);
        test_refusals($c);
        test_delta($c);
        test_killed($c);
        test_one_database($c);
        test_missing_parts($c);
        test_needed_parts($c);
        test_settings($c);
    }
    test_keys($c) if $version == 18;
    $c->{node}->stop;
}

done_testing();
