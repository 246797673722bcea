"""The processes of the appliance: command line, front, custodian, worker, and what they share."""

__version__ = "0.1.0"
