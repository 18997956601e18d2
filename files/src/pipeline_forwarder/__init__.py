"""Forwards every stable study of an Orthanc, the gateway, to DICOMweb servers by STOW-RS, and lets none go before it is there."""
