"""Documents inside DICOM files: what identifies is taken out of them, the clinical text stays."""

from node.deid.documents.document import Cleaner, Document
from node.deid.documents.documents import clean_document

__all__ = ["Cleaner", "Document", "clean_document"]
