#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# A relation of several 1 GB segment files: changed in each of them, shortened to fewer, grown again. Blocks are numbered anew
# in each file, and a file that shrank to nothing stays. By WAL summaries and by page LSNs; memory stays bounded.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use Test::More;

my $version = 17;
my $node = WalTest::node('large', version => $version, wal_segsize => 16, conf => { summarize_wal => 'on', max_wal_size => '4GB', wal_log_hints => 'off' });
my $dir = WalTest::dir('large');
my $config = WalTest::config_for($node, dir => $dir, cluster => { data => $node->data_dir });
my (@labels, @sums, @stored);

WalTest::run_ok('init', WalTest::tool('walctl'), '--config', $config, 'init');
WalTest::archive_with($node, $config);
$node->restart;
my $stream = WalTest::walstream($config);

WalTest::wait_streaming($config);

# one row a page
$node->safe_psql('postgres', <<'SQL', timeout => 900);
CREATE TABLE big (id int, filler text) WITH (autovacuum_enabled = off);
ALTER TABLE big ALTER filler SET STORAGE PLAIN;
INSERT INTO big SELECT i, repeat(md5(i::text), 240) FROM generate_series(1, 265000) i;
-- hint bits are set now, and not between the backups
SELECT count(*) FROM big;
CHECKPOINT;
SQL
my $path = $node->data_dir . '/' . $node->safe_psql('postgres', q{SELECT pg_relation_filepath('big')});

ok(-s "$path.2", 'three segment files');
point('full');

$node->safe_psql('postgres', "UPDATE big SET filler = 'changed' WHERE id % 25000 = 1");
point('incremental');

# the end is given back: what is left ends in the second file
$node->safe_psql('postgres', 'DELETE FROM big WHERE id > 140000');
$node->safe_psql('postgres', 'VACUUM big');
is(-s "$path.2", 0, 'the third file is empty');
point('incremental');

# and grows again, by other rows; now without summaries
$node->safe_psql('postgres', 'ALTER SYSTEM SET summarize_wal = off');
$node->reload;
$node->poll_query_until('postgres', q{SELECT current_setting('summarize_wal') = 'off'}) or die 'summarize_wal is not off';
$node->safe_psql('postgres', "INSERT INTO big SELECT i, repeat('new', 2600) FROM generate_series(300001, 305000) i");
point('incremental');
cmp_ok($stored[1], '<', $stored[0] / 20, 'the first incremental has the changed blocks only');
$stream->stop;
$node->stop;

# the full backup is the first of each chain
for my $i (1 .. $#labels)
{
    my $restored = WalTest::restore(
        "restored$i",
        version => $version,
        config => $config,
        args => [ '--backup', $labels[$i], '--target=immediate' ]);

    is(sum($restored), $sums[$i], "backup $i: all rows");
    $restored->stop('immediate');
    File::Path::remove_tree($restored->data_dir);
}
done_testing();

sub sum
{
    my ($from) = @_;
    return $from->safe_psql('postgres', 'SELECT count(*), sum(hashtextextended(t::text, 0)) FROM big t');
}

sub point
{
    my ($kind) = @_;
    my $made = WalTest::backup($config, $kind);

    push @labels, $made->{label};
    push @stored, $made->{stored_bytes};
    push @sums, sum($node);
    return;
}
