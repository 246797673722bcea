"""Custody: where keys rest (slots), what they are (keyring), and the one door they leave by (release).

    slot        an age file whose identity comes from a person or a device, chosen by URI
    uri kinds lock  what a URI means, and the kinds behind it:
    passphrase  `passphrase:`  Argon2id of what somebody types
    shamir      `shamir:`      SLIP-39 shares, some of which open it together
    tpm         `tpm:`         sealed by a TPM to what the machine booted (tpm_device, counter)
    pkcs11      `pkcs11:`      wrapped by a key that cannot leave a token
    file        `file:`        a key beside the lock, for demonstrations only
    generations which slot counts when custody has changed
    keyring     the secrets of one appliance, in memory while it is unsealed
    release     `Custody.unwrap(grant)`, the only function that yields an object key

Imported by the custodian and by `appliance init`, never by a worker or the front.
"""
