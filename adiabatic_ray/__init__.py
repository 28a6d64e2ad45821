"""Maps how far a query tower may be tuned before its other languages break."""
