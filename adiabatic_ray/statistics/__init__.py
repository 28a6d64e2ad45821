"""Measures and inference: from similarities and counts to rates, intervals and tests. numpy and scipy only."""
