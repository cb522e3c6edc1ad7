#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# walctl: what a repository is made with, what info and verify say of one that is whole, has a hole, is
# damaged, forged, locked or out of reach.

use strict;
use warnings;

use File::Copy ();
use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalTest::S3;
use Test::More;

my $walctl = WalTest::tool('walctl');

sub ctl
{
    my ($conf, @args) = @_;
    my %opt = ref $args[-1] eq 'HASH' ? %{ pop @args } : ();
    return WalTest::run([ $walctl, '--config', $conf, @args ], %opt);
}

sub ctl_json
{
    my ($conf, @args) = @_;
    my $result = ctl($conf, @args, '--output=json');
    return ($result, eval { decode_json($result->{stdout}) });
}

# Objects of the only cluster below the repository, by relative name.
sub cluster_dir
{
    my ($conf, $node) = @_;
    my $id = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
    return WalTest::repo_dir($conf) . "/test/$id";
}

# A copy of a repository to break, and a configuration for it.
my $copies = 0;

sub broken_copy
{
    my ($node, $conf, %sections) = @_;
    my $dir = WalTest::dir('copy' . ++$copies);
    my $copy = WalTest::config_for($node, dir => $dir, %sections);
    my $from = WalTest::repo_dir($conf);

    system('cp', '-a', "$from/.", "$dir/repo/") == 0 or die 'cp failed';
    return $copy;
}

sub segment_name
{
    my ($tli, $number) = @_;
    return sprintf '%08X%08X%08X', $tli, 0, $number;
}

sub segment_path
{
    my ($dir, $tli, $number) = @_;
    return sprintf '%s/wal/%08X/%08X/%s', $dir, $tli, 0, segment_name($tli, $number);
}

sub flip_byte
{
    my ($path, $at) = @_;

    chmod 0600, $path;
    open my $fh, '+<:raw', $path or die "could not open $path: $!";
    $at = (-s $path) + $at if $at < 0;
    seek $fh, $at, 0;
    read $fh, my $byte, 1;
    seek $fh, $at, 0;
    print $fh chr(ord($byte) ^ 0x55);
    close $fh or die "could not write $path: $!";
    return;
}

# Ends the current segment and waits until all complete ones are in the repository.
sub archive_segments
{
    my ($node, $count) = @_;
    my $last;

    for (1 .. $count)
    {
        $node->safe_psql('postgres', 'INSERT INTO t SELECT generate_series(1, 100)');
        $last = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
        $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
    }
    WalTest::wait_until(
        sub {
            my $done = $node->safe_psql('postgres',
                'SELECT last_archived_wal FROM pg_stat_archiver') // '';
            return substr($done, 0, 24) ge $last;
        },
        60,
        "$last is archived");
    return $last;
}

# ---- init ----

my $node = WalTest::node('primary', start => 0);
my $other = WalTest::node('other');
my $conf = WalTest::config_for($node);

WalTest::archive_with($node, $conf);
$node->start;

my $result = WalTest::run_ok('init', $walctl, '--config', $conf, 'init');
like($result->{stdout}, qr/^created cluster "test"/, 'init: created');
$result = WalTest::run_ok('init again', $walctl, '--config', $conf, 'init', '--output=json');
ok(!decode_json($result->{stdout})->{created}, 'init again: found');

my $strange = WalTest::config_for($node, cluster => { data => $other->data_dir });
$result = ctl($strange, 'init');
is($result->{exit}, 1, 'init: server and data directory of two clusters');
like($result->{stderr}, qr/leads to system identifier \d+, data to \d+/, '... both named');

my $readonly = WalTest::config_for($node);
chmod 0500, WalTest::repo_dir($readonly);
$result = ctl($readonly, 'init');
is($result->{exit}, 1, 'init: read-only directory');
like($result->{stderr}, qr/could not use repository .*Permission denied/s, '... said so');
chmod 0700, WalTest::repo_dir($readonly);

# a sanitizer's library must be the first one, which is faketime's place
my $sanitized = `ldd $walctl` =~ /lib[at]san/;

for my $shift ($sanitized ? () : ('+20m', '-20m'))
{
    my $skewed = WalTest::config_for($node);
    $result = WalTest::run(
        [ 'faketime', '-f', $shift, $walctl, '--config', $skewed, 'init' ],
        env => { NO_FAKE_STAT => 1, FAKETIME_DONT_FAKE_MONOTONIC => 1 });
    is($result->{exit}, 1, "init: a clock that is $shift off");
    my ($seconds) = $result->{stderr} =~ /the store's clock is (\d+) seconds/;
    cmp_ok(abs(($seconds // 0) - 1200), '<', 180, '... said so');
    ok(!glob(WalTest::repo_dir($skewed) . '/test/*/cluster.json'), '... and nothing was created');
}

# ---- keys ----

my $keys = WalTest::dir('keys');
$result = WalTest::run_ok('keygen', $walctl, 'keygen', "$keys/a");
my ($recipient) = $result->{stdout} =~ /^recipient = (age1\w+)$/;
ok(defined $recipient, 'keygen: prints the recipient');
is((stat "$keys/a")[2] & 07777, 0600, 'keygen: mode of the file');
unlike($result->{stdout} . $result->{stderr}, qr/SECRET/, 'keygen: does not print the identity');
$result = WalTest::run_ok('age-keygen reads it', 'age-keygen', '-y', "$keys/a");
is($result->{stdout}, "$recipient\n", '... and finds the same recipient');
my $before = WalTest::slurp("$keys/a");
WalTest::run_exit('keygen: a file that exists', 1, $walctl, 'keygen', "$keys/a");
is(WalTest::slurp("$keys/a"), $before, '... is left alone');
WalTest::run_ok('keygen: another one', $walctl, 'keygen', "$keys/b");

$strange = WalTest::config_for($node,
    encryption => { recipient => $recipient, 'identity-file' => "$keys/b" });
$result = ctl($strange, 'init');
is($result->{exit}, 1, 'init: an identity that does not open what is encrypted');
like($result->{stderr}, qr/no identity .* belongs to a recipient \(key ids [0-9a-f]{16}\)/, '... said so');

# ---- config ----

my $secret = WalTest::config_for(
    $node,
    cluster => { conninfo => "host=/x password='ge heim' user=u\\'v" },
    encryption => { recipient => [ $recipient, 'age1other' ] });
$result = ctl($secret, 'config', '--stream.slot=mine');
is($result->{exit}, 0, 'config');
unlike($result->{stdout}, qr/heim/, 'config: no password');
like($result->{stdout}, qr/^cluster\.conninfo = .*user='u\\'v'.*   # \S+ line \d+$/m, 'config: the rest of it');
like($result->{stdout}, qr/^stream\.slot = mine   # command line$/m, 'config: from the command line');
like($result->{stdout}, qr/^stream\.workers = 2   # default$/m, 'config: a default');
is(scalar(() = $result->{stdout} =~ /^encryption\.recipient = age1/mg), 2, 'config: a list');
($result, my $doc) = ctl_json($secret, 'config');
is_deeply(
    [ map { $_->{value} } grep { $_->{key} eq 'recipient' } @{ $doc->{settings} } ],
    [ $recipient, 'age1other' ],
    'config: JSON');
unlike($result->{stdout}, qr/heim/, 'config: no password in JSON');
for my $conninfo ('postgresql://u:geheim@/x', 'password=geheim zzz')
{
    my $masked = WalTest::config_for($node, cluster => { conninfo => $conninfo });
    unlike(ctl($masked, 'config')->{stdout}, qr/geheim/, "config: no password of $conninfo");
}

# ---- a good repository ----

$result = ctl($conf, 'verify', '--wal');
is($result->{exit}, 0, 'verify: an empty repository');
like($result->{stdout}, qr/there is nothing to verify/, '... said so');
$node->safe_psql('postgres', 'CREATE TABLE t (i int)');
my $last = archive_segments($node, 6);
($result, $doc) = ctl_json($conf, 'info');
is($result->{exit}, 0, 'info');
my $cluster = $doc->{clusters}[0];
my ($timeline) = @{ $cluster->{timelines} };
is(scalar @{ $timeline->{ranges} }, 1, 'info: one range');
my $first = hex substr $timeline->{ranges}[0]{first_segment}, 16;
my $count = hex(substr $last, 16) - $first + 1;
cmp_ok($count, '>=', 6, '... of several segments');
is($timeline->{ranges}[0]{last_segment}, $last, '... to the last');
is(scalar @{ $timeline->{ranges}[0]{pieces_only} }, 0, '... nothing in pieces');
is_deeply($cluster->{gaps}, [], 'info: no gap');
is(WalTest::lsn_number($cluster->{durable_lsn}), (hex(substr $last, 16) + 1) << 20, 'info: last durable LSN');
cmp_ok($cluster->{store_requests}{lists}, '<=', 5, 'info: a few requests');
$result = ctl($conf, 'info');
like(
    $result->{stdout},
    qr/^timeline 1\n  \S+ - \S+   \Q${\ segment_name(1, $first)}\E to $last \($count segments\)$/m,
    'info: as text');

($result, $doc) = ctl_json($conf, 'verify', '--wal', '--jobs=3');
is($result->{exit}, 0, 'verify');
ok($doc->{good}, 'verify: good');
is($doc->{objects_verified}, $count, 'verify: every segment');
$result = ctl($conf, 'verify', '--wal');
like($result->{stdout}, qr/all of it is there and good/, 'verify: as text');
WalTest::run_ok('verify: WAL and backups', $walctl, '--config', $conf, 'verify');
for my $wrong ('--sample=0', '--sample=101', '--shard=0/3', '--shard=4/3', '--shard=1', '--since=gestern')
{
    WalTest::run_exit("verify: $wrong", 2, $walctl, '--config', $conf, 'verify', $wrong);
}
# three shares are all of it, and none of it twice
my $shared = 0;
for my $i (1 .. 3)
{
    ($result, $doc) = ctl_json($conf, 'verify', '--wal', "--shard=$i/3");
    is($result->{exit}, 0, "verify: share $i");
    $shared += $doc->{objects_verified};
}
is($shared, $count, 'verify: the shares are everything');
($result, $doc) = ctl_json($conf, 'verify', '--since=2999-01-01T00:00:00.000000Z');
is($doc->{objects_verified}, 0, 'verify: nothing is as new');
WalTest::run_exit('verify: a backup that is not there', 1, $walctl, '--config', $conf, 'verify', '--backup=nosuch');
WalTest::run_exit('verify: a timeline that is not there', 1, $walctl, '--config', $conf, 'verify', '--wal',
    '--timeline=7');

# ---- holes and damage ----

my $dir = cluster_dir($conf, $node);
my ($second, $third, $fourth) = ($first + 1, $first + 2, $first + 3);

sub segment_lsn
{
    my ($number) = @_;
    return sprintf '0/%08X', $number << 20;
}

for my $case (
    {
        label => 'a segment is missing',
        break => sub { unlink segment_path($_[0], 1, $third) or die $! },
        gap => [ segment_lsn($third), segment_lsn($fourth), segment_name(1, $third) ],
        stops => segment_lsn($third),
    },
    {
        label => 'a byte of the frame is damaged',
        break => sub { flip_byte(segment_path($_[0], 1, $third), -200) },
        damaged => segment_name(1, $third),
        stops => segment_lsn($third),
    },
    {
        label => 'a byte of the label is damaged',
        break => sub { flip_byte(segment_path($_[0], 1, $third), 100) },
        damaged => segment_name(1, $third),
        stops => segment_lsn($third),
    },
    {
        label => 'a segment is cut short',
        break => sub { truncate segment_path($_[0], 1, $fourth), 1000 or die $! },
        damaged => segment_name(1, $fourth),
        stops => segment_lsn($fourth),
    },
    {
        label => 'a segment is empty',
        break => sub { truncate segment_path($_[0], 1, $fourth), 0 or die $! },
        damaged => segment_name(1, $fourth),
        stops => segment_lsn($fourth),
    },
    {
        label => 'a segment is another one',
        break => sub {
            my $path = segment_path($_[0], 1, $second);
            unlink $path;
            File::Copy::copy(segment_path($_[0], 1, $third), $path) or die $!;
        },
        damaged => segment_name(1, $second),
        message => qr/labelled as object .*\Q${\ segment_name(1, $third)}\E/,
        stops => segment_lsn($second),
    })
{
    my $copy = broken_copy($node, $conf);
    $case->{break}->(cluster_dir($copy, $node));

    ($result, $doc) = ctl_json($copy, 'verify', '--wal');
    is($result->{exit}, 1, "$case->{label}: verify");
    my $text = ctl($copy, 'verify', '--wal')->{stdout};
    like($text, qr/recovery along timeline 1 stops at $case->{stops}/, '... says what it means');
    if ($case->{gap})
    {
        is_deeply([ @{ $doc->{gaps}[0] }{qw(start end segments)} ], $case->{gap}, '... names the gap');
        is($doc->{damaged}, 0, '... and nothing is damaged');
        ($result, $doc) = ctl_json($copy, 'info');
        is($result->{exit}, 0, '... info: exit code');
        is_deeply(
            [ @{ $doc->{clusters}[0]{gaps}[0] }{qw(start end segments)} ],
            $case->{gap}, '... info: names the gap');
    }
    else
    {
        is($doc->{damaged}, 1, '... one is damaged');
        like($doc->{findings}[0]{object}, qr/$case->{damaged}$/, '... named');
        like($doc->{findings}[0]{message}, $case->{message} // qr/./, '... with the reason');
        is($doc->{gap_count}, 0, '... no gap');
    }
}

# ---- a timeline history, a branch ----

$node->stop;
$node->append_conf('standby.signal', '');
$node->start;
$node->promote;
WalTest::wait_until(
    sub { ($node->psql('postgres', 'SELECT pg_is_in_recovery()'))[1] eq 'f' },
    60, 'promoted');
$last = archive_segments($node, 2);
like($last, qr/^00000002/, 'promoted');
($result, $doc) = ctl_json($conf, 'info');
$timeline = $doc->{clusters}[0]{timelines}[1];
is($timeline->{parent}, 1, 'info: the parent timeline');
like($timeline->{switch_point}, qr{^0/[0-9A-F]{8}$}, 'info: the switch point');
is($doc->{clusters}[0]{newest_timeline}, 2, 'info: the newest timeline');
is_deeply($doc->{clusters}[0]{gaps}, [], 'info: no gap between the timelines');
$result = ctl($conf, 'verify', '--wal');
is($result->{exit}, 0, 'verify: two timelines');
$result = ctl($conf, 'verify', '--wal', '--timeline=2');
is($result->{exit}, 0, 'verify: only the second');

my $history = 'wal/00000002/00000002.history';
my $copy = broken_copy($node, $conf);
flip_byte(cluster_dir($copy, $node) . "/$history", -10);
($result, $doc) = ctl_json($copy, 'verify', '--wal');
is($result->{exit}, 1, 'verify: a damaged history file');
is($doc->{findings}[0]{object}, $history, '... is named');
like($doc->{findings}[0]{consequence}, qr/recovery to timeline 2 is not possible/, '... and what it means');
like(ctl($copy, 'info')->{stdout}, qr/its history file is DAMAGED/, 'info: says so');

$copy = broken_copy($node, $conf);
unlink cluster_dir($copy, $node) . "/$history" or die $!;
($result, $doc) = ctl_json($copy, 'verify', '--wal');
is($result->{exit}, 1, 'verify: a missing history file');
is_deeply([ @{ $doc->{findings}[0] }{qw(verdict object)} ], [ 'missing', $history ], '... is named');
like(ctl($copy, 'info')->{stdout}, qr/its history file is MISSING/, 'info: says so');

# what the repository has of the first timeline ends early
$copy = broken_copy($node, $conf);
my $switch_segment = int(WalTest::lsn_number($timeline->{switch_point}) / (1 << 20));
unlink segment_path(cluster_dir($copy, $node), 1, $switch_segment - 1) or die $!;
($result, $doc) = ctl_json($copy, 'info');
is_deeply(
    [ @{ $doc->{clusters}[0]{gaps}[0] }{qw(timeline next_timeline segments)} ],
    [ 1, 2, segment_name(1, $switch_segment - 1) ],
    'info: a gap between two timelines');

# ---- several clusters under one name ----

my $twice = WalTest::config_for($other, repository => { url => 'file://' . WalTest::repo_dir($conf) });
WalTest::run_ok('init: another cluster of the same name', $walctl, '--config', $twice, 'init');
($result, $doc) = ctl_json($conf, 'info');
is(scalar @{ $doc->{clusters} }, 2, 'info: both');
WalTest::run_exit('verify: which of them', 2, $walctl, '--config', $conf, 'verify', '--wal');
my ($id) = $dir =~ /(\d+)$/;
WalTest::run_ok('verify: this one', $walctl, '--config', $conf, 'verify', '--wal', "--system-identifier=$id");
($result, $doc) = ctl_json($conf, 'info', "--system-identifier=$id");
is(scalar @{ $doc->{clusters} }, 1, 'info: the one that was chosen');

# ---- pieces ----

my $pieces = WalTest::config_for($other);
WalTest::run_ok('init for pieces', $walctl, '--config', $pieces, 'init');
my $stream = WalTest::walstream($pieces);
$other->safe_psql('postgres', 'CREATE TABLE t (i int)');
for my $n (1 .. 3)
{
    my $lsn = $other->safe_psql('postgres',
        'INSERT INTO t SELECT generate_series(1, 50); SELECT pg_current_wal_flush_lsn()');
    WalTest::wait_until(
        sub {
            my $status = WalTest::status($pieces) or return 0;
            my $durable = $status->{stream}{durable_lsn} or return 0;
            return WalTest::lsn_number($durable) >= WalTest::lsn_number($lsn);
        },
        60, "$lsn is durable");
}
is($stream->stop, 0, 'walstream stops');
($result, $doc) = ctl_json($pieces, 'info');
$timeline = $doc->{clusters}[0]{timelines}[0];
cmp_ok($timeline->{objects}{pieces}, '>=', 3, 'info: pieces');
is(scalar @{ $timeline->{ranges}[0]{pieces_only} }, 1, 'info: the end is in pieces only');
is($timeline->{ranges}[0]{pieces_only}[0]{end}, $doc->{clusters}[0]{durable_lsn}, '... up to the last durable LSN');
WalTest::run_ok('verify: pieces', $walctl, '--config', $pieces, 'verify', '--wal');

my @live = sort glob cluster_dir($pieces, $other) . '/live/00000001/*/*';
my ($piece_segment, $piece_start) = $live[-1] =~ m{/([0-9A-F]{24})/([0-9A-F]{8})-};
my $stop_lsn = sprintf '0/%08X', (hex(substr $piece_segment, 16) << 20) + hex $piece_start;
$copy = broken_copy($other, $pieces);
my ($victim) = reverse sort glob cluster_dir($copy, $other) . '/live/00000001/*/*';
flip_byte($victim, -20);
$result = ctl($copy, 'verify', '--wal');
is($result->{exit}, 1, 'verify: a damaged piece');
like($result->{stdout}, qr/DAMAGED live\/\S+\Q$piece_segment\E/, '... is named');
like($result->{stdout}, qr/recovery along timeline 1 stops at \Q$stop_lsn\E/, '... and where recovery stops');

$copy = broken_copy($other, $pieces);
($victim) = grep { /$piece_segment/ } sort glob cluster_dir($copy, $other) . '/live/00000001/*/*';
unlink $victim or die $!;
is(ctl($copy, 'verify', '--wal')->{exit}, @live > 1 ? 1 : 0, 'verify: a missing piece');

# ---- encrypted ----

my $locked = WalTest::config_for($node, encryption => { recipient => $recipient });
my $unlocked = WalTest::config_for(
    $node,
    repository => { url => 'file://' . WalTest::repo_dir($locked) },
    encryption => { recipient => $recipient, 'identity-file' => "$keys/a" });
my $wrong = WalTest::config_for(
    $node,
    repository => { url => 'file://' . WalTest::repo_dir($locked) },
    encryption => { recipient => $recipient, 'identity-file' => "$keys/b" });

WalTest::run_ok('init, encrypted', $walctl, '--config', $locked, 'init');
WalTest::archive_with($node, $locked);
$node->restart;
$last = archive_segments($node, 2);
# as a server does that archives for the first time
WalTest::run_ok('archive the history', WalTest::tool('walpush'), '--config', $locked, 'pg_wal/00000002.history',
    { cwd => $node->data_dir });

$result = ctl($locked, 'verify', '--wal');
is($result->{exit}, 1, 'verify: encrypted, no identity');
like($result->{stderr}, qr/encrypted for key ids [0-9a-f]{16} and there is no identity/, '... says which key is needed');
unlike($result->{stdout}, qr/DAMAGED/, '... and nothing is called damaged');
$result = ctl($wrong, 'verify', '--wal');
is($result->{exit}, 1, 'verify: encrypted, another identity');
like($result->{stdout}, qr/an identity is needed for one of the key ids [0-9a-f]{16}/, '... says which key is needed');
unlike($result->{stdout}, qr/DAMAGED/, '... and nothing is called damaged');
WalTest::run_ok('verify: encrypted, with the identity', $walctl, '--config', $unlocked, 'verify', '--wal');
$result = ctl($locked, 'info');
is($result->{exit}, 0, 'info: encrypted, no identity');
like($result->{stdout}, qr/its history is encrypted/, '... says that the histories are not known');
($result, $doc) = ctl_json($unlocked, 'info');
is($doc->{clusters}[0]{timelines}[0]{parent}, 1, 'info: encrypted, with the identity');

$copy = broken_copy($node, $locked, encryption => { recipient => $recipient, 'identity-file' => "$keys/a" });
my ($encrypted) = glob cluster_dir($copy, $node) . '/wal/00000002/00000000/*[0-9A-F]';
flip_byte($encrypted, -30);
($result, $doc) = ctl_json($copy, 'verify', '--wal');
is($result->{exit}, 1, 'verify: encrypted and damaged');
is($doc->{damaged}, 1, '... is told');

# ---- out of reach ----

my $away = WalTest::config_for(
    $node,
    repository => {
        url => 's3://bucket/prefix', endpoint => 'http://127.0.0.1:1', region => 'us-east-1', 'path-style' => 'on'
    });
my %keys = (AWS_ACCESS_KEY_ID => 'a', AWS_SECRET_ACCESS_KEY => 'b');

for my $verb ([ 'info' ], [ 'verify', '--wal' ])
{
    $result = ctl($away, @$verb, '--timeout=2s', { env => \%keys });
    is($result->{exit}, 1, "@$verb: a store that does not answer");
    like($result->{stderr}, qr/could not/, '... could not be asked');
    unlike($result->{stdout} . $result->{stderr}, qr/damaged|missing|no cluster/i, '... and is not called damaged');
    WalTest::in_time($result, 2, '...');
}

# an object that cannot be read is not a damaged one
$copy = broken_copy($node, $conf);
chmod 0000, segment_path(cluster_dir($copy, $node), 1, $third);
$result = ctl($copy, 'verify', '--wal', '--timeout=2s', "--system-identifier=$id");
is($result->{exit}, 1, 'verify: an object that cannot be read');
like($result->{stdout}, qr/could not verify \S+\Q${\ segment_name(1, $third)}\E/, '... could not be verified');
unlike($result->{stdout}, qr/DAMAGED/, '... and is not called damaged');

# ---- segments in parts ----

my $large = WalTest::node('large', wal_segsize => 64);
my $parts = WalTest::config_for($large);
WalTest::run_ok('init for 64 MB segments', $walctl, '--config', $parts, 'init');
WalTest::archive_with($large, $parts);
$large->restart;
$large->safe_psql('postgres', 'CREATE TABLE t (i int)');
archive_segments($large, 2);
($result, $doc) = ctl_json($parts, 'info');
$timeline = $doc->{clusters}[0]{timelines}[0];
is($timeline->{objects}{parts} % 4, 0, 'parts: four for a segment');
is(scalar @{ $timeline->{ranges} }, 1, 'parts: one range');
WalTest::run_ok('parts: verify', $walctl, '--config', $parts, 'verify', '--wal');
my @parts = sort glob cluster_dir($parts, $large) . '/wal/00000001/*/*/*';
my ($part) = grep { m{/01000000-02000000$} } @parts;
$copy = broken_copy($large, $parts);
flip_byte($part =~ s{.*/test/}{WalTest::repo_dir($copy) . '/test/'}er, -12);
($result, $doc) = ctl_json($copy, 'verify', '--wal');
is($doc->{damaged}, 1, 'parts: a damaged one');
my $part_start = WalTest::lsn_number($timeline->{ranges}[0]{start}) + (16 << 20);
is(WalTest::lsn_number($doc->{findings}[0]{start}), $part_start, '... with its LSN range');
$copy = broken_copy($large, $parts);
unlink $part =~ s{.*/test/}{WalTest::repo_dir($copy) . '/test/'}er or die $!;
($result, $doc) = ctl_json($copy, 'verify', '--wal');
is($result->{exit}, 1, 'parts: a missing one');
is(WalTest::lsn_number($doc->{gaps}[0]{start}), $part_start, '... is a gap');
is($doc->{damaged}, 0, '... and nothing is damaged');
$large->stop;

# ---- S3, and a network that breaks ----

my $rgw = WalTest::rgw();
my $proxy = WalTest::S3::Proxy->start($rgw->{RGW_HTTP});
my %repository = (%{ WalTest::s3('walctl', tls => 0) }, endpoint => $proxy->{endpoint});
my $remote = WalTest::config_for($node, repository => \%repository);
%keys = WalTest::S3::credentials($rgw);

is(ctl($remote, 'init', { env => \%keys })->{exit}, 0, 'S3: init');
for my $file (glob $node->data_dir . '/pg_wal/00000002*')
{
    my ($name) = $file =~ m{([^/]+)$};
    # the newest ones are not complete
    WalTest::run([ WalTest::tool('walpush'), '--config', $remote, "pg_wal/$name" ],
        cwd => $node->data_dir, env => \%keys);
}
$result = ctl($remote, 'info', '--output=json', { env => \%keys });
$cluster = decode_json($result->{stdout})->{clusters}[0];
my ($victim_name) = $cluster->{timelines}[0]{ranges}[0]{first_segment};
ok(defined $victim_name, 'S3: info');
is($cluster->{store_requests}{lists}, 5, 'S3: five listings');

for my $case (
    # label, action, how often, time-out: short only where it is tried again until then; exit code, text
    [ 'corrupted on the way, once', 'corrupt 200', 1, '60s', 0, qr/there and good/ ],
    [ 'corrupted on the way, always', 'corrupt 200', 0, '60s', 1, qr/^DAMAGED/m ],
    [ 'answered with 503', 'status 503 SlowDown', 0, '2s', 1, qr/^could not verify wal/m ],
    [ 'cut on the way', 'cut-answer 100', 0, '2s', 1, qr/^could not verify wal/m ],
    [ 'refused', 'status 403 AccessDenied', 0, '60s', 1, qr/^could not verify wal/m ],
    [ 'gone since it was listed', 'status 404 NoSuchKey', 0, '60s', 1, qr/^could not verify wal.*not have it any more/ms ])
{
    my ($label, $action, $times, $timeout, $exit, $text) = @$case;

    $proxy->add(GET => "/$victim_name", $action, times => $times);
    $result = ctl($remote, 'verify', '--wal', "--timeout=$timeout", { env => \%keys });
    $proxy->clear;
    is($result->{exit}, $exit, "S3: an object $label");
    like($result->{stdout}, $text, '... what verify says');
    unlike($result->{stdout}, qr/DAMAGED/, '... not that it is damaged') unless $label =~ /always/ || $exit == 0;
}

# the store is away from the first object on
$proxy->add(GET => '/wal/.*/[0-9A-F]{24}$', 'reset', times => 0);
$result = ctl($remote, 'verify', '--wal', '--jobs=1', '--timeout=1s', { env => \%keys });
is($result->{exit}, 1, 'S3: the store goes away');
like($result->{stdout}, qr/could not verify/, '... said so');
unlike($result->{stdout}, qr/DAMAGED|MISSING|GAP/, '... and nothing else');
WalTest::in_time($result, 1, '...');

done_testing();
