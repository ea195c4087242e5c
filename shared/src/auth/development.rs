//! Development tokens: good for trying the service out, worthless as a proof.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::json;

use super::{calendar, seconds_since_epoch};
use crate::domain::UserId;

/// The secret of development tokens. It is published, so a service that accepts it trusts everyone who can reach it.
/// `scripts/token` holds the same text.
pub const DEVELOPMENT_SECRET: &str = "presence-service-development-secret-known-to-everyone";

/// A token for `user` that a service without a key accepts for `lifetime` from now.
pub fn development_token(user: UserId, lifetime: Duration) -> String {
    let now = seconds_since_epoch(calendar()) as u64;
    let claims = json!({ "sub": user, "iat": now, "exp": now + lifetime.as_secs() });
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, DEVELOPMENT_SECRET.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}
