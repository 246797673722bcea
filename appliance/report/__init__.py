"""One page on one job, for people: self-contained HTML without a script, to be kept and printed.

Shares its look and its one escape with the page on a whole log (`audit.report`). Needs the extra `report`.
"""
