"""The parts of benches/pytorch.py."""
