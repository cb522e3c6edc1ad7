#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# PostgreSQL 16 with 1 MB and 16 MB segments: streamed and archived under load, lost, restored. A file for each
# version, so that they run at the same time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest::Matrix;

WalTest::Matrix::run_version(16);
