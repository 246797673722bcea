"""What the host is, and what becomes of it: checks that are read, and a watch that is told at once."""

from appliance.isolation.check import Check, Severity, Status, isolated
from appliance.isolation.host import checks, examine

__all__ = ["Check", "Severity", "Status", "checks", "examine", "isolated"]
