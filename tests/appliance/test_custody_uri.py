"""Custody URIs: one meaning has one text, nothing secret fits into one, and what is unknown is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.custody import uri
from appliance.errors import UsageError


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("passphrase:", "passphrase"),
        ("file:", ""),
        ("shamir:2-of-3", "shares"),
        ("shamir:16-of-16", "shares"),
        ("tpm:", ""),
        ("tpm:pcrs=0,7", ""),
        ("tpm:?tcti=swtpm:path=/run/x", ""),
        ("tpm:pcrs=23?tcti=swtpm:path=/run/x%20y", ""),
        ("pkcs11:token=my%20token?module-path=/usr/lib/x.so", "PIN"),
        ("pkcs11:token=t;object=k%3B?module-path=/x", "PIN"),
    ],
)
def test_a_canonical_uri_stays_as_it_is(text, asks):
    assert uri.canonical(text) == text
    assert uri.what_is_asked(text) == asks


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("tpm:pcrs=7,0", "tpm:pcrs=0,7"),
        ("tpm:pcrs=0,2,4,7", "tpm:"),
        ("tpm:?tcti=device:/dev/tpmrm0", "tpm:"),
        ("pkcs11:object=appliance-vault;token=t?module-path=/x", "pkcs11:token=t?module-path=/x"),
    ],
)
def test_what_means_the_same_has_one_text(text, same):
    assert uri.canonical(text) == same


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected one of passphrase:, shamir:, tpm:, pkcs11:, file:"),
        ("https:", "expected one of passphrase:"),
        ("passphrase:hunter2", "expected passphrase: with nothing behind it"),
        ("file:/etc/passwd", "expected file: with nothing behind it"),
        ("shamir:", "expected shamir:K-of-N with 2 <= K <= N <= 16"),
        ("shamir:1-of-3", "2 <= K <= N"),
        ("shamir:3-of-2", "2 <= K <= N"),
        ("shamir:2-of-17", "N <= 16"),
        ("tpm:pcrs=24", "expected pcrs of 0 to 23"),
        ("tpm:pcrs=1,1", "each once"),
        ("tpm:pcrs=", "expected pcrs"),
        ("tpm:pcrs=1;pcrs=2", "each once"),
        ("tpm:?", "expected something behind the [?]"),
        ("tpm:?tcti=", "expected a way to the TPM"),
        ("tpm:key=1", "expected tpm: and behind it pcrs, tcti"),
        ("pkcs11:token=t", "found no module-path"),
        ("pkcs11:?module-path=/x", "found no token"),
        ("pkcs11:token=t?module-path=x.so", "an absolute path"),
        ("pkcs11:token=t?module-path=/x&pin-value=1234", "no PIN in a URI"),
        ("pkcs11:token=t;pin-source=f?module-path=/x", "no PIN in a URI"),
        ("pkcs11:token=%ff?module-path=/x", "percent-encoded UTF-8"),
        ("pkcs11:token=t;serial=1?module-path=/x", "expected pkcs11: and behind it"),
        ("tpm:pcrs=1" + "0" * 600, "expected one of"),
    ],
)
def test_what_is_no_custody_is_refused_by_what_was_expected(text, message):
    with pytest.raises(UsageError, match=message):
        uri.canonical(text)


@given(st.text(max_size=80), st.sampled_from(uri.SCHEMES))
def test_any_text_is_canonical_once_or_refused(text, scheme):
    try:
        once = uri.canonical(scheme + text)
    except UsageError:
        return
    assert uri.canonical(once) == once
