//! Tokens, good ones and ones that prove nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use uuid::Uuid;

/// A token of the user. `flaw` is `valid` or says what is wrong with it.
pub(crate) fn mint(secret: &str, user: Uuid, flaw: &str) -> Result<String, String> {
    let now = seconds_since_epoch();
    let valid = json!({"sub": user, "exp": now + 600});
    match flaw {
        "valid" => Ok(signed(secret, &valid)),
        "expired" => Ok(signed(secret, &json!({"sub": user, "exp": now - 600}))),
        "not-yet" => Ok(signed(secret, &json!({"sub": user, "exp": now + 1200, "nbf": now + 600}))),
        "endless" => Ok(signed(secret, &json!({"sub": user}))),
        "anonymous" => Ok(signed(secret, &json!({"exp": now + 600}))),
        "nameless" => Ok(signed(secret, &json!({"sub": "alice", "exp": now + 600}))),
        "forged" => Ok(signed("a secret that no host of the suite has", &valid)),
        "unsigned" => Ok(format!("{}.", message("none", &valid))),
        _ => Err(format!("a token cannot be {flaw:?}")),
    }
}

fn signed(secret: &str, claims: &Value) -> String {
    let message = message("HS256", claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}

fn message(algorithm: &str, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(&json!({"alg": algorithm, "typ": "JWT"})), part(claims))
}

#[expect(clippy::disallowed_methods, reason = "tokens go by the calendar, not by the store's clock")]
fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
