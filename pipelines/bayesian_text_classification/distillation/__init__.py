"""Checkpoints of one ordinary pass: a student of the averaged probabilities, and calibrated weights for any server."""
