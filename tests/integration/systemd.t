#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# The units in contrib/systemd: systemd understands every line, all services are confined alike, and what runs as the
# server's user leaves the server's shared memory alone. Each timer has its service, and the times are those of the
# README.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use File::Basename qw(basename);
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $dir = WalTest::dir('units');
my %unit = map { basename($_) => WalTest::slurp($_) } glob "$top/contrib/systemd/*";
my @services = sort grep { /\.service$/ } keys %unit;
my @timers = sort grep { /\.timer$/ } keys %unit;

is_deeply(
    \@services,
    [qw(walbackup-full.service walbackup-incremental.service walctl-expire.service walstream.service)],
    'the services');
is_deeply(\@timers, [ map { s/service/timer/r } grep { !/walstream/ } @services ], 'each but walstream has its timer');

# from the first line of the confinement to the end of the section
my ($confined) = $unit{'walstream.service'} =~ /^(NoNewPrivileges=.*?)\n\n/ms;

for my $name (@services)
{
    my ($same) = $unit{$name} =~ /^(NoNewPrivileges=.*?)\n*(?:\n\[|\z)/ms;

    is($same, $confined, "$name: confined as walstream is");
    # of a service with User= systemd removes all IPC objects of that user, the running server's too
    like($unit{$name}, qr/^RemoveIPC=no$/m, "$name: the server's shared memory stays");
    my ($program) = $unit{$name} =~ m{^ExecStart=/usr/local/bin/(\w+)}m;
    ok(-x WalTest::tool($program), "$name: runs $program");
}

my $readme = WalTest::slurp("$top/README.md");

for my $name (@timers)
{
    my ($hours, $minutes) = $unit{$name} =~ /^OnCalendar=\*-\*-\* ([\d,]+):(\d\d):00 UTC$/m;
    my ($command) = $unit{ $name =~ s/timer/service/r } =~ m{^ExecStart=(.*)}m;
    my $cron = join ' ', $minutes + 0, join(',', map { $_ + 0 } split /,/, $hours), '* * *';

    like($readme, qr/^ +\Q$cron\E +\Q$command\E\b/m, "$name: the README's crontab has the same time, $cron");
    like($unit{$name}, qr/^Persistent=true$/m, "$name: a missed time is made up for");
}

# the programs and the manual are not where an installation has them

for my $name (keys %unit)
{
    my $text = $unit{$name} =~ s{^ExecStart=/usr/local/bin/\w+}{ExecStart=/bin/true}mr;

    $text =~ s/^Documentation=.*\n//mg;
    open my $out, '>', "$dir/$name" or die "could not write $dir/$name: $!";
    print $out $text;
    close $out or die "could not write $dir/$name: $!";
}
my $result = WalTest::run([ '/usr/bin/systemd-analyze', 'verify', map { "$dir/$_" } sort keys %unit ]);

is($result->{exit}, 0, 'systemd accepts them');
is($result->{stderr}, '', 'without a word');
done_testing();
