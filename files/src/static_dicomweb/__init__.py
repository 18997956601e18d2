"""Static DICOMweb: studies rendered once into files that a web server serves by itself."""
