"""The processes of the appliance: command line, front, custodian, worker, and what they share."""
