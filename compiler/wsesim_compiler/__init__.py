"""Lowers a model's graph to a Program for a wafer."""
