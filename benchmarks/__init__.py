"""Measurements of the product; see docs/development.md. None is a test."""
