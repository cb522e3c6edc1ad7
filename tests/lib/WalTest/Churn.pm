# SPDX-License-Identifier: PostgreSQL

=head1 NAME

WalTest::Churn - work that does to a cluster what backups must get right, and what is in it then

=head1 SYNOPSIS

    WalTest::Churn::create($node, WalTest::dir('spaces'));
    WalTest::Churn::step($node, $_) for 1 .. 5;
    my $want = WalTest::Churn::state($node);
    ...
    WalTest::Churn::same_state(WalTest::Churn::state($restored), $want, 'after 5 steps');
    WalTest::Churn::check($restored, 'after 5 steps');

Each step updates, deletes, truncates, vacuums, rewrites, reindexes, and creates and drops relations, databases and
tablespaces; which, depends on its number alone.

=cut

package WalTest::Churn;

use strict;
use warnings;

use WalTest;
use Test::More;

my %spaces; # node name => folder for tablespaces

=head1 FUNCTIONS

=over

=item create($node, $folder)

Tables of several kinds, a database, a tablespace below $folder, large objects, the extension amcheck.

=cut

sub create
{
    my ($node, $folder) = @_;

    $spaces{ $node->name } = $folder;
    mkdir "$folder/first" or die "could not create $folder/first: $!";
    $node->safe_psql('postgres', "CREATE TABLESPACE first LOCATION '$folder/first'");
    $node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION amcheck;
CREATE TABLE account (id int PRIMARY KEY, balance numeric, note text, tag uuid, doc jsonb) WITH (fillfactor = 80);
CREATE INDEX ON account (note);
CREATE INDEX ON account USING gin (doc);
INSERT INTO account SELECT i, i * 1.25, 'note ' || md5(i::text), md5(i::text)::uuid, jsonb_build_object('i', i, 'k', i % 7)
  FROM generate_series(1, 20000) i;
CREATE TABLE emptied (id int, filler text);
INSERT INTO emptied SELECT i, repeat('x', 500) FROM generate_series(1, 3000) i;
CREATE TABLE shrinking (id int, filler text);
INSERT INTO shrinking SELECT i, repeat('y', 800) FROM generate_series(1, 4000) i;
CREATE TABLE rewritten (id int PRIMARY KEY, v int, filler text);
INSERT INTO rewritten SELECT i, i, repeat('z', 100) FROM generate_series(1, 5000) i;
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, filler text);
INSERT INTO unlogged SELECT i, 'gone after a restore' FROM generate_series(1, 1000) i;
CREATE TABLE elsewhere (id int PRIMARY KEY, filler text) TABLESPACE first;
INSERT INTO elsewhere SELECT i, repeat('e', 200) FROM generate_series(1, 5000) i;
CREATE TABLE toasted (id int PRIMARY KEY, big text);
INSERT INTO toasted SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 300) j) FROM generate_series(1, 100) i;
CREATE TABLE untouched AS SELECT i AS id, md5(i::text) AS v FROM generate_series(1, 20000) i;
CREATE MATERIALIZED VIEW summary AS SELECT doc->>'k' AS k, count(*), sum(balance) FROM account GROUP BY 1;
SELECT lo_from_bytea(900000 + i, decode(repeat(md5(i::text), 300), 'hex')) FROM generate_series(1, 20) i;
SQL
    $node->safe_psql('postgres', 'CREATE DATABASE other');
    $node->safe_psql('other', <<'SQL');
CREATE EXTENSION amcheck;
CREATE TABLE kept (id int PRIMARY KEY, v text);
INSERT INTO kept SELECT i, md5(i::text) FROM generate_series(1, 5000) i;
SQL
    return;
}

=item step($node, $number)

=cut

sub step
{
    my ($node, $n) = @_;
    my $folder = $spaces{ $node->name };
    my $mod = $n % 4;
    my $low = ($n * 1237) % 19000;
    my @sql = (
        "UPDATE account SET balance = balance + $n, note = 'step $n' WHERE id BETWEEN $low AND $low + 300",
        "DELETE FROM account WHERE id % 97 = $n % 97",
        "INSERT INTO account SELECT i, $n, 'new in $n', md5(i::text)::uuid, '{\"k\": $n}' "
          . "FROM generate_series(100000 * $n, 100000 * $n + 500) i",
        "CREATE TABLE made_$n AS SELECT i AS id, repeat('m', 300) AS filler FROM generate_series(1, 1000) i",
        "CREATE INDEX ON made_$n (id)",
        "UPDATE toasted SET big = reverse(big) WHERE id % 10 = $n % 10",
        "INSERT INTO unlogged SELECT 10000 * $n + i, 'unlogged' FROM generate_series(1, 100) i",
        "SELECT lo_put(900001 + $n % 10, 100, 'changed in step $n')",
        "SELECT lo_from_bytea(910000 + $n, decode(repeat(md5('$n'), 100), 'hex'))",
        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = 900011 + $n % 10",
        "UPDATE elsewhere SET filler = 'step $n' WHERE id % 50 = $n % 50",
    );

    push @sql, 'DROP TABLE made_' . ($n - 2) if $n > 2;
    # empty and filled again: the same relation, a shorter file than before
    push @sql, 'TRUNCATE emptied', "INSERT INTO emptied SELECT i, 'again $n' FROM generate_series(1, 100 * $n) i"
      if $mod == 1;
    # vacuum gives the end of the file back; then it grows again
    push @sql, "DELETE FROM shrinking WHERE id > 500", 'VACUUM shrinking',
      "INSERT INTO shrinking SELECT 500 + i, repeat('s', 700) FROM generate_series(1, 300 * $n) i"
      if $mod == 2;
    push @sql, 'VACUUM FULL rewritten', "ALTER TABLE rewritten ALTER COLUMN v TYPE bigint", 'REINDEX TABLE account'
      if $mod == 3;
    push @sql, 'CLUSTER rewritten USING rewritten_pkey', "UPDATE rewritten SET v = v + $n WHERE id % 3 = 0",
      'REFRESH MATERIALIZED VIEW summary', "ALTER TABLE elsewhere SET TABLESPACE pg_default",
      'ALTER TABLE elsewhere SET TABLESPACE first'
      if $mod == 0;
    push @sql, 'VACUUM (FREEZE) account', 'CHECKPOINT' if $n % 3 == 0;

    # one at a time: VACUUM and CREATE DATABASE do not run in a transaction with others
    my $result = WalTest::run(
        [ $node->installed_command('psql'), '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') ],
        stdin => join('', map { "$_;\n" } @sql));
    die "step $n failed: $result->{stderr}" if $result->{exit} != 0;

    if ($mod == 1)
    {
        mkdir "$folder/space_$n" or die "could not create $folder/space_$n: $!";
        $node->safe_psql('postgres', "CREATE TABLESPACE space_$n LOCATION '$folder/space_$n'");
        $node->safe_psql('postgres', "CREATE DATABASE made_$n TEMPLATE other TABLESPACE space_$n");
        $node->safe_psql("made_$n", "UPDATE kept SET v = 'in made_$n' WHERE id % 5 = 0");
    }
    if ($mod == 3)
    {
        my $old = $n - 2;

        $node->safe_psql('postgres', "DROP DATABASE made_$old");
        $node->safe_psql('postgres', "DROP TABLESPACE space_$old");
    }
    $node->safe_psql('other', "UPDATE kept SET v = 'step $n' WHERE id % 20 = $n % 20") if $mod == 2;
    return;
}

=item space_arguments($node, $folder)

C<--tablespace> arguments that put every tablespace of $node below $folder.

=cut

sub space_arguments
{
    my ($node, $folder) = @_;
    my @arguments;

    for my $row (split /\n/, $node->safe_psql('postgres', q{SELECT oid FROM pg_tablespace WHERE oid > 16383 ORDER BY 1}))
    {
        push @arguments, '--tablespace', "$row=$folder/$row";
    }
    return @arguments;
}

=item state($node), same_state($got, $want, $label)

What is in all databases: of each table the number of rows and a hash of them. Unlogged tables are left out: a
restore empties them.

=cut

sub state
{
    my ($node) = @_;
    my @lines;

    for my $db (split /\n/, $node->safe_psql('postgres', 'SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1'))
    {
        my @tables = split /\n/, $node->safe_psql($db, <<'SQL');
SELECT format('SELECT %L || count(*) || '' '' || coalesce(sum(hashtextextended(t::text, 0)), 0) FROM %s t', c.oid::regclass || ' ', c.oid::regclass)
  FROM pg_class c WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND c.oid >= 16384
   AND c.relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg_temp%') ORDER BY c.oid::regclass::text COLLATE "C"
SQL

        push @tables, q{SELECT 'large objects ' || count(*) || ' ' || coalesce(sum(hashtextextended(loid::text || pageno || data::text, 0)), 0) FROM pg_largeobject};
        push @tables, q{SELECT 'catalog ' || count(*) || ' ' || sum(hashtextextended(format('%s %s %s', relname, relkind, relnatts), 0)) FROM pg_class WHERE relpersistence = 'p' AND relname !~ '^pg_toast'};
        push @lines, map { "$db $_" } split /\n/, $node->safe_psql($db, join(";\n", @tables));
    }
    push @lines, 'tablespaces ' . join ' ', split /\n/, $node->safe_psql('postgres', 'SELECT spcname FROM pg_tablespace ORDER BY 1');
    return \@lines;
}

sub same_state
{
    return WalTest::same_rows(@_);
}

=item check($node, $label)

Every B-tree index against its table and every table by amcheck, in all databases; what pg_amcheck does, for any
version. With data checksums every page is read and checked on the way.

=cut

sub check
{
    my ($node, $label) = @_;
    my @bad;

    for my $db (split /\n/, $node->safe_psql('postgres', 'SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1'))
    {
        next if $node->safe_psql($db, "SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'") == 0;
        my ($rc, $out, $err) = $node->psql($db, <<'SQL');
SELECT count(bt_index_check(c.oid, true)) FROM pg_class c JOIN pg_am a ON a.oid = c.relam JOIN pg_index i ON i.indexrelid = c.oid
 WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND i.indisvalid AND i.indisready;
SELECT c.oid::regclass, v.* FROM pg_class c, LATERAL verify_heapam(c.oid) v
 WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap');
SQL
        push @bad, "$db: $err $out" if $rc != 0 || $out !~ /^\d+$/;
    }
    ok(!@bad, "$label: amcheck finds nothing");
    diag(@bad) if @bad;
    return;
}

=back

=cut

1;
