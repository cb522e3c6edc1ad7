#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# The README's emergency page: an encrypted repository is brought back with age, lz4 and tar alone, by the lines as
# they stand there. None of our programs runs after the host is lost. Once with segments that are one object each, once
# with segments in parts.

use strict;
use warnings;

use File::Basename qw(basename);
use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalTest::Matrix;
use WalRepo;
use Test::More;

subtest("segments of $_ MB" => \&emergency, $_) for 1, 64;
done_testing();

sub emergency
{
    my ($segsize) = @_;
    my $id = "emergency$segsize";
    my $dir = WalTest::dir($id);
    my %keys = WalTest::Matrix::keygen($id, $dir);
    my $node = WalTest::node($id, wal_segsize => $segsize);
    my $config = WalTest::config_for(
        $node,
        cluster => { data => $node->data_dir },
        encryption => { recipient => $keys{recipient} });

    WalTest::run_ok('init', WalTest::tool('walctl'), '--config', $config, 'init');
    WalTest::archive_with($node, $config);
    $node->restart;
    my $stream = WalTest::walstream($config);

    WalTest::wait_streaming($config);
    $node->safe_psql('postgres', 'CREATE TABLE t AS SELECT i AS id, md5(i::text) AS v FROM generate_series(1, 20000) i');
    WalTest::backup($config, 'full', '--jobs=2');
    $node->safe_psql('postgres', "INSERT INTO t SELECT i, 'behind the backup' FROM generate_series(20001, 40000) i");
    # else those who read the rows set hint bits, whose page images fill the segment that shall stay open
    $node->safe_psql('postgres', 'VACUUM t');
    $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
    $node->safe_psql('postgres', "INSERT INTO t VALUES (0, 'in the open segment')");

    my $want = WalTest::rows($node, 't');

    WalTest::wait_durable($config, $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()'));
    WalTest::kill_host($node, with => [$stream]);

    my ($repo) = glob WalTest::repo_dir($config) . '/test/*';
    my ($parts) = grep { -d } glob "$repo/wal/*/*/*";

    is(defined $parts, $segsize > 16, 'segments are in parts when they are large');
    my ($newest) = map { basename($_) } reverse sort glob "$repo/live/*/*";

    is_deeply([ glob "$repo/wal/*/*/$newest" ], [], 'the open segment is in pieces only');

    # every sh block of the section, but the places are ours
    my ($section) = WalTest::slurp("$FindBin::RealBin/../../README.md") =~ /^## Emergency.*?$(.*?)^## /ms;
    my @blocks = $section =~ /^```sh\n(.*?)^```$/msg;

    is(scalar @blocks, 3, 'the page has its three steps');
    my ($verify) = $section =~ /^`(pg_verifybackup [^`]*)`/m;

    my $restored = PostgreSQL::Test::Cluster->new("restored$segsize", install_path => WalTest::install_path(15));
    my $data = $restored->data_dir;
    my %place = (repo => $repo, identity => $keys{file}, data => $data);

    mkdir $data or die "could not create $data: $!" unless -d $data;
    $blocks[0] =~ s/^$_=\S+/$_='$place{$_}'/m or die "the page sets no $_" for keys %place;

    # the check is for between the second step and the third
    $verify = $restored->installed_command('pg_verifybackup') . $verify =~ s/^\w+//r . ' >/dev/null';
    my $result = WalTest::run([ 'sh', '-eu' ], stdin => join("\n", @blocks[ 0, 1 ], $verify, $blocks[2]));

    is($result->{exit}, 0, 'the lines run');
    is($result->{stderr}, '', 'without a word');
    mkdir $restored->archive_dir;
    mkdir $restored->backup_dir;
    WalTest::adopt($restored, {});
    $restored->start;
    WalTest::wait_until(
        sub { ($restored->psql('postgres', 'SELECT pg_is_in_recovery()'))[1] eq 'f' },
        120, 'recovery ends');
    WalTest::same_rows(WalTest::rows($restored, 't'), $want, 'all rows are back, also those of the open segment');
    return;
}
