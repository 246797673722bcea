"""The custodian holds the keys, the log and the lives of the workers: it decides, logs, then releases."""
