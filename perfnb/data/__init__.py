"""Patients: simulated ones, folders of films, and prepared slices."""
