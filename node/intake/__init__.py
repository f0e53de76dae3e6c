"""How data gets in: DICOM trees and tables, de-identified before the vault sees them."""
