"""Releases: made into an offline install bundle, installed without a network, compared at each start."""
