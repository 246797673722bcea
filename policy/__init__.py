"""The rules that ship, the engine that judges by them, and the approvals that officers sign.

Imports nothing of the other three packages: facts come in as values, a judgement goes out as a value.
"""
