"""Scores: images, lesions and statistics."""
