"""What checks the package against recordings and references."""
