#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# walctl expire, pin, unpin and backup delete, on repositories with made-up backups: in a folder whose
# files are made old, on S3 with more objects than one request removes, and in a bucket with versions and locks.

use strict;
use warnings;

use File::Find ();
use FindBin;
use JSON::PP;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalTest::S3;
use Test::More;

my $walctl = WalTest::tool('walctl');
my $fake = "$ENV{WALSTREAM_BIN}/tests/fault/fake_backups";
my $node = WalTest::node('primary', version => 15);
my $id = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
my %retention = (full => '30d', incremental => '7d', pitr => '10d');

sub ctl
{
    my ($conf, @args) = @_;
    return WalTest::run([ $walctl, '--config', $conf, @args ]);
}

sub ctl_json
{
    my ($conf, @args) = @_;
    my $result = ctl($conf, @args, '--output=json');
    return ($result, eval { decode_json($result->{stdout}) } // {});
}

sub fake
{
    my ($conf, $text) = @_;
    my $result = WalTest::run([ $fake, $conf ], stdin => $text);
    is($result->{exit}, 0, 'backups are made up');
    return;
}

# Names below the cluster's folder; all files at least so many days old.
sub names
{
    my ($conf) = @_;
    my $root = WalTest::repo_dir($conf) . "/test/$id";
    my %names;

    File::Find::find(
        sub { $names{ substr $File::Find::name, length("$root/") } = $_ if -f $_ }, $root);
    return \%names;
}

sub folders
{
    my ($conf) = @_;
    my @empty;

    File::Find::finddepth(
        sub {
            return unless -d $_;
            opendir my $dir, $_ or return;
            push @empty, $File::Find::name unless grep { !/^\.\.?$/ } readdir $dir;
        },
        WalTest::repo_dir($conf) . "/test/$id");
    return @empty;
}

sub make_old
{
    my ($conf, $days, $pattern) = @_;
    my $root = WalTest::repo_dir($conf) . "/test/$id";
    my $time = time - $days * 86400;

    for my $name (keys %{ names($conf) })
    {
        next unless $name =~ $pattern;
        utime $time, $time, "$root/$name" or die "$name: $!";
    }
    return;
}

my @backups = (
    'full f1 40 5 3',
    'incremental i1 39 8 2 f1',
    'full f2 20 20 2',
    'incremental i2 6 30 2 f2',
    'full f3 1 40 2',
    'unfinished u1 2',
    'unfinished u2 2',
    'wal 3 45',
    'piece 30 0 4096',
    'piece 46 0 4096');

# ---- in a folder ----

my $conf = WalTest::config_for($node, retention => \%retention);
WalTest::run_ok('init', $walctl, '--config', $conf, 'init');
my $nothing = ctl($conf, 'expire');
is($nothing->{exit}, 0, 'expire of an empty repository');
fake($conf, join("\n", @backups) . "\n");
make_old($conf, 38, qr{^(?:wal|live)/|^backup/u1/});

my $before = names($conf);
my ($dry, $plan) = ctl_json($conf, 'expire', '--dry-run');
is($dry->{exit}, 0, 'a dry run');
is_deeply(names($conf), $before, 'it changes nothing');
is_deeply(
    { map { $_->{label} => $_->{keep} ? 1 : 0 } @{ $plan->{backups} } },
    { f1 => 0, i1 => 0, f2 => 1, i2 => 1, f3 => 1, u1 => 0, u2 => 1 },
    'what is kept');
is($plan->{removed}{WAL}{objects}, 17, 'segments 3 to 19 would go');
cmp_ok($plan->{store_requests}{list}, '>', 0, 'requests are told');
is($plan->{store_requests}{remove}, 0, 'nothing is removed');
like(ctl($conf, 'expire', '-n')->{stdout}, qr/remove\s+full\s.*f1.*keep.*f2\s+full,pitr/s, 'as text');

# pins
is(ctl($conf, 'pin', 'nobody')->{exit}, 1, 'an unknown label is not pinned');
is(ctl($conf, 'pin', 'f1', '--until', '2020-01-01T00:00:00Z')->{exit}, 2, 'nor until a time that has passed');
is(ctl($conf, 'pin', 'i1', '--until=90d')->{exit}, 0, 'pin');
is(ctl($conf, 'pin', 'i1')->{exit}, 0, 'pin for ever');
like(ctl($conf, 'pin', 'i1')->{stdout}, qr/already pinned/, 'again');
(undef, $plan) = ctl_json($conf, 'expire', '--dry-run');
my %reasons = map { $_->{label} => $_->{reasons} } @{ $plan->{backups} };
is("$reasons{i1} $reasons{f1}", 'pin chain', 'a pin keeps the backup and its chain');
my $pinned = ctl($conf, 'backup', 'delete', 'f1', '--yes');
is($pinned->{exit}, 1, 'a pinned backup is not deleted');
like($pinned->{stderr}, qr/"i1" is pinned/, 'it is named');
is(ctl($conf, 'unpin', 'i1')->{exit}, 0, 'unpin');
is(ctl($conf, 'unpin', 'nobody')->{exit}, 1, 'an unknown label is not unpinned');
ok(!(grep { m{^pin/} } keys %{ names($conf) }), 'no pin is left');

my $run = ctl($conf, 'expire');
is($run->{exit}, 0, 'expire');
my $after = names($conf);
my @gone = grep { !$after->{$_} } sort keys %$before;
my @wanted = grep {
         m{^backup/(?:f1|i1|u1)/}
      || m{^live/00000001/00000001000000000000001E/}
      || (m{^wal/00000001/00000000/([0-9A-F]{24})$} && hex(substr $1, 16) < 20)
} sort keys %$before;
is_deeply(\@gone, \@wanted, 'exactly what is to go has gone');
is_deeply([ folders($conf) ], [], 'no empty folder is left');
(undef, $plan) = ctl_json($conf, 'expire');
is($plan->{removed}{$_}{objects}, 0, "a second run finds no $_ to remove")
  for keys %{ $plan->{removed} };

# delete
is(ctl($conf, 'backup', 'remove', 'f2')->{exit}, 2, 'there is only delete');
is(ctl($conf, 'backup', 'delete', 'f2')->{exit}, 2, 'nobody to ask');
my ($what, $deletion) = ctl_json($conf, 'backup', 'delete', 'f2', '--dry-run');
is($what->{exit}, 0, 'delete: a dry run');
is_deeply([ sort @{ $deletion->{backups} } ], [qw(f2 i2)], 'what is built on it goes too');
cmp_ok(
    $deletion->{windows_before}[0]{start}, 'lt', $deletion->{windows_after}[0]{start},
    'the window that shrinks is shown');
ok(names($conf)->{'backup/f2/manifest'}, 'it is still there');
for my $answer ([ "n\n", 'no' ], [ "\n", 'nothing' ])
{
    # on a terminal
    my $asked = WalTest::run([ 'script', '-qec', "'$walctl' --config '$conf' backup delete f2", '/dev/null' ],
        stdin => $answer->[0]);
    is($asked->{exit}, 1, "delete: the answer is $answer->[1]");
    like($asked->{stdout}, qr/\bi2\b.*Remove\? \[y\/N\].*nothing was removed/s, 'the consequences, then the question');
    ok(names($conf)->{'backup/f2/manifest'}, 'it is still there');
}
is(ctl($conf, 'backup', 'delete', 'f2', '--yes')->{exit}, 0, 'delete');
ok(!(grep { m{^backup/[fi]2/} } keys %{ names($conf) }), 'it is gone');
my $last = ctl($conf, 'backup', 'delete', 'f3', '--yes');
is($last->{exit}, 1, 'the last one is not deleted');
like($last->{stderr}, qr/nothing could be restored/, 'it says why');
is(ctl($conf, 'backup', 'delete', 'u2', '--yes')->{exit}, 1, 'nor one that may be running');
is(ctl($conf, 'backup', 'delete', 'f3', '--yes', '--force')->{exit}, 0, 'but by force');

# a manifest that cannot be read
fake($conf, "full f5 40 20 1\nfull f6 1 40 1\n");
{
    my $path = WalTest::repo_dir($conf) . "/test/$id/backup/f5/manifest";
    unlink $path or die $!;
    open my $fh, '>', $path or die $!;
    print $fh 'nothing';
    close $fh or die $!;
}
my $damaged = ctl($conf, 'expire');
is($damaged->{exit}, 1, 'a damaged manifest is an exit code');
like($damaged->{stderr}, qr/WARNING:.*"f5" is kept/, 'and a warning');
ok(names($conf)->{'backup/f5/manifest'}, 'it is kept');

# ---- S3 ----

my $s3 = WalTest::config_for($node, repository => WalTest::s3('expire'), retention => \%retention);
WalTest::run_ok('init on S3', $walctl, '--config', $s3, 'init');
my $parts = 2100;
fake($s3, "full f1 40 5 $parts\nfull f2 20 20 2\nfull f3 1 40 2\nunfinished u2 2\nwal 3 45\n");
my ($big, $removed) = ctl_json($s3, 'expire');
is($big->{exit}, 0, 'expire on S3');
is($removed->{removed}{backups}{objects}, $parts + 2, 'all objects of a large backup');
is($removed->{removed}{WAL}{objects}, 0, 'WAL that was just stored stays');
cmp_ok($removed->{store_requests}{remove}, '<', 10, 'in few requests');
(undef, $removed) = ctl_json($s3, 'expire', '--dry-run');
is_deeply([ map { $_->{label} } @{ $removed->{backups} } ], [qw(f2 f3 u2)], 'the others are there');
is($removed->{removed}{abandoned_backups}{objects}, 0, 'nothing of it is left behind');

# ---- a bucket that keeps versions, and locks them ----

my $rgw = WalTest::rgw();
my $bucket = "locked-$$";
WalTest::S3::locked_bucket($rgw, $bucket);
my $locked = WalTest::config_for(
    $node,
    repository => { %{ WalTest::s3('locked') }, url => "s3://$bucket/walstream" },
    retention => \%retention);
WalTest::run_ok('locked: init', $walctl, '--config', $locked, 'init');
fake($locked, "full f1 40 5 2\nfull f2 20 20 2\nfull f3 1 40 2\nwal 3 45\n");
my ($first, $locked_removed) = ctl_json($locked, 'expire');
is($first->{exit}, 0, 'locked: expire');
is($locked_removed->{removed}{backups}{objects}, 4, 'locked: a backup is removed');
my $versions = WalTest::S3::request($rgw, 'GET', "$bucket?versions=");
like($versions, qr{<Version><Key>walstream/test/$id/backup/f1/manifest<}, 'locked: the store still has it');
(undef, $locked_removed) = ctl_json($locked, 'expire');
is_deeply([ map { $_->{label} } @{ $locked_removed->{backups} } ], [qw(f2 f3)], 'locked: but it is not there any more');
is($locked_removed->{removed}{backups}{objects}, 0, 'locked: and is not removed again');
fake($locked, "full f1 40 5 2\n");
my (undef, $again) = ctl_json($locked, 'info');
is_deeply([ map { "$_->{label} $_->{state}" } @{ $again->{clusters}[0]{backups} } ],
    [ map { "$_ complete" } qw(f1 f2 f3) ], 'locked: its name can be used again');

done_testing();
