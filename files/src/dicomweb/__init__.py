"""What the site's services share of the wire of DICOMweb (PS3.18): datasets, negotiation, search queries, errors."""
