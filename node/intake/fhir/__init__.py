"""FHIR R4 bulk exports: resources in NDJSON become pseudonymous observations and links."""
