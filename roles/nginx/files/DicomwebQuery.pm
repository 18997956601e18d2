# Orthanc's DICOMweb plugin takes a query as it comes, and most clients percent-encode it: PatientName=Doe%2A would find nothing.
# What Orthanc's parser can't take becomes a wildcard (PS3.4 C.2.2.2.4): a space, a plus or a separator any character, and a run of
# letters beyond ASCII any text.
package DicomwebQuery;
use strict;
use warnings;

sub decoded {
    my ($args) = @_;
    $args =~ tr/+/?/;
    $args =~ s/%([0-9A-Fa-f]{2})/my $byte = chr hex $1; $byte =~ m{[\x00-\x20\x7f&=#%+]} ? '?' : $byte/ge;
    $args =~ s/[\x80-\xff]+/*/g;
    return $args;
}

# Orthanc draws a picture of any size that is asked for, and keeps the memory: a side has at most 8192 pixels.
sub is_too_large {
    my ($path, $args) = @_;
    my $sides = $path =~ m{^/wado} ? qr/^(?:viewport|rows|columns)$/ : qr/^viewport$/;
    for my $parameter (split /&/, decoded($args)) {
        my ($name, $value) = split /=/, lc $parameter, 2;
        next unless defined $value && $name =~ $sides;
        for my $side (grep { defined } (split /,/, $value)[0, 1]) {
            return 1 if $side =~ /(\d+)/ && $1 > 8192;
        }
    }
    return '';
}

sub picture_is_too_large {
    my ($request) = @_;
    return is_too_large($request->uri, $request->args // '');
}

sub args {
    my ($request) = @_;
    return decoded($request->args // '');
}

1;
