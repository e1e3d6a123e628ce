"""Singer tap for Drift."""
