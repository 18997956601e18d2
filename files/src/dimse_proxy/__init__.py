"""A DICOMweb front for archives that speak DIMSE only, or lack CORS."""
