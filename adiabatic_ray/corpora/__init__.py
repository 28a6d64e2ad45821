"""Texts: from hub, disk or package to pairs, triplets and evaluation sets."""
