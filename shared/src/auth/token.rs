//! A token in the compact form of JWS (RFC 7515), read no further than it is trusted: its claims stay closed until a
//! key has vouched for them.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::AuthError;
use super::key::VerifyingKey;
use crate::domain::UserId;

/// The most bytes of a token.
const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// Seconds that the clocks of issuer and service may differ.
const LEEWAY: f64 = 30.0;

/// 9999-12-31T23:59:59Z. A later `exp` is a mistake, most often milliseconds.
const LATEST: f64 = 253_402_300_799.0;

/// A token that is well formed. Nothing in it is proven.
pub(super) struct Token<'a> {
    header: Header,
    /// What the signature is over.
    message: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

/// Claims that a key has vouched for.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: String,
    exp: f64,
    #[serde(default, deserialize_with = "some")]
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "some")]
    iss: Option<String>,
    #[serde(default, deserialize_with = "some")]
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// The parameters of the header that decide something. Keys and addresses of keys in it (`jwk`, `jku`, `x5c`, `x5u`)
/// decide nothing: whoever makes a token does not choose what it is checked with.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "some")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "some")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    b64: bool,
    #[serde(default, deserialize_with = "present")]
    enc: bool,
    #[serde(default, deserialize_with = "present")]
    zip: bool,
}

impl<'a> Token<'a> {
    /// Reads header and signature.
    pub(super) fn parse(text: &'a str) -> Result<Self, AuthError> {
        const FORM: AuthError = AuthError::Invalid("the token is not a signed JWT in compact form");
        if text.len() > TOKEN_MAX_BYTES {
            return Err(AuthError::Invalid("the token is longer than 8 KB"));
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(FORM);
        };
        let message = &text[..header.len() + 1 + payload.len()];
        let header: Header = object(header).ok_or(FORM)?;
        if header.crit || header.b64 || header.enc || header.zip {
            return Err(AuthError::Invalid("the token asks for an extension that is not understood here"));
        }
        if header.typ.as_deref().is_some_and(is_another_kind) {
            return Err(AuthError::Invalid("the token is of a kind that is not for access"));
        }
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| FORM)?;
        Ok(Self { header, message, payload, signature })
    }

    /// The algorithm that it claims.
    pub(super) fn alg(&self) -> &str {
        &self.header.alg
    }

    /// The key that it names: a text to compare, whatever it looks like.
    pub(super) fn kid(&self) -> Option<&str> {
        self.header.kid.as_deref()
    }

    /// The claims, if one of the keys made the signature with its own algorithm.
    pub(super) fn verify(&self, keys: &[VerifyingKey]) -> Result<Claims, AuthError> {
        let signed = keys.iter().any(|key| {
            key.algorithm().name() == self.header.alg && key.verifies(self.message.as_bytes(), &self.signature)
        });
        if !signed {
            return Err(AuthError::Invalid("the token is not signed with a key that is trusted here"));
        }
        object(self.payload).ok_or(AuthError::Invalid("the token has no readable claims: sub and exp are required"))
    }
}

impl Claims {
    /// The user, if the token is for here and now. `now` is in seconds since the epoch.
    pub(super) fn user(&self, now: f64, issuer: Option<&str>, audience: Option<&str>) -> Result<UserId, AuthError> {
        if self.exp > LATEST {
            return Err(AuthError::Invalid("the token's exp is not a time in seconds before the year 10000"));
        }
        if now >= self.exp + LEEWAY {
            return Err(AuthError::Invalid("the token has expired"));
        }
        if self.nbf.is_some_and(|nbf| now + LEEWAY < nbf) {
            return Err(AuthError::Invalid("the token is not valid yet"));
        }
        if issuer.is_some_and(|issuer| self.iss.as_deref() != Some(issuer)) {
            return Err(AuthError::Invalid("the token is from another issuer"));
        }
        if audience.is_some_and(|audience| !self.is_for(audience)) {
            return Err(AuthError::Invalid("the token is for another audience"));
        }
        self.sub.parse().map_err(|_| AuthError::Invalid("the token's sub is not a hyphenated UUID"))
    }

    fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            Some(Audience::One(name)) => name == audience,
            Some(Audience::Many(names)) => names.iter().any(|name| name == audience),
            None => false,
        }
    }
}

/// A `typ` such as `logout+jwt` says that the token is no access token, though the same key signs it (RFC 8725
/// section 3.11). Others say nothing of use.
fn is_another_kind(typ: &str) -> bool {
    let typ = typ.to_ascii_lowercase();
    typ.ends_with("+jwt") && !typ.ends_with("at+jwt")
}

/// A JSON object in base64url. serde would take an array for a structure too.
fn object<T: DeserializeOwned>(base64url: &str) -> Option<T> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(base64url).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    if !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// A member that may be missing but, if it is there, is not null.
fn some<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(now: f64, claims: &str) -> Result<UserId, AuthError> {
        serde_json::from_str::<Claims>(claims).unwrap().user(now, None, None)
    }

    fn claims(more: &str) -> String {
        format!(r#"{{"sub":"3f6a1f0e-5c0b-4b8e-9c55-0d6f6a1b2c3d",{more}}}"#)
    }

    #[test]
    fn a_token_ends_thirty_seconds_after_its_exp_and_not_later() {
        let claims = claims(r#""exp":1000.5"#);
        assert!(user(1030.499, &claims).is_ok());
        assert_eq!(user(1030.5, &claims), Err(AuthError::Invalid("the token has expired")));
    }

    #[test]
    fn a_token_begins_thirty_seconds_before_its_nbf_and_not_earlier() {
        let claims = claims(r#""exp":2000,"nbf":1000"#);
        assert!(user(970.0, &claims).is_ok());
        assert_eq!(user(969.999, &claims), Err(AuthError::Invalid("the token is not valid yet")));
    }

    #[test]
    fn the_last_exp_is_the_end_of_the_year_9999() {
        assert!(user(1000.0, &claims(r#""exp":253402300799"#)).is_ok());
        assert!(user(1000.0, &claims(r#""exp":253402300800"#)).is_err());
    }
}
