"""Overnight as a tutorial, a concept a test, in the order in which a job meets them. Everything here is real."""
