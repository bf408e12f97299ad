"""Proposes candidates, measures them, chooses and explains."""
