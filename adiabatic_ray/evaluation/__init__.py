"""Scoring of towers: texts to embeddings, the passage bank, and counts over evaluation sets."""
