# SPDX-License-Identifier: PostgreSQL
#
# A clock that is 20 minutes off. S3 refuses each request then: the error names the clock and by how much, walpush
# does not say that anything is durable, walstream waits for the clock to be right, and init does not begin.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use FailNth;
use Test::More;
use WalTest;

my $walctl = WalTest::tool('walctl');
my $node = WalTest::node('primary');
my $datadir = $node->data_dir;
WalTest::pgbench_init($node, 1);
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
my $current = $node->safe_psql('postgres', 'SELECT pg_walfile_name(pg_current_wal_lsn())');
my ($segment) = sort grep { /^[0-9A-F]{24}$/ && $_ lt $current } map { s{.*/}{}r } glob("$datadir/pg_wal/*");
my $config = WalTest::config_for($node, repository => WalTest::s3('clock', tls => 0));
my $skewed = qr/the clock of this machine is (\d+) s/;

# a command under another clock
sub at
{
    my ($shift, @command) = @_;
    return ('faketime', '-f', $shift, @command);
}

if (FailNth::sanitized($walctl))
{
    # faketime is a preloaded library
    pass('built with a sanitizer: other clocks are left out');
}
else
{
    for my $shift ('-20m', '+20m')
    {
        my $run = WalTest::run([ at($shift, $walctl, '--config', $config, 'init') ]);
        is($run->{exit}, 1, "clock $shift: init does not begin");
        like($run->{stderr}, $skewed, "clock $shift: init names the clock");
    }
    WalTest::run_ok('init with a clock that is right', $walctl, '--config', $config, 'init');

    for my $shift ('-20m', '+20m')
    {
        my $word = $shift =~ /^-/ ? 'behind' : 'ahead of';
        for my $program ('walpush-direct', 'walpush')
        {
            my $run = WalTest::give_up(
                10,
                sub {
                    return WalTest::run([ at($shift, WalTest::tool($program), '--config', $config, "--timeout=$_[0]", "pg_wal/$segment") ],
                        cwd => $datadir);
                },
                sub { $_[0]{stderr} =~ $skewed },
                "clock $shift: $program");
            # the fast path is linked statically: it hands its environment on to walpush-direct
            is($run->{exit}, 1, "clock $shift: $program fails");
            my ($said) = $run->{stderr} =~ $skewed;
            cmp_ok(abs(($said // 0) - 1200), '<', 180, "clock $shift: $program says by how much") or diag($run->{stderr});
            like($run->{stderr}, qr/ s \Q$word\E/, "clock $shift: $program says in which direction");
        }
        my $dest = WalTest::dir("fetch$shift");
        my $run = WalTest::give_up(
            3,
            sub {
                my @fetch = (WalTest::tool('walfetch-direct'), '--config', $config, '--restore.prefetch=0', "--timeout=$_[0]", $segment, "$dest/f");
                return WalTest::run([ at($shift, @fetch) ], cwd => $datadir);
            },
            sub { $_[0]{stderr} =~ $skewed },
            "clock $shift: walfetch");
        is($run->{exit}, 200, "clock $shift: walfetch cannot tell");
        like($run->{stderr}, $skewed, "clock $shift: walfetch names the clock");

        # an order of a service manager: it stays up, or is started again, and says why it does nothing
        my $stream = WalTest::daemon("walstream$word" =~ s/ .*//r, [ at($shift, WalTest::tool('walstream'), '--config', $config) ]);
        WalTest::wait_until(sub { $stream->log_text =~ $skewed }, 30, 'walstream names the clock');
        like($stream->log_text, qr/ s \Q$word\E/, "clock $shift: walstream names the clock");
        $stream->stop;
    }
    my $run = WalTest::run(
        [ WalTest::tool('walfetch-direct'), '--config', $config, '--restore.prefetch=0', $segment, WalTest::dir('fetch') . '/f' ], cwd => $datadir);
    is($run->{exit}, 1, 'nothing was stored');
}

$node->stop;
done_testing();
