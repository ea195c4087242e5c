//! Makes tokens for tests, good and bad alike, with the keys beside it.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

pub const USER: &str = "3f6a1f0e-5c0b-4b8e-9c55-0d6f6a1b2c3d";
pub const SECRET: &str = "a secret of the tests, which has more than 32 bytes";
pub const RSA_PUBLIC: &str = include_str!("../keys/rsa.pub.pem");
pub const P256_PUBLIC: &str = include_str!("../keys/p256.pub.pem");
pub const ED25519_PUBLIC: &str = include_str!("../keys/ed25519.pub.pem");

/// Signs with one algorithm.
pub enum Signer {
    Hs256(Vec<u8>),
    Rs256(Box<RsaKeyPair>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Signer {
    pub fn hs256(secret: &[u8]) -> Self {
        Self::Hs256(secret.to_vec())
    }

    pub fn rs256() -> Self {
        Self::Rs256(Box::new(RsaKeyPair::from_pkcs8(&der(include_str!("../keys/rsa.pem"))).unwrap()))
    }

    pub fn es256() -> Self {
        let der = der(include_str!("../keys/p256.pem"));
        Self::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new()).unwrap())
    }

    pub fn eddsa() -> Self {
        let der = der(include_str!("../keys/ed25519.pem"));
        Self::EdDsa(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap())
    }

    /// A key that nobody trusts.
    pub fn stranger() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::EdDsa(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    pub fn alg(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hs256(secret) => {
                ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Es256(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of any two texts.
    pub fn token_of(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", b64(header), b64(claims));
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", b64(signature))
    }

    pub fn token(&self, claims: &Value) -> String {
        self.token_of(&json!({ "alg": self.alg(), "typ": "JWT" }).to_string(), &claims.to_string())
    }

    pub fn token_with_kid(&self, kid: &str, claims: &Value) -> String {
        self.token_of(&json!({ "alg": self.alg(), "kid": kid }).to_string(), &claims.to_string())
    }

    /// The public key as an issuer publishes it.
    pub fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Hs256(secret) => json!({ "kid": kid, "kty": "oct", "alg": "HS256", "k": b64(secret) }),
            Self::Rs256(pair) => {
                let key = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kid": kid, "kty": "RSA", "alg": "RS256", "use": "sig", "n": b64(key.n), "e": b64(key.e) })
            }
            Self::Es256(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kid": kid, "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]) })
            }
            Self::EdDsa(pair) => {
                json!({ "kid": kid, "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref()) })
            }
        }
    }
}

/// Claims of the test user that hold for a minute more.
pub fn claims() -> Value {
    json!({ "sub": USER, "exp": now() + 60 })
}

/// Seconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "tokens are dated by the calendar")]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn b64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub fn bearer(token: &str) -> Vec<u8> {
    format!("Bearer {token}").into_bytes()
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64_STANDARD.decode(body).unwrap()
}
