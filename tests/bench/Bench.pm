# SPDX-License-Identifier: PostgreSQL

=head1 NAME

Bench - what the rows of bench.pl share: timing, figures, peers, the report

=head1 DESCRIPTION

Two things are compared in pairs, one right after the other, and the pairs take turns at who goes first: what the
machine does meanwhile hits both. The ratio of a row is the median of the ratios of its pairs.

=cut

package Bench;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path remove_tree);
use IO::Handle;
use IPC::Open2;
use JSON::PP;
use POSIX qw(ceil strftime);
use Time::HiRes qw(time usleep);

my $terminal;

# The table goes to the terminal, what the test library prints to a log.
BEGIN
{
    die "use tests/bench/run.sh\n" unless defined $ENV{TESTDIR} && defined $ENV{BENCH_JSON_DIR};
    open $terminal, '>&', \*STDOUT or die "could not duplicate stdout: $!";
    open STDOUT, '>>', "$ENV{TESTDIR}/bench.log" or die "could not create bench.log: $!";
    $terminal->autoflush(1);
}

use WalTest;

sub say_line
{
    my ($format, @arguments) = @_;
    printf $terminal "$format\n", @arguments;
    return;
}

# How often something is repeated: BENCH_ROUNDS is a factor.
sub rounds
{
    my ($count, $least) = @_;
    my $n = int($count * ($ENV{BENCH_ROUNDS} // 1) + 0.5);
    return $n < ($least // 1) ? $least // 1 : $n;
}

# ---- figures ----

sub percentile
{
    my ($share, @values) = @_;
    die "no values\n" unless @values;
    @values = sort { $a <=> $b } @values;
    my $at = ceil($share * @values) - 1;
    return $values[ $at < 0 ? 0 : $at ];
}

sub median
{
    my (@values) = @_;
    die "no values\n" unless @values;
    @values = sort { $a <=> $b } @values;
    my $half = int(@values / 2);
    return @values % 2 ? $values[$half] : ($values[ $half - 1 ] + $values[$half]) / 2;
}

=head2 pairs($count, $ours, $peer)

Calls $ours->($i) and $peer->($i), which return numbers; returns { ours, peer: medians; ratio; pairs; least and
greatest ratio }.

=cut

sub pairs
{
    my ($count, $ours, $peer) = @_;
    my (@ours, @peer, @ratios);

    for my $i (0 .. $count - 1)
    {
        my ($mine, $theirs);

        $mine = $ours->($i) if $i % 2 == 0;
        $theirs = $peer->($i);
        $mine = $ours->($i) if $i % 2 == 1;
        push @ours, $mine;
        push @peer, $theirs;
        push @ratios, $mine / $theirs;
    }
    return {
        ours => median(@ours),
        peer => median(@peer),
        ratio => median(@ratios),
        details => {
            pairs => $count,
            ratio_least => percentile(0, @ratios),
            ratio_greatest => percentile(1, @ratios),
            ours_all => [ map { 0 + sprintf '%.3f', $_ } @ours ],
            peer_all => [ map { 0 + sprintf '%.3f', $_ } @peer ],
        },
    };
}

# ---- timing of programs ----

my ($timer_in, $timer_out, $timer_pid, $timer_main);

sub timer_log
{
    return "$ENV{TESTDIR}/timer.log";
}

=head2 spawn($cwd, @command)

Runs a program by spawn_timer; returns { ms, user_ms, sys_ms, rss_kib, exit, signal }.

=cut

sub spawn
{
    my ($cwd, @command) = @_;

    if (!$timer_pid)
    {
        $timer_pid = open2($timer_out, $timer_in,
            "$ENV{WALSTREAM_BIN}/tests/bench/spawn_timer", timer_log());
        $timer_in->autoflush(1);
        $timer_main = $$;
    }
    print $timer_in join("\t", $cwd, @command) . "\n";
    my $line = <$timer_out> // die "spawn_timer ended: " . WalTest::slurp(timer_log());
    my @f = split ' ', $line;
    return {
        ms => $f[0] / 1000,
        user_ms => $f[1] / 1000,
        sys_ms => $f[2] / 1000,
        rss_kib => $f[3],
        exit => $f[4],
        signal => $f[5],
    };
}

# The same of a program that must succeed.
sub spawn_ok
{
    my ($cwd, @command) = @_;
    my $result = spawn($cwd, @command);

    die "\"@command\" failed with exit $result->{exit}, signal $result->{signal}: "
      . substr(WalTest::slurp(timer_log()), -2000) . "\n"
      if $result->{exit} != 0 || $result->{signal} != 0;
    return $result;
}

# Runs a program that is not timed and must succeed; returns its stdout.
sub command
{
    my (@command) = @_;
    my $result = WalTest::run(\@command, timeout => 500);

    die "\"@command\" failed: $result->{stdout}$result->{stderr}\n" if $result->{exit} != 0;
    return $result->{stdout};
}

# A field of /proc/PID/status in KiB; 0 when the process has gone.
sub process_kib
{
    my ($pid, $field) = @_;
    open my $fh, '<', "/proc/$pid/status" or return 0;
    while (my $line = <$fh>)
    {
        return $1 if $line =~ /^\Q$field\E:\s+(\d+) kB/;
    }
    return 0;
}

# Processes whose command line matches.
sub processes
{
    my ($regex) = @_;
    my @pids;

    for my $file (glob '/proc/[0-9]*/cmdline')
    {
        open my $fh, '<:raw', $file or next;
        my $line = join ' ', split /\0/, <$fh> // '';
        push @pids, $file =~ m{/proc/(\d+)/} if $line =~ $regex;
    }
    return @pids;
}

# ---- the recorded WAL ----

=head2 recording()

WAL of a mixed workload: { base => base backup, older than all of it; segments => [ names ], wal => their folder;
data => a data directory as far as archive_command looks at it }.

=cut

# Text of words, and jsonb: what applications store, as far as compression is concerned.
my @words = qw(the of and to in is that for it as was with be by on not he his but at are this have from or had an they
  which one you were all her she there would their we him been has when who will no more if out so what up said about
  than its into them can only other time new some could these two may first then do any like my now over such our man
  me even most made after also well where before must through back years between order customer delivery address
  invoice payment warehouse product returned shipped cancelled quantity discount account balance transfer request);

my $documents_sql = <<'END';
\set n random(1, 20000)
INSERT INTO documents (title, body, data)
SELECT string_agg(word(w), ' ') FILTER (WHERE w <= 6),
       string_agg(word(w), ' '),
       jsonb_build_object('customer', :n, 'status', word(g), 'tags', jsonb_build_array(word(g + 1), word(g + 2)),
                          'address', jsonb_build_object('street', word(g) || ' street ' || :n, 'zip', 10000 + :n),
                          'note', string_agg(word(-w), ' ') FILTER (WHERE w % 3 = 0))
FROM generate_series(1, 4) g, generate_series(1, 120) w GROUP BY g;
UPDATE documents SET data = data || '{"seen": true}' WHERE id = :n;
END

sub write_file
{
    my ($path, $text) = @_;
    open my $fh, '>:raw', $path or die "could not create $path: $!";
    print $fh $text;
    close $fh or die "could not write $path: $!";
    return $path;
}

my $recording;

sub recording
{
    return $recording if $recording;

    my $dir = $ENV{BENCH_CACHE} // WalTest::dir('recording');
    my $want = 64;

    if (!-e "$dir/complete")
    {
        say_line('recording %d segments of WAL', $want);
        remove_tree("$dir/base", "$dir/wal");
        make_path("$dir/wal");
        my $server = WalTest::node('recorder', wal_segsize => 16, conf => server_conf());
        command($server->installed_command('pg_basebackup'),
            '-D', "$dir/base", '-X', 'none', '-c', 'fast', '-d', $server->connstr('postgres'));
        my ($first) = WalTest::slurp("$dir/base/backup_label") =~ /\(file ([0-9A-F]{24})\)/;
        my $script = write_file("$ENV{TESTDIR}/documents.sql", $documents_sql);
        $server->safe_psql('postgres',
            'CREATE FUNCTION word(int) RETURNS text VOLATILE LANGUAGE sql AS '
              . "\$\$ SELECT (ARRAY['" . join("','", @words) . "'])[1 + floor(power(random(), 2) * "
              . @words . ")::int] \$\$;"
              . 'CREATE TABLE documents (id bigserial PRIMARY KEY, title text, body text, data jsonb);'
              . 'CREATE INDEX ON documents USING gin (data); CREATE INDEX ON documents (title)');
        WalTest::pgbench_init($server, 10);
        my $begin = time;
        do
        {
            # so there are full-page images throughout
            $server->safe_psql('postgres', 'CHECKPOINT');
            WalTest::pgbench($server, '-c', 4, '-j', 2, '-T', 6, '-b', 'tpcb-like@9', '-f', "$script\@1");
            die "the workload writes too little WAL\n" if time - $begin > 400;
        } until segments_between($first, segment_now($server)) > $want;
        $server->safe_psql('postgres', 'SELECT pg_switch_wal()');
        my @all = grep { /^[0-9A-F]{24}$/ } names_in($server->data_dir . '/pg_wal');
        my $now = segment_now($server);
        for my $name (sort grep { $_ ge $first && $_ lt $now } @all)
        {
            WalTest::copy_file($server->data_dir . "/pg_wal/$name", "$dir/wal/$name");
        }
        $server->stop('fast');
        write_file("$dir/complete", '');
    }
    # what archive_command sees: pg_control and pg_wal
    my $data = WalTest::dir('data');
    command('cp', '-R', "$dir/base/.", "$dir/wal", $data);
    remove_tree("$data/pg_wal");
    rename "$data/wal", "$data/pg_wal" or die "could not rename $data/wal: $!";
    make_path("$data/pg_wal/archive_status");
    my @segments = grep { /^[0-9A-F]{24}$/ } names_in("$data/pg_wal");
    die 'only ' . @segments . " segments were recorded\n" if @segments < $want;
    command('sync');
    $recording = { base => "$dir/base", wal => "$dir/wal", data => $data, segments => \@segments };
    return $recording;
}

sub names_in
{
    my ($dir) = @_;
    opendir my $handle, $dir or die "could not open $dir: $!";
    my @names = sort grep { !/^\.\.?$/ } readdir $handle;
    return @names;
}

sub segment_now
{
    my ($node) = @_;
    return $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
}

# Of 16 MB: 256 to a log file.
sub segment_number
{
    my ($name) = @_;
    return hex(substr $name, 8, 8) * 256 + hex substr $name, 16, 8;
}

sub segments_between
{
    my ($first, $last) = @_;
    return segment_number($last) - segment_number($first);
}

sub server_conf
{
    return {
        fsync => 'on',
        shared_buffers => '256MB',
        max_wal_size => '2GB',
        min_wal_size => '1GB',
        wal_keep_size => '4GB',
        max_connections => 100,
        checkpoint_timeout => '5min',
    };
}

=head2 server()

A running server for the rows that need one: fsync on, 16 MB segments, pgbench's tables with a scale of 40.

=cut

my $server;

sub server
{
    if (!$server)
    {
        $server = WalTest::node('server', wal_segsize => 16, conf => server_conf());
        WalTest::pgbench_init($server, 40);
        $server->safe_psql('postgres', 'CHECKPOINT');
    }
    return $server;
}

# A server with the system identifier of the recording, for walstream to be connected to; idle.
my $companion;

sub companion
{
    my ($recording) = @_;
    $companion //= WalTest::restore_node(
        'companion',
        backup => $recording->{base},
        restore_command => "cp $recording->{wal}/%f %p",
        conf => { max_wal_size => '2GB' },
        fail_ok => 1) // die "the recorded WAL cannot be replayed\n";
    return $companion;
}

sub drop_slots
{
    my ($node) = @_;
    WalTest::wait_until(
        sub {
            my ($rc) = $node->psql('postgres',
                'SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots');
            $rc == 0;
        },
        20,
        'the slots are free');
    return;
}

# pgbench in the background; stop it by the returned daemon's stop.
sub load
{
    my ($node, @options) = @_;
    return WalTest::daemon(
        'pgbench',
        [ $node->installed_command('pgbench'), '-n', @options, 'postgres' ],
        env => { PGHOST => $node->host, PGPORT => $node->port });
}

# ---- the peer ----

=head2 pgbackrest($name, $data, %options)

A pgbackrest with a repository of its own, its stanza created: an object with push($name), the ms that its
archive-push took, and stored(), the number of segments in the repository. s3 => 1; async => 1; global, cluster =>
further lines of the configuration.

=cut

my $peer_count = 0;

sub pgbackrest
{
    my ($name, $data, %opt) = @_;
    my $dir = WalTest::dir("pgbackrest-$name-" . ++$peer_count);
    my $self = bless { dir => $dir, data => $data, config => "$dir/pgbackrest.conf" }, 'Bench::Peer';
    my $text = <<"END";
[global]
compress-type=lz4
lock-path=$dir/lock
log-path=$dir/log
spool-path=$dir/spool
log-level-file=off
log-level-console=warn
log-level-stderr=warn
archive-timeout=120
END

    make_path("$dir/lock", "$dir/log", "$dir/spool", "$dir/repo");
    if ($opt{s3})
    {
        my $rgw = WalTest::rgw();
        my ($port) = $rgw->{RGW_HTTPS} =~ /:(\d+)$/;
        $self->{prefix} = "pgbackrest/$$/$peer_count";
        # It does not find an address among a certificate's names, and a name below localhost has no address: it
        # is spared the verification that ours does.
        $text .= <<"END";
repo1-type=s3
repo1-path=/$self->{prefix}
repo1-s3-bucket=$rgw->{RGW_BUCKET}
repo1-s3-endpoint=s3.localhost
repo1-s3-region=us-east-1
repo1-s3-uri-style=path
repo1-storage-host=127.0.0.1
repo1-storage-port=$port
repo1-storage-verify-tls=n
repo1-s3-key=$rgw->{RGW_ACCESS_KEY}
repo1-s3-key-secret=$rgw->{RGW_SECRET_KEY}
END
    }
    else
    {
        $text .= "repo1-type=posix\nrepo1-path=$dir/repo\n";
    }
    $text .= "archive-async=y\nprocess-max=2\n" if $opt{async};
    $text .= ($opt{global} // '') . "\n[bench]\npg1-path=$data\n" . ($opt{cluster} // '');
    write_file($self->{config}, $text);
    chmod 0600, $self->{config};
    command('pgbackrest', '--config', $self->{config}, '--stanza', 'bench', '--no-online', 'stanza-create');
    return $self;
}

sub Bench::Peer::push
{
    my ($self, $segment) = @_;
    return Bench::spawn_ok($self->{data}, '/usr/bin/pgbackrest', '--config', $self->{config},
        '--stanza', 'bench', 'archive-push', "pg_wal/$segment");
}

sub Bench::Peer::stored
{
    my ($self) = @_;
    my $list = Bench::command('pgbackrest', '--config', $self->{config}, 'repo-ls', '--recurse',
        'archive/bench');
    return scalar grep { /\b[0-9A-F]{24}-[0-9a-f]{40}\.lz4$/ } split /\n/, $list;
}

# ---- ours ----

=head2 repository($name, $recording, %options)

A repository of ours for the recorded cluster, created: an object with push($segment), which is walpush
with walstream not running, and config. s3 => 1; node => a server instead of the recording; cluster, stream => further
settings; sections => { name => { settings } }.

=cut

my $repository_count = 0;

sub repository
{
    my ($name, $recording, %opt) = @_;
    my $unique = "$name-" . ++$repository_count;
    my $dir = WalTest::dir("repository-$unique");
    my %repository = $opt{s3} ? %{ WalTest::s3($unique) } : (url => "file://$dir/repo");
    my $socket = WalTest::short_dir() . '/s';

    make_path("$dir/repo", "$dir/spool");
    my $config = WalTest::config(
        $dir,
        cluster => {
            name => 'bench',
            conninfo => $opt{node} ? $opt{node}->connstr : undef,
            data => $opt{node} ? undef : $recording->{data},
            %{ $opt{cluster} // {} }
        },
        repository => \%repository,
        compression => { method => 'lz4' },
        stream => { slot => 'walstream', socket => $socket, %{ $opt{stream} // {} } },
        restore => { spool => "$dir/spool" },
        %{ $opt{sections} // {} });
    command(WalTest::tool('walctl'), '--config', $config, 'init');
    return bless {
        config => $config,
        dir => $dir,
        s3 => $opt{s3},
        data => $opt{node} ? $opt{node}->data_dir : $recording->{data},
        largest_kib => 0
    }, 'Bench::Repository';
}

sub Bench::Repository::push
{
    my ($self, $segment) = @_;
    my $result = Bench::spawn_ok($self->{data}, WalTest::tool('walpush'), '--config',
        $self->{config}, "pg_wal/$segment");
    $self->{largest_kib} = $result->{rss_kib} if $result->{rss_kib} > $self->{largest_kib};
    return $result;
}

# Every segment comes back and is the same: what was timed has happened.
sub Bench::Repository::check
{
    my ($self, @segments) = @_;
    my $out = "$self->{dir}/check";

    for my $segment (@segments)
    {
        Bench::spawn_ok($ENV{TESTDIR}, WalTest::tool('walfetch'), '--config', $self->{config}, $segment, $out);
        Bench::command('cmp', $out, "$self->{data}/pg_wal/$segment");
        unlink $out;
    }
    return;
}

# ---- the report ----

my @rows;

=head2 row($name, %row)

what, goal (number), ours (number), unit, and where there is a peer: peer, peer_name, ratio. With a ratio the goal is
one for it, at most, or at least with at_least => 1. Without a goal a row only informs.

=cut

sub row
{
    my ($name, %row) = @_;
    my $figure = $row{ratio} // $row{ours};

    $row{name} = $name;
    $row{ok} = ($row{at_least} ? $figure >= $row{goal} : $figure <= $row{goal}) ? JSON::PP::true : JSON::PP::false
      if defined $row{goal};
    push @rows, \%row;
    say_line('  %-22s %s', $name, join '  ', format_row(\%row));
    return;
}

sub failed
{
    my ($name, $message) = @_;
    chomp $message;
    push @rows, { name => $name, error => $message };
    say_line('  %-22s FAILED: %s', $name, $message);
    return;
}

sub format_number
{
    my ($value, $unit) = @_;
    my $digits = $value >= 100 ? 0 : $value >= 10 ? 1 : $value >= 1 ? 2 : 3;
    return sprintf("%.${digits}f", $value) . ($unit ? " $unit" : '');
}

sub format_row
{
    my ($row) = @_;
    return ('-', '-', '-', '-', 'FAILED') if defined $row->{error};
    my $sign = $row->{at_least} ? '>=' : '<=';
    return (
        format_number($row->{ours}, $row->{unit}),
        defined $row->{peer} ? format_number($row->{peer}, $row->{unit}) . " $row->{peer_name}" : '-',
        defined $row->{ratio} ? sprintf('%.3f', $row->{ratio}) : '-',
        defined $row->{goal} ? "$sign " . format_number($row->{goal}, defined $row->{ratio} ? '' : $row->{unit}) : '-',
        !defined $row->{goal} ? '' : $row->{ok} ? 'ok' : 'missed');
}

sub print_table
{
    my @lines = ([ 'row', 'ours', 'peer', 'ratio', 'goal', '' ]);
    my @width = (0) x 6;

    push @lines, [ $_->{name}, format_row($_) ] for @rows;
    for my $line (@lines)
    {
        for my $i (0 .. 5)
        {
            $width[$i] = length $line->[$i] if length $line->[$i] > $width[$i];
        }
    }
    say_line('');
    say_line(join('  ', map { "%-$width[$_]s" } 0 .. 5) =~ s/\s+$//r, @$_) for @lines;
    return;
}

sub first_line
{
    my (@command) = @_;
    my $result = WalTest::run(\@command, timeout => 30);
    return (split /\n/, $result->{stdout})[0] // '';
}

# Returns true when every row could be measured.
sub report
{
    my ($selection) = @_;
    my ($cpus) = (scalar grep { /^processor\s*:/ } split /\n/, WalTest::slurp('/proc/cpuinfo'));
    my ($kib) = WalTest::slurp('/proc/meminfo') =~ /^MemTotal:\s+(\d+)/m;
    my ($model) = WalTest::slurp('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)$/m;
    my $gib = int($kib / 1048576 + 0.5);
    my %document = (
        date => strftime('%Y-%m-%dT%H:%M:%SZ', gmtime),
        machine => { cpus => $cpus, memory_gib => $gib, processor => $model // 'unknown', load => loads() },
        versions => {
            walstream => first_line(WalTest::tool('walpush'), '--version'),
            postgresql => first_line('/usr/lib/postgresql/15/bin/postgres', '--version'),
            pgbackrest => first_line('pgbackrest', 'version'),
            barman => first_line('barman-cloud-backup', '--version'),
            store => first_line('radosgw', '--version'),
        },
        rows => \@rows,
    );
    my $name = strftime('%Y-%m-%d', gmtime) . "-${cpus}cpu-${gib}g" . ($selection ? '-some' : '');

    print_table();
    write_file("$ENV{BENCH_JSON_DIR}/$name.json", JSON::PP->new->canonical->pretty->encode(\%document));
    return !grep { defined $_->{error} } @rows;
}

sub loads
{
    return (split ' ', WalTest::slurp('/proc/loadavg'))[0] + 0;
}

# spawn_timer ends when its input does
END
{
    my $exit = $?;
    if ($timer_pid && $timer_main == $$)
    {
        close $timer_in;
        waitpid $timer_pid, 0;
    }
    $? = $exit;
}

1;
