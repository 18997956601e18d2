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

sub args {
    my ($request) = @_;
    return decoded($request->args // '');
}

1;
