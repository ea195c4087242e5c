//! One key that checks signatures. What the key is fixes the algorithm: a token has no say in it.
//!
//! Signatures are checked with ring, which TLS brings along anyway: one implementation of each algorithm, which refuses
//! short RSA keys by itself. What a library for tokens would add, the rules of claims, is stricter here (`token`).

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::agreement::{self, ECDH_P256, EphemeralPrivateKey};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use spki::der::asn1::UintRef;
use spki::der::{Decode, Reader, SliceReader};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use super::development::DEVELOPMENT_SECRET;

/// The least bytes of a shared secret: as many as the hash gives (RFC 7518 section 3.2).
pub const SECRET_MIN_BYTES: usize = 32;

/// A key that checks the signatures of one algorithm. Valid and strong enough by type; `Debug` shows the algorithm alone.
#[derive(Clone)]
pub struct VerifyingKey(Inner);

#[derive(Clone)]
enum Inner {
    Hmac(hmac::Key),
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
    P256(Box<[u8]>),
    Ed25519(Box<[u8]>),
}

/// The algorithms that a token may be signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256, by a shared secret.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// EdDSA on Ed25519.
    EdDsa,
}

/// Why a text is no key that can be used. Carries a sentence for the operator, never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub &'static str);

impl VerifyingKey {
    /// A shared secret. Its bytes are taken as they are.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.trim_ascii().len() < SECRET_MIN_BYTES {
            return Err(KeyError("is too short: a secret for HS256 has at least 32 bytes"));
        }
        Ok(Self(Inner::Hmac(hmac::Key::new(hmac::HMAC_SHA256, secret))))
    }

    /// The key of development tokens.
    pub(super) fn development() -> Self {
        Self(Inner::Hmac(hmac::Key::new(hmac::HMAC_SHA256, DEVELOPMENT_SECRET.as_bytes())))
    }

    /// A public key in PEM: `PUBLIC KEY` (RSA, P-256 or Ed25519) or `RSA PUBLIC KEY`. Line breaks may be missing or
    /// written as `\n`, as environments often have them.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (label, der) = decode_pem(pem)?;
        match label {
            "PUBLIC KEY" => from_spki(&der),
            "RSA PUBLIC KEY" => from_rsa_der(&der),
            "CERTIFICATE" => Err(KeyError("is a certificate: the public key in it is needed")),
            _ if label.ends_with("PRIVATE KEY") => Err(KeyError("is a private key: only the public key belongs here")),
            _ => Err(KeyError("is no public key in PEM")),
        }
    }

    /// A key of a JWK set (RFC 7517). Private keys, shared secrets and keys for other uses are refused, as is an `alg`
    /// that does not fit the key.
    pub(super) fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        if jwk.d.is_some() || jwk.k.is_some() {
            return Err(KeyError("is a secret, in public"));
        }
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err(KeyError("is not for signatures"));
        }
        if jwk.key_ops.as_ref().is_some_and(|operations| !operations.iter().any(|operation| operation == "verify")) {
            return Err(KeyError("is not for checking signatures"));
        }
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => rsa(&field(&jwk.n)?, &field(&jwk.e)?)?,
            ("EC", Some("P-256")) => p256(&[&[0x04], &*field(&jwk.x)?, &*field(&jwk.y)?].concat())?,
            ("OKP", Some("Ed25519")) => ed25519(&field(&jwk.x)?)?,
            _ => return Err(KeyError("is of a kind that is not used here")),
        };
        if jwk.alg.as_deref().is_some_and(|alg| alg != key.algorithm().name()) {
            return Err(KeyError("is for an algorithm that is not used here"));
        }
        Ok(key)
    }

    /// The only algorithm that this key is for.
    pub fn algorithm(&self) -> Algorithm {
        match &self.0 {
            Inner::Hmac(_) => Algorithm::Hs256,
            Inner::Rsa(_) => Algorithm::Rs256,
            Inner::P256(_) => Algorithm::Es256,
            Inner::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether the signature is this key's over the message. Takes the same time for every wrong secret signature.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Inner::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Inner::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok(),
            Inner::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature).is_ok()
            }
            Inner::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok(),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm())
    }
}

impl Algorithm {
    /// The name in the `alg` of a header (RFC 7518 section 3.1, RFC 8037 section 3.1).
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The members of a JWK that matter here.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    pub(super) kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
    k: Option<serde::de::IgnoredAny>,
}

fn field(value: &Option<String>) -> Result<Vec<u8>, KeyError> {
    let text = value.as_deref().ok_or(KeyError("lacks a part"))?;
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError("has a part that is not base64url"))
}

/// The label and the bytes of the one block that the text holds.
fn decode_pem(text: &str) -> Result<(&str, Vec<u8>), KeyError> {
    const NOT_PEM: KeyError = KeyError("is not PEM, which begins with -----BEGIN PUBLIC KEY-----");
    let rest = text.trim().strip_prefix("-----BEGIN ").ok_or(NOT_PEM)?;
    let (label, rest) = rest.split_once("-----").ok_or(NOT_PEM)?;
    let (body, rest) = rest.split_once("-----END ").ok_or(NOT_PEM)?;
    let rest = rest.strip_prefix(label).and_then(|rest| rest.strip_prefix("-----")).ok_or(NOT_PEM)?;
    if !rest.replace("\\n", "").trim().is_empty() {
        return Err(KeyError("holds more than one key in PEM: only one is used"));
    }
    let body: String = body.replace("\\n", "").split_whitespace().collect();
    let der = BASE64_STANDARD.decode(body).map_err(|_| KeyError("is PEM with a body that is not base64"))?;
    Ok((label, der))
}

fn from_spki(der: &[u8]) -> Result<VerifyingKey, KeyError> {
    const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

    let unreadable = |_| KeyError("is PEM that holds no readable public key");
    let info = SubjectPublicKeyInfoRef::from_der(der).map_err(unreadable)?;
    let key = info.subject_public_key.as_bytes().ok_or(KeyError("is PEM that holds no readable public key"))?;
    match info.algorithm.oid {
        RSA => from_rsa_der(key),
        EC => match info.algorithm.parameters_oid() {
            Ok(P256) => p256(key),
            _ => Err(KeyError("is on a curve that is not used here: P-256 is")),
        },
        ED25519 => ed25519(key),
        _ => Err(KeyError("is of a kind that is not used here: RSA, P-256 and Ed25519 are")),
    }
}

/// RFC 8017 appendix A.1.1: a sequence of modulus and exponent.
fn from_rsa_der(der: &[u8]) -> Result<VerifyingKey, KeyError> {
    let read = || -> Result<_, spki::der::Error> {
        let mut reader = SliceReader::new(der)?;
        let pair =
            reader.sequence(|pair| Ok::<_, spki::der::Error>((UintRef::decode(pair)?, UintRef::decode(pair)?)))?;
        reader.finish()?;
        Ok(pair)
    };
    let (n, e) = read().map_err(|_| KeyError("is PEM that holds no readable RSA key"))?;
    rsa(n.as_bytes(), e.as_bytes())
}

/// Big-endian numbers; some issuers lead them with zeros.
fn rsa(n: &[u8], e: &[u8]) -> Result<VerifyingKey, KeyError> {
    let strip = |number: &[u8]| -> Box<[u8]> { number.iter().copied().skip_while(|&byte| byte == 0).collect() };
    let (n, e) = (strip(n), strip(e));
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if bits < 2048 {
        return Err(KeyError("is too short: an RSA key has at least 2048 bits"));
    }
    if bits > 8192 {
        return Err(KeyError("is too long: an RSA key has at most 8192 bits"));
    }
    // Beyond 4 bytes an exponent only costs time; 1 and even ones sign nothing.
    if !odd(&n) || !odd(&e) || e.len() > 4 || *e == [1] {
        return Err(KeyError("is no sound RSA key"));
    }
    Ok(VerifyingKey(Inner::Rsa(RsaPublicKeyComponents { n, e })))
}

/// An uncompressed point. An agreement with it is the check that it lies on the curve.
fn p256(point: &[u8]) -> Result<VerifyingKey, KeyError> {
    let peer = agreement::UnparsedPublicKey::new(&ECDH_P256, point);
    let agreed = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new())
        .and_then(|ours| agreement::agree_ephemeral(ours, &peer, |_| ()));
    match agreed {
        Ok(()) => Ok(VerifyingKey(Inner::P256(point.into()))),
        Err(_) => Err(KeyError("is no uncompressed point of P-256")),
    }
}

/// A point of small order would let anyone sign; an empty key (all zeros) is one.
fn ed25519(point: &[u8]) -> Result<VerifyingKey, KeyError> {
    let Ok(mut unsigned) = <[u8; 32]>::try_from(point) else {
        return Err(KeyError("is no Ed25519 key: it has 32 bytes"));
    };
    unsigned[31] &= 0x7f;
    if SMALL_ORDER.contains(&unsigned) {
        return Err(KeyError("is a weak Ed25519 key"));
    }
    Ok(VerifyingKey(Inner::Ed25519(point.into())))
}

/// Every spelling of the points of order 1, 2, 4 and 8, without their sign.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    edge(1, 0, 0),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    edge(0xec, 0xff, 0x7f),
    edge(0xed, 0xff, 0x7f),
    edge(0xee, 0xff, 0x7f),
];

const fn edge(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}
