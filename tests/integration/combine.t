#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# What walrestore makes of a chain equals, byte for byte, what PostgreSQL's rules of incremental files say. The rules
# (pg_combinebackup, reconstruct.c) are followed here once more, in Perl, over the archives as tar unpacks them. With
# WALTEST_PG_COMBINEBACKUP=PROGRAM that program's result is compared, too (of the versions that it knows).

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use File::Find ();
use WalTest;
use WalTest::Churn;
use Test::More;

my $block = 8192;

# Made or changed by a restore.
my $own = qr{^(?:backup_label|tablespace_map|backup_manifest|postgresql\.auto\.conf|recovery\.signal)$};

for my $version (grep { $_ == 15 || $_ >= 17 } WalTest::versions())
{
    run_version($version);
}
done_testing();

sub run_version
{
    my ($version) = @_;
    my $dir = WalTest::dir("combine$version");
    my $node = WalTest::node(
        "combine$version",
        version => $version,
        conf => { $version >= 17 ? (summarize_wal => 'on') : () });
    my $config = WalTest::config_for($node, dir => $dir, cluster => { data => $node->data_dir });
    my (@chain, @unpacked);

    WalTest::run_ok('init', WalTest::tool('walctl'), '--config', $config, 'init');
    my $stream = WalTest::walstream($config, name => "combine$version-walstream");

    WalTest::wait_streaming($config);
    mkdir "$dir/spaces" or die "could not create $dir/spaces: $!";
    WalTest::Churn::create($node, "$dir/spaces");
    push @chain, WalTest::backup($config, 'full')->{label};
    for my $n (1 .. 4)
    {
        WalTest::Churn::step($node, $n);
        # with and without summaries, where there are any
        push @chain, WalTest::backup($config, 'incremental', $n == 3 ? '--source=stream' : ())->{label};
    }
    $stream->stop;
    $node->stop('immediate');
    push @unpacked, unpack_backup($config, $_, "$dir/unpacked-$_") for @chain;

    for my $last (1 .. $#chain)
    {
        my $to = "$dir/restored$last";
        my @spaces = map { m{/(\d+)$} ? ('--tablespace', "$1=$dir/space$last-$1") : () }
          glob "$unpacked[$last]/pg_tblspc/*";
        my $result = WalTest::run(
            [
                WalTest::tool('walrestore'), '--config', $config, '--to', $to,
                '--backup', $chain[$last], '--target=immediate', @spaces
            ]);

        is($result->{exit}, 0, "$version: chain of " . ($last + 1) . ' restored');
        compare_with_rules($to, "$version: chain of " . ($last + 1), @unpacked[ 0 .. $last ]);
        compare_with_program($to, "$version: chain of " . ($last + 1), "$dir/combined$last", @unpacked[ 0 .. $last ])
          if $ENV{WALTEST_PG_COMBINEBACKUP} && $version >= 18;
    }
    return;
}

# As the emergency page does it.
sub unpack_backup
{
    my ($config, $label, $to) = @_;
    my ($repo) = glob WalTest::repo_dir($config) . '/test/*';

    mkdir $to, 0700 or die "could not create $to: $!";
    for my $bundle (glob "$repo/backup/$label/bundle/*")
    {
        my @parts = sort grep { m{/[0-9A-F]{8}$} } glob "$bundle/*";

        system("cat @parts | lz4 -dc | tar -x -p -C $to") == 0 or die "could not unpack $bundle";
    }
    return $to;
}

# Files below a folder, as path => 1; links to tablespaces are followed.
sub files
{
    my ($top) = @_;
    my %files;

    File::Find::find(
        {
            follow_fast => 1,
            follow_skip => 2,
            no_chdir => 1,
            wanted => sub { $files{ substr $File::Find::name, length($top) + 1 } = 1 if -f $File::Find::name },
        },
        $top);
    return \%files;
}

# An incremental file: truncation length in blocks, and number => offset of the blocks that it has.
sub read_incremental
{
    my ($path) = @_;
    my $bytes = WalTest::slurp($path);
    my ($magic, $count, $truncation) = unpack 'VVV', $bytes;

    die "$path is no incremental file" unless $magic == 0xD3AE1F0D;
    my @blocks = unpack "x12 V$count", $bytes;
    my $at = $count == 0 ? 0 : int((12 + 4 * $count + $block - 1) / $block) * $block;

    return { bytes => $bytes, truncation => $truncation, at => { map { $blocks[$_] => $at + $_ * $block } 0 .. $#blocks } };
}

# The file at path after the newest of @backups, by the rules.
sub reconstruct
{
    my ($path, @backups) = @_;
    my $inc = $path =~ s{([^/]+)$}{INCREMENTAL.$1}r;
    my $newest = pop @backups;

    return WalTest::slurp("$newest/$path") if -f "$newest/$path";

    my $file = read_incremental("$newest/$inc");
    my $length = $file->{truncation};
    my %have = map { $_ => substr $file->{bytes}, $file->{at}{$_}, $block } keys %{ $file->{at} };

    for my $b (keys %have)
    {
        $length = $b + 1 if $b >= $length;
    }
    for my $backup (reverse @backups)
    {
        if (-f "$backup/$path")
        {
            my $whole = WalTest::slurp("$backup/$path");

            for my $b (0 .. $file->{truncation} - 1)
            {
                $have{$b} //= substr $whole, $b * $block, $block if ($b + 1) * $block <= length $whole;
            }
            last;
        }
        my $older = read_incremental("$backup/$inc");

        for my $b (keys %{ $older->{at} })
        {
            $have{$b} //= substr $older->{bytes}, $older->{at}{$b}, $block if $b < $file->{truncation};
        }
    }
    return join '', map { $have{$_} // "\0" x $block } 0 .. $length - 1;
}

sub compare_with_rules
{
    my ($to, $label, @backups) = @_;
    my $got = files($to);
    my %want = map { (s{INCREMENTAL\.([^/]+)$}{$1}r, 1) } keys %{ files($backups[-1]) };
    my ($blocks, @wrong) = (0);

    for my $path (sort keys %want)
    {
        next if $path =~ $own;
        if (!delete $got->{$path})
        {
            push @wrong, "$path is missing";
            next;
        }
        my $bytes = reconstruct($path, @backups);

        $blocks += length($bytes) / $block;
        push @wrong, "$path differs" if $bytes ne WalTest::slurp("$to/$path");
    }
    push @wrong, map { "$_ does not belong" } grep { !/$own/ } keys %$got;
    is_deeply(\@wrong, [], sprintf '%s: by the rules (%d blocks)', $label, $blocks);
    cmp_ok($blocks, '>', 1000, "$label: something was compared");
    return;
}

sub compare_with_program
{
    my ($to, $label, $combined, @backups) = @_;
    my @mapping;

    for my $backup (@backups)
    {
        # what the program takes for a tablespace is a link
        for my $space (grep { !-l } glob "$backup/pg_tblspc/*")
        {
            my ($oid) = $space =~ m{/(\d+)$};

            rename $space, "$backup-space-$oid" or die "could not move $space: $!";
            symlink "$backup-space-$oid", $space or die "could not link $space: $!";
        }
    }
    for my $space (glob "$backups[-1]/pg_tblspc/*")
    {
        my ($oid) = $space =~ m{/(\d+)$};

        push @mapping, '-T', readlink($space) . "=$combined-space-$oid";
    }
    WalTest::run_ok("$label: pg_combinebackup", $ENV{WALTEST_PG_COMBINEBACKUP}, '-N', @mapping, '-o', $combined, @backups);

    my ($got, $want) = (files($to), files($combined));
    my @wrong = map { "$_ is missing" } grep { !/$own/ && !$got->{$_} } sort keys %$want;

    push @wrong, map { "$_ does not belong" } grep { !/$own/ && !$want->{$_} } sort keys %$got;
    push @wrong, map { "$_ differs" }
      grep { !/$own/ && $want->{$_} && WalTest::slurp("$to/$_") ne WalTest::slurp("$combined/$_") } sort keys %$got;
    is_deeply(\@wrong, [], "$label: as pg_combinebackup does it");
    return;
}
