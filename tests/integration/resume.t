#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# walbackup takes up what failed runs have stored: exactly what is the same byte for byte, of several runs in a row,
# full and incremental; what expire keeps meanwhile; other recipients. Each backup is restored and compared.

use strict;
use warnings;

use File::Find ();
use File::Path qw(remove_tree);
use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use Test::More;

my $walbackup = WalTest::tool('walbackup');
my $walctl = WalTest::tool('walctl');
my $verify = WalTest::install_path(15) . '/bin/pg_verifybackup';
# WAL waits for as long as this file is there
my $hold = WalTest::dir('hold') . '/archiving';
my @versions = grep { $_ == 15 || $_ == 17 } WalTest::versions();

@versions = ((WalTest::versions())[0]) unless @versions;
several_runs($_) for @versions;
done_testing();

# ---- what is in the repository ----

sub folder
{
    my ($conf, $label) = @_;
    my ($dir) = glob WalTest::repo_dir($conf) . "/test/*/backup/$label";
    return $dir;
}

# Documents of a manifest or an index.
sub lines
{
    my ($file) = @_;
    my $text = WalTest::run([ 'sh', '-c', "lz4 -d -c <$file" ]);
    die "$file: $text->{stderr}" if $text->{exit} != 0;
    return map { decode_json($_) } split /\n/, $text->{stdout};
}

sub content
{
    my ($line) = @_;
    return join ' ', exists $line->{i} ? 'blocks' : 'whole', $line->{n} // $line->{s}, $line->{c}, $line->{x};
}

# Each file of a backup is taken up if, and only if, one of the failed runs has its content. Returns how many
# were: whole, and blocks.
sub taken_ok
{
    my ($conf, $label, @failed) = @_;
    my %last = map { $_ => 1 } qw(backup_label tablespace_map backup_manifest global/pg_control);
    my (%stored, %owner, %taken, %uses, @wrong);

    for my $from (@failed)
    {
        for my $index (glob folder($conf, $from) . '/bundle/*/index')
        {
            push @{ $stored{ $_->{f} }{ content($_) } }, "$from $_->{b} $_->{o}" for grep { exists $_->{f} } lines($index);
        }
    }
    my @lines = lines(folder($conf, $label) . '/manifest');
    $owner{ $_->{b} } = exists $_->{u} ? "$_->{u} $_->{v}" : '' for grep { exists $_->{p} } @lines;
    for my $line (grep { exists $_->{f} && !$last{ $_->{f} } } @lines)
    {
        my $owner = $owner{ $line->{b} };
        my @places = @{ $stored{ $line->{f} }{ content($line) } // [] };
        # nothing is gained with an empty file, nor with one without blocks
        @places = () if ($line->{n} // $line->{s}) == 0 || (exists $line->{i} && $line->{k} eq '');
        push @wrong, "$line->{f} is stored again" if $owner eq '' && @places;
        push @wrong, "$line->{f} is taken from $owner" if $owner ne '' && !grep { $_ eq "$owner $line->{o}" } @places;
        next if $owner eq '';
        $taken{ exists $line->{i} ? 'blocks' : 'whole' }++;
        $uses{ $owner =~ s/ .*//r } = 1;
    }
    is_deeply([ @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ] ], [], "$label: what is the same is taken up, and nothing else");
    is_deeply([ sort @{ $lines[0]{header}{uses} } ], [ sort keys %uses ], "$label: uses");
    return \%taken;
}

sub make_old
{
    my ($conf, $label, $hours) = @_;
    my $time = time - $hours * 3600;

    File::Find::find(sub { utime $time, $time, $_ or die "$_: $!" if -f }, folder($conf, $label));
    return;
}

# ---- runs ----

# Killed when there is a finished bundle, as a rule while it copies others. It cannot come to its end: its session is
# stopped.
sub killed
{
    my ($node, $conf, $kind, $label) = @_;
    my $sessions = "FROM pg_stat_activity WHERE application_name = 'walbackup'";
    my ($run, $pid);

    # slower where this machine let it get to its end before
    for my $rate ('30MB', '10MB', '3MB', '1MB')
    {
        $run = WalTest::daemon("${kind}_${label}_$rate",
            [ $walbackup, '--config', $conf, $kind, '--checkpoint=fast', '--label', $label, "--rate-limit=$rate", '--jobs=2' ]);
        $run->wait_log(qr/backup starts at/, 180);
        $run->signal('STOP');
        $pid = $node->safe_psql('postgres', "SELECT pid $sessions AND query !~ 'backup_stop|stop_backup'");
        last if $pid ne '' && kill 'STOP', $pid;
        $run->kill9;
        WalTest::wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) $sessions") eq '0' },
            180, "$label: its session has ended");
        remove_tree(folder($conf, $label));
    }
    $run->signal('CONT');
    WalTest::wait_until(sub { my @i = glob folder($conf, $label) . '/bundle/*/index'; @i >= 1 },
        180, "$label: a bundle is finished");
    $run->kill9;
    kill 'CONT', $pid or die "session $pid: $!";
    WalTest::wait_until(sub { $node->safe_psql('postgres', "SELECT count(*) $sessions") eq '0' },
        180, "$label: its session has ended");
    ok(!-e folder($conf, $label) . '/manifest', "$label: killed, and no backup");
    return;
}

# All is stored, but WAL does not come.
sub failed
{
    my ($node, $conf, $kind, $label, @options) = @_;

    open my $fh, '>', $hold or die "$hold: $!";
    close $fh or die "$hold: $!";
    my $run = WalTest::run_exit("$label: fails", 1, $walbackup, '--config', $conf, $kind, '--checkpoint=fast',
        '--label', $label, '--wal-timeout=1s', @options);
    like($run->{stderr}, qr/lacks WAL from/, "$label: at its end");
    unlink $hold or die "$hold: $!";
    return;
}

# Also sets the hint bits, so that they do not come later.
sub contents
{
    my ($node) = @_;
    return join "\n", map { "$_ " . $node->safe_psql('postgres', "SELECT count(*), sum(hashtext(t.*::text)) FROM $_ t") }
      qw(big same other shorter);
}

sub restored_ok
{
    my ($node, $conf, $label, $want) = @_;
    my $run = WalTest::run_ok("$label: verify", $walctl, '--config', $conf, 'verify', '--backup', $label);
    my $restored = WalTest::restore($node->name . "_$label", version => $node->pg_version->major, config => $conf,
        args => [ '--backup', $label, '--target=immediate' ], start => 0);

    WalTest::run_ok("$label: pg_verifybackup", $verify, '-n', '-i', 'postgresql.conf', '-i', 'postgresql.auto.conf',
        '-i', 'recovery.signal', '-i', 'walrestore.json', $restored->data_dir) if $node->pg_version->major == 15;
    $restored->start;
    WalTest::wait_until(sub { ($restored->psql('postgres', 'SELECT 1'))[0] == 0 }, 180, "$label: it is consistent");
    is(contents($restored), $want, "$label: the same rows");
    $restored->stop('immediate');
    return;
}

sub several_runs
{
    my ($version) = @_;
    my $name = "v$version";
    my $node = WalTest::node($name, version => $version, checksums => 1, start => 0,
        conf => { autovacuum => 'off', $version >= 17 ? (summarize_wal => 'on') : () });
    my $conf = WalTest::config_for($node, cluster => { data => $node->data_dir },
        backup => { 'wal-timeout' => '120s', jobs => 2 });

    WalTest::archive_with($node, $conf);
    WalTest::set_conf($node,
        archive_command => "while test -e $hold; do sleep 0.1; done; " . WalTest::tool('walpush') . " --config $conf %p");
    $node->start;
    WalTest::run_ok("$name: init", $walctl, '--config', $conf, 'init');
    $node->safe_psql('postgres', $_) for split /;\n/, q{
        CREATE TABLE big AS SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 8) j) AS t
          FROM generate_series(1, 60000) i;
        CREATE TABLE same AS SELECT i, md5(i::text) AS t FROM generate_series(1, 20000) i;
        CREATE TABLE other (i int, t text) WITH (fillfactor = 50);
        INSERT INTO other SELECT i, md5(i::text) FROM generate_series(1, 20000) i;
        CREATE TABLE shorter AS SELECT i, md5(i::text) AS t FROM generate_series(1, 20000) i;
        CREATE TABLE vanishes AS SELECT i, md5(i::text) AS t FROM generate_series(1, 20000) i;
        VACUUM};
    contents($node);

    # two full ones that fail in a row, and between them all that can become of a file
    my %path = map { $_ => $node->safe_psql('postgres', "SELECT pg_relation_filepath('$_')") } qw(same other shorter vanishes);
    my $bytes = -s $node->data_dir . "/$path{other}";
    failed($node, $conf, 'full', 'k1', '--jobs=1');
    $node->safe_psql('postgres', $_) for split /;\n/, q{
        UPDATE other SET t = upper(t) WHERE i = 1;
        DELETE FROM shorter WHERE i > 1000;
        VACUUM shorter;
        DROP TABLE vanishes;
        CREATE TABLE comes AS SELECT 1 AS i;
        CHECKPOINT};
    contents($node);
    is(-s $node->data_dir . "/$path{other}", $bytes, "$name: other content of the same size");
    utime time + 5, time + 5, $node->data_dir . "/$path{same}" or die "$path{same}: $!";
    killed($node, $conf, 'full', 'k2');
    my $state = contents($node);
    # a day and more after it failed, it is kept for the one that has taken up from it
    make_old($conf, 'k1', 30);
    WalTest::run_ok("$name: expire", $walctl, '--config', $conf, 'expire');
    WalTest::backup($conf, 'full', '--label', 'f1');
    my $taken = taken_ok($conf, 'f1', 'k1', 'k2');
    cmp_ok($taken->{whole}, '>', 100, 'f1: much is taken up');
    my %owner;
    my @lines = lines(folder($conf, 'f1') . '/manifest');
    $owner{ $_->{b} } = $_->{u} // '' for grep { exists $_->{p} } @lines;
    my %from = map { $_->{f} => $owner{ $_->{b} } } grep { exists $_->{f} } @lines;
    is($from{ $path{same} }, 'k1', 'f1: a file that was only touched is taken up');
    isnt($from{ $path{$_} }, 'k1', "f1: $_: the old content is not") for qw(other shorter);
    ok(!exists $from{ $path{vanishes} }, 'f1: what has vanished is not there');
    restored_ok($node, $conf, 'f1', $state);

    # incremental ones; the second has taken up from the first
    $node->safe_psql('postgres', $_) for split /;\n/, q{
        UPDATE big SET t = 'new' WHERE i % 5000 = 0;
        UPDATE other SET t = lower(t) WHERE i = 5000;
        CREATE TABLE more AS SELECT i, md5(i::text) AS t FROM generate_series(1, 10000) i;
        CHECKPOINT};
    contents($node);
    failed($node, $conf, 'incremental', 'k3', '--parent', 'f1');
    $node->safe_psql('postgres', $_) for 'UPDATE other SET t = upper(t) WHERE i = 10000', 'CHECKPOINT';
    contents($node);
    failed($node, $conf, 'incremental', 'k4', '--parent', 'f1');
    $node->safe_psql('postgres', $_) for 'UPDATE same SET t = upper(t) WHERE i = 1', 'CHECKPOINT';
    $state = contents($node);
    WalTest::backup($conf, 'incremental', '--label', 'i1');
    $taken = taken_ok($conf, 'i1', 'k1' .. 'k4');
    cmp_ok($taken->{blocks}, '>', 0, 'i1: blocks are taken up');
    cmp_ok($taken->{whole}, '>', 0, 'i1: and whole files');
    my ($header) = lines(folder($conf, 'i1') . '/manifest');
    ok((grep { $_ eq 'k3' } @{ $header->{header}{uses} }) && (grep { $_ eq 'k4' } @{ $header->{header}{uses} }),
        'i1: of both') or diag("@{ $header->{header}{uses} }");
    restored_ok($node, $conf, 'i1', $state);

    # what was sent by the server is as good
    if ($version == $versions[0])
    {
        make_old($conf, $_, 30) for qw(k1 k2 k3 k4);
        failed($node, $conf, 'full', 's1', '--source=stream');
        WalTest::backup($conf, 'full', '--label', 'f2');
        cmp_ok(taken_ok($conf, 'f2', 's1')->{whole}, '>', 100, 'f2: much is taken up of a streamed backup');
    }

    # when all of this is old, what is used stays, and nothing else
    failed($node, $conf, 'full', 'k5', '--no-resume');
    make_old($conf, $_, 30) for qw(k1 k2 k3 k4 k5);
    WalTest::run_ok("$name: expire", $walctl, '--config', $conf, 'expire');
    ok(!defined folder($conf, 'k5') || !-e folder($conf, 'k5'), 'k5: nobody uses it');
    ok(-e folder($conf, $_) . '/start', "$_: is used") for qw(k1 k3 k4);
    WalTest::run_ok("$name: verify all backups", $walctl, '--config', $conf, 'verify', '--backups');
    other_recipients($node, $conf) if $version == $versions[0];
    $node->stop;
    return;
}

sub other_recipients
{
    my ($node, $conf) = @_;
    my $url = 'file://' . WalTest::repo_dir($conf);
    my @conf;

    for my $i (0, 1)
    {
        my $identity = WalTest::dir("key_$i") . '/identity';
        my $key = WalTest::run_ok('a key', $walctl, 'keygen', $identity);
        push @conf, WalTest::config_for($node, dir => WalTest::dir("encrypted_$i"), cluster => { data => $node->data_dir },
            backup => { 'wal-timeout' => '120s', jobs => 2 }, repository => { url => $url },
            encryption => { recipient => $key->{stdout} =~ /(age1\w+)/, 'identity-file' => $identity });
    }
    failed($node, $conf, 'full', 'plain', '--no-resume');
    failed($node, $conf[0], 'full', 'sealed');
    my ($part) = glob folder($conf, 'sealed') . '/bundle/*/00000000';
    ok(defined $part, 'sealed: what is not encrypted was not taken up');
    is_deeply(WalTest::backup($conf[1], 'full', '--label', 'others')->{uses}, [], 'others: what is encrypted for others is not taken up');
    is_deeply(WalTest::backup($conf[0], 'full', '--label', 'ours')->{uses}, ['sealed'], 'ours: what is encrypted for the same is');
    WalTest::run_ok('ours: verify', $walctl, '--config', $conf[0], 'verify', '--backup', 'ours');
    return;
}
