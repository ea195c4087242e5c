//! A user, and the token that proves it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::now_ms;

/// The published secret of development tokens, as `scripts/token` uses it.
pub const DEVELOPMENT_SECRET: &str = "presence-service-development-secret-known-to-everyone";

/// A user that nobody else is, with a valid development token.
#[derive(Debug, Clone)]
pub struct User {
    id: String,
    token: String,
}

impl User {
    /// A new user.
    pub fn new() -> Self {
        Self::with_id(&Uuid::new_v4().to_string())
    }

    /// The user of that id.
    pub fn with_id(id: &str) -> Self {
        let claims = json!({ "sub": id, "exp": now_ms() / 1000 + 3600 });
        Self { id: id.to_owned(), token: sign(&claims) }
    }

    /// The id, as it stands in paths, bodies, keys and events.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The bearer token.
    pub fn token(&self) -> &str {
        &self.token
    }
}

impl Default for User {
    fn default() -> Self {
        Self::new()
    }
}

/// A JSON Web Token, HS256.
fn sign(claims: &Value) -> String {
    let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, DEVELOPMENT_SECRET.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", encode(signature.as_ref()))
}
