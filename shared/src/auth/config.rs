//! What tokens are checked against.

use std::fmt;

use url::Url;

use super::key::VerifyingKey;
use crate::config::redacted;

/// What a token is checked against. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Where the keys come from: one source, never two.
    pub keys: KeySource,
    /// `JWT_ISSUER`: the `iss` that every token must have.
    pub issuer: Option<String>,
    /// `JWT_AUDIENCE`: what the `aud` of every token must name.
    pub audience: Option<String>,
}

/// Where the keys come from.
#[derive(Clone)]
pub enum KeySource {
    /// One key, of `JWT_SECRET` or `JWT_PUBLIC_KEY`.
    Key(VerifyingKey),
    /// The key set at `JWT_JWKS_URL`.
    Jwks(Url),
    /// The published development secret: anyone can make a token. Only for a service that none but its own machine
    /// can reach.
    Development,
    /// None: this process takes no tokens, every one is refused.
    Nowhere,
}

impl KeySource {
    /// A few words for the start-up log.
    pub(crate) fn describe(&self) -> String {
        match self {
            KeySource::Key(key) => format!("{} by one key", key.algorithm()),
            KeySource::Jwks(url) => format!("keys of {}", redacted(url.as_str())),
            KeySource::Development => "development tokens, which anyone can make".to_owned(),
            KeySource::Nowhere => "none taken".to_owned(),
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}
