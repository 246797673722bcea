"""The audit log and its verifier: what was asked, decided and done, in a form nobody has to trust.

Imports PyNaCl and the standard library only, so that an auditor can read and run all of it alone.
"""
