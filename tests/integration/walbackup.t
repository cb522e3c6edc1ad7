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
use File::Find ();
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Time::HiRes qw(usleep);
use WalTest;
use Test::More;

my $page = 8192;
my @lines = (
    # restored: of the full backup, two incrementals on each other, and one on the full backup
    { name => 'v14', version => 14, checksums => 0, restored => [1] },
    { name => 'v15', version => 15, checksums => 1, restored => [ 0, 2 ] },
    { name => 'v15_plain', version => 15, checksums => 0, encrypted => 1, restored => [2] },
    { name => 'v17', version => 17, checksums => 1, summaries => 1, restored => [ 1, 3 ] },
    { name => 'v18', version => 18, checksums => 1, summaries => 1, restored => [2] },
);
my %tested = map { $_ => 1 } WalTest::versions();

for my $line (grep { $tested{ $_->{version} } } @lines)
{
    chain($line);
}
least_rights($_) for grep { $tested{$_} } 14, 15, 17;
what_goes_wrong($tested{15} ? 15 : (WalTest::versions())[0]);
slow_checkpoint((WalTest::versions())[-1]);
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
        my $content = $name eq $path ? WalTest::slurp("$dirs[0]/$path") : combine_file($name, \@dirs);

        # the server refuses to begin on an incremental backup
        $content =~ s/^INCREMENTAL FROM .*\n//mg if $name eq 'backup_label';
        print $fh $content;
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

# Modification times must not tell what has changed: all files get the same one.
sub same_times
{
    my ($node, $space) = @_;

    $node->safe_psql('postgres', 'CHECKPOINT');
    File::Find::find(sub { utime 1_767_225_600, 1_767_225_600, $_ if -f $_ }, $node->data_dir, $space);
    return;
}

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
        backup => { 'wal-timeout' => '300s' }, %encryption);
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

    same_times($node, $space);
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
    same_times($node, $space);
    push @backups, WalTest::backup($conf, 'incremental');
    is_deeply($backups[1]{chain}, [ $backups[0]{label} ], "$name: it builds on the full backup");
    cmp_ok($backups[1]{plain_bytes}, '<', $backups[1]{full_bytes} * 0.7, "$name: and stores only some of it");
    push @states, contents($node);

    $node->safe_psql('postgres', $_) for split /;\n/, q{
        DELETE FROM marked WHERE i < 100;
        TRUNCATE apart;
        UPDATE fresh SET i = i + 1;
        CREATE INDEX ON big (t)};
    same_times($node, $space);
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
    for my $i (@{ $line->{restored} })
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

# ---- what goes wrong ----

# A role that has what the README gives it, and nothing else.
sub least_rights
{
    my ($version) = @_;
    my $name = "rights$version";
    my $node = WalTest::node($name, version => $version, start => 0,
        conf => $version >= 17 ? { summarize_wal => 'on' } : {});
    my $conf = WalTest::config_for($node,
        cluster => { conninfo => $node->connstr . ' user=walstream', data => $node->data_dir });
    my $readme = WalTest::slurp("$FindBin::RealBin/../../README.md");
    my ($role) = $readme =~ /^(CREATE ROLE walstream .*;)$/m;
    my $function = $version >= 15 ? 'pg_backup_start' : 'pg_start_backup';
    my ($grant) = $readme =~ /^(?:-- )?(GRANT EXECUTE ON FUNCTION $function\(.*;)$/m;

    WalTest::archive_with($node, $conf);
    $node->start;
    $node->safe_psql('postgres', $role);
    WalTest::run_ok("$name: init", WalTest::tool('walctl'), '--config', $conf, 'init');
    my $result = WalTest::run_exit("$name: a role that may only replicate", 1,
        WalTest::tool('walbackup'), '--config', $conf, 'full', '--checkpoint=fast');
    like($result->{stderr}, qr/permission denied for function $function\b.*HINT:.*EXECUTE/s, "$name: what it lacks");
    $node->safe_psql('postgres', $grant);
    left_out($node, $conf, $name);
    $node->safe_psql('postgres', 'CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i');
    is(WalTest::backup($conf, 'incremental')->{kind}, 'incremental', "$name: the README's GRANT is enough");
    hostile_settings($node, $conf, $name);
    $node->stop;
    return;
}

# What a role may have for the sake of others does not end a backup that waits for its checkpoint.
sub hostile_settings
{
    my ($node, $conf, $name) = @_;
    my $checkpointer =
      $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    my $waiting = q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walbackup'
        AND state = 'active' AND clock_timestamp() - query_start > '3s'};
    my @timeouts = qw(statement_timeout lock_timeout idle_session_timeout);

    push @timeouts, 'transaction_timeout' if $node->pg_version->major >= 17;
    $node->safe_psql('postgres', "ALTER ROLE walstream SET $_")
      for "client_min_messages = 'debug1'", "search_path = 'nowhere'", map { "$_ = '2s'" } @timeouts;
    kill 'STOP', $checkpointer;
    # as under nohup
    my $backup = WalTest::daemon($name,
        [ WalTest::tool('walbackup'), '--config', $conf, 'full', '--checkpoint=fast' ], ignore => ['HUP']);
    WalTest::wait_until(
        sub { $backup->signal('HUP'); !$backup->running || $node->safe_psql('postgres', $waiting) > 0 },
        120, 'the backup waits for the checkpoint');
    kill 'CONT', $checkpointer;
    is($backup->wait_exit(120), 0, "$name: time-outs of the role and an ignored signal do not matter")
      or diag($backup->log_text);
    unlike($backup->log_text, qr/^DEBUG:/m, "$name: and the server's messages stay out of the log");
    return;
}

# Names of files and folders that a backup has.
sub names
{
    my ($conf, $label) = @_;
    my $dir = backup_dir($conf, $label);
    my $lines = WalTest::run([ 'sh', '-c', "lz4 -d -c <$dir/manifest" ]);

    return [ sort $lines->{stdout} =~ /^\{"[fd]": "([^"]+)"/mg ];
}

# What the server leaves out of BASE_BACKUP is left out when the files are read here, and nothing else is.
sub left_out
{
    my ($node, $conf, $name) = @_;
    my $data = $node->data_dir;
    my @stray = (
        qw(postgresql.auto.conf.tmp current_logfiles.tmp pg_internal.init base/1/pg_internal.init backup_label.old
          base/1/t3_99999 base/1/t3_99999_fsm base/1/99998 base/1/99998_init base/1/99998_vm base/pgsql_tmp/pgsql_tmp7.1
          base/1/pgsql_tmp_not base/pgsql_tmpx pg_dynshmem/mmap.1 pg_notify/9999 pg_serial/9999 pg_snapshots/9999
          pg_subtrans/9999 pg_stat_tmp/x pg_replslot/old/state pg_wal/archive_status/x.done own/folder/file tablespace_map.old),
        'a file with blanks', 'postmaster.opts.old');

    for my $path (@stray)
    {
        make_path("$data/" . dirname($path));
        open my $fh, '>', "$data/$path" or die "could not create $data/$path: $!";
        print $fh 'stray' x 100;
        close $fh or die "could not write $data/$path: $!";
    }
    make_path("$data/own/empty");
    WalTest::backup($conf, 'full', "--source=$_", '--label', "by-$_") for qw(local stream);
    my ($local, $stream) = map { names($conf, "by-$_") } qw(local stream);
    cmp_ok(scalar @$local, '>', 500, "$name: there are files");
    is_deeply($local, $stream, "$name: what is left out is what the server leaves out");
    unlink "$data/$_" for @stray;
    return;
}

sub start_backup
{
    my ($conf, $name, @arguments) = @_;

    return WalTest::daemon($name,
        [ WalTest::tool('walbackup'), '--config', $conf, 'full', '--checkpoint=fast', @arguments ]);
}

# While the server makes a checkpoint that is spread over minutes: the backup ends when it is told to, and what it held
# in the server does not outlast it, also when it was killed.
sub slow_checkpoint
{
    my ($version) = @_;
    my $node = WalTest::node('spread', version => $version, conf => { checkpoint_timeout => '1h' });
    my $conf = WalTest::config_for($node, cluster => { data => $node->data_dir });
    my $waiting = sub {
        $node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE wait_event LIKE 'Checkpoint%'
            AND backend_type IN ('client backend', 'walsender')");
    };

    WalTest::run_ok('spread: init', WalTest::tool('walctl'), '--config', $conf, 'init');
    $node->safe_psql('postgres', 'CREATE TABLE t AS SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 20000) i');
    for my $case ([ 'told', 'local' ], [ 'killed', 'local' ], [ 'told, by the replication protocol', 'stream' ])
    {
        my ($what, $source) = @$case;
        my $run = WalTest::daemon("spread-$source",
            [ WalTest::tool('walbackup'), '--config', $conf, 'full', '--checkpoint=spread', "--source=$source" ]);

        $run->wait_log(qr/waiting for a checkpoint/, 60);
        WalTest::wait_until(sub { $waiting->() == 1 }, 60, 'the server makes a checkpoint');
        if ($what eq 'killed') { $run->kill9 }
        else { is($run->stop(seconds => 60), 1, "spread checkpoint: $what: it ends") }
        # it would wait much longer
        WalTest::wait_until(sub { $waiting->() == 0 }, 120, 'the session is gone');
        pass("spread checkpoint: $what: the server has given it up");
    }
    ok(!glob(WalTest::repo_dir($conf) . '/test/*/backup/*/manifest'), 'spread checkpoint: no backup');
    $node->stop('immediate');
    return;
}

sub what_goes_wrong
{
    my ($version) = @_;
    my $node = WalTest::node('faults', version => $version, checksums => 1, conf => { wal_keep_size => '256MB' });
    my $conf = WalTest::config_for($node, cluster => { data => $node->data_dir });
    my $walbackup = WalTest::tool('walbackup');
    my $result;

    WalTest::run_ok('faults: init', WalTest::tool('walctl'), '--config', $conf, 'init');
    $node->safe_psql('postgres', $_) for split /;\n/, q{
        CREATE TABLE big AS SELECT i, md5(i::text) AS t FROM generate_series(1, 30000) i;
        CREATE TABLE hurt AS SELECT i FROM generate_series(1, 5000) i;
        CREATE TABLE later AS SELECT i FROM generate_series(1, 5000) i;
        CHECKPOINT};

    # nobody archives
    $result = WalTest::run_exit('no WAL in the repository', 1, $walbackup, '--config', $conf, 'full',
        '--checkpoint=fast', '--wal-timeout=1s');
    like($result->{stderr}, qr/still lacks WAL from .* to .* \(segment [0-9A-F]{24}\)/, 'what is missing');
    like($result->{stderr}, qr/HINT:.*archive_command/, 'and a hint');
    $result = WalTest::run_exit('an incremental without a full one', 1, $walbackup, '--config', $conf,
        'incremental', '--checkpoint=fast');
    like($result->{stderr}, qr/no backup that an incremental one could build on/, 'there is no parent');
    remove_tree(glob WalTest::repo_dir($conf) . '/test/*/backup');

    # killed when all bundles are there; what has changed since is not taken up
    my $killed = start_backup($conf, 'killed', '--label', 'killed', '--wal-timeout=600s');
    WalTest::wait_until(
        sub { my @i = glob WalTest::repo_dir($conf) . '/test/*/backup/killed/bundle/*/index'; @i >= 3 },
        60, 'bundles are finished');
    $killed->kill9;
    $node->safe_psql('postgres', $_) for 'UPDATE later SET i = i + 1', 'DROP TABLE hurt',
      'CREATE TABLE hurt AS SELECT i FROM generate_series(1, 5000) i';
    my $resumed = WalTest::backup($conf, 'full', '--label', 'resumed');
    is_deeply($resumed->{uses}, ['killed'], 'the next run takes up what was stored');
    cmp_ok($resumed->{reused_bytes}, '>', $resumed->{stored_bytes} / 2, 'most of it');
    my $dest = WalTest::dir('resumed');
    unpack_backup($conf, 'killed', $dest);
    unpack_backup($conf, 'resumed', $dest);
    my %listed = map { $_->{Path} => 1 } @{ decode_json(WalTest::slurp("$dest/backup_manifest"))->{Files} };
    my $found = tree($dest);
    unlink "$dest/$_" for grep { defined $found->{$_} && !$listed{$_} && $_ ne 'backup_manifest' } keys %$found;
    WalTest::run_ok('pg_verifybackup', $node->installed_command('pg_verifybackup'), '-n', $dest) if $version == 15;
    my $restored = WalTest::restore_node('resumed_restored', version => $version, backup => $dest, config => $conf);
    is(contents($restored), contents($node), 'and what was there is there');
    $restored->stop('immediate');

    # what was taken up belongs to the one that was killed, and a restore wants it there
    my @try = (WalTest::tool('walrestore'), '--config', $conf, '--to', WalTest::dir('try') . '/data', '--backup=resumed',
        '--target=immediate', '--dry-run');
    my ($bundles) = glob WalTest::repo_dir($conf) . '/test/*/backup/killed/bundle';
    WalTest::run_ok('a restore could begin', @try);
    rename $bundles, "$bundles.away" or die "$bundles: $!";
    $result = WalTest::run_exit('without the parts of the one that was killed', 1, @try);
    rename "$bundles.away", $bundles or die "$bundles: $!";
    like($result->{stderr}, qr/"resumed" cannot be restored: part \d+ of bundle \d+ of backup "killed" .* is missing/,
        'it names one of them');

    # a slow one: only one at a time; it dies with its session, and when it is told to
    my $slow = start_backup($conf, 'slow', '--label', 'slow', '--rate-limit=64kB', '--no-resume');
    my $there = sub { $node->safe_psql('postgres',
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walbackup'") };
    $slow->wait_log(qr/backup starts at/, 60);
    $result = WalTest::run_exit('a second one', 1, $walbackup, '--config', $conf, 'full');
    like($result->{stderr}, qr/another walbackup is backing up this server/, 'says why');
    $node->safe_psql('postgres',
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'walbackup'");
    is($slow->wait_exit(20), 1, 'it fails when its session is lost');
    like($slow->log_text, qr/session of the backup was lost/, 'says why');
    $slow = start_backup($conf, 'told', '--label', 'told', '--rate-limit=64kB', '--no-resume');
    $slow->wait_log(qr/backup starts at/, 60);
    is($slow->stop(seconds => 20), 1, 'it ends when it is told to');
    WalTest::wait_until(sub { $there->() eq '0' }, 20, 'the session is gone');

    # tables come and go; on a terminal, whose bar the log has
    $slow = WalTest::daemon('busy', [
        'script', '-qefc', "'$walbackup' --config '$conf' full --checkpoint=fast --label=busy --no-resume"
          . ' --backup.rate-limit=10MiB --output=json', '/dev/null' ]);
    $slow->wait_log(qr/backup starts at/, 60);
    for my $i (1 .. 50)
    {
        last unless $slow->running;
        $node->safe_psql('postgres', 'DROP TABLE IF EXISTS short; CREATE TABLE short AS SELECT 1; CHECKPOINT');
    }
    is($slow->wait_exit(180), 0, 'a backup while tables come and go') or diag($slow->log_text);
    my ($bytes) = $slow->log_text =~ /"plain_bytes": (\d+)/;
    my ($seconds) = $slow->log_text =~ /"seconds": ([\d.]+)/;
    cmp_ok($seconds, '>=', 0.9 * $bytes / (10 << 20) - 0.1, 'the rate limit holds');
    like(
        $slow->log_text,
        qr{backing up \[#*\.*\] +\d+ %, \d+ objects, [\d.]+ \w+, [\d.]+ \w+/s, \d+ s left},
        'a bar with rate and time left');

    # a standby, whose WAL nobody archives
    $node->backup('for_standby');
    my $standby = WalTest::new_cluster('faults_standby', $version);
    $standby->init_from_backup($node, 'for_standby', has_streaming => 1);
    $standby->start;
    # with this default no query can be made there
    $node->safe_psql('postgres', "ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'");
    $node->safe_psql('postgres', 'INSERT INTO later VALUES (77); CHECKPOINT');
    $node->wait_for_catchup($standby);
    my $from_standby = WalTest::config_for($standby, cluster => { data => $standby->data_dir },
        repository => { url => 'file://' . WalTest::repo_dir($conf) });
    $result = WalTest::backup($from_standby, 'incremental', '--label', 'standby');
    ok($result->{from_standby}, 'a backup of a standby');
    is($result->{chain}[-1], 'busy', 'on one of the primary');
    $restored = WalTest::restore('restored_standby', version => $version, config => $conf,
        args => [ '--backup=standby', '--target=immediate' ]);
    is(contents($restored), contents($node), 'what was there is there');
    is(damage($restored), '', 'without damage');
    $restored->stop('immediate');
    $result = WalTest::run_exit('data of another server', 1, $walbackup, '--config', $conf, 'full',
        '--cluster.data=' . $standby->data_dir);
    like($result->{stderr}, qr/data directory is/, 'says whose');
    $standby->stop;

    # pages that are damaged
    my $file = $node->safe_psql('postgres', "SELECT pg_relation_filepath('hurt')");
    $node->safe_psql('postgres', 'CHECKPOINT');
    $node->stop;
    open my $fh, '+<:raw', $node->data_dir . "/$file" or die "could not open $file: $!";
    seek $fh, $page * 3 + 4000, 0;
    print $fh 'damage';
    close $fh or die "could not write $file: $!";
    $node->start;
    $result = WalTest::run_ok('a backup with a damaged page', $walbackup, '--config', $conf, 'full',
        '--checkpoint=fast', '--label', 'hurt', '--output=json');
    is(decode_json($result->{stdout})->{damaged_blocks}, 1, 'it is counted');
    like($result->{stderr}, qr/WARNING:.*"\Q$file\E", block 3:/, 'and named');
    my ($manifest) = glob WalTest::repo_dir($conf) . '/test/*/backup/hurt/manifest';
    my $lines = WalTest::run([ 'sh', '-c', "lz4 -d -c <$manifest" ]);
    like($lines->{stdout}, qr/"f": "\Q$file\E".*"w": "3"/, 'and recorded');
    return;
}
