# SPDX-License-Identifier: PostgreSQL

=head1 NAME

WalTest::Chain - a full backup and incrementals under load, and every point restored

=head1 SYNOPSIS

    WalTest::Chain::run_version(17);

=cut

package WalTest::Chain;

use strict;
use warnings;

use Digest::SHA ();
use File::Find ();
use JSON::PP;

use WalTest;
use WalTest::Churn;
use WalTest::Matrix;
use Test::More;

# What differs between versions, so that all of it is tried: store, codec, encryption, where the files come from.
my %cases = (
    14 => { store => 's3', method => 'lz4', encrypt => 1, sources => [qw(local stream)] },
    15 => { store => 'file', method => 'zstd:1', sources => [qw(local)] },
    16 => { store => 'file', method => 'lz4', encrypt => 1, sources => [qw(stream local)] },
    17 => { store => 's3', method => 'lz4', sources => [qw(local stream)] },
    18 => { store => 'file', method => 'lz4', encrypt => 1, sources => [qw(local stream)] },
);

=head1 FUNCTIONS

=over

=item run_version($version)

One full backup and several incrementals, each against the one before, of a cluster that WalTest::Churn works on: every other
one while pgbench runs. Then each is restored to a restore point set behind it, and the newest to its own end, and compared. Plans
and ends the test file. C<$WALTEST_ROUNDS> incrementals, default 5.

=cut

sub run_version
{
    my ($version) = @_;

    plan skip_all => "PostgreSQL $version is not among WALTEST_VERSIONS"
      unless grep { $_ == $version } WalTest::versions();

    my $case = $cases{$version};
    my $rounds = $ENV{WALTEST_ROUNDS} // (WalTest::quick() ? 2 : 5);
    my $dir = WalTest::dir("chain$version");
    my $node = WalTest::node(
        "chain$version",
        version => $version,
        checksums => $version != 16,
        conf => { $version >= 17 ? (summarize_wal => 'on') : () });
    my %keys = $case->{encrypt} ? WalTest::Matrix::keygen('keys', $dir) : ();
    my %common = (
        repository => $case->{store} eq 's3' ? WalTest::s3("chain$version") : { url => "file://$dir/repo" },
        compression => { method => $case->{method} },
        encryption => { recipient => $keys{recipient} });
    my $config = WalTest::config_for(
        $node, dir => $dir, %common,
        cluster => { data => $node->data_dir },
        backup => { checksum => 'sha256' });
    my $restoring = WalTest::config_for(
        $node,
        dir => "$dir/restoring",
        %common,
        encryption => { recipient => $keys{recipient}, 'identity-file' => $keys{file} });

    WalTest::run_ok('init', WalTest::tool('walctl'), '--config', $config, 'init');
    WalTest::archive_with($node, $config);
    $node->restart;

    my $stream = WalTest::walstream($config, name => "chain$version-walstream");

    WalTest::wait_streaming($config);
    WalTest::pgbench_init($node, 1);
    mkdir "$dir/spaces" or die "could not create $dir/spaces: $!";
    WalTest::Churn::create($node, "$dir/spaces");

    my @points = point($node, $config, $case, 0, WalTest::backup($config, 'full'));

    for my $n (1 .. $rounds)
    {
        my $source = $case->{sources}[ $n % @{ $case->{sources} } ];
        my $load;

        WalTest::Churn::step($node, $n);
        $load = WalTest::daemon(
            "load$version-$n",
            [ $node->installed_command('pgbench'), '-n', '-c', 2, '-T', 100, '-d', $node->connstr('postgres') ])
          if $n % 2;
        my $made = WalTest::backup($config, 'incremental', "--source=$source");

        WalTest::pgbench_stop($node, $load) if $load;
        is($made->{kind}, 'incremental', "incremental $n is one ($source)");
        push @points, point($node, $config, $case, $n, $made);
    }

    for my $i (0 .. $#points)
    {
        restore_point($node, $restoring, $version, "$dir/to$i", $points[$i], $i == $#points ? 'immediate' : 'name');
    }
    restore_point($node, $restoring, $version, "$dir/last", $points[-1], 'name');
    my $verified = WalTest::run([ WalTest::tool('walctl'), '--config', $restoring, 'verify' ], timeout => 500);

    is($verified->{exit}, 0, 'walctl verify finds nothing');
    done_testing();
    return;
}

# The cluster is quiet: what is in it now, and a restore point to come back to.
sub point
{
    my ($node, $config, $case, $n, $made) = @_;
    my %point = (
        name => "point $n",
        label => $made->{label},
        state => WalTest::Churn::state($node),
        spaces => $n,
    );

    $point{lsn} = $node->safe_psql('postgres', "SELECT pg_create_restore_point('point $n')");
    $point{spaces} = [ map { (split /\|/)[0] } split /\n/,
        $node->safe_psql('postgres', 'SELECT oid FROM pg_tablespace WHERE oid > 16383') ];
    $node->safe_psql('postgres', 'SELECT pg_switch_wal()');
    return \%point;
}

sub restore_point
{
    my ($node, $config, $version, $folder, $point, $how) = @_;
    my $label = "$point->{name} ($how)";
    my @args = map { ('--tablespace', "$_=$folder/$_") } @{ $point->{spaces} };

    mkdir $folder or die "could not create $folder: $!";
    push @args, '--backup', $point->{label};
    push @args, $how eq 'name' ? ('--target-name', $point->{name}) : ('--target', 'immediate');
    my $restored = WalTest::restore(
        'r' . ($folder =~ s{.*/}{}r) . "v$version",
        version => $version,
        config => $config,
        args => \@args,
        start => 0);

    verify_manifest($restored, $version, $label);
    $restored->start;
    WalTest::wait_until(
        sub { ($restored->psql('postgres', 'SELECT pg_is_in_recovery()'))[1] eq 'f' },
        180, "recovery to $label ends");
    WalTest::Churn::same_state(WalTest::Churn::state($restored), $point->{state}, "$label: all rows")
      if $how eq 'name';
    WalTest::Churn::check($restored, $label);
    is($restored->safe_psql('postgres', 'SELECT count(*) FROM unlogged'), '0', "$label: the unlogged table is empty");
    $restored->stop;
    return;
}

=item verify_manifest($node, $version, $label)

Tests that backup_manifest tells of every file in a restored data directory, before it is started; by pg_verifybackup
where Debian's can read it, and here for all.

=cut

sub verify_manifest
{
    my ($node, $version, $label) = @_;
    my $data = $node->data_dir;
    my $manifest = decode_json(WalTest::slurp("$data/backup_manifest"));
    my (%seen, @wrong);

    if ($version <= 16)
    {
        my $result = WalTest::run(
            [ '/usr/lib/postgresql/15/bin/pg_verifybackup', '-n', '-i', 'postgresql.conf', $data ],
            timeout => 300);

        is($result->{exit}, 0, "$label: pg_verifybackup");
    }
    for my $file (@{ $manifest->{Files} })
    {
        my $path = $file->{Path} // pack 'H*', $file->{'Encoded-Path'};

        $seen{$path} = 1;
        next if $path =~ /^(?:postgresql\.conf|postgresql\.auto\.conf|backup_label|tablespace_map)$/;
        if (!-f "$data/$path" || -s _ != $file->{Size})
        {
            push @wrong, "$path is missing or has another size";
        }
        elsif (($file->{'Checksum-Algorithm'} // '') eq 'SHA256')
        {
            push @wrong, "$path has another checksum"
              if Digest::SHA->new(256)->addfile("$data/$path", 'b')->hexdigest ne $file->{Checksum};
        }
    }
    File::Find::find(
        {
            follow_fast => 1,
            follow_skip => 2,
            no_chdir => 1,
            wanted => sub {
                my $path = substr $File::Find::name, length($data) + 1;
                push @wrong, "$path is not in the manifest"
                  if -f $File::Find::name && !$seen{$path}
                  && $path !~ /^(?:backup_manifest|postgresql\.auto\.conf|recovery\.signal|standby\.signal|pg_wal\/.*)$/;
            },
        },
        $data);
    ok(!@wrong, "$label: the manifest is right for each file");
    diag(join "\n", @wrong[ 0 .. ($#wrong < 9 ? $#wrong : 9) ]) if @wrong;
    return;
}

=back

=cut

1;
