"""Transfer bundles: signed, encrypted folders that cross the gap and open with public tools alone."""
