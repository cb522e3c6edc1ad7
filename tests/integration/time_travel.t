#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# Random transactions, what was there after each of them, and backups in between: a restore to any of those moments must show
# what was recorded. WALTEST_SEED repeats a run, WALTEST_ROUNDS is the number of moments that are restored.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use JSON::PP;
use WalTest;
use Test::More;
use Time::HiRes qw(usleep);

my $seed = $ENV{WALTEST_SEED} // time;
my $rounds = $ENV{WALTEST_ROUNDS} // (WalTest::quick() ? 2 : 6);
my $version = 16;

diag("WALTEST_SEED=$seed");
srand $seed;

my $node = WalTest::node('travel', version => $version);
my $config = WalTest::config_for($node, cluster => { data => $node->data_dir });
my (%model, @moments, @labels);

WalTest::run_ok('init', WalTest::tool('walctl'), '--config', $config, 'init');
WalTest::archive_with($node, $config);
$node->restart;
my $stream = WalTest::walstream($config);

WalTest::wait_streaming($config);
$node->safe_psql('postgres', 'CREATE TABLE ledger (k int PRIMARY KEY, v text)');

# One transaction on the table and on the model; what the model holds then, and when.
sub transaction
{
    my ($number) = @_;
    my @sql;

    for my $i (1 .. 1 + int rand 20)
    {
        my $k = int rand 200;
        my $what = rand;

        if ($what < 0.6)
        {
            $model{$k} = "$number.$i " . 'x' x int rand 300;
            push @sql, "INSERT INTO ledger VALUES ($k, '$model{$k}') ON CONFLICT (k) DO UPDATE SET v = excluded.v";
        }
        elsif ($what < 0.95)
        {
            delete $model{$k};
            push @sql, "DELETE FROM ledger WHERE k = $k";
        }
        elsif ($what > 0.99)
        {
            %model = ();
            push @sql, 'TRUNCATE ledger';
        }
    }
    # a transaction that is rolled back must never be seen
    $node->safe_psql('postgres', "BEGIN; INSERT INTO ledger VALUES (1000 + $number, 'never'); ROLLBACK") if rand() < 0.1;

    my $at = $node->safe_psql('postgres',
        join('; ', 'BEGIN', @sql, 'COMMIT', q{SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00"')}));
    push @moments, { number => $number, at => $at, rows => { %model }, backups => scalar @labels };
    usleep(rand 30000);
    return;
}

for my $number (1 .. 150)
{
    transaction($number);
    push @labels, WalTest::backup($config, @labels == 0 || rand() < 0.2 ? 'full' : 'incremental')->{label}
      if $number % 25 == 10;
    $node->safe_psql('postgres', 'SELECT pg_switch_wal()') if rand() < 0.05;
}
# what comes after the last moment, so that each of them can be passed
$node->safe_psql('postgres', 'CREATE TABLE the_end ()');
WalTest::wait_durable($config, $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));

my @possible = grep { $_->{backups} > 0 } @moments;

# the edges, and some in between
my @chosen = ($possible[1], $possible[-1], map { $possible[ rand @possible ] } 3 .. $rounds);

for my $i (0 .. $#chosen)
{
    my $moment = $chosen[$i];
    my $restored = WalTest::restore(
        "restored$i",
        version => $version,
        config => $config,
        args => [ '--target-time', $moment->{at} ]);
    my $want = [ map { "$_|$moment->{rows}{$_}" } sort { $a <=> $b } keys %{ $moment->{rows} } ];

    WalTest::same_rows(WalTest::rows($restored, 'ledger', 'k'), $want,
        "moment $moment->{number} at $moment->{at} (seed $seed)");
    $restored->stop;
}

# The window that info tells of begins where it says: a moment earlier is refused, and at its very beginning there is what
# was there when the first backup was made.
my $info = WalTest::run_ok('info', WalTest::tool('walctl'), '--config', $config, 'info', '--output=json');
my $windows = decode_json($info->{stdout})->{clusters}[0]{windows};
is(scalar @$windows, 1, 'there is one window, without a hole');
my $start = $windows->[0]{start};
my ($before) = grep { $_->{backups} == 0 } reverse @moments;
my $first = WalTest::restore('window', version => $version, config => $config, args => [ '--target-time', $start ]);
WalTest::same_rows(
    WalTest::rows($first, 'ledger', 'k'),
    [ map { "$_|$before->{rows}{$_}" } sort { $a <=> $b } keys %{ $before->{rows} } ],
    "the beginning of the window, $start (seed $seed)");
$first->stop;
my $earlier = $node->safe_psql('postgres',
    "SELECT to_char(timestamptz '$start' AT TIME ZONE 'UTC' - interval '1 ms', 'YYYY-MM-DD HH24:MI:SS.US\"+00\"')");

# A moment before the first backup and one behind the newest commit are refused, and nothing is written.
my $refused = WalTest::dir('refused');

for my $case (
    [ 'before the first backup', $moments[2]{at} ],
    [ 'a millisecond before the window', $earlier ],
    [ 'behind the newest commit', '2999-01-01 00:00:00+00' ])
{
    my ($what, $at) = @$case;
    my $to = "$refused/$what";
    my $result = WalTest::run(
        [ WalTest::tool('walrestore'), '--config', $config, '--to', $to, '--target-time', $at ]);

    isnt($result->{exit}, 0, "$what: refused");
    like($result->{stderr}, qr/HINT/, "$what: says what can be reached");
    ok(!-e $to, "$what: nothing was written");
}
done_testing();
