#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# --help and the manual page of a program know the same options, and the same fields of the JSON that it prints.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my %verbs = (
    walbackup => [ undef, qw(full incremental) ],
    walctl => [ undef, qw(init keygen config info verify expire pin unpin backup) ],
);

# "  -c, --config=FILE   ..." at the beginning of a line of --help
sub help_options
{
    my ($program, $verb) = @_;
    my @command = (WalTest::tool($program), defined $verb ? $verb : (), '--help');
    my $result = WalTest::run(\@command);
    my %options;

    is($result->{exit}, 0, "@command[1 .. $#command] of $program");
    for my $line (split /\n/, $result->{stdout})
    {
        next unless $line =~ /^\s{2,7}(?:-(\w),\s+)?--([a-z][a-z-]*)/;
        $options{$2} = $1 // '';
    }
    return %options;
}

# Those that a list of options, or the synopsis, names: ".It Fl c , Fl \-config Ns = Ns Ar FILE"
sub man_options
{
    my ($text) = @_;
    my (%long, %short);

    for my $line (grep { /^\.(?:It|Op|Fl) .*Fl|^\.(?:Fl|It Fl)/ } split /\n/, $text)
    {
        $long{$_} = 1 for $line =~ /Fl \\-([a-z][a-z-]*)/g;
        $short{$_} = 1 for $line =~ /Fl (\w)\b/g;
        $long{$_} = 1 for $line =~ /^\.Fl \\-([a-z][a-z-]*)/;
        $short{$_} = 1 for $line =~ /^\.Fl (\w)\b/;
    }
    return (\%long, \%short);
}

for my $program (qw(walstream walpush walfetch walbackup walrestore walctl))
{
    my $page = WalTest::slurp("$top/doc/man/$program.1");
    my ($long, $short) = man_options($page);
    my %help;

    for my $verb (@{ $verbs{$program} // [undef] })
    {
        my %options = help_options($program, $verb);
        cmp_ok(scalar keys %options, '>=', 5, "$program: --help names options");
        $help{$_} ||= $options{$_} for keys %options;
    }
    for my $name (sort keys %help)
    {
        ok($long->{$name}, "$program: --$name is in the manual page");
        ok($short->{ $help{$name} }, "$program: -$help{$name} is in the manual page") if $help{$name} ne '';
    }
    for my $name (sort keys %$long)
    {
        ok(exists $help{$name}, "$program: --$name of the manual page is in --help");
    }
    my %letters = map { $_ => 1 } grep { $_ ne '' } values %help;
    for my $letter (sort keys %$short)
    {
        ok($letters{$letter}, "$program: -$letter of the manual page is in --help");
    }
}

# what the status prints, as the sources declare it
my $page = WalTest::slurp("$top/doc/man/walstream.1");
my $declared = WalTest::slurp("$top/src/walstream/counters.h");
my @counters = $declared =~ /^\s+X\((\w+),/mg;

cmp_ok(scalar @counters, '>=', 10, 'counters are declared');
like($page, qr/\b$_\b/, "counter $_ is in the manual page") for @counters;

my $status = WalTest::slurp("$top/src/walstream/status.c");
my %fields = map { $_ => 1 } $status =~ /^[^"\n]*"([a-z_]+)",/mg, $status =~ /, "([a-z_]+)",/g;

cmp_ok(scalar keys %fields, '>=', 30, 'fields of the status');
for my $field (sort keys %fields)
{
    like($page, qr/\b$field\b/, "status field $field is in the manual page");
}

# what the other programs print as JSON: names are the strings behind json_pack's format that are followed by a value
for my $case (
    [ walbackup => 15, "$top/src/walbackup/result.c" ],
    [ walrestore => 25, "$top/src/walrestore/report.c" ],
    [ walctl => 100, glob "$top/src/walctl/*.c" ])
{
    my ($program, $least, @sources) = @$case;
    my $text = WalTest::slurp("$top/doc/man/$program.1");
    my %names;

    for my $source (map { WalTest::slurp($_) } @sources)
    {
        for my $call ($source =~ /json_pack\((.*?)\);/gs)
        {
            # values that are literals, as in: incremental ? "incremental" : "full"
            $call =~ s/[?:] "[^"]*"//g;
            $names{$_} = 1 for $call =~ /"([a-z][a-z_]+)"/g;
        }
    }
    cmp_ok(scalar keys %names, '>=', $least, "$program: fields of its JSON");
    like($text, qr/\b$_\b/, "$program: JSON field $_ is in the manual page") for sort keys %names;
}

done_testing();
