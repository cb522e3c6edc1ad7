# SPDX-License-Identifier: PostgreSQL

=head1 NAME

WalTest::Load - clients that commit numbered rows and note what was acknowledged

=head1 SYNOPSIS

    WalTest::Load::create($node);
    my $load = WalTest::Load->start($node, 4);
    ...
    $load->stop;                                  # or kill the server
    my $lost = $load->lost(WalTest::Load::numbers($restored));

The rows are in table numbered: client, n (1, 2, 3 ... without a hole for each client), sent (seconds), and text
that follows from the two. The log of acknowledged rows is outside of the server's files.

=cut

package WalTest::Load;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Time::HiRes qw(time);
use WalTest;

my $count = 0;

sub create
{
    my ($node) = @_;
    $node->safe_psql('postgres',
        'CREATE TABLE numbered (client int, n int, sent float8, filler text, PRIMARY KEY (client, n))');
    return;
}

# start($node, $clients, %options): pause_ms => between rows. Each client goes on behind its newest row.
sub start
{
    my ($class, $node, $clients, %opt) = @_;
    my %newest = map { split /\|/ } split /\n/,
      $node->safe_psql('postgres', 'SELECT client, max(n) FROM numbered GROUP BY client');
    my $id = ++$count;
    my $dir = WalTest::dir("load-$id");
    my $self = bless { clients => [], node => $node }, $class;

    for my $client (1 .. $clients)
    {
        my $log = "$dir/client-$client";

        push @{ $self->{clients} },
          {
            number => $client,
            log => $log,
            daemon => WalTest::daemon(
                "writer-$id-$client",
                [
                    $^X,
                    dirname(abs_path(__FILE__)) . '/writer.pl',
                    $node->installed_command('psql'),
                    $node->connstr('postgres'),
                    $client,
                    1 + ($newest{$client} // 0),
                    $opt{pause_ms} // 0,
                    $log
                ]),
          };
    }
    return $self;
}

# Rows that were acknowledged: a list of { client, n, sent, acked }.
sub acknowledged
{
    my ($self) = @_;
    my @rows;

    for my $client (@{ $self->{clients} })
    {
        next unless -e $client->{log};
        for my $line (split /\n/, WalTest::slurp($client->{log}))
        {
            my ($n, $sent, $acked) = $line =~ /^(\d+) ([\d.]+) ([\d.]+)$/ or next;
            push @rows, { client => $client->{number}, n => $n, sent => $sent, acked => $acked };
        }
    }
    return \@rows;
}

# Waits until so many rows are acknowledged.
sub wait_rows
{
    my ($self, $rows, $seconds) = @_;
    WalTest::wait_until(sub { @{ $self->acknowledged } >= $rows },
        $seconds // 60, "$rows rows are committed");
    return;
}

# The clients end after the row they are at.
sub stop
{
    my ($self) = @_;
    $_->{daemon}->signal('TERM') for @{ $self->{clients} };
    $self->wait_end;
    return;
}

# The clients have ended, as the server is gone.
sub wait_end
{
    my ($self) = @_;
    for my $client (@{ $self->{clients} })
    {
        defined $client->{daemon}->wait_exit(30) or die "client $client->{number} does not end\n";
    }
    return;
}

# The rows of a server: { "client.n" => sent }.
sub numbers
{
    my ($node) = @_;
    return {
        map { my ($client, $n, $sent) = split /\|/; ("$client.$n" => $sent) }
          split /\n/,
        $node->safe_psql('postgres', 'SELECT client, n, sent FROM numbered')
    };
}

# The rows that were acknowledged to these clients and are not among those.
sub lost
{
    my ($self, $numbers) = @_;
    return [ grep { !exists $numbers->{"$_->{client}.$_->{n}"} } @{ $self->acknowledged } ];
}

# What is wrong with the rows of a server, as text, empty if nothing: a hole, or text that is not what was written.
sub damage
{
    my ($node) = @_;
    return $node->safe_psql('postgres', <<'END');
SELECT format('client %s: %s rows from %s to %s, %s with other text', client, count(*), min(n), max(n),
    count(*) FILTER (WHERE filler <> left(repeat(md5(client || '.' || n), 1 + length(filler) / 32), length(filler))))
FROM numbered
GROUP BY client
HAVING count(*) <> max(n) - min(n) + 1 OR min(n) <> 1
    OR bool_or(filler <> left(repeat(md5(client || '.' || n), 1 + length(filler) / 32), length(filler)))
END
}

1;
