"""What is removed from data before the node keeps it: DICOM PS3.15 Annex E, and pseudonyms."""
