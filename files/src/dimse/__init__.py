"""What the site's services share of DIMSE: associations as fast as they can be, and a sender."""
