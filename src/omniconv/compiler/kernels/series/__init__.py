"""Depthwise layers between channels-first arrays, computed as they lie."""
