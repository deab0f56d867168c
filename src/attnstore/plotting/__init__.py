"""Figures: primitives, panels, plots."""
