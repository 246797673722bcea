"""The worker: one jailed process for one task, fed with descriptors and with the keys of its own objects."""
