"""What a run leaves: bundles, certificates and the report."""
