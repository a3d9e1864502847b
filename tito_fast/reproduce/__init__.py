"""Experiments of published papers, each with one command."""
