//! Who is calling: bearer tokens.

mod config;
mod development;
mod key;

pub use config::{AuthConfig, KeySource};
pub use development::DEVELOPMENT_SECRET;
pub use key::{Algorithm, KeyError, VerifyingKey};

use crate::domain::UserId;

/// Checks bearer tokens against the configured key or keys.
pub struct Authenticator {}

/// Why a caller is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No `Authorization` header: 401 with a bare challenge (RFC 6750 section 3).
    #[error("a bearer token is required")]
    Missing,
    /// A header or token that proves nothing: 401 `invalid_token`. The text is fit for the client.
    #[error("{0}")]
    Invalid(&'static str),
    /// The keys can't be fetched and none are cached: 503.
    #[error("the keys that check tokens cannot be reached")]
    Unavailable,
}

impl Authenticator {
    /// The user of an `Authorization` header value.
    pub async fn authenticate(&self, authorization: Option<&[u8]>) -> Result<UserId, AuthError> {
        todo!()
    }
}
