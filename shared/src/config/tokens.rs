//! Which keys check tokens, and when development tokens are good enough.

use std::net::IpAddr;

use super::read::Reader;
use super::values::{is_loopback, jwks_url, switch};
use crate::auth::{AuthConfig, DEVELOPMENT_SECRET, KeySource, VerifyingKey};

/// `host` is none if it could not be read; no word is then lost on what follows from it.
pub(super) fn read(reader: &mut Reader<'_>, host: Option<IpAddr>, takes_tokens: bool) -> Option<AuthConfig> {
    let issuer = reader.text("JWT_ISSUER");
    let audience = reader.text("JWT_AUDIENCE");
    let development = reader.parse("JWT_DEVELOPMENT_TOKENS", "`on` or `off`", switch);

    let secret = reader.raw("JWT_SECRET");
    let public_key = reader.text("JWT_PUBLIC_KEY");
    let jwks = reader.text("JWT_JWKS_URL");
    let given: Vec<&'static str> = [("JWT_SECRET", &secret), ("JWT_PUBLIC_KEY", &public_key), ("JWT_JWKS_URL", &jwks)]
        .into_iter()
        .filter_map(|(name, value)| value.is_some().then_some(name))
        .collect();
    if let [first, others @ ..] = given.as_slice()
        && !others.is_empty()
    {
        let others = others.join(" and ");
        reader.reject(first, format!("is set beside {others}; allowed is one kind of key"));
    }
    if let Some(name) = given.first()
        && development == Some(true)
    {
        reader.reject(
            "JWT_DEVELOPMENT_TOKENS",
            format!("is on while {name} is set; a key and development tokens exclude each other"),
        );
    }

    // Each is looked at, so that all that is wrong is told at once.
    let secret = secret.map(|secret| shared_secret(reader, &secret));
    let public_key = public_key.map(|pem| usable(reader, "JWT_PUBLIC_KEY", VerifyingKey::from_pem(&pem)));
    let jwks = jwks.map(|_| {
        reader
            .parse("JWT_JWKS_URL", "an https:// URL without a user, or http:// to this machine", jwks_url)
            .map(KeySource::Jwks)
    });
    let keys = match secret.or(public_key).or(jwks) {
        Some(keys) => keys?,
        None if !takes_tokens => KeySource::Nowhere,
        None => without_key(reader, host?, development)?,
    };
    Some(AuthConfig { keys, issuer, audience })
}

fn shared_secret(reader: &mut Reader<'_>, secret: &str) -> Option<KeySource> {
    if secret == DEVELOPMENT_SECRET {
        reader.reject(
            "JWT_SECRET",
            "is the published development secret, which everyone knows; leave it unset to take development tokens",
        );
        return None;
    }
    usable(reader, "JWT_SECRET", VerifyingKey::from_secret(secret.as_bytes()))
}

fn usable(
    reader: &mut Reader<'_>,
    name: &'static str,
    key: Result<VerifyingKey, crate::auth::KeyError>,
) -> Option<KeySource> {
    key.map(KeySource::Key).map_err(|error| reader.reject(name, error.to_string())).ok()
}

/// Development tokens are for a service that only its own machine reaches. A function has no address of its own to
/// tell by, so the local emulator needs a clear word; on Lambda itself nothing allows them. The two are told apart by
/// variables that Lambda reserves, so that no configuration of a function can hide them.
fn without_key(reader: &mut Reader<'_>, host: IpAddr, development: Option<bool>) -> Option<KeySource> {
    const KEYS: &str = "JWT_SECRET, JWT_PUBLIC_KEY or JWT_JWKS_URL";
    let function = reader.is_set("AWS_LAMBDA_FUNCTION_NAME");
    let lambda = ["LAMBDA_TASK_ROOT", "AWS_LAMBDA_INITIALIZATION_TYPE"].iter().any(|name| reader.is_set(name));
    let problem = if function && lambda {
        format!("is not set, nor is another key; on Lambda set one of {KEYS}")
    } else if function && development != Some(true) {
        format!("is not set, nor is another key; set one of {KEYS}, or JWT_DEVELOPMENT_TOKENS=on in the local emulator")
    } else if !is_loopback(host) {
        format!("is not set, nor is another key; while HOST is {host}, which is not loopback, set one of {KEYS}")
    } else if development == Some(false) {
        format!("is not set, nor is another key; while JWT_DEVELOPMENT_TOKENS is off, set one of {KEYS}")
    } else {
        return Some(KeySource::Development);
    };
    reader.reject("JWT_SECRET", problem);
    None
}
