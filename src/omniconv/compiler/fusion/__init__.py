"""Layers worked off together, band by band, where the values between them overflow the cache."""
