"""Which trial to run next, from what the results on disk say."""
