#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# One client of a test: commits numbered rows one by one as fast as the server takes them, and notes in a file
# what was acknowledged and when. See WalTest::Load.
#
#   writer.pl PSQL CONNINFO CLIENT FIRST PAUSE-MS LOG
#
# A line of the log: number, seconds when it was sent, seconds when the answer was there. It ends when
# the server goes away, or by SIGTERM.

use strict;
use warnings;

use IO::Handle;
use IPC::Open2;
use Time::HiRes qw(time usleep);

my ($psql, $conninfo, $client, $n, $pause_ms, $log_file) = @ARGV;

open my $log, '>>', $log_file or die "could not open $log_file: $!";
$log->autoflush(1);
$SIG{PIPE} = 'IGNORE';
my $pid = open2(my $out, my $in, $psql, '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $conninfo);
my $stop = 0;
$SIG{TERM} = sub { $stop = 1 };

# psql prints a row only when the command is complete, so after the commit was acknowledged
for (; !$stop; $n++)
{
    # mostly small, now and then as long as a page or two, so that WAL records cross pages and segments
    my $length = $n % 16 == 0 ? 1000 + int rand 16000 : 20 + int rand 400;
    my $sent = time;

    printf $in "INSERT INTO numbered VALUES (%d, %d, %.6f, "
      . "left(repeat(md5('%d.%d'), %d), %d)) RETURNING n;\n",
      $client, $n, $sent, $client, $n, 1 + $length / 32, $length
      or last;
    $in->flush or last;
    my $answer = readline $out;
    last unless defined $answer && $answer eq "$n\n";
    printf $log "%d %.6f %.6f\n", $n, $sent, time;
    usleep(1000 * $pause_ms) if $pause_ms;
}
close $in;
waitpid $pid, 0;
