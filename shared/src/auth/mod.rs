//! Who is calling: bearer tokens.

mod config;
mod development;
mod jwks;
mod key;
#[cfg(test)]
#[path = "../../tests/auth_keys/mod.rs"]
mod test_keys;
mod token;

use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use config::{AuthConfig, KeySource};
pub use development::{DEVELOPMENT_SECRET, development_token};
pub use key::{Algorithm, KeyError, SECRET_MIN_BYTES, VerifyingKey};

use crate::domain::UserId;
use crate::error::Error;
use jwks::Jwks;
pub(crate) use jwks::https_client;
use token::Token;

/// Checks bearer tokens against the configured key or keys. One serves the whole process: it caches the keys that it
/// fetches and keeps count of how often it does.
pub struct Authenticator {
    keys: Keys,
    issuer: Option<String>,
    audience: Option<String>,
}

enum Keys {
    Fixed(Vec<VerifyingKey>),
    Fetched(Jwks),
}

/// Why a caller is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No bearer token at all, or another scheme: 401 with a bare challenge (RFC 6750 section 3.1).
    #[error("a bearer token is required")]
    Missing,
    /// A header or token that proves nothing: 401 `invalid_token`. The text is fit for the client, and for a quoted
    /// string of a header.
    #[error("{0}")]
    Invalid(&'static str),
    /// The keys can't be fetched and none are cached: 503.
    #[error("the keys that check tokens cannot be reached")]
    Unavailable,
}

/// A moment by both clocks: the calendar for what tokens say, the steady one for how old the keys are.
#[derive(Clone, Copy)]
struct Now {
    calendar: SystemTime,
    steady: Instant,
}

impl Authenticator {
    /// Ready to check; keys are fetched when the first token comes. Warns if anyone can make a token. Fails only if
    /// no TLS client can be had.
    pub fn new(config: &AuthConfig) -> Result<Self, Error> {
        let keys = match &config.keys {
            KeySource::Key(key) => Keys::Fixed(vec![key.clone()]),
            KeySource::Jwks(url) => Keys::Fetched(Jwks::new(url.clone())?),
            KeySource::Development => {
                tracing::warn!(
                    "no key of tokens is configured: development tokens are accepted, and anyone can make one (scripts/token)"
                );
                Keys::Fixed(vec![VerifyingKey::development()])
            }
            KeySource::Nowhere => Keys::Fixed(Vec::new()),
        };
        Ok(Self { keys, issuer: config.issuer.clone(), audience: config.audience.clone() })
    }

    /// The user of an `Authorization` header value. Waits for the network only where keys are fetched, and then for a
    /// few seconds at most.
    pub async fn authenticate(&self, authorization: Option<&[u8]>) -> Result<UserId, AuthError> {
        self.authenticate_at(authorization, Now { calendar: calendar(), steady: Instant::now() }).await
    }

    async fn authenticate_at(&self, authorization: Option<&[u8]>, now: Now) -> Result<UserId, AuthError> {
        let token = Token::parse(bearer(authorization.ok_or(AuthError::Missing)?)?)?;
        let claims = match &self.keys {
            Keys::Fixed(keys) => token.verify(keys)?,
            Keys::Fetched(jwks) => token.verify(&jwks.keys(token.kid(), token.alg(), now.steady).await?)?,
        };
        claims.user(seconds_since_epoch(now.calendar), self.issuer.as_deref(), self.audience.as_deref())
    }
}

/// What follows the scheme in a header value of RFC 6750 section 2.1. Whether it is one token, [`Token`] knows.
fn bearer(header: &[u8]) -> Result<&str, AuthError> {
    const FORM: AuthError = AuthError::Invalid("the Authorization header is not Bearer and one token");
    let padding = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = header.iter().position(|byte| !padding(byte)).ok_or(AuthError::Missing)?;
    let end = header.iter().rposition(|byte| !padding(byte)).ok_or(AuthError::Missing)?;
    let header = &header[start..=end];

    let scheme_end = header.iter().position(|&byte| byte == b' ').unwrap_or(header.len());
    let (scheme, rest) = header.split_at(scheme_end);
    if !scheme.eq_ignore_ascii_case(b"Bearer") {
        let other_scheme = scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte));
        return Err(if other_scheme { AuthError::Missing } else { FORM });
    }
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    std::str::from_utf8(&rest[spaces..]).map_err(|_| FORM)
}

#[expect(clippy::disallowed_methods, reason = "issuers date tokens by the calendar, and no store is asked to read one")]
fn calendar() -> SystemTime {
    SystemTime::now()
}

/// As tokens count time. Before 1970 nothing is valid yet, which zero says too.
fn seconds_since_epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
