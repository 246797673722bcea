"""Custody: where keys rest (slots), what they are (keyring), and the one door they leave by (release).

    slot        an age file whose identity comes from a person or a device, chosen by URI
    passphrase  `passphrase:`  Argon2id of what somebody types
    file        `file:`        a key beside the lock, for demonstrations only
    keyring     the secrets of one appliance, in memory while it is unsealed
    release     `Custody.unwrap(grant)`, the only function that yields an object key

Imported by the custodian and by `appliance init`, never by a worker or the front.
"""
