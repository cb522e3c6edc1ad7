# SPDX-License-Identifier: PostgreSQL
#
# walctl expire under faults. Each removal fails once, or walctl is killed before or after it: each backup that can
# be seen has all that it needs, nothing that is to be kept has gone, and the next run comes to the same end as one
# without a fault. Then: a store that refuses, is busy, loses answers or is away.
#
# Others lost data, or never got rid of it, in these ways; the tests that keep us from it name the case:
#   pgbackrest#748  WAL was removed before what still needed it
#   pgbackrest#2040 a 503 ended expire
#   pgbackrest#2622 a backup that was still running elsewhere was removed
#   barman#780      only the first 1000 objects were removed
#   barman#1195     objects that may not be removed broke it

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use FailNth;
use File::Find ();
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time usleep);
use WalTest;
use WalTest::S3;

my $walctl = WalTest::tool('walctl');
my $fake = WalTest::tool('tests/fault/fake_backups');
my $sanitized = FailNth::sanitized($walctl);
my $top = FailNth::folder();
my $node = WalTest::node('primary');
my $sysid = $node->safe_psql('postgres', 'SELECT system_identifier FROM pg_control_system()');
my %retention = (full => '30d', incremental => '7d', pitr => '10d');
my $config = WalTest::config_for($node, repository => { url => "file://$top/repo" }, retention => \%retention);

# Label, and the segment with its WAL: what goes and what stays.
my %segment = (f1 => 5, i1 => 8, i11 => 9, f2 => 20, i2 => 30, f3 => 40);
my @stays = qw(f2 i2 f3);
my @backups = (
    'full f1 40 5 3',
    'incremental i1 39 8 2 f1',
    'incremental i11 38 9 2 f1',
    'full f2 20 20 2',
    'incremental i2 6 30 2 f2',
    'full f3 1 40 2',
    'unfinished dead 2',
    'unfinished running 2',
    'wal 3 45',
    'piece 30 0 4096',
    'piece 46 0 4096');

sub make_backups
{
    my ($conf, @what) = @_;

    WalTest::run_ok('init', $walctl, '--config', $conf, 'init');
    WalTest::run_ok('backups are made up', $fake, $conf, { stdin => join '', map { "$_\n" } @what });
    return;
}

# ---- in a folder: the master copy, and what is left of a copy of it ----

make_path("$top/repo");
make_backups($config, @backups);
rename "$top/repo", "$top/master" or die "rename: $!";

sub names
{
    my ($root) = @_;
    my %found;

    File::Find::find(
        { no_chdir => 1, wanted => sub { $found{ substr $_, length("$root/test/$sysid/") } = 1 if -f $_ } },
        "$root/test/$sysid");
    return \%found;
}

my $all = names("$top/master");
for my $name (grep { m{^(?:wal|live)/|^backup/(?:dead|f1|i1|i11)/} } keys %$all)
{
    my $then = time - 38 * 86400;
    utime $then, $then, "$top/master/test/$sysid/$name" or die "$name: $!";
}

sub fresh
{
    remove_tree("$top/repo");
    system('cp', '-a', "$top/master", "$top/repo") == 0 or die 'cp failed';
    return;
}

sub segment_key
{
    my ($number) = @_;
    return sprintf 'wal/00000001/00000000/0000000100000000%08X', $number;
}

# Complaints about backups that can be seen, without all that they need; and about what was to stay.
sub not_whole
{
    my $there = names("$top/repo");
    my @wrong;

    for my $label (sort keys %segment)
    {
        my $seen = $there->{"backup/$label/manifest"};
        my %parent = (i1 => 'f1', i11 => 'f1', i2 => 'f2');

        push @wrong, "$label has gone" if !$seen && grep { $_ eq $label } @stays;
        next if !$seen;
        push @wrong, "$label lacks $_" for grep { m{^backup/$label/} && !$there->{$_} } sort keys %$all;
        push @wrong, "$label lacks its parent" if $parent{$label} && !$there->{"backup/$parent{$label}/manifest"};
        push @wrong, "$label lacks its WAL" if !$there->{ segment_key($segment{$label}) };
    }
    push @wrong, "$_ has gone" for grep { !$there->{$_} } map { segment_key($_) } 20 .. 45;
    push @wrong, "$_ has gone (pgbackrest#2622)" for grep { m{^backup/running/} && !$there->{$_} } sort keys %$all;

    my $info = WalTest::run([ $walctl, '--config', $config, 'info', '--output=json' ]);
    my $clusters = eval { decode_json($info->{stdout})->{clusters} } // [ { backups => [] } ];
    push @wrong, "info: $info->{stderr}" if $info->{exit} != 0;
    push @wrong, map { "info says of $_->{label}: $_->{fault}" }
      grep { $_->{state} eq 'complete' && !$_->{restorable} } @{ $clusters->[0]{backups} };
    return @wrong;
}

my @expire = ($walctl, '--config', $config, 'expire', '--output=json', '--timeout=60s');
fresh();
is_deeply([ not_whole() ], [], 'before');
WalTest::run_ok('expire without a fault', @expire);
my $reference = names("$top/repo");
is_deeply([ not_whole() ], [], 'after');
is_deeply([ grep { m{^backup/(?:f1|i1|i11|dead)/} } keys %$reference ], [], 'what is to go has gone');

sub sweep
{
    my ($what, $most, %plan) = @_;
    my $killed = $plan{kill} ? 1 : 0;
    my (@complaints, $faults);

    fresh();
    my $count = FailNth::run(\@expire, func => $plan{func});
    my $calls = $count->{counts}[0] // 0;
    push @complaints, "without a fault: $count->{stderr}" if $count->{exit} != 0;
    for my $n (FailNth::sample($calls, FailNth::quick() ? int($most / 3) + 1 : $most))
    {
        next if $n > $calls;
        fresh();
        my $run = FailNth::run(\@expire, %plan, n => $n);
        my @wrong = not_whole();

        $faults++ if $run->{signal} || !@{ $run->{counts} } || $run->{counts}[0] >= $n;
        push @wrong, "ended by signal $run->{signal}: $run->{stderr}" if $run->{signal} && !$killed;
        push @wrong, "exit $run->{exit}: $run->{stderr}"
          if !$killed && $run->{exit} != 0
          && ($run->{exit} > 2 || $run->{stderr} !~ ($run->{exit} == 2 ? qr/could not read the configuration/ : qr/ERROR:\s+\S/));

        # and what it left is done the next time; what asked the store for its time means nothing
        my $again = WalTest::run(\@expire);
        push @wrong, "the next run failed: $again->{stderr}" if $again->{exit} != 0;
        my $there = names("$top/repo");
        push @wrong, "$_ is left in the end" for grep { !$reference->{$_} && !/\.tmp\.|^state\// } sort keys %$there;
        push @wrong, "$_ has gone in the end" for grep { !$there->{$_} } sort keys %$reference;
        push @complaints, map { "call $n: $_" } @wrong;
        last if @complaints > 8;
    }
    ok(!@complaints, "$what ($faults of $calls calls)") or diag(join "\n", @complaints);
    return $faults;
}

if ($sanitized)
{
    pass('built with a sanitizer: faults in calls of libc are left out');
}
else
{
    my $total = 0;

    # each of them, as there are few
    $total += sweep('killed before a removal', 60, func => 'unlink,unlinkat,rmdir', kill => 1);
    $total += sweep('killed after a removal', 60, func => 'unlink,unlinkat,rmdir', kill => 2);
    $total += sweep('a removal fails', 20, func => 'unlink,unlinkat', errno => 'EIO');
    $total += sweep('a removal is refused', 20, func => 'unlink,unlinkat', errno => 'EACCES');
    $total += sweep("$_->[0] fails with $_->[1]", 12, func => $_->[0], errno => $_->[1])
      for [ 'open,openat', 'EIO' ], [ 'open,openat', 'EACCES' ], [ 'read,pread', 'EIO' ], [ 'fstat,fstatat,statx', 'EIO' ],
      [ 'malloc,calloc,realloc', 'ENOMEM' ];
    cmp_ok($total, '>', FailNth::quick() ? 50 : 120, 'there were faults');

    # all of them refused, as on a store that locks objects (barman#1195): told with a number, and no error
    fresh();
    my $run = FailNth::run(\@expire, func => 'unlink,unlinkat', errno => 'EACCES', n => 1, keep => 1);
    is($run->{exit}, 0, 'everything refused: exit 0') or diag($run->{stderr});
    like($run->{stderr}, qr/WARNING:  \d+ objects were passed over/, 'everything refused: a warning with their number');
    is_deeply([ not_whole() ], [], 'everything refused: nothing is half there');
    # what is kept of a backup whose manifest stays: all that it needs
    my $there = names("$top/repo");
    is_deeply([ grep { !$there->{$_} } sort keys %$all ], [], 'everything refused: all of it is there');
}

# ---- on S3 ----

my $rgw = WalTest::rgw();
my $proxy = WalTest::S3::Proxy->start($rgw->{RGW_HTTP});
my $repositories = 0;

# A fresh repository, as seen directly and through the proxy.
sub s3_fresh
{
    my (@what) = @_;
    my $s3 = WalTest::s3('expire' . ++$repositories, tls => 0);
    my @configs = map { WalTest::config_for($node, repository => $_, retention => \%retention) }
      $s3, { %$s3, endpoint => $proxy->{endpoint} };

    make_backups($configs[0], @what);
    return @configs;
}

sub s3_expire
{
    my ($conf, $timeout) = @_;
    my $run = WalTest::run([ $walctl, '--config', $conf, 'expire', '--output=json', "--timeout=$timeout" ]);
    return ($run, eval { decode_json($run->{stdout}) } // {});
}

# Labels of backups that can be seen; each must be restorable.
sub s3_seen
{
    my ($conf, $label) = @_;
    my $info = WalTest::run([ $walctl, '--config', $conf, 'info', '--output=json' ]);
    my @backups = grep { $_->{state} eq 'complete' } @{ decode_json($info->{stdout})->{clusters}[0]{backups} };

    is_deeply([ grep { !$_->{restorable} } @backups ], [], "$label: each backup has what it needs");
    return [ sort map { $_->{label} } @backups ];
}

my @small = ('full f1 40 5 3', 'incremental i1 39 8 2 f1', 'full f2 20 20 2', 'incremental i2 6 30 2 f2', 'full f3 1 40 2', 'wal 3 45');
my @before = qw(f1 f2 f3 i1 i2);
my @after = qw(f2 f3 i2);

for my $case (
    # label, action, how often; exit code, what is seen then
    [ '503 SlowDown (pgbackrest#2040)', 'status 503 SlowDown', 3, 0, \@after ],
    [ '500', 'status 500 InternalError', 1, 0, \@after ],
    [ 'done, but the answer is lost', 'pass-reset', 1, 0, \@after ],
    [ '200 with an error', 'status 200 InternalError', 1, 0, \@after ],
    [ 'SlowDown of each key', 'refuse-keys 200 SlowDown', 1, undef, undef ],
    [ '503 SlowDown, always', 'status 503 SlowDown', 0, 1, \@before ],
    [ 'AccessDenied of each key, always (barman#1195)', 'refuse-keys 200 AccessDenied', 0, 0, \@before ],
    [ 'AccessDenied of the request, always', 'status 403 AccessDenied', 0, undef, \@before ])
{
    my ($label, $action, $times, $exit, $seen) = @$case;
    my ($clean, $through) = s3_fresh(@small);
    my $rule = $proxy->add('POST', 'delete', $action, times => $times);
    # one object alone is removed by another request
    $proxy->add('DELETE', '/manifest', $action =~ /Denied/ ? 'status 403 AccessDenied' : $action, times => 0) if !$times;
    # what is refused for good is not tried again
    my $timeout = $times ? 120 : $action =~ /Denied/ ? 60 : 2;
    my ($run, $doc) = s3_expire($through, "${timeout}s");

    my $hits = $proxy->hits($rule);
    $proxy->clear;
    cmp_ok($hits, '>=', 1, "$label: the fault was there") if $times;
    is($run->{exit}, $exit, "$label: exit $exit") or diag($run->{stderr}) if defined $exit;
    cmp_ok($run->{exit}, '<=', 1, "$label: it ends") or diag($run->{stderr});
    like($run->{stderr}, qr/(?:ERROR|WARNING):  .*(?:not removed|passed over|could not)/, "$label: a message")
      if !$times || $run->{exit} == 1;
    like($run->{stderr}, qr/WARNING:  \d+ objects were passed over/, "$label: their number") if $action =~ /refuse-keys.*Denied/;
    WalTest::in_time($run, $timeout, $label);
    my $there = s3_seen($clean, $label);
    is_deeply($there, $seen, "$label: what is there") if defined $seen;
    my ($again) = s3_expire($clean, '120s');
    is($again->{exit}, 0, "$label: the next run succeeds") or diag($again->{stderr});
    is_deeply(s3_seen($clean, "$label, in the end"), \@after, "$label: and comes to the end");
}

# the second batch of a large backup: the manifest has gone, some objects have not (barman#780)
{
    my $parts = 1500;
    my ($clean, $through) = s3_fresh("full f1 40 5 $parts", 'full f2 20 20 2', 'full f3 1 40 2', 'wal 3 45');
    my $rule = $proxy->add('POST', 'delete', 'stall', skip => 1, times => 0);
    my $running = WalTest::daemon('expire', [ $walctl, '--config', $through, 'expire' ]);

    WalTest::wait_until(sub { $proxy->hits($rule) }, 60, 'the second request to remove');
    $running->kill9;
    $proxy->clear;
    is_deeply(s3_seen($clean, 'killed between two batches'), [qw(f2 f3)], 'killed between two batches: what is there');
    my ($run, $doc) = s3_expire($clean, '120s');
    is($run->{exit}, 0, 'killed between two batches: the next run succeeds') or diag($run->{stderr});

    ($clean, $through) = s3_fresh("full f1 40 5 $parts", 'full f2 20 20 2', 'full f3 1 40 2', 'wal 3 45');
    $rule = $proxy->add('POST', 'delete', 'refuse-keys 200 AccessDenied', skip => 1, times => 1);
    ($run, $doc) = s3_expire($through, '120s');
    $proxy->clear;
    is($run->{exit}, 0, 'a batch is refused: exit 0') or diag($run->{stderr});
    cmp_ok($doc->{not_removable}, '>', 100, 'a batch is refused: what stays is counted');
    cmp_ok($doc->{removed}{backups}{objects}, '>=', 1000, 'a batch is refused: the others have gone');
    is_deeply(s3_seen($clean, 'a batch is refused'), [qw(f2 f3)], 'a batch is refused: what is there');
}

# the store is away
{
    my ($clean, $through) = s3_fresh(@small);
    $proxy->down;
    my ($run) = s3_expire($through, '2s');
    is($run->{exit}, 1, 'the store is down: exit 1');
    like($run->{stderr}, qr/ERROR:  .*could not/, 'the store is down: a message');
    $proxy->up;
    # a listing that cannot be read to its end must not count as all there is
    for my $action ('status 503 SlowDown', 'cut-answer 300', 'status 200 InternalError')
    {
        $proxy->add('GET', 'list-type', $action, skip => 1, times => 0);
        ($run) = s3_expire($through, '2s');
        $proxy->clear;
        is($run->{exit}, 1, "listings fail, $action: exit 1");
        is_deeply(s3_seen($clean, "listings fail, $action"), \@before, "listings fail, $action: nothing has gone");
    }
}

$proxy->stop;
$node->stop;
done_testing();
