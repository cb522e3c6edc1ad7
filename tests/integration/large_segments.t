#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# Segments of 64 MB and 1 GB: stored in parts, and in the same memory as small ones. The bounds are those of the
# manual: 96 MiB for walstream with the default [stream] memory, 32 MiB for walpush alone and for walfetch and
# its prefetcher. A sanitizer's own memory is not ours, so such builds are not measured.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalTest::Matrix;
use Test::More;

use constant { STREAM_KIB => 96 * 1024, PUSH_KIB => 32 * 1024, FETCH_KIB => 32 * 1024 };

my $sanitized = WalTest::slurp(WalTest::tool('walstream')) =~ /__(?:asan|tsan|ubsan|lsan)_/;
my $dir = WalTest::dir('sizes');

for my $case (
    [ 64, store => 's3', method => 'lz4', encrypt => 1, fill => 150 ],
    [ 64, store => 's3', method => 'zstd:3', encrypt => 1, fill => 70, stream => 0 ],
    WalTest::quick() ? () : [ 1024, store => 'file', method => 'lz4', fill => 50, switch => 0 ])
{
    my ($segsize, %options) = @$case;
    my $streamed = ref($options{stream} // {});
    my $id = $segsize . ($streamed ? '' : '-archive');
    my $label = "$segsize MB segments" . ($streamed ? '' : ', archive only');
    my $prefetchers = WalTest::daemon("sampler-$id", [ $^X, '-e', sampler(), "$dir/prefetch-$id" ]);

    WalTest::Matrix::run_case(
        $label,
        version => 15,
        segsize => $segsize,
        seconds => 1,
        %options,
        archive_prefix => "/usr/bin/time -a -o $dir/push-$id -f %M",
        restore_prefix => "/usr/bin/time -a -o $dir/fetch-$id -f %M",
        before_kill => $streamed ? \&check_stream : undef,
        # which ends with its server
        restored => sub { WalTest::wait_until(sub { -s "$dir/prefetch-$id" }, 60, 'a prefetcher was seen') });
    $prefetchers->kill9;
    check_sizes("$label: walpush", "$dir/push-$id", PUSH_KIB);
    check_sizes("$label: walfetch", "$dir/fetch-$id", FETCH_KIB);
    check_sizes("$label: prefetcher", "$dir/prefetch-$id", FETCH_KIB);
}
done_testing();

sub check_stream
{
    my ($case) = @_;
    my ($kib) = WalTest::slurp('/proc/' . $case->{stream}->pid . '/status') =~ /^VmHWM:\s+(\d+) kB/m;

    note("$case->{label}: walstream: $kib KiB at most");
    cmp_ok($kib, '<=', STREAM_KIB, "$case->{label}: memory of walstream") unless $sanitized;
    return;
}

# The file has the most memory that each process had, in KiB; time also writes of exit codes.
sub check_sizes
{
    my ($label, $file, $bound) = @_;
    my @sizes = sort { $a <=> $b } grep { /^\d+$/ } split /\n/, WalTest::slurp($file);

    ok(scalar @sizes, "$label: was run");
    note("$label: $sizes[-1] KiB at most, of " . scalar @sizes);
    cmp_ok($sizes[-1], '<=', $bound, "$label: memory") unless $sanitized;
    return;
}

# Looks at all prefetchers there are: they have no parent that could wait for them.
sub sampler
{
    return <<'END';
my %seen;
for (;;)
{
    for my $dir (glob '/proc/[0-9]*')
    {
        open my $fh, '<', "$dir/status" or next;
        local $/;
        my $text = <$fh> // '';
        next unless $text =~ /^Name:\s+(?:walfetch-direct|prefetch)/m && $text =~ /^VmHWM:\s+(\d+) kB/m;
        next if ($seen{$dir} // 0) >= $1;
        $seen{$dir} = $1;
        open my $out, '>>', $ARGV[0] or die;
        print $out "$1\n";
    }
    select undef, undef, undef, 0.05;
}
END
}
