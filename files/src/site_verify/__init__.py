"""Checks a site from outside, as a modality and as a DICOMweb client would meet it."""
