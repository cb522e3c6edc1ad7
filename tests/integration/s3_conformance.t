# SPDX-License-Identifier: PostgreSQL
#
# What every Store must do, over S3: both schemes, both styles of address, the wrapping stores, and
# listings in small pages and of more than one full page.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalTest::S3;
use Test::More;

my $rgw = WalTest::rgw();
my $program = WalTest::tool('tests/fault/s3_conformance');
my $count = 0;

for my $case (
    [ 'http, path style', 'RGW_HTTP', {} ],
    [ 'https, path style, in pages of three keys', 'RGW_HTTPS', { S3_WRAP => 'small-pages' } ],
    [ 'https, virtual host, retries over a counter', 'RGW_VHOST_HTTPS',
        { S3_VIRTUAL_HOST => 1, S3_WRAP => 'retry-count' } ],
    [ 'http, virtual host, without conditional create', 'RGW_VHOST_HTTP',
        { S3_VIRTUAL_HOST => 1, S3_LOOK_FIRST => 1 } ])
{
    my ($label, $endpoint, $env) = @$case;
    my @ca = $endpoint =~ /HTTPS/ ? ($rgw->{RGW_CA}) : ();
    my $result = WalTest::run(
        [ $program, $label, $rgw->{$endpoint}, $rgw->{RGW_BUCKET}, "conf-$$-" . ++$count, @ca ],
        env => { WalTest::S3::credentials($rgw), %$env },
        timeout => 300);
    my @failed = grep { /^not ok/ } split /\n/, $result->{stdout};
    my ($plan) = $result->{stdout} =~ /^1\.\.(\d+)$/m;

    ok($result->{exit} == 0 && !@failed && ($plan // 0) > 50, "$label: " . ($plan // 'no') . ' checks')
      or diag(join "\n", @failed, $result->{stderr});
}

# more keys than a store gives at once, and than it deletes at once
my $driver = WalTest::S3::Driver->start($rgw);
my $all = 2345;

like($driver->do("fill many/ $all 8"), qr/^ok $all /, "$all objects");
my $want = join '', map { sprintf "many/%08d\n", $_ } 0 .. $all - 1;
use Digest::SHA qw(sha256_hex);
is($driver->do('list many/'), "ok $all " . sha256_hex($want), 'all of them are listed, in order');
is($driver->do('list many/ many/00001999'),
    'ok 345 ' . sha256_hex(join '', map { sprintf "many/%08d\n", $_ } 2000 .. $all - 1),
    'from a key on');
is($driver->do('folders %'), 'ok 1 many/', 'one folder over three pages is told once');
is($driver->do('remove ' . join ' ', map { sprintf 'many/%08d', $_ } 0 .. $all - 1),
    "ok $all", 'removed in batches');
like($driver->do('list many/'), qr/^ok 0 /, 'none is left');
ok($driver->stop, 'the driver ends well');

done_testing();
