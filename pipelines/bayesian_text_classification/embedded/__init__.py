"""The classifier and the review set that work with no network."""
