"""Measuring a backend against the definition in float64: problems, references, bounds and a report."""
