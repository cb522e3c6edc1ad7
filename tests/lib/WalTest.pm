# SPDX-License-Identifier: PostgreSQL

=head1 NAME

WalTest - what the integration tests share, on top of PostgreSQL::Test::Cluster

=head1 SYNOPSIS

    use FindBin;
    use lib "$FindBin::RealBin/../lib";
    use WalTest;
    use Test::More;

    for my $version (WalTest::versions())
    {
        my $node = WalTest::node("primary$version", version => $version, wal_segsize => 1);
        my $conf = WalTest::config_for($node);
        WalTest::run_ok("init", WalTest::tool('walctl'), '--config', $conf, 'init');
        my $stream = WalTest::walstream($conf);
        my $backup = WalTest::base_backup($node, WalTest::dir("base$version"));
        ...
        WalTest::kill_host($node);
        my $new = WalTest::restore_node("restored$version", backup => $backup, config => $conf,
            version => $version);
        WalTest::same_rows($node_rows, WalTest::rows($new, 'accounts'), 'all rows are back');
    }
    done_testing();

Run with tests/run.sh. Everything lives below $TESTDIR; servers and daemons are stopped at the end,
also when a test dies. Servers listen on private Unix sockets only.

=cut

package WalTest;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(basename dirname);
use File::Path qw(make_path remove_tree);
use IO::Handle;
use JSON::PP;
use POSIX ();
use Time::HiRes qw(time usleep);

use lib '/usr/lib/postgresql/15/lib/pgxs/src/test/perl';

my $main_pid;
my @daemons;

BEGIN
{
    die "PostgreSQL does not run as root: use tests/run.sh $0\n" if $> == 0;
    die "TESTDIR and WALSTREAM_BIN are not set: use tests/run.sh $0\n"
      unless defined $ENV{TESTDIR} && defined $ENV{WALSTREAM_BIN};
    $main_pid = $$;

    # pg_regress --config-auth does nothing except on Windows
    $ENV{PG_REGRESS} = '/bin/true';
    # of pg_ctl, and of what the server's own test library waits for
    $ENV{PGCTLTIMEOUT} = $ENV{PG_TEST_TIMEOUT_DEFAULT} = 300;
    $ENV{TZ} = 'UTC';
    delete @ENV{qw(WALSTREAM_CONFIG AWS_PROFILE AWS_REGION AWS_DEFAULT_REGION AWS_ACCESS_KEY_ID
        AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_SHARED_CREDENTIALS_FILE AWS_CONFIG_FILE
        http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy)};
}

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils ();
use PostgreSQL::Test::RecursiveCopy;
use Test::More;

# A test that is told to stop takes its servers and daemons with it: die runs the END blocks.
$SIG{TERM} = $SIG{INT} = $SIG{HUP} = sub { die "stopped by SIG$_[0]\n" };

=head1 SERVERS

=over

=item versions()

The PostgreSQL major versions to test.

=cut

sub versions
{
    return split ' ', $ENV{WALTEST_VERSIONS} // '14 15 16 17 18';
}

=item quick()

True where rounds and sizes should be cut (WALTEST_QUICK).

=cut

sub quick
{
    return $ENV{WALTEST_QUICK} ? 1 : 0;
}

sub install_path
{
    my ($version) = @_;
    my $path =
      $version == 15 ? '/usr/lib/postgresql/15' : "$ENV{WALTEST_CACHE}/pg/$version";

    # A missing server is a failed test, never a skipped one.
    die "there is no PostgreSQL $version in \"$path\": run tests/setup/install.sh test\n"
      unless -x "$path/bin/postgres";
    return $path;
}

sub new_cluster
{
    my ($name, $version) = @_;
    return PostgreSQL::Test::Cluster->new($name, install_path => install_path($version));
}

=item node($name, %options)

A new cluster, a PostgreSQL::Test::Cluster object, started.

    version      => 14 .. 18, default 15
    wal_segsize  => in MB, default 1
    conf         => { setting => value }, values are quoted here
    checksums    => 1 for data checksums
    fsync        => 1 for fsync = on
    start        => 0 leaves it stopped

=cut

sub node
{
    my ($name, %opt) = @_;
    my $version = $opt{version} // 15;
    my $segsize = $opt{wal_segsize} // 1;
    my $node = new_cluster($name, $version);
    my @extra = ("--wal-segsize=$segsize", '--encoding=UTF8', '--locale=C');

    push @extra, '--data-checksums' if $opt{checksums};
    push @extra, '--no-data-checksums' if !$opt{checksums} && $version >= 18;
    $node->init(allows_streaming => 1, extra => \@extra);
    set_conf(
        $node,
        fsync => $opt{fsync} ? 'on' : 'off',
        %{ server_settings($segsize) },
        %{ $opt{conf} // {} });
    $node->start unless defined $opt{start} && !$opt{start};
    return $node;
}

# What Cluster.pm's own settings lack: it is meant for few connections and little WAL, and it logs
# each statement.
sub server_settings
{
    my ($segsize) = @_;
    my $max_wal = 64 * $segsize;

    $max_wal = 256 if $max_wal < 256;
    $max_wal = 4 * $segsize if $max_wal > 2048;
    return {
        shared_buffers => '16MB',
        max_connections => 60,
        max_wal_size => "${max_wal}MB",
        min_wal_size => 2 * $segsize . 'MB',
        log_statement => 'none',
        log_checkpoints => 'on',
        autovacuum => 'on',
    };
}

=item set_conf($node, setting => value, ...)

Appends to postgresql.conf, quoting the values. The server is not reloaded.

=cut

sub set_conf
{
    my ($node, %settings) = @_;
    my $text = '';

    for my $name (sort keys %settings)
    {
        my $value = $settings{$name};
        $value =~ s/([\\'])/$1 eq '\\' ? '\\\\' : "''"/ge;
        $text .= "$name = '$value'\n";
    }
    $node->append_conf('postgresql.conf', $text);
    return;
}

=item archive_with($node, $config, @options)

Turns archiving by walpush on; the server must be (re)started afterwards.

=cut

sub archive_with
{
    my ($node, $config, @options) = @_;
    set_conf(
        $node,
        archive_mode => 'on',
        archive_command => join(' ', tool('walpush'), '--config', $config, @options, '%p'));
    return;
}

=item pgbench_init($node, $scale), pgbench($node, @options)

=cut

sub pgbench_init
{
    my ($node, $scale) = @_;
    pgbench($node, '-i', '-q', '-s', $scale // 1);
    return;
}

sub pgbench
{
    my ($node, @options) = @_;
    my $result = run(
        [ $node->installed_command('pgbench'), '-n', @options, 'postgres' ],
        env => { PGHOST => $node->host, PGPORT => $node->port },
        timeout => 600);

    die "pgbench failed: $result->{stderr}" if $result->{exit} != 0;
    return $result->{stdout};
}

=item pgbench_stop($node, $daemon)

Ends a pgbench that runs in the background, and waits until the server has done what it was told last.

=cut

sub pgbench_stop
{
    my ($node, $daemon) = @_;

    $daemon->stop(signal => 'INT');
    wait_until(
        sub {
            return $node->safe_psql('postgres',
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") eq '0';
        },
        60, 'the sessions of pgbench have ended');
    return;
}

=item kill_host($node)

The host is lost: SIGKILL for each of the server's processes at once, and its files are gone.
With keep => 1 the files stay. with => [ daemons ]: they are killed in the same call.

=cut

sub kill_host
{
    my ($node, %opt) = @_;
    my $postmaster = $node->{_pid} or die "server is not running";

    # stopped first, so that it cannot start a child between the look and the kill
    kill 'STOP', $postmaster;
    my @pids = ($postmaster, children($postmaster));
    kill 'KILL', @pids, map { -$_->pid } grep { $_->running } @{ $opt{with} // [] };
    $_->kill9 for @{ $opt{with} // [] };
    $node->{_pid} = undef;
    wait_until(sub { !grep { process_alive($_) } @pids }, 30, 'the killed server is gone');
    remove_tree($node->data_dir) unless $opt{keep};
    return;
}

sub children
{
    my ($parent) = @_;
    my @pids;

    for my $stat (glob '/proc/[0-9]*/stat')
    {
        open my $fh, '<', $stat or next;
        my $line = <$fh> // '';
        # pid (name) state ppid; the name may hold blanks and parentheses
        push @pids, $1 if $line =~ /^(\d+) \(.*\) \S (\d+) / && $2 == $parent;
    }
    return @pids;
}

sub process_alive
{
    my ($pid) = @_;
    open my $fh, '<', "/proc/$pid/stat" or return 0;
    my $line = <$fh> // '';
    return $line =~ /^\d+ \(.*\) (\S) / && $1 ne 'Z';
}

=item base_backup($node, $dest, %options)

A base backup without WAL, ready to recover from an archive; returns $dest. It is a copy between the
backup functions, which works the same on all versions; method => 'pg_basebackup' uses that
program where it can (14 and 15; Debian's does not talk to newer servers).

=cut

sub base_backup
{
    my ($node, $dest, %opt) = @_;
    my $version = $node->pg_version->major;

    if (($opt{method} // 'copy') eq 'pg_basebackup' && $version <= 15)
    {
        my $result = run(
            [
                $node->installed_command('pg_basebackup'),
                '-D', $dest, '-X', 'none', '-c', 'fast', '--no-sync', '-d', $node->connstr('postgres')
            ],
            timeout => 300);
        die "pg_basebackup failed: $result->{stderr}" if $result->{exit} != 0;
        return $dest;
    }

    my ($start, $stop) =
      $version >= 15
      ? ("pg_backup_start('walstream test', true)", 'pg_backup_stop(false)')
      : ("pg_start_backup('walstream test', true, false)", 'pg_stop_backup(false, false)');
    my $session = $node->background_psql('postgres');

    # pg_control goes last: it must be as old as the newest page of the copy or newer
    my $source = $node->data_dir;
    my $skip = qr{^(?:pg_wal|pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_stat_tmp
        |pg_subtrans)/. | ^(?:postmaster\.pid|postmaster\.opts|backup_label|tablespace_map)$
        | ^global/pg_control$ | ^pg_internal\.init | (?:^|/)pgsql_tmp }x;

    $session->query_safe("SELECT $start");
    copy_tree($source, $dest, $skip);
    make_path("$dest/global", "$dest/pg_wal/archive_status");
    copy_file("$source/global/pg_control", "$dest/global/pg_control");
    # as hex, because the text must be stored byte for byte
    my $label =
      $session->query_safe("SELECT encode(convert_to(labelfile, 'UTF8'), 'hex') FROM $stop");
    $session->quit;

    chomp $label;
    die "no backup label came back: \"$label\"" unless $label =~ /^(?:[0-9a-f]{2})+$/;
    open my $fh, '>', "$dest/backup_label" or die "could not create backup_label: $!";
    print $fh pack('H*', $label);
    close $fh or die "could not write backup_label: $!";
    return $dest;
}

# Files that vanish meanwhile are no error: the server drops tables during a backup.
sub copy_tree
{
    my ($source, $dest, $skip, $below) = @_;
    $below //= '';

    mkdir "$dest/$below", 0700 or -d "$dest/$below" or die "could not create $dest/$below: $!";
    opendir my $dir, "$source/$below" or die "could not open $source/$below: $!";
    for my $name (sort readdir $dir)
    {
        next if $name eq '.' || $name eq '..';
        my $path = $below eq '' ? $name : "$below/$name";

        next if $path =~ $skip;
        lstat "$source/$path" or next;
        if (-d _)
        {
            copy_tree($source, $dest, $skip, $path);
        }
        elsif (-f _)
        {
            copy_file("$source/$path", "$dest/$path");
        }
    }
    return;
}

sub copy_file
{
    my ($from, $to) = @_;

    open my $in, '<:raw', $from or return;
    open my $out, '>:raw', $to or die "could not create $to: $!";
    chmod 0600, $to;
    while (my $n = sysread $in, my $buffer, 1 << 20)
    {
        syswrite($out, $buffer) == $n or die "could not write $to: $!";
    }
    close $out or die "could not write $to: $!";
    return;
}

=item restore_node($name, %options)

A new server from a base backup that recovers through walfetch, started.

    version   => as the backup's
    backup    => its folder; copied, so it can be used again
    config    => walstream.conf; or restore_command => a command of your own
    mode      => 'recovery' (default): recovery.signal, to the end of WAL, then it opens;
                 'standby': standby.signal
    conf      => { setting => value }
    walfetch  => [ options ] for walfetch
    start     => 0 leaves it stopped
    wait      => seconds to wait for the end of recovery (default 180; 0: do not wait)
    fail_ok   => 1: returns undef when it does not start

=cut

sub restore_node
{
    my ($name, %opt) = @_;
    my $version = $opt{version} // 15;
    my $mode = $opt{mode} // 'recovery';
    my $node = new_cluster($name, $version);
    my $command = $opt{restore_command}
      // join(' ', tool('walfetch'), '--config', $opt{config}, @{ $opt{walfetch} // [] }, '%f', '%p');

    mkdir $node->backup_dir;
    mkdir $node->archive_dir;
    copy_tree($opt{backup}, $node->data_dir, qr/^postmaster\.(?:pid|opts)$/);
    make_path($node->data_dir . '/pg_wal');
    chmod 0700, $node->data_dir;
    adopt($node,
        { restore_command => $command, recovery_target_timeline => 'latest', %{ $opt{conf} // {} } });
    $node->append_conf($mode eq 'standby' ? 'standby.signal' : 'recovery.signal', '');
    return $node if defined $opt{start} && !$opt{start};

    $node->start(fail_ok => $opt{fail_ok} // 0) or return;
    my $wait = $opt{wait} // 180;
    if ($mode ne 'standby' && $wait > 0)
    {
        wait_until(
            sub { ($node->psql('postgres', 'SELECT pg_is_in_recovery()'))[1] eq 'f' },
            $wait, "recovery of $name ends");
    }
    return $node;
}

=item backup($config, $kind, @arguments)

Runs `walbackup full|incremental` and returns what it says (its JSON as a hash); dies when it fails.

=cut

sub backup
{
    my ($config, $kind, @arguments) = @_;
    my $result = run(
        [ tool('walbackup'), '--config', $config, $kind, '--checkpoint=fast', '--output=json', @arguments ],
        timeout => 500);

    die "walbackup $kind failed: $result->{stderr}" if $result->{exit} != 0;
    return decode_json($result->{stdout});
}

=item restore($name, %options)

A new server that walrestore made, started. Its answer is in $node->{walrestore}.

    version   => of the cluster, default 15
    config    => walstream.conf
    args      => [ arguments of walrestore, beside --to ]
    conf      => { setting => value }, appended to postgresql.conf
    start     => 0 leaves it stopped
    wait      => seconds to wait for the end of recovery (default 180; 0: do not wait, as for --standby)
    fail_ok   => 1: returns undef when it does not start

Its own archiving is off, so that a test's repository stays as the primary left it.

=cut

sub restore
{
    my ($name, %opt) = @_;
    my $node = new_cluster($name, $opt{version} // 15);
    my $wait = $opt{wait} // 180;

    mkdir $node->backup_dir;
    mkdir $node->archive_dir;
    $node->{walrestore} = run(
        [
            tool('walrestore'), '--config', $opt{config}, '--to', $node->data_dir,
            @{ $opt{args} // [] }
        ],
        timeout => 500);
    die "walrestore failed: $node->{walrestore}{stderr}" if $node->{walrestore}{exit} != 0;
    adopt($node, $opt{conf} // {});
    return $node if defined $opt{start} && !$opt{start};

    $node->start(fail_ok => $opt{fail_ok} // 0) or return;
    wait_until(
        sub { ($node->psql('postgres', 'SELECT pg_is_in_recovery()'))[1] eq 'f' },
        $wait, "recovery of $name ends")
      if $wait > 0;
    return $node;
}

# A restored data directory has the settings of the server that it came from.
sub adopt
{
    my ($node, $conf) = @_;

    set_conf(
        $node,
        port => $node->port,
        unix_socket_directories => $node->host,
        listen_addresses => '',
        archive_mode => 'off',
        hot_standby => 'on',
        wal_retrieve_retry_interval => '500ms',
        %$conf);
    return;
}

=item rows($node, $table, $order), same_rows($got, $want, $label)

rows returns all rows as text, in order; same_rows is a test that two such lists are equal
and shows the first difference.

=cut

sub rows
{
    my ($node, $table, $order) = @_;
    $order //= '1';
    return [ split /\n/, $node->safe_psql('postgres', "SELECT * FROM $table ORDER BY $order") ];
}

sub same_rows
{
    my ($got, $want, $label) = @_;
    my $max = @$got > @$want ? @$got : @$want;
    my $first;

    for my $i (0 .. $max - 1)
    {
        next if defined $got->[$i] && defined $want->[$i] && $got->[$i] eq $want->[$i];
        $first = $i;
        last;
    }
    my $ok = ok(!defined $first, $label);
    diag(sprintf
        "%d rows, wanted %d; first difference in row %d: \"%s\", wanted \"%s\"",
        scalar @$got, scalar @$want, $first + 1, $got->[$first] // '(none)',
        $want->[$first] // '(none)')
      unless $ok;
    return $ok;
}

=item lsn_number($text)

An LSN as a number, to compare.

=cut

sub lsn_number
{
    my ($lsn) = @_;
    $lsn =~ m{^([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})$} or die "\"$lsn\" is not an LSN";
    return (hex($1) << 32) + hex $2;
}

=back

=head1 OUR PROGRAMS

=over

=item dir($name), short_dir()

A new folder below $TESTDIR; a short-named one, for sockets.

=cut

my %dirs;

sub dir
{
    my ($name) = @_;
    my $test = basename($0, '.t');
    my $path = "$PostgreSQL::Test::Utils::tmp_check/$test-$name";

    die "folder $name is taken" if $dirs{$path}++;
    make_path($path);
    return $path;
}

sub short_dir
{
    return PostgreSQL::Test::Utils::tempdir_short();
}

=item tool($name)

The path of a built program. One that is not there is a failed test.

=cut

sub tool
{
    my ($name) = @_;
    my $path = "$ENV{WALSTREAM_BIN}/$name";
    die "there is no \"$path\": build first\n" unless -x $path;
    return $path;
}

=item config($dir, section => { key => value or [ values ] }, ...)

Writes $dir/walstream.conf and returns its path.

=cut

sub config
{
    my ($dir, %sections) = @_;
    my $path = "$dir/walstream.conf";

    make_path($dir);
    open my $fh, '>', $path or die "could not create $path: $!";
    for my $section (sort keys %sections)
    {
        print $fh "[$section]\n";
        for my $key (sort keys %{ $sections{$section} })
        {
            my $value = $sections{$section}{$key};
            next unless defined $value;
            print $fh "$key = $_\n" for ref $value ? @$value : ($value);
        }
        print $fh "\n";
    }
    close $fh or die "could not write $path: $!";
    chmod 0600, $path;
    return $path;
}

=item config_for($node, section => { ... }, ...)

As config, in a new folder (dir => PATH to name one), with all that a test needs by default: a file:// repository
in that folder (its path: repo_dir($config)), the server's conninfo, a socket, a spool. What is given
is added or replaces a default; an undefined value removes it.

=cut

sub config_for
{
    my ($node, %sections) = @_;
    my $dir = delete $sections{dir} // dir('ws-' . $node->name . '-' . scalar keys %dirs);
    my %all = (
        cluster => { name => 'test', conninfo => $node->connstr },
        repository => { url => "file://$dir/repo" },
        compression => { method => 'lz4' },
        stream => {
            slot => 'walstream',
            'flush-interval' => '200ms',
            socket => short_dir() . '/walstream.sock',
        },
        restore => { spool => "$dir/spool" });

    make_path("$dir/repo", "$dir/spool");
    for my $section (keys %sections)
    {
        $all{$section}{$_} = $sections{$section}{$_} for keys %{ $sections{$section} };
    }
    return config($dir, %all);
}

sub repo_dir
{
    my ($config) = @_;
    return dirname($config) . '/repo';
}

# What a test's environment must not lend to our programs and to servers: libpq takes defaults from these.
my @libpq_env = qw(PGHOST PGPORT PGDATABASE PGAPPNAME PGUSER);

=item run([ program, arguments ], %options)

Runs to its end and returns { exit, signal, stdout, stderr, ms, timed_out }; exit is -1 when a signal
ended it. Output goes through files: a child left in the background cannot hold the caller up.

    stdin    => text
    env      => { NAME => value, or undef to remove }
    cwd      => folder
    timeout  => seconds, default 300; then the program's process group is killed

=cut

my $run_count = 0;

sub run
{
    my ($command, %opt) = @_;
    my $base = "$PostgreSQL::Test::Utils::tmp_check/run-$$-" . ++$run_count;
    my $timeout = $opt{timeout} // 300;
    my %result = (exit => -1, signal => 0, timed_out => 0);

    if (defined $opt{stdin})
    {
        open my $fh, '>:raw', "$base.in" or die "could not create $base.in: $!";
        print $fh $opt{stdin};
        close $fh or die "could not write $base.in: $!";
    }
    print "# running: @$command\n";
    my $begin = time;
    my $pid = spawn(
        $command,
        stdin => defined $opt{stdin} ? "$base.in" : '/dev/null',
        stdout => "$base.out",
        stderr => "$base.err",
        env => $opt{env},
        cwd => $opt{cwd});
    my $status = wait_child($pid, $timeout);
    if (!defined $status)
    {
        $result{timed_out} = 1;
        kill 'KILL', -$pid;
        $status = wait_child($pid, patience(30)) // die "process $pid cannot be killed";
    }
    $result{ms} = 1000 * (time - $begin);
    $result{signal} = $status & 127;
    $result{exit} = $status >> 8 unless $result{signal};
    for my $name (qw(out err))
    {
        $result{"std$name"} = slurp("$base.$name");
        unlink "$base.$name";
    }
    unlink "$base.in";
    printf "# exit %d signal %d after %.0f ms\n%s%s", @result{qw(exit signal ms stdout stderr)};
    return \%result;
}

sub spawn
{
    my ($command, %opt) = @_;
    my %ignored = map { $_ => 1 } @{ $opt{ignore} // [] };

    STDOUT->flush;
    STDERR->flush;
    # ignored from the first moment on
    local @SIG{ keys %ignored } = ('IGNORE') x keys %ignored;
    my $pid = fork // die "could not fork: $!";
    return $pid if $pid;

    # In the child: nothing here may return or die into the test, whose END blocks would run.
    $SIG{__DIE__} = 'DEFAULT';
    eval {
        setpgrp 0, 0;
        # dup2 below the ties and redirections that the test harness put on the handles
        my %fd = (stdin => 0, stdout => 1, stderr => 2);
        for my $name (qw(stdin stdout stderr))
        {
            my $flags =
              $name eq 'stdin'
              ? POSIX::O_RDONLY()
              : POSIX::O_WRONLY() | POSIX::O_CREAT() | POSIX::O_APPEND();
            my $fd = POSIX::open($opt{$name} // '/dev/null', $flags, 0600)
              // die "could not open $opt{$name}: $!";
            if ($fd != $fd{$name})
            {
                POSIX::dup2($fd, $fd{$name}) // die "could not redirect $name: $!";
                POSIX::close($fd);
            }
        }
        chdir $opt{cwd} or die "could not change to $opt{cwd}: $!" if defined $opt{cwd};
        delete @ENV{@libpq_env};
        for my $name (keys %{ $opt{env} // {} })
        {
            if (defined $opt{env}{$name}) { $ENV{$name} = $opt{env}{$name} }
            else { delete $ENV{$name} }
        }
        $SIG{$_} = $ignored{$_} ? 'IGNORE' : 'DEFAULT' for qw(PIPE TERM INT HUP);
        no warnings 'exec';
        exec { $command->[0] } @$command;
        die "could not run $command->[0]: $!\n";
    };
    POSIX::write(2, $@, length $@);
    POSIX::_exit(127);
}

# The wait status, or undef when the time is over.
sub wait_child
{
    my ($pid, $seconds) = @_;
    my $end = time + $seconds;
    my $pause = 500;

    for (;;)
    {
        my $got = waitpid $pid, POSIX::WNOHANG();
        return $? if $got == $pid;
        die "process $pid is not ours to wait for" if $got < 0;
        return if time > $end;
        usleep($pause);
        $pause *= 1.3 if $pause < 20_000;
    }
}

=item run_ok($label, @command), run_exit($label, $exit, @command)

Run and test the exit code; both return what run returns. A hash as the last argument is options for run.

=cut

sub run_ok
{
    my ($label, @command) = @_;
    return run_exit($label, 0, @command);
}

sub run_exit
{
    my ($label, $exit, @command) = @_;
    my %opt = ref $command[-1] eq 'HASH' ? %{ pop @command } : ();
    my $result = run(\@command, %opt);

    is($result->{exit}, $exit, $label)
      or diag("signal $result->{signal}, stderr: $result->{stderr}");
    return $result;
}

=item daemon($name, [ command ], %options)

Starts a program in the background; ignore => [ signals ] for those that it shall ignore from the
start. Returns an object with

    pid  log_file  log_text  running
    signal(NAME)               sends a signal
    stop(%options)             signal (TERM) and wait (seconds => 30); returns the exit code, 128 + signal
    kill9                      SIGKILL to its process group, and wait
    wait_exit($seconds)        the exit code, 128 + signal, or undef when it still runs
    wait_log($regex, $seconds) waits until the log matches; dies when it does not or the program ends

=cut

sub daemon
{
    my ($name, $command, %opt) = @_;
    my $log = "$PostgreSQL::Test::Utils::log_path/" . basename($0, '.t') . "_$name.log";
    my $self = bless { name => $name, log => $log, command => $command }, 'WalTest::Daemon';

    print "# starting $name: @$command\n";
    $self->{log_start} = -s $log // 0;
    $self->{pid} =
      spawn($command, stdout => $log, stderr => $log, env => $opt{env}, cwd => $opt{cwd},
        ignore => $opt{ignore});
    push @daemons, $self;
    return $self;
}

=item walstream($config, %options)

Starts walstream in the background and waits until it answers `walstream --status` (wait => 0: not).
name => for the log; args => [ more arguments ]; env => { ... }.

=cut

sub walstream
{
    my ($config, %opt) = @_;
    my $daemon = daemon(
        $opt{name} // 'walstream',
        [ tool('walstream'), '--config', $config, @{ $opt{args} // [] } ],
        env => $opt{env});
    my $wait = $opt{wait} // 30;

    if ($wait)
    {
        wait_until(
            sub {
                die "walstream ended: " . $daemon->log_text unless $daemon->running;
                defined status($config);
            },
            $wait,
            'walstream answers');
    }
    return $daemon;
}

=item status($config)

What `walstream --status` prints, decoded; undef when no walstream answers.

=cut

sub status
{
    my ($config) = @_;
    my $result = run([ tool('walstream'), '--config', $config, '--status' ], timeout => 20);

    return if $result->{exit} != 0;
    return decode_json($result->{stdout});
}

=item wait_streaming($config, $seconds)

Waits until walstream has begun to receive WAL.

=cut

sub wait_streaming
{
    my ($config, $seconds) = @_;

    wait_until(
        sub {
            my $status = status($config) or return 0;
            return $status->{stream}{state} eq 'streaming';
        },
        $seconds // 60,
        'walstream receives WAL');
    return;
}

=item wait_durable($config, $lsn, $seconds)

Waits until walstream reports that WAL up to $lsn is durable in the repository.

=cut

sub wait_durable
{
    my ($config, $lsn, $seconds) = @_;
    my $want = lsn_number($lsn);

    wait_until(
        sub {
            my $status = status($config) or return 0;
            my $durable = $status->{stream}{durable_lsn} or return 0;
            return lsn_number($durable) >= $want;
        },
        $seconds // 60,
        "WAL up to $lsn is durable");
    return;
}

=item rgw()

Starts Ceph's RADOS Gateway by tests/lib/rgw.sh (once a test file) and returns what its env file says
as a hash, keys as there. It is stopped at the end.

=cut

my ($rgw_dir, %rgw_env);

sub rgw
{
    return \%rgw_env if $rgw_dir;

    my $dir = short_dir();
    my $script = dirname(abs_path(__FILE__)) . '/rgw.sh';
    my $result = run([ 'sh', $script, 'start', $dir ], timeout => 900);

    $rgw_dir = $dir;
    die "the S3 store does not start: $result->{stdout}$result->{stderr}" if $result->{exit} != 0;
    for my $line (split /\n/, slurp("$dir/env"))
    {
        $rgw_env{$1} = $2 if $line =~ /^(?:export\s+)?([A-Za-z_0-9]+)=['"]?(.*?)['"]?$/;
    }
    return \%rgw_env;
}

=item s3($prefix, %options)

The [repository] section of an S3 repository under a prefix of this test's own, for config_for; starts the
store when needed. Credentials are in the shared credentials file, where servers find them too.

    tls    => 0 for http (default: https with the store's own certificate authority)
    vhost  => 1 for the bucket in the host name

=cut

sub s3
{
    my ($prefix, %opt) = @_;
    my $rgw = rgw();
    my $home = "$ENV{HOME}/.aws";
    my $tls = $opt{tls} // 1;
    my $endpoint = 'RGW_' . ($opt{vhost} ? 'VHOST_' : '') . ($tls ? 'HTTPS' : 'HTTP');
    my $file = "$home/credentials";

    # tests of one run share the file, and the store whose keys are in it
    make_path($home, { mode => 0700 });
    open my $fh, '>', "$file.$$" or die "could not create $file.$$: $!";
    chmod 0600, "$file.$$";
    print $fh "[default]\naws_access_key_id = $rgw->{RGW_ACCESS_KEY}\n",
      "aws_secret_access_key = $rgw->{RGW_SECRET_KEY}\n";
    close $fh or die "could not write $file.$$: $!";
    rename "$file.$$", $file or die "could not rename $file.$$: $!";
    return {
        url => "s3://$rgw->{RGW_BUCKET}/" . basename($0, '.t') . "-$$/$prefix",
        endpoint => $rgw->{$endpoint},
        region => 'us-east-1',
        'path-style' => $opt{vhost} ? 'off' : 'on',
        'ca-file' => $tls ? $rgw->{RGW_CA} : undef,
    };
}

=back

=head1 WAITING

=over

=item wait_until(sub, $seconds, $what)

Calls sub until it returns true, which is returned. Dies when the time is over: at the earliest after three
minutes, as whatever is waited for may be the one that a busy machine has no time for. The same holds for all
that waits for a state or for an end: wait_log, wait_exit and stop of a daemon, and those above.

=cut

sub patience
{
    my ($seconds) = @_;
    return $seconds > 180 ? $seconds : 180;
}

sub wait_until
{
    my ($sub, $seconds, $what) = @_;
    $seconds = patience($seconds);
    my $end = time + $seconds;
    my $pause = 2_000;

    for (;;)
    {
        my $result = $sub->();
        return $result if $result;
        die 'timed out after ' . $seconds . ' s waiting until ' . ($what // 'a condition is true') . "\n"
          if time > $end;
        usleep($pause);
        $pause *= 1.5 if $pause < 200_000;
    }
}

sub slurp
{
    my ($path) = @_;
    open my $fh, '<:raw', $path or die "could not open $path: $!";
    local $/ = undef;
    return scalar(<$fh>) // '';
}

=item give_up($seconds, $run, $met, $label)

Runs a command that is to give up after $seconds over something that it meets, and tests that it does so in time: $run->("3s")
returns what run returns, $met->($result) tells whether it got so far. A machine that is busy elsewhere may
let it come too late for that: then it is given more time. Returns the last result.

=cut

sub give_up
{
    my ($seconds, $run, $met, $label) = @_;
    my $result;

    for my $factor (1, 4, 16)
    {
        $result = $run->($factor * $seconds . 's');
        in_time($result, $factor * $seconds, $label);
        last if $met->($result);
        print "# it did not get so far within ", $factor * $seconds, " s\n";
    }
    return $result;
}

=item in_time($result, $seconds, $label)

A test that what run returns has ended by its time-out of $seconds, on however busy a machine: what it must not have
waited for would have taken minutes.

=cut

sub in_time
{
    my ($result, $seconds, $label) = @_;
    return cmp_ok($result->{ms}, '<', 1000 * ($seconds + 50), "$label: it ends in time");
}

=back

=cut

# Runs before Cluster.pm's own END, which stops the servers: a receiver that is still there would
# hold them up.
END
{
    if (defined $main_pid && $$ == $main_pid)
    {
        my $exit = $?;

        $_->kill9 for reverse @daemons;
        run([ 'sh', dirname(abs_path(__FILE__)) . '/rgw.sh', 'stop', $rgw_dir ], timeout => 300)
          if $rgw_dir;
        show_logs() if $exit != 0 || !PostgreSQL::Test::Utils::all_tests_passing();
        $? = $exit;
    }
}

# The ends of the logs of a failed test, for those who see only its output.
sub show_logs
{
    my $test = basename($0, '.t');

    for my $log (sort glob "$PostgreSQL::Test::Utils::log_path/{,regress_log_}$test*")
    {
        my @lines = split /\n/, slurp($log);
        my $from = @lines > 30 ? @lines - 30 : 0;
        diag('---- ' . basename($log) . ":\n" . join "\n", @lines[ $from .. $#lines ]);
    }
    return;
}

package WalTest::Daemon;

use strict;
use warnings;

sub pid
{
    return $_[0]{pid};
}

sub log_file
{
    return $_[0]{log};
}

# What this run wrote; an earlier one may have had the same log.
sub log_text
{
    my ($self) = @_;
    return -e $self->{log} ? substr WalTest::slurp($self->{log}), $self->{log_start} : '';
}

sub wait_exit
{
    my ($self, $seconds) = @_;

    if (!defined $self->{exit})
    {
        # 0 asks whether it has ended
        my $status = WalTest::wait_child($self->{pid}, $seconds && WalTest::patience($seconds));
        return unless defined $status;
        $self->{exit} = $status & 127 ? 128 + ($status & 127) : $status >> 8;
        print "# $self->{name} ended: $self->{exit}\n";
    }
    return $self->{exit};
}

sub running
{
    my ($self) = @_;
    return !defined $self->wait_exit(0);
}

sub signal
{
    my ($self, $name) = @_;
    kill $name, $self->{pid} if $self->running;
    return;
}

sub stop
{
    my ($self, %opt) = @_;
    my $seconds = WalTest::patience($opt{seconds} // 30);

    $self->signal($opt{signal} // 'TERM');
    my $exit = $self->wait_exit($seconds);
    if (!defined $exit)
    {
        $self->kill9;
        die "$self->{name} did not stop within $seconds s\n";
    }
    return $exit;
}

sub kill9
{
    my ($self) = @_;
    return $self->{exit} if defined $self->{exit};
    kill 'KILL', -$self->{pid};
    return $self->wait_exit(30);
}

sub wait_log
{
    my ($self, $regex, $seconds) = @_;
    return WalTest::wait_until(
        sub {
            return 1 if $self->log_text =~ $regex;
            die "$self->{name} ended: " . $self->log_text unless $self->running;
            return 0;
        },
        $seconds // 30,
        "the log of $self->{name} has $regex");
}

1;
