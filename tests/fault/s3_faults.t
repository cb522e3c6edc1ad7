# SPDX-License-Identifier: PostgreSQL
#
# The S3 store while its answers, its connections, its bucket and its clock go wrong: each fault has its
# kind of error, what was acknowledged is there, and what is there comes back right.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";
use WalTest;
use WalTest::S3;
use Test::More;
use Time::HiRes qw(time usleep);

my $rgw = WalTest::rgw();
my $proxy = WalTest::S3::Proxy->start($rgw->{RGW_HTTP});
# a busy machine may let a store be slow: only where one is silent for good we are not patient
my @patient = ('--stall-ms', 120_000, '--connect-ms', 120_000, '--try-ms', 120_000);
my $plain = WalTest::S3::Driver->start($rgw, endpoint => $proxy->{endpoint}, args => \@patient);
my $prefix = $plain->{prefix};
my $retry = WalTest::S3::Driver->start(
    $rgw, endpoint => $proxy->{endpoint}, prefix => $prefix, args => [ '--retry', @patient ]);
my $hasty = WalTest::S3::Driver->start(
    $rgw, endpoint => $proxy->{endpoint}, prefix => $prefix, args => [ '--stall-ms', 1500 ]);
my $hasty_retry = WalTest::S3::Driver->start(
    $rgw,
    endpoint => $proxy->{endpoint},
    prefix => $prefix,
    args => [ '--retry', '--stall-ms', 1500, '--try-ms', 5000 ]);
# the store itself, past the proxy
my $direct = WalTest::S3::Driver->start($rgw, prefix => $prefix);
my $key = 0;

$_->do('timeout 600000') for $plain, $retry, $direct, $hasty, $hasty_retry;
$direct->do('put here 100000 7');
$direct->do('put other 10 1');

=pod

One command through one fault: first without retry, where the error must be as told, then with retry,
where it must succeed. "lost" tells that the first try of a put has made the object: then a retried put
says that it exists, which is for its caller to settle.

=cut

for my $case (
    # label, method, action, command, error, or undef: it succeeds
    [ 'put: 500', 'PUT', 'status 500 InternalError', 'put', 'transient: .* HTTP 500 InternalError' ],
    [ 'put: 503 SlowDown', 'PUT', 'status 503 SlowDown', 'put', 'transient: .* HTTP 503 SlowDown' ],
    [ 'put: 503 of a proxy', 'PUT', 'html 503', 'put', 'transient: .* without an S3 error' ],
    [ 'put: 404 of a proxy', 'PUT', 'html 404', 'put', 'transient: .* without an S3 error' ],
    [ 'put: 429', 'PUT', 'status 429 SlowDown', 'put', 'transient' ],
    [ 'put: 400 RequestTimeout', 'PUT', 'status 400 RequestTimeout', 'put', 'transient' ],
    [ 'put: 400 ExpiredToken', 'PUT', 'status 400 ExpiredToken', 'put', 'transient' ],
    [ 'put: 403 ExpiredToken', 'PUT', 'status 403 ExpiredToken', 'put', 'transient' ],
    [ 'put: 409 of a race', 'PUT', 'status 409 ConditionalRequestConflict', 'put', 'transient' ],
    [ 'put: 200 with an error', 'PUT', 'status 200 InternalError', 'put', 'transient: .* HTTP 200 InternalError' ],
    [ 'put: 200 of a proxy', 'PUT', 'html 200', 'put', 'transient: .* no ETag' ],
    [ 'put: 200 and nothing else', 'PUT', 'status 200', 'put', 'transient: .* no ETag' ],
    [ 'put: connection reset', 'PUT', 'reset', 'put', 'transient' ],
    [ 'put: request cut', 'PUT', 'cut-request 50000', 'put', 'transient' ],
    [ 'put: no answer', 'PUT', 'stall', 'put', 'transient: .* no byte' ],
    [ 'put: answer lost', 'PUT', 'pass-reset', 'put', 'transient', 'lost' ],
    [ 'put: done, but 500', 'PUT', 'pass-status 500 InternalError', 'put', 'transient', 'lost' ],
    [ 'put: done, but a late 200 with an error', 'PUT', 'pass-status 200 InternalError', 'put', 'transient', 'lost' ],
    [ 'put: slow', 'PUT', 'delay 700', 'put', undef ],

    [ 'get: 503', 'GET', 'status 503 ServiceUnavailable', 'get', 'transient' ],
    [ 'get: 404 of a proxy', 'GET', 'html 404', 'get', 'transient' ],
    [ 'get: 404 with another code', 'GET', 'status 404 NoSuchBucket', 'get', 'denied: .* HINT: Create', 'final' ],
    [ 'get: connection reset', 'GET', 'reset', 'get', 'transient' ],
    [ 'get: cut before the first byte', 'GET', 'cut-answer 0', 'get', 'transient' ],
    [ 'get: cut in the middle', 'GET', 'cut-answer 50000', 'get', 'transient' ],
    [ 'get: cut before the last byte', 'GET', 'cut-answer 99999', 'get', 'transient' ],
    [ 'get: reset in the middle', 'GET', 'reset-answer 70000', 'get', 'transient' ],
    [ 'get: stalls in the middle', 'GET', 'stall-answer 30000', 'get', 'transient: .* no byte' ],
    [ 'get: slow', 'GET', 'delay 700', 'get', undef ],
    [ 'range: the store knows no ranges', 'GET', 'no-range', 'range', undef ],
    [ 'range: shorter than it says', 'GET', 'shorten 10', 'range', 'corrupt', 'final' ],
    [ 'range: cut', 'GET', 'cut-answer 500', 'range', 'transient' ],
    [ 'range: 416 of a proxy', 'GET', 'html 416', 'range', 'io', 'final' ],

    [ 'stat: 503', 'HEAD', 'status 503', 'stat', 'transient' ],
    [ 'stat: 404 of a proxy, object there', 'HEAD', 'html 404', 'stat', undef ],
    [ 'stat: 403 of a proxy, object there', 'HEAD', 'html 403', 'stat', undef ],
    [ 'stat: connection reset', 'HEAD', 'reset', 'stat', 'transient' ],

    [ 'list: 503', 'GET', 'status 503 SlowDown', 'list', 'transient' ],
    [ 'list: 200 with an error', 'GET', 'status 200 InternalError', 'list', 'transient' ],
    [ 'list: 200 of a proxy', 'GET', 'html 200', 'list', 'transient' ],
    [ 'list: 404 of a proxy', 'GET', 'html 404', 'list', 'transient' ],
    [ 'list: cut', 'GET', 'cut-answer 200', 'list', 'transient' ],
    [ 'list: stalls', 'GET', 'stall-answer 200', 'list', 'transient' ],

    [ 'remove: 503', 'POST', 'status 503 SlowDown', 'remove', 'transient' ],
    [ 'remove: 200 with an error', 'POST', 'status 200 InternalError', 'remove', 'transient' ],
    [ 'remove: 200 of a proxy', 'POST', 'html 200', 'remove', 'transient' ],
    # the second try of libcurl finds nothing to remove, which is success
    [ 'remove: answer lost', 'POST', 'pass-reset', 'remove', undef ],
    [ 'remove one: 503', 'DELETE', 'status 503', 'remove-one', 'transient' ],
    [ 'remove one: 404 of a proxy', 'DELETE', 'html 404', 'remove-one', 'transient' ])
{
    my ($label, $method, $action, $verb, $error, $special) = @$case;
    $special //= '';

    my ($once, $again) = $action =~ /^stall/ ? ($hasty, $hasty_retry) : ($plain, $retry);

    for my $driver ($once, $again)
    {
        my $with = $driver == $again ? 'with retry' : 'plain';
        my $name = 'f' . ++$key;
        my $command = {
            put => "put $name 100000 $key",
            get => 'getseed here 7 0 0',
            range => 'getseed here 7 1000 1000',
            stat => 'stat here',
            list => 'list o',
            remove => "remove $name-a $name-b",
            'remove-one' => "remove $name-a",
        }->{$verb};
        my $success = {
            put => qr/^ok$/,
            get => qr/^ok 100000$/,
            range => qr/^ok 1000$/,
            stat => qr/^ok 100000 /,
            list => qr/^ok 1 /,
            remove => qr/^ok 2$/,
            'remove-one' => qr/^ok 1$/,
        }->{$verb};

        # libcurl itself tries again when a kept connection breaks without a byte of an answer
        my $times = $action =~ /^(?:reset|cut-request)/ && $driver == $once ? 2 : 1;
        $direct->do("put $name-$_ 10 1") for $verb =~ /^remove/ ? ('a', 'b') : ();

        # one whose fault is another key's: the other requests of a command pass
        my $rule = $proxy->add($method, '.', $action, times => $times);
        my $got = $driver->do($command);

        if (!defined $error || ($driver == $again && $special eq ''))
        {
            like($got, $success, "$label, $with: success");
        }
        elsif ($driver == $again && $special eq 'lost')
        {
            like($got, qr/^error exists: /, "$label, $with: it exists then");
        }
        else
        {
            like($got, qr/^error $error/, "$label, $with: $error");
        }
        cmp_ok($proxy->hits($rule), '>=', 1, "$label, $with: the fault was there");
        $proxy->clear;

        # acknowledged, or possibly done: there and right; refused: not there, or right
        if ($verb eq 'put')
        {
            my $there = $direct->do("getseed $name $key 0 0");
            my $must = $got eq 'ok' || $special eq 'lost';

            like($there, $must ? qr/^ok 100000$/ : qr/^(?:ok 100000$|error not found)/,
                "$label, $with: what is there is right");
        }
        elsif ($verb =~ /^remove/ && $got =~ /^ok/)
        {
            like($direct->do("stat $name-a"), qr/^error not found/, "$label, $with: it is gone");
        }
    }
}

# A fault that lasts: the deadline ends it, in time and with the cause.
for my $case (
    [ 'store down', sub { $proxy->down }, sub { $proxy->up } ],
    [ '503 for ever', sub { $proxy->add('*', '.', 'status 503 SlowDown', times => 0) }, sub { $proxy->clear } ],
    [ 'stalled for ever', sub { $proxy->add('*', '.', 'stall', times => 0) }, sub { $proxy->clear } ],
    [ 'answers cut for ever', sub { $proxy->add('*', '.', 'cut-answer 1', times => 0) }, sub { $proxy->clear } ])
{
    my ($label, $break, $mend) = @$case;

    $break->();
    $retry->do('timeout 2500');
    for my $command (
        'put lasting 1000 3', 'getseed here 7 0 0', WalTest::quick() ? () : ('list o', 'remove x y'))
    {
        # what has no body to cut is answered well
        next if $label =~ /cut/ && $command =~ /^(?:put|remove)/;
        my $begin = time;
        my $got = $retry->do($command);
        my $took = time - $begin;

        like($got, qr/^error (?:timeout|transient): gave up .{20}/, "$label: $command: given up, with the cause");
        cmp_ok($took, '<', 60, "$label: $command: in time");
    }
    $mend->();
    $retry->do('timeout 600000');
}

# The store goes away and comes back while many work.
$retry->begin('storm storm/ 150 200000 16');
for (1 .. 4)
{
    usleep(150_000);
    $proxy->down;
    usleep(200_000);
    $proxy->up;
}
like($retry->answer, qr/^ok 150 /, 'all of a storm arrive although the store goes away four times');
is($direct->do('list storm/') =~ /^ok (\d+)/ ? $1 : 'none', 150, 'and are there');

# Faults at random places of parallel work; each rule for every so many requests.
$proxy->add('PUT', '.', 'reset', skip => 3, times => 5);
$proxy->add('PUT', '.', 'status 503 SlowDown', skip => 10, times => 10);
$proxy->add('PUT', '.', 'pass-reset', skip => 30, times => 5);
$proxy->add('PUT', '.', 'cut-request 100000', skip => 40, times => 5);
$proxy->add('GET', '.', 'cut-answer 100000', skip => 5, times => 10);
$proxy->add('GET', '.', 'reset-answer 1', skip => 20, times => 10);
$proxy->add('GET', '.', 'stall-answer 150000', skip => 30, times => 3);
like($hasty_retry->do('storm mixed/ 200 200000 16'), qr/^ok 200 /, 'a storm of mixed faults');
$proxy->clear;

# A wrong byte passes the store, which does not know better: digests of the layers above catch it.
$proxy->add('GET', '.', 'corrupt 5000');
is($plain->do('getseed here 7 0 0'), '1 bytes of 100000 are wrong', 'the fault of a flipped bit works');
$proxy->clear;

# A cancelled or expired deadline ends a stalled request at once, not after the stall time.
$proxy->add('*', '.', 'stall', times => 0);
{
    my $patient = WalTest::S3::Driver->start($rgw, endpoint => $proxy->{endpoint}, prefix => $prefix, args => \@patient);
    $patient->do('timeout 700');
    my $begin = time;
    like($patient->do('getseed here 7 0 0'), qr/^error timeout/, 'deadline');
    cmp_ok(time - $begin, '<', 60, 'deadline: in time');
    ok($patient->stop, 'the driver ends well');
}
$proxy->clear;

# Missing is told apart from unknown.
like($plain->do('getseed nothing 1 0 0'), qr/^error not found: .*NoSuchKey/, 'a missing key');
like($plain->do('stat nothing'), qr/^error not found: .*NoSuchKey/, 'stat of a missing key');
$proxy->add('GET', 'nothing', 'html 404');
like($plain->do('stat nothing'), qr/^error transient/, 'stat: 404 of a proxy is not "missing"');
$proxy->clear;

# Stores that lack things.
my $other = WalTest::S3::Driver->start($rgw, endpoint => $proxy->{endpoint}, prefix => $prefix);
for my $answer ('501 NotImplemented', '405 MethodNotAllowed')
{
    $direct->do("put d-$_ 1 1") for 1 .. 3;
    my $rule = $proxy->add('POST', '.', "status $answer", times => 0);
    my $driver = WalTest::S3::Driver->start($rgw, endpoint => $proxy->{endpoint}, prefix => $prefix);
    is($driver->do('remove d-1 d-2 d-3'), 'ok 3', "$answer for multi-object delete: one by one");
    is($driver->do('remove d-1 d-2'), 'ok 2', "$answer: it is remembered");
    is($proxy->hits($rule), 1, "$answer: asked once");
    $proxy->clear;
}
$proxy->add('PUT', '.', 'status 501 NotImplemented');
like($other->do('put nocond 10 1'), qr/^error io: .* HINT: /, 'no conditional create');
$proxy->clear;

# Permissions, regions, names.
for my $case (
    [ 'wrong secret', { AWS_SECRET_ACCESS_KEY => 'wrong' }, [], 'denied: .*SignatureDoesNotMatch.* HINT: ' ],
    [ 'unknown key', { AWS_ACCESS_KEY_ID => 'NOBODY' }, [], 'denied: .*InvalidAccessKeyId.* HINT: ' ],
    [ 'another user', { AWS_ACCESS_KEY_ID => $rgw->{RGW_OTHER_ACCESS_KEY},
            AWS_SECRET_ACCESS_KEY => $rgw->{RGW_OTHER_SECRET_KEY} }, [], 'denied: .*AccessDenied.* HINT: ' ],
    [ 'no such bucket', {}, [ '--bucket', 'no-such-bucket' ], 'denied: .*NoSuchBucket.* HINT: ' ])
{
    my ($label, $env, $args, $error) = @$case;
    my $driver = WalTest::S3::Driver->start($rgw, prefix => $prefix, env => $env, args => $args);

    for my $command ('put denied 10 1', 'getseed here 7 0 0', 'stat here', 'stat nothing', 'list %', 'remove a b')
    {
        like($driver->do($command), qr/(?:^|: )error $error/, "$label: $command");
    }
}
for my $case (
    [ 301, 'PermanentRedirect', 'x-amz-bucket-region:eu-central-1', 'denied: .* HINT: .*"eu-central-1"' ],
    [ 307, 'TemporaryRedirect', 'x-amz-bucket-region:ap-south-1', 'denied: .* HINT: .*"ap-south-1"' ],
    [ 400, 'AuthorizationHeaderMalformed', 'x-amz-bucket-region:eu-west-2', 'denied: .* HINT: .*"eu-west-2"' ],
    [ 307, 'TemporaryRedirect', '', 'transient' ])
{
    my ($status, $code, $header, $error) = @$case;

    $proxy->add('*', '.', "status $status $code $header", times => 0);
    for my $command ('put region 10 1', 'getseed here 7 0 0', 'stat here', 'list o', 'remove a b')
    {
        like($plain->do($command), qr/^error $error/, "$status $code $header: $command");
    }
    $proxy->clear;
}

# TLS: not trusted, a name that the certificate lacks, no TLS there.
{
    my $https = $rgw->{RGW_HTTPS};
    my ($port) = $https =~ /:(\d+)$/;
    my $driver = WalTest::S3::Driver->start($rgw, endpoint => $https);
    like($driver->do('list %'), qr/^error denied: .* HINT: .*ca-file/, 'TLS: an unknown authority');
    $driver = WalTest::S3::Driver->start(
        $rgw, endpoint => "https://other.localhost:$port", args => [ '--ca-file', $rgw->{RGW_CA} ]);
    like($driver->do('list %'), qr/^error denied: .* HINT: /, 'TLS: another name');
    (my $no_tls = $rgw->{RGW_HTTP}) =~ s/^http:/https:/;
    $driver = WalTest::S3::Driver->start($rgw, endpoint => $no_tls, args => [ '--ca-file', $rgw->{RGW_CA} ]);
    like($driver->do('list %'), qr/^error transient/, 'TLS: none at that port');
    $driver = WalTest::S3::Driver->start($rgw, endpoint => $https, args => [ '--ca-file', '/no/such/file' ]);
    like($driver->answer, qr{^error usage: .*/no/such/file}, 'TLS: no file of authorities');
    $driver = WalTest::S3::Driver->start($rgw, endpoint => $https, args => [ '--ca-file', $rgw->{RGW_CA} ]);
    like($driver->do('list %'), qr/^ok 0 /, 'TLS: trusted');
}

# A clock that is wrong. A sanitizer's library wants to be loaded before all others.
my $faketime = do {
    my $result = WalTest::run([ 'faketime', '-f', '+0', 'printenv', 'LD_PRELOAD' ]);
    my ($library) = $result->{stdout} =~ m{(/\S*libfaketime\S*)} or die 'no libfaketime';
    my ($sanitizer) =
      WalTest::run([ 'ldd', WalTest::tool('tests/fault/s3_driver') ])->{stdout} =~ m{(/\S*lib[at]san\S*)};
    defined $sanitizer ? "$sanitizer:$library" : $library;
};

sub with_clock
{
    my ($shift) = @_;
    # in the driver's environment only: a program in front of it has no sanitizer of its own
    return WalTest::S3::Driver->start(
        $rgw, prefix => $prefix, env => { LD_PRELOAD => $faketime, FAKETIME => $shift });
}

for my $case ([ '+3h', 'ahead of', 10800 ], [ '-2h', 'behind', 7200 ])
{
    my ($shift, $word, $seconds) = @$case;
    my $driver = with_clock($shift);
    my $got = $driver->do('getseed here 7 0 0');

    like($got, qr/^error denied: .*the clock of this machine is (\d+) s \Q$word\E.* HINT: /, "clock $shift");
    my ($said) = $got =~ / is (\d+) s /;
    cmp_ok(abs(($said // 0) - $seconds), '<', 180, "clock $shift: how much");
}
{
    my $driver = with_clock('-5m');
    is($driver->do('getseed here 7 0 0'), 'ok 100000', 'five minutes are within bounds');
    my ($skew) = $driver->do('skew') =~ /^ok (-?\d+)$/;
    cmp_ok(abs(($skew // 0) - 300), '<', 180, 'and known');
}

ok($_->stop, 'the driver ends well') for $plain, $retry, $hasty, $hasty_retry, $direct, $other;
$proxy->stop;
done_testing();
