"""Receiving: DICOM C-STORE and DICOMweb STOW-RS into the landing, and what follows behind."""
