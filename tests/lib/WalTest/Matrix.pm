# SPDX-License-Identifier: PostgreSQL

=head1 NAME

WalTest::Matrix - one server streamed, archived, lost and restored, with the same rows afterwards

=head1 SYNOPSIS

    WalTest::Matrix::run_version(15);
    WalTest::Matrix::run_case('archive only', version => 15, segsize => 1, stream => 0);

=cut

package WalTest::Matrix;

use strict;
use warnings;

use WalTest;
use WalTest::Load;
use Test::More;

# Versions and segment sizes (MB), with stores, codecs and encryption spread over them.
my @matrix = (
    [ 14, 1, store => 'file', method => 'lz4' ],
    [ 14, 16, store => 's3', method => 'zstd:3', encrypt => 1 ],
    [ 15, 1, store => 's3', method => 'lz4', encrypt => 1, base => 'pg_basebackup' ],
    [ 15, 16, store => 'file', method => 'none', checksums => 1 ],
    [ 16, 1, store => 'file', method => 'zstd:1', encrypt => 1 ],
    [ 16, 16, store => 's3', method => 'lz4' ],
    [ 17, 1, store => 's3', method => 'none', encrypt => 1, vhost => 1 ],
    [ 17, 16, store => 'file', method => 'lz4', encrypt => 1 ],
    [ 18, 1, store => 'file', method => 'lz4', encrypt => 1, synchronous => 1 ],
    [ 18, 16, store => 's3', method => 'zstd:6' ],
);

=head1 FUNCTIONS

=over

=item run_version($version)

The rows of the matrix with this version, as one test file: plans and ends it.

=cut

sub run_version
{
    my ($version) = @_;

    plan skip_all => "PostgreSQL $version is not among WALTEST_VERSIONS"
      unless grep { $_ == $version } WalTest::versions();
    for my $row (grep { $_->[0] == $version } @matrix)
    {
        my ($v, $segsize, %case) = @$row;
        run_case("PostgreSQL $v, $segsize MB", version => $v, segsize => $segsize, %case);
    }
    done_testing();
    return;
}

=item run_case($label, %case)

    version, segsize (MB)
    store        file (default), s3; vhost => 1 for the bucket in the host name
    method       codec, default lz4
    encrypt      1: to a recipient; the server's host has no identity
    archive      0: archive_mode = off
    stream       0: no walstream, or a hash of [stream] settings
    synchronous  1: synchronous = on, and the server waits for it
    checksums    1: data checksums
    base         pg_basebackup where it can; default a copy between the backup functions
    seconds      of load, default 3
    fill         MB of WAL written besides
    switch       0: no pg_switch_wal under load
    before_kill  sub({ node, config, stream }), called with all WAL in the repository
    restored     sub(), called while the restored server runs
    archive_prefix, restore_prefix   put in front of the commands

=cut

my $cases = 0;

sub run_case
{
    my ($label, %case) = @_;
    my $id = 'c' . ++$cases;
    my $archive = $case{archive} // 1;
    my $stream = $case{stream} // {};
    my $dir = WalTest::dir($id);
    my $repository =
      ($case{store} // 'file') eq 's3'
      ? WalTest::s3($id, vhost => $case{vhost})
      : { url => "file://$dir/repo" };
    my $node = WalTest::node(
        $id,
        version => $case{version},
        wal_segsize => $case{segsize},
        checksums => $case{checksums});
    my %encryption = $case{encrypt} ? keygen($label, $dir) : ();
    my %common = (
        repository => $repository,
        compression => { method => $case{method} // 'lz4' });
    my $config = WalTest::config_for(
        $node,
        dir => $dir,
        %common,
        encryption => { recipient => $encryption{recipient} },
        stream => {
            synchronous => $case{synchronous} ? 'on' : 'off',
            ref $stream ? %$stream : (),
        });

    WalTest::run_ok("$label: init", WalTest::tool('walctl'), '--config', $config, 'init');
    # a large segment takes its time on a busy machine
    WalTest::archive_with($node, $config, '--timeout=600s') if $archive;
    WalTest::set_conf($node,
        archive_command => "$case{archive_prefix} " . WalTest::tool('walpush') . " --config $config --timeout=600s %p")
      if $case{archive_prefix};
    WalTest::set_conf($node, synchronous_standby_names => 'walstream') if $case{synchronous};
    $node->restart;
    my $daemon = ref $stream ? WalTest::walstream($config, name => "$id-walstream") : undef;

    WalTest::wait_streaming($config) if $daemon;
    WalTest::Load::create($node);
    WalTest::pgbench_init($node, 1);
    my $base = WalTest::base_backup($node, WalTest::dir("$id-base"), method => $case{base});
    my $load = WalTest::Load->start($node, 2);

    WalTest::pgbench($node, '-c', 2, '-T', $case{seconds} // 3);
    fill($node, $case{fill}) if $case{fill};
    $node->safe_psql('postgres', 'SELECT pg_switch_wal()') if $case{switch} // 1;
    $load->wait_rows(20 + @{ $load->acknowledged });
    $load->stop;

    my $end = $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
    my $want = state($node);

    if ($daemon)
    {
        WalTest::wait_durable($config, $end);
    }
    else
    {
        $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
    }
    wait_archived($node) if $archive;
    if ($archive)
    {
        is($node->safe_psql('postgres', 'SELECT failed_count FROM pg_stat_archiver'),
            0, "$label: archive_command did not fail");
    }
    if ($archive && $daemon)
    {
        my $counters;

        # where walstream had no time to be the first, once more: the stream is where the server is
        WalTest::wait_until(
            sub {
                $counters = (WalTest::status($config) // return 0)->{counters};
                return 1 if $counters->{archive_answered_from_stream} > 0;
                WalTest::wait_durable($config,
                    $node->safe_psql('postgres', 'SELECT txid_current(); SELECT pg_switch_wal()') =~ s/.*\n//r);
                wait_archived($node);
                return 0;
            },
            180,
            'walpush is answered from the stream');
        pass("$label: walpush was answered from the stream");
        is($counters->{archive_failures}, 0, "$label: and never refused");
    }
    $case{before_kill}->({ label => $label, node => $node, config => $config, stream => $daemon })
      if $case{before_kill};
    WalTest::kill_host($node, with => [ $daemon // () ]);

    my $restore_config = WalTest::config_for(
        $node,
        dir => WalTest::dir("$id-restore"),
        %common,
        encryption => { 'identity-file' => $encryption{file} });
    my $restored = WalTest::restore_node(
        "${id}r",
        version => $case{version},
        backup => $base,
        config => $restore_config,
        restore_command => join(' ',
            $case{restore_prefix} // (),
            WalTest::tool('walfetch'), '--config', $restore_config, '--timeout=600s', '%f', '%p'),
        conf => { synchronous_standby_names => '' });

    is_deeply(state($restored), $want, "$label: same rows");
    is(scalar @{ $load->lost(WalTest::Load::numbers($restored)) },
        0, "$label: no acknowledged row is missing");
    is(WalTest::Load::damage($restored), '', "$label: rows as they were written");
    verify($label, $restore_config);
    $case{restored}->() if $case{restored};
    $restored->stop('immediate');
    return;
}

# Counts and checksums of all tables.
sub state
{
    my ($node) = @_;
    my %state;

    for my $table (qw(numbered pgbench_accounts pgbench_branches pgbench_tellers pgbench_history))
    {
        $state{$table} = $node->safe_psql('postgres',
            "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM $table t");
    }
    return \%state;
}

sub keygen
{
    my ($label, $dir) = @_;
    my $file = "$dir/identity";
    my $result = WalTest::run_ok("$label: keygen", WalTest::tool('walctl'), 'keygen', $file);

    $result->{stdout} =~ /\b(age1[0-9a-z]+)/ or die "keygen prints no recipient: $result->{stdout}";
    return (recipient => $1, file => $file);
}

# WAL that compresses about as well as that of a busy server.
sub fill
{
    my ($node, $megabytes) = @_;

    $node->safe_psql('postgres', <<"END");
CREATE TABLE IF NOT EXISTS filler (text text);
INSERT INTO filler
    SELECT string_agg(md5((i * 40 + j)::text) || repeat('x', 32), '')
    FROM generate_series(1, $megabytes * 420) i, generate_series(1, 32) j
    GROUP BY i;
END
    return;
}

=item wait_archived($node)

Waits until the archiver has nothing to do.

=cut

sub wait_archived
{
    my ($node, $seconds) = @_;
    my $status = $node->data_dir . '/pg_wal/archive_status';

    WalTest::wait_until(
        sub { my @ready = glob "$status/*.ready"; !@ready },
        $seconds // 90, 'all WAL files are archived');
    return;
}

# Reads the whole repository, where walctl can.
sub verify
{
    my ($label, $config) = @_;
    my $help = WalTest::run([ WalTest::tool('walctl'), '--help' ])->{stdout};

    return unless $help =~ /^\s+verify\b/m;
    WalTest::run_ok("$label: the repository is whole",
        WalTest::tool('walctl'), '--config', $config, 'verify', '--wal');
    return;
}

=back

=cut

1;
