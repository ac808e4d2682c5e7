"""What tests of gigq and of its storages are made of. `gigq.testing.conformance` needs pytest, the rest does not."""
