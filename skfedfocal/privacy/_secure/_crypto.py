"""Every cryptographic primitive that secure sums use, all of them from the package cryptography.

X25519 with HKDF-SHA256 agrees on keys, ChaCha20-Poly1305 seals shares, AES-256 in counter mode is
the keystream of masks, Ed25519 signs public keys. A keystream's key is used for one vector and
nothing else, which is why its counter may start at zero.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cache
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from skfedfocal.privacy._secure._refusal import SecureSumError

KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_CHUNK = 1 << 17  # bytes of keystream at once: stays in the cache
_ZEROS = bytes(_CHUNK)
_PURPOSE = b"skfedfocal secure sum 1 "


@cache
def _library() -> SimpleNamespace:
    """What is used of cryptography, imported at the first use: the package is an extra."""
    try:
        from cryptography import exceptions
        from cryptography.hazmat.primitives import ciphers, hashes
        from cryptography.hazmat.primitives.asymmetric import ed25519, x25519
        from cryptography.hazmat.primitives.ciphers import aead
        from cryptography.hazmat.primitives.kdf import hkdf
    except ImportError as error:
        raise ImportError(
            "secure sums need the package cryptography: pip install 'skfedfocal[privacy]'"
        ) from error
    return SimpleNamespace(
        InvalidSignature=exceptions.InvalidSignature,
        InvalidTag=exceptions.InvalidTag,
        X25519PrivateKey=x25519.X25519PrivateKey,
        X25519PublicKey=x25519.X25519PublicKey,
        Ed25519PrivateKey=ed25519.Ed25519PrivateKey,
        Ed25519PublicKey=ed25519.Ed25519PublicKey,
        ChaCha20Poly1305=aead.ChaCha20Poly1305,
        HKDF=hkdf.HKDF,
        SHA256=hashes.SHA256,
        Cipher=ciphers.Cipher,
        AES=ciphers.algorithms.AES,
        CTR=ciphers.modes.CTR,
    )


def digest(*parts: bytes) -> bytes:
    """SHA-256 of byte strings, each with its length, so that no two lists collide."""
    state = hashlib.sha256(_PURPOSE)
    for part in parts:
        state.update(len(part).to_bytes(8, "little"))
        state.update(part)
    return state.digest()


def derive(secret: bytes, label: bytes, about: bytes) -> bytes:
    """32 bytes from a secret (HKDF-SHA256), others for each label and each subject."""
    lib = _library()
    return lib.HKDF(lib.SHA256(), KEY_BYTES, None, _PURPOSE + label + about).derive(secret)


def new_key() -> tuple[bytes, bytes]:
    """A private key for `agree`, and its public half."""
    private = _library().X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def public_key(private: bytes) -> bytes:
    """The public half of a private key."""
    return _library().X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(
    private: bytes, publics: Sequence[bytes], labels: Sequence[bytes], about: bytes
) -> list[list[bytes]]:
    """Keys shared with each owner of a public key, one for each label."""
    lib = _library()
    own = lib.X25519PrivateKey.from_private_bytes(private)
    found = []
    for public in publics:
        try:
            secret = own.exchange(lib.X25519PublicKey.from_public_bytes(public))
        except ValueError as error:  # a point of small order: the secret would be known to all
            raise SecureSumError("a public key is not valid") from error
        found.append([derive(secret, label, about) for label in labels])
    return found


def seal(key: bytes, message: bytes, about: bytes) -> bytes:
    """Encrypt so that it opens only with the same `about`."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + _library().ChaCha20Poly1305(key).encrypt(nonce, message, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """What was sealed, or a refusal where key, text or `about` differ."""
    lib = _library()
    nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    if len(text) < _TAG_BYTES:
        raise SecureSumError("a share is cut short")
    try:
        return lib.ChaCha20Poly1305(key).decrypt(nonce, text, about)
    except lib.InvalidTag as error:
        raise SecureSumError(
            "a share does not open: changed, replayed, or made for another view of the cohort"
        ) from error


def new_signing_key() -> tuple[bytes, bytes]:
    """A raw Ed25519 key for `sign`, and its public half."""
    private = _library().Ed25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def sign(private: bytes, message: bytes) -> bytes:
    """Ed25519 signature with a raw private key."""
    return _library().Ed25519PrivateKey.from_private_bytes(private).sign(message)


def is_signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the owner of a raw Ed25519 public key signed the message."""
    lib = _library()
    try:
        lib.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (lib.InvalidSignature, ValueError):
        return False
    return True


def add_masks(vector: NDArray[np.uint64], masks: Iterable[tuple[bytes, bool]]) -> None:
    """Add to the vector, in place, the keystream of each key, or subtract it where told so.

    Parameters
    ----------
    vector : ndarray of shape (n,)
        Changed in place, modulo 2^64.
    masks : iterable of (bytes, bool)
        Key, and whether its keystream is subtracted.
    """
    lib, zero = _library(), bytes(16)
    streams = [
        (
            lib.Cipher(lib.AES(key), lib.CTR(zero)).encryptor().update_into,
            np.subtract if subtract else np.add,
        )
        for key, subtract in masks
    ]
    step = min(_CHUNK // 8, len(vector))
    buffer = np.empty(8 * step + 16, np.uint8)
    # All masks of a part before the next part, which stays in the cache meanwhile.
    for start in range(0, len(vector), step or 1):
        part = vector[start : start + step]
        zeros, words = _ZEROS[: 8 * len(part)], buffer[: 8 * len(part)].view("<u8")
        for update_into, change in streams:
            update_into(zeros, buffer)
            change(part, words, out=part)


def keystream(key: bytes, n: int) -> NDArray[np.uint64]:
    """The first `n` words of a key's stream."""
    words = np.zeros(n, np.uint64)
    add_masks(words, [(key, False)])
    return words
