"""Tuning of query towers: packs that share a device, their members, and the states that survive a crash."""
