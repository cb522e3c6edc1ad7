#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# walbackup, local source: full and incremental backups, unpacked by hand as FORMAT.md says (age, lz4, tar), put
# together here and started; what goes wrong while one is made.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Time::HiRes qw(usleep);
use WalTest;
use Test::More;

my $page = 8192;
my @lines = (
    { name => 'v15', version => 15, checksums => 1 },
    { name => 'v15_plain', version => 15, checksums => 0, encrypted => 1 },
    { name => 'v17', version => 17, checksums => 1, summaries => 1 },
);
my %tested = map { $_ => 1 } WalTest::versions();

for my $line (grep { $tested{ $_->{version} } } @lines)
{
    chain($line);
}
done_testing();

# ---- by hand ----

sub backup_dir
{
    my ($conf, $label) = @_;
    my ($dir) = glob WalTest::repo_dir($conf) . "/test/*/backup/$label";

    return $dir // die "there is no backup $label";
}

# The archives of one backup, as the README's emergency page does it.
sub unpack_backup
{
    my ($conf, $label, $dest, $identity) = @_;
    my $open = defined $identity ? "age -d -i $identity \$part" : 'cat $part';
    my $dir = backup_dir($conf, $label);

    make_path($dest);
    for my $bundle (glob "$dir/bundle/????????")
    {
        WalTest::run_ok(
            "$label: tar takes " . substr($bundle, -8),
            'sh', '-c', "for part in $bundle/????????; do $open | lz4 -d -c; done | tar x -C $dest");
    }
    return $dest;
}

sub tree
{
    my ($dir, $below, $found) = @_;
    $below //= '';
    $found //= {};

    opendir my $dh, "$dir/$below" or die "could not open $dir/$below: $!";
    for my $name (sort readdir $dh)
    {
        next if $name eq '.' || $name eq '..';
        my $path = $below eq '' ? $name : "$below/$name";

        if (-d "$dir/$path") { $found->{$path} = undef; tree($dir, $path, $found) }
        else { $found->{$path} = -s "$dir/$path" }
    }
    return $found;
}

# One file of a chain, newest first, by the rules of FORMAT.md, "Restoring a chain".
sub combine_file
{
    my ($path, $dirs) = @_;
    my $incremental = $path =~ s{([^/]+)$}{INCREMENTAL.$1}r;
    my (%blocks, $truncation, $size);

    for my $dir (@$dirs)
    {
        if (-e "$dir/$path")
        {
            my $content = WalTest::slurp("$dir/$path");
            return $content unless defined $truncation;
            for (my $b = 0; $b * $page < length $content && $b < $truncation; $b++)
            {
                $blocks{$b} //= substr $content, $b * $page, $page;
            }
            last;
        }
        my $content = WalTest::slurp("$dir/$incremental");
        my ($magic, $count, $t, @list) = unpack 'VVV(V)*', $content;
        my $at = $count > 0 ? $page * (int((12 + 4 * $count + $page - 1) / $page)) : 12;
        die "$dir/$incremental is no incremental file" unless $magic == 0xd3ae1f0d;
        die "$dir/$incremental is too short" unless length $content == $at + $page * $count;
        my $first = !defined $truncation;
        if ($first)
        {
            $truncation = $size = $t;
        }
        for my $i (0 .. $count - 1)
        {
            next unless $first || $list[$i] < $truncation;
            $blocks{ $list[$i] } //= substr $content, $at + $i * $page, $page;
            $size = $list[$i] + 1 if $first && $list[$i] >= $size;
        }
    }
    return join '', map { $blocks{$_} // "\0" x $page } 0 .. $size - 1;
}

sub combine
{
    my ($dest, @dirs) = @_;
    my $newest = tree($dirs[0]);
    my %modes;

    make_path($dest);
    for my $path (sort keys %$newest)
    {
        if (!defined $newest->{$path}) { make_path("$dest/$path", { mode => 0700 }); next }
        my $name = $path =~ s{(^|/)INCREMENTAL\.([^/]+)$}{$1$2}r;
        open my $fh, '>:raw', "$dest/$name" or die "could not create $dest/$name: $!";
        print $fh $name eq $path ? WalTest::slurp("$dirs[0]/$path") : combine_file($name, \@dirs);
        close $fh or die "could not write $dest/$name: $!";
        chmod 0600, "$dest/$name";
    }
    chmod 0700, $dest;
    return $dest;
}

# The tablespace gets a place of its own: recovery makes the link from tablespace_map.
sub move_tablespace
{
    my ($dir, $space) = @_;
    my $map = WalTest::slurp("$dir/tablespace_map");
    my ($oid) = $map =~ /^(\d+) / or die "no tablespace in \"$map\"";

    rename "$dir/pg_tblspc/$oid", $space or die "could not move the tablespace: $!";
    open my $fh, '>', "$dir/tablespace_map" or die "could not write: $!";
    print $fh "$oid $space\n";
    close $fh;
    return;
}

# What is to be the same after a restore, as text.
sub contents
{
    my ($node) = @_;
    my @tables = split /\n/, $node->safe_psql('postgres',
        "SELECT quote_ident(relname) FROM pg_class WHERE relkind = 'r' AND relpersistence = 'p'
         AND relnamespace = 'public'::regnamespace ORDER BY 1");
    my $text = join '', map { "$_: " . $node->safe_psql('postgres',
        "SELECT count(*), md5(string_agg(x::text, ',' ORDER BY x::text)) FROM $_ x") . "\n" } @tables;

    $text .= 'databases: ' . $node->safe_psql('postgres', 'SELECT datname FROM pg_database ORDER BY 1');
    return $text;
}

# Indexes against their tables, and the visibility map against the pages.
sub damage
{
    my ($node) = @_;

    $node->safe_psql('postgres', 'CREATE EXTENSION IF NOT EXISTS amcheck; CREATE EXTENSION IF NOT EXISTS pg_visibility');
    return $node->safe_psql('postgres', q{
        SELECT c.relname FROM pg_class c, pg_am a WHERE a.oid = c.relam AND c.relpersistence = 'p'
          AND CASE WHEN a.amname = 'btree' AND c.relkind = 'i' THEN bt_index_check(c.oid, true) IS NULL END;
        SELECT c.relname, v.* FROM pg_class c, verify_heapam(c.oid) v
          WHERE c.relkind = 'r' AND c.relpersistence = 'p';
        SELECT c.relname FROM pg_class c, pg_check_visible(c.oid) WHERE c.relkind = 'r' AND c.relpersistence = 'p'});
}

# ---- a chain ----



sub chain
{
    my ($line) = @_;
    my ($name, $version) = @$line{qw(name version)};
    my $node = WalTest::node($name, version => $version, start => 0, checksums => $line->{checksums},
        conf => $line->{summaries} ? { summarize_wal => 'on' } : {});
    my $space = WalTest::dir("space_$name");
    my ($identity, %encryption);

    if ($line->{encrypted})
    {
        $identity = WalTest::dir("key_$name") . '/identity';
        my $key = WalTest::run_ok("$name: a key", WalTest::tool('walctl'), 'keygen', $identity);
        %encryption = (encryption => { recipient => $key->{stdout} =~ /(age1\w+)/ });
    }
    # what is encrypted is opened by the restoring server only
    my $conf = WalTest::config_for($node, cluster => { data => $node->data_dir },
        backup => { 'wal-timeout' => '60s' }, %encryption);
    my $open = WalTest::config_for($node, dir => WalTest::dir("open_$name"),
        repository => { url => 'file://' . WalTest::repo_dir($conf) },
        %encryption ? (encryption => { %{ $encryption{encryption} }, 'identity-file' => $identity }) : ());

    WalTest::archive_with($node, $conf);
    $node->start;
    WalTest::run_ok("$name: init", WalTest::tool('walctl'), '--config', $conf, 'init');
    $node->safe_psql('postgres', "CREATE TABLESPACE space LOCATION '$space'");
    $node->safe_psql('postgres', $_) for split /;\n/, q{
        CREATE TABLE big AS SELECT i, md5(i::text) AS t FROM generate_series(1, 30000) i;
        CREATE INDEX ON big (i);
        CREATE TABLE apart TABLESPACE space AS SELECT i FROM generate_series(1, 1000) i;
        CREATE UNLOGGED TABLE fleeting AS SELECT i FROM generate_series(1, 1000) i;
        CREATE TABLE shrinks AS SELECT i, repeat('x', 500) AS t FROM generate_series(1, 2000) i;
        CREATE TABLE marked AS SELECT i FROM generate_series(1, 50000) i;
        CREATE TABLE gone AS SELECT 1 AS i;
        CREATE DATABASE other};

    my @backups = WalTest::backup($conf, 'full');
    is($backups[0]{kind}, 'full', "$name: a full backup");
    is($backups[0]{damaged_blocks}, 0, "$name: nothing is damaged");
    cmp_ok($backups[0]{stored_bytes}, '<', $backups[0]{full_bytes}, "$name: it is compressed");
    my @states = (contents($node));

    # of each kind what an incremental may get wrong
    $node->safe_psql('postgres', $_) for split /;\n/, q{
        UPDATE big SET t = 'new' WHERE i % 5000 = 0;
        DELETE FROM shrinks WHERE i > 300;
        VACUUM shrinks;
        INSERT INTO shrinks SELECT i, 'back again' FROM generate_series(3000, 3600) i;
        DROP TABLE gone;
        CREATE TABLE fresh AS SELECT i FROM generate_series(1, 500) i;
        VACUUM (FREEZE) marked;
        DROP DATABASE other;
        CREATE DATABASE again;
        INSERT INTO apart VALUES (7)};
    push @backups, WalTest::backup($conf, 'incremental');
    is_deeply($backups[1]{chain}, [ $backups[0]{label} ], "$name: it builds on the full backup");
    cmp_ok($backups[1]{plain_bytes}, '<', $backups[1]{full_bytes} * 0.7, "$name: and stores only some of it");
    push @states, contents($node);

    $node->safe_psql('postgres', $_) for split /;\n/, q{
        DELETE FROM marked WHERE i < 100;
        TRUNCATE apart;
        UPDATE fresh SET i = i + 1;
        CREATE INDEX ON big (t)};
    push @backups, WalTest::backup($conf, 'incremental', '--label', "third-$name");
    is_deeply(
        $backups[2]{chain},
        [ map { $_->{label} } @backups[ 0, 1 ] ],
        "$name: the third builds on both");
    push @states, contents($node);

    push @backups, WalTest::backup($conf, 'incremental', '--parent', $backups[0]{label});
    is_deeply($backups[3]{chain}, [ $backups[0]{label} ], "$name: a parent by name");
    push @states, $states[2];
    $node->stop;

    my @dirs = map { unpack_backup($conf, $_->{label}, WalTest::dir("unpacked-$name-$_->{label}"), $identity) }
      @backups;
    my $manifest = decode_json(WalTest::slurp("$dirs[1]/backup_manifest"));
    my %listed = map { ($_->{Path} => $_->{Size}) } @{ $manifest->{Files} };
    my $there = tree($dirs[1]);
    delete $there->{$_} for 'backup_manifest', grep { !defined $there->{$_} } keys %$there;
    is_deeply(\%listed, $there, "$name: PostgreSQL's manifest lists what is in the archives");
    WalTest::run_ok("$name: pg_verifybackup", $node->installed_command('pg_verifybackup'), '-n', $dirs[0])
      if $version == 15;

    my @chains = ([0], [ 1, 0 ], [ 2, 1, 0 ], [ 3, 0 ]);
    for my $i (0 .. $#chains)
    {
        my $label = "$name: backup " . ($i + 1);
        my $dir = combine(WalTest::dir("combined-$name-$i"), map { $dirs[$_] } @{ $chains[$i] });

        move_tablespace($dir, dirname($dir) . "/space-$name-$i");
        my $restored = WalTest::restore_node(
            "${name}_restored$i",
            version => $version,
            backup => $dir,
            config => $open,
            conf => { recovery_target => 'immediate', recovery_target_action => 'promote' });
        is(contents($restored), $states[$i], "$label: what was there is there");
        is(damage($restored), '', "$label: without damage");
        is($restored->safe_psql('postgres', 'SELECT count(*) FROM fleeting'), 0, "$label: unlogged is empty");
        $restored->stop('immediate');
        remove_tree($dir);
    }
    return;
}
