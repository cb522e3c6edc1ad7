# SPDX-License-Identifier: PostgreSQL

=head1 NAME

Backup - the rows of bench.pl about base backups, restores, and repositories of many years

=head1 DESCRIPTION

The tools take turns: in each round every one does the same once, and who begins changes from round to round. Wall time
is that of the command; its CPU time that of all processes of the tool (user and system, children that it has waited
for), not that of the server or the store. What a tool leaves to the server (pg_basebackup: reading and checking pages)
is therefore not counted.

BENCH_DB_MB is about the size of the database, 2000 when it is not set. With BENCH_CACHE the databases are kept there.

=cut

package Backup;

use strict;
use warnings;

use Bench;
use WalTest;
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Time::HiRes qw(time);

sub rows
{
    return (
        [ 'backup-file', sub { return full(0) } ],
        [ 'backup-s3', sub { return full(1) } ],
        [ 'incremental-15', \&incremental_15 ],
        [ 'incremental-17', \&incremental_17 ],
        [ 'many-file', sub { return many(0, 1_000_000) } ],
        [ 'many-s3', sub { return many(1, 100_000) } ],
        [ 'backup-memory', \&memory ]);
}

# ---- the database ----

# What applications store, as far as compression is concerned: lz4 makes a third to a half of it. The texts come from a
# pool that is much larger than what a compressor looks back on.
my $words = join ',', map { "'$_'" } qw(the of and to in is that for it as was with be by on not he his but at are this
  have from or had an they which one you were all her she there would their we him been has when who will no more if
  out so what up said about than its into them can only other time new some could these two may first then do any like
  my now over such our man me even most made after also well where must before through back years between order
  customer delivery address invoice payment warehouse product returned shipped cancelled quantity discount account
  balance transfer request);

my $tables_sql = <<"END";
CREATE FUNCTION words(int) RETURNS text VOLATILE LANGUAGE sql AS
  \$\$ SELECT string_agg((ARRAY[$words])[1 + floor(power(random(), 2) * 110)::int], ' ') FROM generate_series(1, \$1) \$\$;
CREATE TABLE pool AS SELECT g AS id, words(60) AS t FROM generate_series(1, 4000) g;
CREATE TABLE documents (id bigint, title text, body text, data jsonb, seen int) WITH (fillfactor = 92);
CREATE TABLE orders (id bigint, key uuid, customer int, amount numeric, rate numeric, placed timestamptz, due date,
                     state text, note text, seen int) WITH (fillfactor = 95);
CREATE TABLE accounts (id bigint, balance int, branch int, filler char(84), seen int) WITH (fillfactor = 95);
DO \$\$
BEGIN
    FOR i IN 1 .. 100 LOOP
        EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, t text)', i);
        EXECUTE format('INSERT INTO small_%s SELECT id, t FROM pool WHERE id <= %s', i, i);
    END LOOP;
END \$\$;
END

my $indexes_sql = <<'END';
CREATE INDEX ON documents (id);
CREATE INDEX ON documents USING gin (data);
CREATE INDEX ON orders (id);
CREATE INDEX ON orders (key);
CREATE INDEX ON orders (customer, placed);
CREATE INDEX ON accounts (id);
END

my @big_tables = qw(documents orders accounts);

sub fill_sql
{
    my ($mb) = @_;
    my ($documents, $orders, $accounts) = map { int($mb * $_) } 280, 1200, 1000;

    return <<"END";
INSERT INTO documents
SELECT r.g, left(a.t, 40), a.t || ' ' || b.t || ' ' || c.t,
       jsonb_build_object('customer', (random() * 1e6)::int, 'status', right(b.t, 8), 'uuid', gen_random_uuid(),
                          'note', left(c.t, 80), 'amount', round((random() * 1000)::numeric, 2)), 0
FROM (SELECT g, 1 + floor(random() * 4000)::int AS a, 1 + floor(random() * 4000)::int AS b,
             1 + floor(random() * 4000)::int AS c FROM generate_series(1, $documents) g) r
     JOIN pool a ON a.id = r.a JOIN pool b ON b.id = r.b JOIN pool c ON c.id = r.c;
INSERT INTO orders
SELECT g, gen_random_uuid(), (random() * 1e6)::int, round((random() * 10000)::numeric, 2),
       round((random() * 100)::numeric, 4), timestamptz '2026-01-01' + g * interval '7 seconds',
       date '2026-01-03' + (random() * 30)::int,
       (ARRAY['new', 'paid', 'shipped', 'returned', 'cancelled'])[1 + floor(random() * 4.999)::int], left(t, 50), 0
FROM generate_series(1, $orders) g JOIN pool ON pool.id = 1 + g % 4000;
INSERT INTO accounts
SELECT g, (random() * 1e6)::int, g % 10, left(t, 30), 0
FROM generate_series(1, $accounts) g JOIN pool ON pool.id = 1 + g % 3989;
END
}

my %databases;

=head2 database($version)

A running server with the tables, page checksums, archiving to whoever archive_to names: { node, dir, mb }.

=cut

sub database
{
    my ($version) = @_;
    return $databases{$version} if $databases{$version};

    my $mb = $ENV{BENCH_DB_MB} // 2000;
    my $cached = defined $ENV{BENCH_CACHE} ? "$ENV{BENCH_CACHE}/database-$version-$mb" : undef;
    my $dir = WalTest::dir("database-$version");
    my $self = { dir => $dir, mb => $mb };
    my $have = defined $cached && -e "$cached/complete";
    my %conf = (
        fsync => 'on',
        autovacuum => 'off', # nothing but the bench writes
        shared_buffers => '256MB',
        maintenance_work_mem => '256MB',
        checkpoint_timeout => '1h',
        max_wal_size => '8GB',
        min_wal_size => '256MB',
        wal_keep_size => '0',
        archive_mode => 'on',
        archive_command => "$dir/archive-for-us-or-pgbackrest %p", # which wants its name in it
        $version >= 17 ? (summarize_wal => 'on') : ());

    archive_to($self);
    if ($have)
    {
        my $node = $self->{node} = WalTest::new_cluster("database$version", $version);
        make_path($node->basedir);
        Bench::command('cp', '-a', "$cached/data", $node->data_dir);
        WalTest::adopt($node, \%conf);
        $node->start;
        settle($node);
    }
    else
    {
        Bench::say_line('filling a database of %d MB on PostgreSQL %d', $mb, $version);
        my $node = $self->{node} = WalTest::node("database$version",
            version => $version, wal_segsize => 16, checksums => 1, conf => { %conf, fsync => 'off' });
        $node->safe_psql('postgres', $tables_sql);
        $node->safe_psql('postgres', fill_sql($mb), timeout => 1000);
        $node->safe_psql('postgres', $indexes_sql, timeout => 1000);
        settle($node);
        $node->stop('fast');
        if (defined $cached)
        {
            remove_tree($cached);
            make_path($cached);
            Bench::command('cp', '-a', $node->data_dir, "$cached/data");
            Bench::write_file("$cached/complete", '');
        }
        WalTest::set_conf($node, fsync => 'on');
        $node->start;
    }
    $databases{$version} = $self;
    return $self;
}

# Beyond this nothing is written by itself: no hint bits, no visibility map.
sub settle
{
    my ($node) = @_;
    # once more for what ANALYZE has replaced in the catalogue
    $node->safe_psql('postgres', 'VACUUM (FREEZE, ANALYZE)', timeout => 1000);
    $node->safe_psql('postgres', 'VACUUM (FREEZE)', timeout => 1000);
    $node->safe_psql('postgres', 'CHECKPOINT');
    return;
}

sub database_bytes
{
    my ($db) = @_;
    my ($bytes) = Bench::command('du', '-sb', '--exclude=pg_wal', $db->{node}->data_dir) =~ /^(\d+)/;
    return $bytes;
}

# From now on WAL goes to this command; to nobody when there is none.
sub archive_to
{
    my ($db, @command) = @_;
    my $line = @command ? 'exec ' . join(' ', map { "'$_'" } @command) . ' "$1"' : 'exit 0';

    my $script = "$db->{dir}/archive-for-us-or-pgbackrest";

    Bench::write_file("$script.new", "#!/bin/sh\n$line\n");
    chmod 0755, "$script.new";
    rename "$script.new", $script or die "could not rename $script.new: $!";
    return;
}

# Everybody finds the same: pages on disk, a checkpoint just made, archiving idle and its own.
sub quiet
{
    my ($db, @archive) = @_;
    my $node = $db->{node};

    archive_to($db, @archive);
    $node->safe_psql('postgres', 'CHECKPOINT');
    my $last = Bench::segment_now($node);
    $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
    WalTest::wait_until(
        sub { $node->safe_psql('postgres', 'SELECT last_archived_wal FROM pg_stat_archiver') ge $last },
        60, "$last is archived");
    Bench::command('sync');
    return;
}

# About one block of a hundred is written, in the big tables only and all over them; rows stay in their blocks.
sub change
{
    my ($db, $round) = @_;
    my $node = $db->{node};
    my $blocks = $node->safe_psql('postgres',
        q{SELECT sum(pg_relation_size(oid)) / 8192 FROM pg_class WHERE relkind IN ('r', 'i')});
    my $heap = $node->safe_psql('postgres',
        'SELECT ' . join(' + ', map { "pg_relation_size('$_')" } @big_tables)) / 8192;
    my $step = int(100 * $heap / $blocks);

    die "the tables are too small\n" if $step < 2;
    for my $table (@big_tables)
    {
        my $first = $round * 7 % $step;
        $node->safe_psql('postgres',
            "UPDATE $table SET seen = seen + 1 WHERE ctid = ANY (ARRAY(SELECT format('(%s,1)', b)::tid "
              . "FROM generate_series($first, pg_relation_size('$table') / 8192 - 1, $step) b))");
    }
    return;
}

# ---- taking turns ----

=head2 contest($count, $names, name => sub, ...)

Each sub is called once a round, with its number, and returns what Bench::spawn does. Returns { name => [ results ] }.

=cut

sub contest
{
    my ($count, $names, %subs) = @_;
    my %results;

    for my $round (0 .. $count - 1)
    {
        for my $i (0 .. $#$names)
        {
            my $name = $names->[ ($round + $i) % @$names ];
            push @{ $results{$name} }, $subs{$name}->($round);
        }
    }
    return \%results;
}

# Two rows for each peer: wall and CPU. Those without a goal only inform.
sub report
{
    my ($name, $what, $results, $goals, %more) = @_;
    my %value = (
        wall => sub { return $_[0]{ms} / 1000 },
        cpu => sub { return ($_[0]{user_ms} + $_[0]{sys_ms}) / 1000 });

    for my $peer (sort grep { $_ ne 'ours' } keys %$results)
    {
        for my $kind (qw(wall cpu))
        {
            my @ours = map { $value{$kind}->($_) } @{ $results->{ours} };
            my @peer = map { $value{$kind}->($_) } @{ $results->{$peer} };

            Bench::row(
                join('-', $name, $peer =~ /^(?:pgbackrest(?:-15)?|full)$/ ? () : $peer, $kind eq 'cpu' ? 'cpu' : ()),
                what => "$what, $kind time",
                ours => Bench::median(@ours),
                peer => Bench::median(@peer),
                peer_name => $peer,
                ratio => Bench::median(map { $ours[$_] / $peer[$_] } 0 .. $#ours),
                unit => 's',
                goal => $goals->{$peer}{$kind},
                details => {
                    rounds => scalar @ours,
                    ours_all => [ map { 0 + sprintf '%.3f', $_ } @ours ],
                    peer_all => [ map { 0 + sprintf '%.3f', $_ } @peer ],
                    ours_rss_mib => Bench::percentile(1, map { $_->{rss_kib} } @{ $results->{ours} }) / 1024,
                    peer_rss_mib => Bench::percentile(1, map { $_->{rss_kib} } @{ $results->{$peer} }) / 1024,
                    load_average => Bench::loads(),
                    %more,
                });
        }
    }
    return;
}

# ---- the tools ----

my %largest_kib = (walbackup => 0, walrestore => 0);

sub note_memory
{
    my ($tool, $r) = @_;
    $largest_kib{$tool} = $r->{rss_kib} if $r->{rss_kib} > $largest_kib{$tool};
    return;
}

sub our_repository
{
    my ($db, $name, $s3) = @_;
    return Bench::repository($name, undef, s3 => $s3, node => $db->{node},
        cluster => { data => $db->{node}->data_dir },
        sections => { backup => { jobs => 2 } });
}

sub our_archive
{
    my ($repository) = @_;
    return (WalTest::tool('walpush'), '--config', $repository->{config});
}

# walbackup; {said} is what it says that it did.
sub our_backup
{
    my ($repository, $kind) = @_;
    my $out = "$repository->{dir}/backup.json";
    my $r = Bench::spawn_ok($repository->{dir}, '/bin/sh', '-c', "exec \"\$\@\" >$out", 'sh',
        WalTest::tool('walbackup'), '--config', $repository->{config}, $kind, '--checkpoint=fast', '--output=json');

    note_memory('walbackup', $r);
    $r->{said} = decode_json(WalTest::slurp($out));
    return $r;
}

sub our_restore
{
    my ($repository, $to, @options) = @_;
    my $r = Bench::spawn_ok($repository->{dir}, WalTest::tool('walrestore'), '--config', $repository->{config},
        '--to', $to, '--target=immediate', '--jobs=2', @options);

    note_memory('walrestore', $r);
    return $r;
}

# 2.45 has bundles, which are off unless asked for; block incremental came later, with 2.46.
sub peer_repository
{
    my ($db, $name, $s3, $bundle) = @_;
    my $node = $db->{node};
    return Bench::pgbackrest($name, $node->data_dir, s3 => $s3,
        global => "process-max=2\nrepo1-bundle=" . ($bundle // 'y') . "\nstart-fast=y\nexpire-auto=n\nrepo1-retention-full=1000\n",
        cluster => 'pg1-port=' . $node->port . "\npg1-socket-path=" . $node->host . "\n"
          . 'pg1-user=' . getpwuid($>) . "\n");
}

sub peer_command
{
    my ($peer, @arguments) = @_;
    return ('/usr/bin/pgbackrest', '--config', $peer->{config}, '--stanza', 'bench', @arguments);
}

sub peer_backup
{
    my ($peer, $type) = @_;
    return Bench::spawn_ok($peer->{dir}, peer_command($peer, '--type', $type, 'backup'));
}

sub peer_restore
{
    my ($peer, $to) = @_;
    make_path($to, { mode => 0700 });
    return Bench::spawn_ok($peer->{dir}, peer_command($peer, "--pg1-path=$to", '--type=immediate', 'restore'));
}

# Compressed at the client into one tar file.
sub basebackup
{
    my ($db, $to) = @_;
    return Bench::spawn_ok($db->{dir}, '/usr/lib/postgresql/15/bin/pg_basebackup', '-d',
        $db->{node}->connstr('postgres'), '-D', $to, '-Ft', '-X', 'none', '--compress=client-lz4:1', '-c', 'fast');
}

# Of what it can do without further modules the fastest: it knows no lz4, and gzip costs more than the store.
sub barman
{
    my ($db, $program, @arguments) = @_;
    my $rgw = WalTest::rgw();

    WalTest::s3('barman'); # writes the credentials
    my $config = Bench::write_file("$ENV{HOME}/.aws/config",
        "[default]\nregion = us-east-1\ns3 =\n    addressing_style = path\n");
    return Bench::spawn_ok($db->{dir}, '/usr/bin/env', "AWS_CONFIG_FILE=$config", "AWS_CA_BUNDLE=$rgw->{RGW_CA}",
        "/usr/bin/$program", '--endpoint-url', $rgw->{RGW_HTTPS}, @arguments);
}

sub barman_place
{
    return 's3://' . WalTest::rgw()->{RGW_BUCKET} . "/barman-$$";
}

sub barman_backup
{
    my ($db, $name) = @_;
    return barman($db, 'barman-cloud-backup', '--immediate-checkpoint', '-J', 2, '-h', $db->{node}->host,
        '-p', $db->{node}->port, '-U', scalar getpwuid($>), barman_place(), $name);
}

# The newest backup of this name.
sub barman_restore
{
    my ($db, $name, $to) = @_;
    my $rgw = WalTest::rgw();
    my $list = Bench::command('/usr/bin/env', "AWS_CONFIG_FILE=$ENV{HOME}/.aws/config",
        "AWS_CA_BUNDLE=$rgw->{RGW_CA}", '/usr/bin/barman-cloud-backup-list', '--endpoint-url', $rgw->{RGW_HTTPS},
        '--format=json', barman_place(), $name);
    my ($newest) = reverse sort map { $_->{backup_id} } @{ decode_json($list)->{backups_list} };
    return barman($db, 'barman-cloud-restore', barman_place(), $name, $newest, $to);
}

# ---- what came back ----

# A folder that never was: ext4 is slow to create files for minutes after others were deleted. What the earlier ones
# hold is dropped, so that memory is free; they go with forget_dirs.
my @used_dirs;

sub empty_dir
{
    my ($dir) = @_;
    my @earlier = grep { -d $_ && /restored-\d+$|basebackup-\d+$/ } @used_dirs;

    Bench::command('find', @earlier, '-type', 'f', '-exec', 'truncate', '-s', '0', '{}', '+') if @earlier;
    push @used_dirs, $dir . '-' . (1 + @used_dirs);
    Bench::command('sync');
    return $used_dirs[-1];
}

sub forget_dirs
{
    remove_tree(@used_dirs);
    return;
}

# Nothing has changed in the database since the backup.
sub same_files
{
    my ($db, $dir) = @_;
    my $result = WalTest::run(
        [ 'diff', '-rq', '--exclude=pg_internal.init', '--exclude=pgsql_tmp', $db->{node}->data_dir . '/base', "$dir/base" ],
        timeout => 500);
    die "the restored files differ: $result->{stdout}$result->{stderr}\n" if $result->{exit} != 0;
    return;
}

sub check_ours
{
    my ($db, $dir) = @_;
    same_files($db, $dir);
    Bench::command($db->{node}->installed_command('pg_verifybackup'), '-n', $dir);
    return;
}

# ---- full backup, full restore ----

sub full
{
    my ($s3) = @_;
    my $db = database(15);
    my $where = $s3 ? 's3' : 'file';
    my $place = $s3 ? 'S3 over TLS' : 'file://';
    my ($ours, $peer, $default, %stored);

    Bench::command('sh', '-c', 'cat "$0"/base/*/* >/dev/null', $db->{node}->data_dir);
    my $results = contest(
        Bench::rounds($s3 ? 2 : 3),
        [ 'ours', 'pgbackrest', $s3 ? qw(pgbackrest-default barman) : 'pg_basebackup' ],
        ours => sub {
            $ours = our_repository($db, "full-$where", $s3);
            push @used_dirs, "$ours->{dir}/repo";
            quiet($db, our_archive($ours));
            my $r = our_backup($ours, 'full');
            $stored{ours} = $r->{said}{stored_bytes};
            return $r;
        },
        pgbackrest => sub {
            $peer = peer_repository($db, "full-$where", $s3);
            push @used_dirs, "$peer->{dir}/repo";
            quiet($db, peer_command($peer, 'archive-push'));
            return peer_backup($peer, 'full');
        },
        'pgbackrest-default' => sub {
            $default = peer_repository($db, "full-default-$where", $s3, 'n');
            quiet($db, peer_command($default, 'archive-push'));
            return peer_backup($default, 'full');
        },
        barman => sub {
            quiet($db);
            return barman_backup($db, 'full');
        },
        pg_basebackup => sub {
            quiet($db);
            my $plain = empty_dir("$db->{dir}/basebackup");
            my $r = basebackup($db, $plain);
            $stored{pg_basebackup} = -s "$plain/base.tar.lz4";
            return $r;
        });
    ($stored{pgbackrest}) = Bench::command('du', '-sb', "$peer->{dir}/repo/backup") =~ /^(\d+)/ unless $s3;
    report("backup-$where", "full backup to $place", $results, { pgbackrest => { wall => 0.8, cpu => 0.8 } },
        database_bytes => database_bytes($db), stored_bytes => \%stored);

    # what a backup leaves in the page cache is not measured here; both are read from there
    Bench::command('sh', '-c', 'find "$@" -type f -exec cat {} + >/dev/null', 'sh', "$ours->{dir}/repo", "$peer->{dir}/repo")
      if !$s3;
    my $to = "$db->{dir}/restored";
    $results = contest(
        Bench::rounds($s3 ? 2 : 3),
        [ 'ours', 'pgbackrest', $s3 ? qw(pgbackrest-default barman) : () ],
        ours => sub {
            my $dir = empty_dir($to);
            my $r = our_restore($ours, $dir);
            check_ours($db, $dir);
            return $r;
        },
        pgbackrest => sub {
            my $dir = empty_dir($to);
            my $r = peer_restore($peer, $dir);
            same_files($db, $dir);
            return $r;
        },
        'pgbackrest-default' => sub {
            my $dir = empty_dir($to);
            my $r = peer_restore($default, $dir);
            same_files($db, $dir);
            return $r;
        },
        barman => sub {
            my $dir = empty_dir($to);
            my $r = barman_restore($db, 'full', $dir);
            same_files($db, $dir);
            return $r;
        });
    report("restore-$where", "full restore from $place", $results,
        $s3 ? { 'pgbackrest-default' => { wall => 0.3 } } : { pgbackrest => { wall => 0.8 } });
    forget_dirs();
    archive_to($db);
    return;
}

# ---- incremental ----

# The pages of 15 tell by their LSNs what has changed; every file is read.
sub incremental_15
{
    my $db = database(15);
    my $ours = our_repository($db, 'incremental-15', 0);
    my $peer = peer_repository($db, 'incremental-15', 0);
    my $changed = -1;
    my $round = sub {
        my ($i, @archive) = @_;
        change($db, $changed = $i) if $i != $changed;
        quiet($db, @archive);
    };

    quiet($db, our_archive($ours));
    our_backup($ours, 'full');
    quiet($db, peer_command($peer, 'archive-push'));
    peer_backup($peer, 'full');
    my $results = contest(
        Bench::rounds(3),
        [qw(ours pgbackrest)],
        ours => sub {
            $round->($_[0], our_archive($ours));
            return our_backup($ours, 'incremental');
        },
        pgbackrest => sub {
            $round->($_[0], peer_command($peer, 'archive-push'));
            return peer_backup($peer, 'incr');
        });
    report('incremental-15', 'incremental by page LSNs after 1 % of blocks changed, PostgreSQL 15; the peer has file-level '
          . 'incremental only', $results, {});
    remove_tree("$ours->{dir}/repo", "$peer->{dir}/repo");
    archive_to($db);
    return;
}

# What the WAL summaries between two backups name, read from the data directory and compressed: bytes, blocks.
sub changed_blocks
{
    my ($db, $from, $to) = @_;
    my $data = $db->{node}->data_dir;
    my @lines = split /\n/,
      $db->{node}->safe_psql('postgres',
        'SELECT DISTINCT reltablespace, reldatabase, relfilenode, relforknumber, relblocknumber '
          . 'FROM pg_available_wal_summaries() s, pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) '
          . "WHERE s.start_lsn >= '$from' AND s.end_lsn <= '$to' AND NOT is_limit_block "
          . 'AND reltablespace = 1663 ORDER BY 1, 2, 3, 4, 5');
    my $out = "$db->{dir}/changed";
    my $count = 0;

    open my $to_fh, '>:raw', $out or die "could not create $out: $!";
    for my $line (@lines)
    {
        my ($tablespace, $database, $node, $fork, $block) = split /\|/, $line;
        my $part = int($block / 131072);
        my $file = "$data/base/$database/$node" . ('', '_fsm', '_vm')[$fork] . ($part ? ".$part" : '');
        open my $fh, '<:raw', $file or next;
        my $page = '';
        seek $fh, $block % 131072 * 8192, 0;
        $count++ if read($fh, $page, 8192) == 8192 && print $to_fh $page;
    }
    close $to_fh or die "could not write $out: $!";
    my ($bytes) = Bench::command('sh', '-c', 'lz4 -1 -c "$0" | wc -c', $out) =~ /(\d+)/;
    unlink $out;
    return ($bytes, $count);
}

# All objects of a backup.
sub backup_bytes
{
    my ($repository, $label) = @_;
    my ($dir) = glob "$repository->{dir}/repo/bench/*/backup/$label";
    my ($bytes) = Bench::command('du', '-sb', '--apparent-size', $dir) =~ /^(\d+)/;
    return $bytes;
}

# WAL summaries tell what has changed. The peer of this version does not know PostgreSQL 17: it has the same database on 15.
sub incremental_17
{
    my $db = database(17);
    my $other = database(15);
    my $ours = our_repository($db, 'incremental-17', 0);
    my $peer = peer_repository($other, 'incremental-17', 0);
    my (@sizes, @blocks, $last);

    quiet($db, our_archive($ours));
    my $start = our_backup($ours, 'full')->{said}{start_lsn};
    my $incremental = sub {
        my ($i) = @_;
        change($db, $i);
        quiet($db, our_archive($ours));
        my $r = our_backup($ours, 'incremental');
        $last = $r->{said}{label};
        my ($bytes, $count) = changed_blocks($db, $start, $r->{said}{start_lsn});
        push @blocks, $count;
        push @sizes, { stored => backup_bytes($ours, $last), changed => $bytes };
        $start = $r->{said}{start_lsn};
        return $r;
    };
    quiet($other, peer_command($peer, 'archive-push'));
    peer_backup($peer, 'full');
    my $results = contest(
        Bench::rounds(3),
        [qw(ours pgbackrest-15)],
        ours => $incremental,
        'pgbackrest-15' => sub {
            change($other, $_[0]);
            quiet($other, peer_command($peer, 'archive-push'));
            return peer_backup($peer, 'incr');
        });
    my $done = @sizes;
    report('incremental-17', 'incremental by WAL summaries after 1 % of blocks changed, PostgreSQL 17; the peer on 15 with '
          . 'file-level incremental', $results, { 'pgbackrest-15' => { wall => 0.2 } },
        changed_blocks => \@blocks, database_bytes => database_bytes($db));
    Bench::row('incremental-bytes',
        what => 'all objects of an incremental backup, beside the changed blocks compressed by lz4',
        ours => Bench::median(map { $_->{stored} / 1e6 } @sizes),
        peer => Bench::median(map { $_->{changed} / 1e6 } @sizes),
        peer_name => 'lz4',
        ratio => Bench::median(map { $_->{stored} / $_->{changed} } @sizes),
        unit => 'MB',
        goal => 1.2,
        details => { blocks => [@blocks], sizes => [@sizes] });
    remove_tree("$peer->{dir}/repo");
    archive_to($other);

    $incremental->($_) for $done .. 19;
    my $chain = $last;
    quiet($db, our_archive($ours));
    my $full = our_backup($ours, 'full')->{said}{label};
    my $to = "$db->{dir}/restored";
    my $restore = sub {
        my ($label) = @_;
        my $dir = empty_dir($to);
        my $r = our_restore($ours, $dir, "--backup=$label");
        same_files($db, $dir);
        return $r;
    };
    $results = contest(
        Bench::rounds(3),
        [qw(ours full)],
        ours => sub { return $restore->($chain) },
        full => sub { return $restore->($full) });
    report('restore-chain', 'restore of a full and 20 incremental backups, beside that of a full', $results,
        { full => { wall => 1.2 } });
    forget_dirs();
    remove_tree("$ours->{dir}/repo");
    archive_to($db);
    return;
}

# ---- a repository of many years ----

sub many
{
    my ($s3, $segments) = @_;
    my $backups = $segments / 1000;
    my $where = $s3 ? 's3' : 'file';
    my $recording = Bench::recording();
    my $repository = Bench::repository("many-$where", $recording, s3 => $s3,
        sections => { retention => { full => '30d', weekly => '26w', monthly => '365d', pitr => '30d' } });
    my $made = Bench::spawn_ok($repository->{dir}, "$ENV{WALSTREAM_BIN}/tests/bench/simulate_repository",
        $repository->{config}, $segments, $backups);

    Bench::say_line('  %d segments and %d backups made in %.0f s', $segments, $backups, $made->{ms} / 1000);
    for my $command ([ 'info', 'info' ], [ 'expire', 'expire', '--dry-run' ])
    {
        my ($name, @arguments) = @$command;
        my $out = "$repository->{dir}/$name.json";
        my @runs = map {
            Bench::spawn_ok($repository->{dir}, '/bin/sh', '-c', "exec \"\$\@\" >$out", 'sh', WalTest::tool('walctl'),
                '--config', $repository->{config}, @arguments, '--output=json')
        } 1 .. Bench::rounds(3);
        my $said = decode_json(WalTest::slurp($out));

        Bench::row("many-$where-$name",
            what => "walctl @arguments of $segments segments and $backups backups",
            ours => Bench::median(map { $_->{ms} / 1000 } @runs),
            unit => 's',
            goal => 10,
            details => {
                store_requests => $said->{store_requests} // $said->{clusters}[0]{store_requests},
                cpu_s => Bench::median(map { ($_->{user_ms} + $_->{sys_ms}) / 1000 } @runs),
                rss_mib => Bench::percentile(1, map { $_->{rss_kib} } @runs) / 1024,
            });
    }
    remove_tree("$repository->{dir}/repo");
    return;
}

# ---- memory ----

# The other rows have noted what they saw; here the database is made twice as large, and then another has very many files.
sub memory
{
    my $db = database(15);
    my @seen;

    for my $size (1, 2)
    {
        if ($size == 2)
        {
            archive_to($db);
            $db->{node}->safe_psql('postgres', fill_sql($db->{mb}), timeout => 1000);
            settle($db->{node});
        }
        my $ours = our_repository($db, 'memory', 0);
        quiet($db, our_archive($ours));
        my $backup = our_backup($ours, 'full');
        my $dir = empty_dir("$db->{dir}/restored");
        my $restore = our_restore($ours, $dir);
        same_files($db, $dir);
        push @seen, { walbackup => $backup->{rss_kib} / 1024, walrestore => $restore->{rss_kib} / 1024 };
        forget_dirs();
        remove_tree("$ours->{dir}/repo");
    }
    archive_to($db);
    for my $tool (qw(walbackup walrestore))
    {
        Bench::row("memory-$tool",
            what => "largest resident set of $tool with two workers",
            ours => $largest_kib{$tool} / 1024,
            unit => 'MiB',
            goal => 128);
        Bench::row("memory-$tool-growth",
            what => "the same of a database of twice the size",
            ours => $seen[1]{$tool},
            peer => $seen[0]{$tool},
            peer_name => 'half of it',
            ratio => $seen[1]{$tool} / $seen[0]{$tool},
            unit => 'MiB',
            goal => 1.1);
    }
    memory_files(150_000);
    return;
}

# A database of $count files, half of them of one page that is zeros and half empty, as of relations that have no rows.
# Their contents need next to no memory: what more than 64 MiB there is would be of their number.
sub files_database
{
    my ($count) = @_;
    my $dir = WalTest::dir('database-files');
    my $db = { dir => $dir };

    archive_to($db);
    my $node = $db->{node} = WalTest::node('files', wal_segsize => 16, checksums => 1,
        conf => {
            autovacuum => 'off',
            archive_mode => 'on',
            archive_command => "$dir/archive-for-us-or-pgbackrest %p",
        });
    my $base = $node->data_dir . '/base/' . $node->safe_psql('postgres',
        q{SELECT oid FROM pg_database WHERE datname = 'postgres'});
    for my $i (1 .. $count)
    {
        my $path = "$base/" . (1_000_000 + $i);
        open my $fh, '>', $path or die "could not create $path: $!";
        syswrite $fh, "\0" x 8192 if $i % 2;
        close $fh or die "could not write $path: $!";
    }
    return $db;
}

sub memory_files
{
    my ($count) = @_;
    my $db = files_database($count);
    my $ours = our_repository($db, 'memory-files', 0);
    my %runs;

    quiet($db, our_archive($ours));
    $runs{'walbackup-full'} = our_backup($ours, 'full');
    $db->{node}->safe_psql('postgres', 'CREATE TABLE changed AS SELECT generate_series(1, 100000)');
    quiet($db, our_archive($ours));
    $runs{'walbackup-incremental'} = our_backup($ours, 'incremental');
    my $dir = empty_dir("$db->{dir}/restored");
    $runs{walrestore} = our_restore($ours, $dir);
    same_files($db, $dir);
    $runs{verify} = Bench::spawn_ok($ours->{dir}, '/bin/sh', '-c', 'exec "$@" >/dev/null', 'sh', WalTest::tool('walctl'),
        '--config', $ours->{config}, 'verify');
    for my $name (sort keys %runs)
    {
        Bench::row("memory-files-$name",
            what => "largest resident set of $name, a chain of two backups of $count files",
            ours => $runs{$name}{rss_kib} / 1024,
            unit => 'MiB',
            goal => 64,
            details => { files => $count, wall_s => $runs{$name}{ms} / 1000 });
    }
    forget_dirs();
    remove_tree("$ours->{dir}/repo");
    archive_to($db);
    $db->{node}->stop('fast');
    return;
}

1;
