"""DICOMweb (PS3.18) over an Orthanc's own data: its index in PostgreSQL, which is only read, and its files."""
