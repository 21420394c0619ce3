"""Type stubs of the Python package, made of what they describe."""
