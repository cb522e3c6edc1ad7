#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# Each of the two ways into the repository by itself: archive_command without walstream, and walstream with archiving
# off.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalTest::Matrix;
use Test::More;

my @versions = WalTest::versions();

WalTest::Matrix::run_case(
    'archive only, file',
    version => $versions[0],
    segsize => 1,
    stream => 0);
WalTest::Matrix::run_case(
    'archive only, S3',
    version => $versions[-1],
    segsize => 16,
    store => 's3',
    method => 'zstd:3',
    encrypt => 1,
    stream => 0);
WalTest::Matrix::run_case(
    'stream only, S3',
    version => $versions[0],
    segsize => 1,
    store => 's3',
    encrypt => 1,
    archive => 0);
WalTest::Matrix::run_case(
    'stream only, file',
    version => $versions[-1],
    segsize => 16,
    archive => 0);
done_testing();
