"""Extracts every stable study of an Orthanc, the storage, by C-MOVE or C-GET into a tree of files."""
