#!/usr/bin/perl
# SPDX-License-Identifier: PostgreSQL
#
# PostgreSQL 15: a full backup and incrementals under load, every point restored. A file for each version, so that they
# run at the same time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest::Chain;

WalTest::Chain::run_version(15);
