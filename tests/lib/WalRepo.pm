# SPDX-License-Identifier: PostgreSQL

=head1 NAME

WalRepo - look into a file:// repository, and servers that follow one another, for tests of the stream

=cut

package WalRepo;

use strict;
use warnings;

use Digest::SHA qw(sha256_hex);
use File::Find ();
use WalTest;
use Test::More;

my $mib = 1024 * 1024;

=head1 THE REPOSITORY

=over

=item objects($config)

All objects, by key, with their sizes. Temporary files of the store are no objects.

=cut

sub base
{
    my ($config) = @_;
    my @found = glob WalTest::repo_dir($config) . '/test/*/cluster.json';
    die "there is not one repository but " . scalar @found if @found != 1;
    return $found[0] =~ s{/cluster\.json$}{}r;
}

sub objects
{
    my ($config) = @_;
    my $base = base($config);
    my %found;

    File::Find::find(
        {
            no_chdir => 1,
            wanted => sub {
                return unless -f $_;
                my $size = -s _;
                my $key = substr $_, length($base) + 1;
                $found{$key} = $size if $key =~ m{^(?:wal|live|gap)/} && $key !~ m{(?:^|/)\.};
            }
        },
        $base);
    return \%found;
}

=item fingerprint($config)

Each object's key and the digest of its bytes, to see that nothing was changed.

=cut

sub fingerprint
{
    my ($config) = @_;
    my $base = base($config);
    return { map { $_ => sha256_hex(WalTest::slurp("$base/$_")) } keys %{ objects($config) } };
}

=item extents($config, $tli)

What the repository holds of a timeline: a list of { key, start, end, whole }, LSNs as numbers.
Segments have 1 MB.

=cut

sub extents
{
    my ($config, $tli) = @_;
    my @extents;

    for my $key (sort keys %{ objects($config) })
    {
        if ($key =~ m{^wal/([0-9A-F]{8})/[0-9A-F]{8}/[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})$})
        {
            next if hex($1) != $tli;
            my $start = (hex($2) << 32) + hex($3) * $mib;
            push @extents, { key => $key, start => $start, end => $start + $mib, whole => 1 };
        }
        elsif ($key =~
            m{^live/([0-9A-F]{8})/[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})/([0-9A-F]{8})-([0-9A-F]{8})$})
        {
            next if hex($1) != $tli;
            my $base = (hex($2) << 32) + hex($3) * $mib;
            push @extents, { key => $key, start => $base + hex $4, end => $base + hex $5, whole => 0 };
        }
    }
    return sort { $a->{start} <=> $b->{start} } @extents;
}

=item ranges($config, $tli)

The same as ranges without a gap: a list of [ start, end ].

=cut

sub ranges
{
    my ($config, $tli) = @_;
    my @ranges;

    for my $extent (extents($config, $tli))
    {
        if (@ranges && $extent->{start} <= $ranges[-1][1])
        {
            $ranges[-1][1] = $extent->{end} if $extent->{end} > $ranges[-1][1];
            next;
        }
        push @ranges, [ $extent->{start}, $extent->{end} ];
    }
    return @ranges;
}

=item covers($config, $tli, $from, $to, $label)

A test that the repository has all of timeline $tli from $from to $to (LSNs as texts or numbers).

=cut

sub covers
{
    my ($config, $tli, $from, $to, $label) = @_;
    my ($start, $end) = map { m{/} ? WalTest::lsn_number($_) : $_ } $from, $to;
    my @ranges = ranges($config, $tli);

    return ok((grep { $_->[0] <= $start && $_->[1] >= $end } @ranges), $label)
      || diag(
        sprintf "wanted %s to %s of timeline %d, there is %s",
        lsn_text($start), lsn_text($end), $tli,
        join ', ', map { lsn_text($_->[0]) . ' to ' . lsn_text($_->[1]) } @ranges);
}

sub lsn_text
{
    my ($lsn) = @_;
    return sprintf '%X/%08X', $lsn >> 32, $lsn & 0xffffffff;
}

sub segment_name
{
    my ($tli, $lsn) = @_;
    return sprintf '%08X%08X%08X', $tli, $lsn >> 32, ($lsn & 0xffffffff) / $mib;
}

=item object_bytes($config, $key)

The plain bytes of an lz4 object, by the lz4 tool: not by our own reader.

=cut

sub object_bytes
{
    my ($config, $key) = @_;
    open my $pipe, '-|', 'lz4', '-dc', base($config) . "/$key" or die "could not run lz4: $!";
    binmode $pipe;
    local $/ = undef;
    my $bytes = <$pipe> // '';
    close $pipe or die "lz4 could not read $key";
    return $bytes;
}

=item bytes_wrong($config, $tli, $from, $to, sub)

Compares each object with what sub returns for [start, end) (bytes of WAL, undef: not known); LSNs beyond
$to are left out. Returns how many objects were compared and a list of what is wrong.

=cut

sub bytes_wrong
{
    my ($config, $tli, $from, $to, $want) = @_;
    my ($start, $end) = map { m{/} ? WalTest::lsn_number($_) : $_ } $from, $to;
    my $compared = 0;
    my @wrong;

    for my $extent (extents($config, $tli))
    {
        next if $extent->{end} <= $start || $extent->{start} >= $end;
        my $bytes = object_bytes($config, $extent->{key});
        my $stop = $extent->{end} < $end ? $extent->{end} : $end;
        my $right = $want->($extent->{start}, $stop);

        if (length $bytes != $extent->{end} - $extent->{start})
        {
            push @wrong, "$extent->{key}: " . length($bytes) . ' bytes';
            next;
        }
        next unless defined $right;
        $compared++;
        push @wrong, "$extent->{key}: other bytes" if substr($bytes, 0, length $right) ne $right;
    }
    return ($compared, @wrong);
}

=item wal_reader($tli, $dir, ...)

A sub for bytes_wrong that reads WAL segments of 1 MB of a timeline from the first folder that has them.

=cut

sub wal_reader
{
    my ($tli, @dirs) = @_;

    return sub {
        my ($start, $end) = @_;
        my $name = segment_name($tli, $start);

        for my $dir (@dirs)
        {
            next unless -f "$dir/$name";
            open my $fh, '<:raw', "$dir/$name" or next;
            seek $fh, $start % $mib, 0 or die "could not seek in $dir/$name: $!";
            my $got = read $fh, my $bytes, $end - $start;
            die "could not read $dir/$name" if !defined $got || $got != $end - $start;
            return $bytes;
        }
        return;
    };
}

=item fetch($config, $name)

One WAL file through walfetch; undef when the repository does not have it (exit code 1).

=cut

my $fetched = 0;

sub fetch
{
    my ($config, $name) = @_;
    my $dest = "$ENV{TESTDIR}/tmp/fetched-$$-" . ++$fetched;
    my $result = WalTest::run(
        [ WalTest::tool('walfetch'), '--config', $config, '--restore.prefetch=0', $name, $dest ]);

    return if $result->{exit} == 1;
    die "walfetch ended with $result->{exit}: $result->{stderr}" if $result->{exit} != 0;
    my $bytes = WalTest::slurp($dest);
    unlink $dest;
    return $bytes;
}

=back

=head1 SERVERS

=over

=item standby($primary, $name, %options)

A standby of a running server, streaming; options as for WalTest::restore_node. The primary's WAL must still
be there.

=cut

sub standby
{
    my ($primary, $name, %opt) = @_;
    my $backup = WalTest::base_backup($primary, WalTest::dir("copy-$name"));
    my $conf = delete $opt{conf};
    my $node = WalTest::restore_node(
        $name,
        version => $primary->pg_version->major,
        backup => $backup,
        mode => 'standby',
        restore_command => '',
        conf => {
            primary_conninfo => $primary->connstr . " application_name=$name",
            %{ $conf // {} }
        },
        %opt);

    File::Path::remove_tree($backup);
    return $node;
}

=item hosts($attributes, $node, ...)

A connection string over several servers.

=cut

sub hosts
{
    my ($attributes, @nodes) = @_;
    return
        'host=' . join(',', map { $_->host } @nodes)
      . ' port=' . join(',', map { $_->port } @nodes)
      . ($attributes ? " target_session_attrs=$attributes" : '');
}

=item current_lsn($node), caught_up($standby, $lsn)

caught_up waits until a standby has received and flushed WAL up to $lsn.

=cut

sub current_lsn
{
    my ($node) = @_;
    return $node->safe_psql('postgres', 'SELECT pg_current_wal_flush_lsn()');
}

sub caught_up
{
    my ($standby, $lsn) = @_;
    WalTest::wait_until(
        sub { $standby->safe_psql('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'") eq 't' },
        60,
        $standby->name . " has replayed $lsn");
    return;
}

=item promote($standby)

Promotes, waits until it takes writes, and returns its timeline and the switch point (a number).

=cut

sub promote
{
    my ($node) = @_;

    $node->safe_psql('postgres', 'SELECT pg_promote(true, 300)');
    $node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()')
      or die $node->name . ' does not leave recovery';
    $node->safe_psql('postgres', 'CHECKPOINT');
    my $tli = $node->safe_psql('postgres', 'SELECT timeline_id FROM pg_control_checkpoint()');
    my $history = WalTest::slurp(sprintf '%s/pg_wal/%08X.history', $node->data_dir, $tli);
    my @lines = grep { /^\d/ } split /\n/, $history;
    die "the history of timeline $tli is not understood" unless $lines[-1] =~ m{^\d+\t(\S+)\t};
    return ($tli, WalTest::lsn_number($1));
}

=item create_rows($node), add_rows($node, $count)

A table "events" whose rows have about 250 bytes, and more of them in one transaction.

=cut

sub create_rows
{
    my ($node) = @_;
    $node->safe_psql('postgres',
        'CREATE TABLE events (id bigserial PRIMARY KEY, note text NOT NULL, server text NOT NULL)');
    return;
}

sub add_rows
{
    my ($node, $count) = @_;
    my $name = $node->name;
    my $text = join ' || ', ('md5(random()::text)') x 6;
    $node->safe_psql('postgres', <<"SQL");
INSERT INTO events (note, server)
SELECT $text, '$name' FROM generate_series(1, $count)
SQL
    return;
}

=back

=cut

1;
