# SPDX-License-Identifier: PostgreSQL

=head1 NAME

WalTest::S3 - a store that breaks on demand, and a store's client under a test's control

=head1 SYNOPSIS

    use WalTest;
    use WalTest::S3;

    my $rgw = WalTest::rgw();
    my $proxy = WalTest::S3::Proxy->start($rgw->{RGW_HTTP});
    my $rule = $proxy->add(PUT => '/wal/', 'status 503 SlowDown', skip => 2, times => 3);
    ... use $proxy->{endpoint} (http, path style) ...
    is($proxy->hits($rule), 3);
    $proxy->clear;
    $proxy->down; ... $proxy->up;

    my $driver = WalTest::S3::Driver->start($rgw, endpoint => $proxy->{endpoint});
    is($driver->do('put a/b 100 1'), 'ok');

What a rule can do is told in tests/fault/s3_proxy.c; commands of the driver in s3_driver.c. Both end
with the test.

=cut

package WalTest::S3;

use strict;
use warnings;

use Digest::MD5 qw(md5_base64);
use Digest::SHA qw(sha256_hex);

my $requests = 0;

# What a client of the gateway finds in its environment.
sub credentials
{
    my ($rgw) = @_;
    return (
        AWS_ACCESS_KEY_ID => $rgw->{RGW_ACCESS_KEY},
        AWS_SECRET_ACCESS_KEY => $rgw->{RGW_SECRET_KEY});
}

# One request to the gateway itself, by curl: what it answers, and the status as a last line. A parameter without a
# value is "name=", as it is signed.
sub request
{
    my ($rgw, $method, $path, $body, @headers) = @_;
    my $dir = WalTest::dir('request' . ++$requests);
    my @send = defined $body ? ('--data-binary', "\@$dir/body") : ();

    for my $file ([ 'curl.conf', qq(user = "$rgw->{RGW_ACCESS_KEY}:$rgw->{RGW_SECRET_KEY}"\n) ], [ 'body', $body // '' ])
    {
        open my $fh, '>', "$dir/$file->[0]" or die "could not create $dir/$file->[0]: $!";
        print $fh $file->[1];
        close $fh or die "could not write $dir/$file->[0]: $!";
    }
    my $result = WalTest::run(
        [
            'curl', '-sS', '-w', '\n%{http_code}', '-K', "$dir/curl.conf", '--aws-sigv4', 'aws:amz:us-east-1:s3',
            '-X', $method, @send, map({ ('-H', $_) } 'x-amz-content-sha256: ' . sha256_hex($body // ''),
                'content-md5: ' . md5_base64($body // '') . '==', @headers),
            "$rgw->{RGW_HTTP}/$path"
        ]);

    die "$method $path: $result->{stdout}$result->{stderr}" if $result->{exit} != 0 || $result->{stdout} !~ /\n2\d\d$/;
    return $result->{stdout};
}

# A bucket that keeps each version of each object for a day, whatever is asked.
sub locked_bucket
{
    my ($rgw, $name) = @_;

    request($rgw, 'PUT', $name, undef, 'x-amz-bucket-object-lock-enabled: true');
    request($rgw, 'PUT', "$name?object-lock=",
        '<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
          . '<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode>'
          . '<Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>',
        'content-type: application/xml');
    return;
}

package WalTest::S3::Proxy;

use strict;
use warnings;

use IO::Handle;
use IO::Socket::INET;
use IPC::Open2;

sub start
{
    my ($class, $endpoint) = @_;
    my ($store) = $endpoint =~ m{^http://([0-9.]+:[0-9]+)/?$}
      or die "the proxy needs an endpoint http://ADDRESS:PORT, not \"$endpoint\"";
    my $program = WalTest::tool('tests/fault/s3_proxy');
    # it ends when its standard input does, so also when this test is killed
    my $pid = open2(my $out, my $in, $program, $store);
    my $line = <$out> // '';
    my ($port, $control_port) = $line =~ /^(\d+) (\d+)$/
      or die "the proxy does not start\n";
    my $control = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $control_port)
      or die "could not connect to the proxy: $!";

    return bless {
        pid => $pid,
        in => $in,
        out => $out,
        control => $control,
        endpoint => "http://127.0.0.1:$port",
    }, $class;
}

# One command; its answer without the "ok".
sub command
{
    my ($self, $text) = @_;

    $self->{control}->print("$text\n");
    my $answer = $self->{control}->getline // die "the proxy has ended\n";
    $answer =~ /^ok ?(.*)$/ or die "the proxy does not take \"$text\": $answer";
    return $1;
}

# Returns the rule's id for hits. skip: so many matching requests pass; times: so many break (0: all).
sub add
{
    my ($self, $method, $regex, $action, %opt) = @_;
    return $self->command(
        join ' ', 'add', $method, $regex, $opt{skip} // 0, $opt{times} // 1, $action);
}

sub hits
{
    my ($self, $id) = @_;
    return $self->command("hits $id");
}

sub clear { $_[0]->command('clear'); return; }
sub down { $_[0]->command('down'); return; }
sub up { $_[0]->command('up'); return; }

sub stats
{
    my ($self) = @_;
    return { split ' ', $self->command('stats') };
}

sub stop
{
    my ($self) = @_;
    return unless defined $self->{pid};
    close $self->{in};
    kill 'KILL', $self->{pid};
    waitpid $self->{pid}, 0;
    $self->{pid} = undef;
    return;
}

sub DESTROY
{
    local ($?, $!, $@);
    $_[0]->stop;
    return;
}

package WalTest::S3::Driver;

use strict;
use warnings;

use IPC::Open2;

=pod

WalTest::S3::Driver->start($rgw, %options): endpoint (default the gateway's), bucket, prefix (default one
of its own), env => { ... }, args => [ ... ] of s3_driver.

=cut

my $count = 0;

sub start
{
    my ($class, $rgw, %opt) = @_;
    my %env = (WalTest::S3::credentials($rgw), %{ $opt{env} // {} });
    my $prefix = $opt{prefix} // "driver-$$-" . ++$count;
    my @command = (
        WalTest::tool('tests/fault/s3_driver'),
        '--endpoint' => $opt{endpoint} // $rgw->{RGW_HTTP},
        '--bucket' => $opt{bucket} // $rgw->{RGW_BUCKET},
        '--prefix' => $prefix,
        @{ $opt{args} // [] });

    local @ENV{ keys %env } = values %env;
    my $pid = open2(my $out, my $in, @command);
    return bless { pid => $pid, in => $in, out => $out, prefix => $prefix }, $class;
}

# One command and its answer.
sub do
{
    my ($self, $text) = @_;

    $self->begin($text);
    return $self->answer;
}

# The two halves, for what happens meanwhile.
sub begin
{
    my ($self, $text) = @_;
    local $SIG{PIPE} = 'IGNORE';

    print { $self->{in} } "$text\n";
    $self->{in}->flush;
    return;
}

sub answer
{
    my ($self) = @_;
    my $line = readline($self->{out}) // 'the driver has ended';
    chomp $line;
    return $line;
}

# Ends it; true if its exit code was 0, which under a sanitizer means that nothing was found.
sub stop
{
    my ($self) = @_;
    return 1 unless defined $self->{pid};
    close $self->{in};
    waitpid $self->{pid}, 0;
    $self->{pid} = undef;
    return $? == 0;
}

sub DESTROY
{
    my ($self) = @_;
    local ($?, $!, $@);
    return unless defined $self->{pid};
    kill 'KILL', $self->{pid};
    $self->stop;
    return;
}

1;
