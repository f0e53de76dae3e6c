"""OMOP Common Data Model: persons, conditions and measurements become observations."""
