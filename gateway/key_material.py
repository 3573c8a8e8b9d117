"""What is taken for a key, and what is not: too short, too weak, of another use, or a public key in a secret's place."""

from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey, import_key

SECRET_BYTES = 32
"""RFC 7518 §3.2: a secret for HS256 is at least as long as its hash."""
RSA_BITS = 2048
MOST_KEYS = 100
PUBLIC = frozenset({"RSA", "EC", "OKP"})


def secret_key(secret: str, kid: str | None = None) -> OctKey:
    """A shared secret for HS256. Raises ValueError, whose message does not hold it."""
    if "-----BEGIN" in secret:
        raise ValueError("this is a key in PEM, which is no shared secret")
    if len(secret.encode()) < SECRET_BYTES:
        raise ValueError(f"a secret needs at least {SECRET_BYTES} bytes: `openssl rand -base64 48` makes one")
    return OctKey.import_key(secret, {"kid": kid} if kid else None)


def pem_key(text: str, kid: str) -> Key:
    """A public key in PEM (RFC 7468 §13). Raises ValueError."""
    try:
        key = load_pem_public_key(text.encode())
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    match key:
        case RSAPublicKey() if key.key_size >= RSA_BITS:
            return RSAKey(key, key, {"kid": kid})
        case EllipticCurvePublicKey():
            return ECKey(key, key, {"kid": kid})
        case Ed25519PublicKey():
            return OKPKey(key, key, {"kid": kid})
        case _:
            raise ValueError("a key of this kind or size checks no tokens here")


def jwk_key(described: Mapping[str, Any]) -> Key:
    """A public key as a JWK (RFC 7517). Raises ValueError."""
    if described.get("kty") not in PUBLIC:
        raise ValueError("this is no public key")
    try:
        key = import_key(dict(described))
        key.check_use("sig")
    except (JoseError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if isinstance(key, RSAKey) and key.public_key.key_size < RSA_BITS:
        raise ValueError(f"an RSA key has at least {RSA_BITS} bits")
    return key


def jwks_keys(document: Any) -> list[Key]:
    """The keys of a JWK Set (RFC 7517 §5) that check signatures; those of other kinds and uses are passed over. Raises ValueError."""
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise ValueError("this is no JWK Set")
    found = list[Key]()
    for described in listed[:MOST_KEYS]:
        try:
            found.append(jwk_key(described))
        except (ValueError, AttributeError):
            continue
    return found
