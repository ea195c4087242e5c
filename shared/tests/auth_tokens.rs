//! Tokens that prove who is calling.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod auth_keys;

use std::process::Command;
use std::time::Duration;

use auth_keys::{ED25519_PUBLIC, P256_PUBLIC, RSA_PUBLIC, SECRET, Signer, USER, bearer, claims, now};
use presence::auth::{AuthConfig, AuthError, Authenticator, DEVELOPMENT_SECRET, KeySource, VerifyingKey};
use presence::config::Config;
use presence::domain::UserId;
use serde_json::json;

fn authenticator(keys: KeySource, audience: Option<&str>) -> Authenticator {
    let audience = audience.map(str::to_owned);
    Authenticator::new(&AuthConfig { keys, issuer: audience.clone(), audience }).unwrap()
}

fn secret() -> KeySource {
    KeySource::Key(VerifyingKey::from_secret(SECRET.as_bytes()).unwrap())
}

async fn user(authenticator: &Authenticator, token: &str) -> Result<String, AuthError> {
    authenticator.authenticate(Some(&bearer(token))).await.map(|user| user.to_string())
}

#[tokio::test]
async fn each_algorithm_is_taken_from_its_key() {
    for (signer, keys) in [
        (Signer::hs256(SECRET.as_bytes()), secret()),
        (Signer::rs256(), KeySource::Key(VerifyingKey::from_pem(RSA_PUBLIC).unwrap())),
        (Signer::es256(), KeySource::Key(VerifyingKey::from_pem(P256_PUBLIC).unwrap())),
        (Signer::eddsa(), KeySource::Key(VerifyingKey::from_pem(ED25519_PUBLIC).unwrap())),
    ] {
        let authenticator = authenticator(keys, None);
        assert_eq!(user(&authenticator, &signer.token(&claims())).await.unwrap(), USER, "{}", signer.alg());
    }
}

#[tokio::test]
async fn what_decides_nothing_may_be_anything() {
    let authenticator = authenticator(secret(), None);
    let signer = Signer::hs256(SECRET.as_bytes());
    let nested = format!("{}{}", "[".repeat(1500), "]".repeat(1500));
    let more = format!(r#"{{"sub":"{USER}","exp":{},"iat":"soon","x":1,"x":2,"deep":{nested}}}"#, now() + 60);
    let headers = [
        r#"{"alg":"HS256"}"#.to_owned(),
        r#"{"alg":"HS256","typ":"JWT","kid":"whatever","cty":"x"}"#.to_owned(),
        r#" {"typ":"at+jwt" , "alg":"HS256"}"#.to_owned(),
        format!(r#"{{"jku":"https://elsewhere.example.com/","alg":"HS256","deep":{nested}}}"#),
    ];
    for header in headers {
        assert_eq!(user(&authenticator, &signer.token_of(&header, &claims().to_string())).await.unwrap(), USER);
        if !header.contains("deep") {
            assert_eq!(user(&authenticator, &signer.token_of(&header, &more)).await.unwrap(), USER);
        }
    }
}

#[tokio::test]
async fn a_time_is_a_number_with_decimals_or_without() {
    let authenticator = authenticator(secret(), None);
    let signer = Signer::hs256(SECRET.as_bytes());
    let later = now() + 60;
    for exp in [format!("{later}"), format!("{later}.25"), "253402300799".to_owned(), "2e11".to_owned()] {
        for nbf in ["", r#","nbf":0"#, r#","nbf":-1.5"#] {
            let claims = format!(r#"{{"sub":"{USER}","exp":{exp}{nbf}}}"#);
            let token = signer.token_of(r#"{"alg":"HS256"}"#, &claims);
            assert_eq!(user(&authenticator, &token).await.unwrap(), USER, "{claims}");
        }
    }
}

#[tokio::test]
async fn an_audience_is_one_name_or_several() {
    let authenticator = authenticator(secret(), Some("presence"));
    let signer = Signer::hs256(SECRET.as_bytes());
    for audience in [json!("presence"), json!(["presence"]), json!(["other", "presence"])] {
        let mut claims = claims();
        claims["iss"] = json!("presence");
        claims["aud"] = audience;
        assert_eq!(user(&authenticator, &signer.token(&claims)).await.unwrap(), USER);
    }
    assert!(user(&authenticator, &signer.token(&claims())).await.is_err());
}

#[tokio::test]
async fn a_user_has_one_name_however_the_token_spells_it() {
    let mut claims = claims();
    claims["sub"] = json!(USER.to_uppercase());
    let token = Signer::hs256(SECRET.as_bytes()).token(&claims);
    assert_eq!(user(&authenticator(secret(), None), &token).await.unwrap(), USER);
}

#[tokio::test]
async fn the_scheme_has_any_case_and_any_number_of_spaces() {
    let authenticator = authenticator(secret(), None);
    let token = Signer::hs256(SECRET.as_bytes()).token(&claims());
    for value in [format!("bearer {token}"), format!("BEARER   {token}"), format!(" \tBeArEr {token}\t ")] {
        assert_eq!(authenticator.authenticate(Some(value.as_bytes())).await.unwrap().to_string(), USER, "{value}");
    }
}

#[tokio::test]
async fn a_token_of_just_8_kb_is_taken() {
    let signer = Signer::hs256(SECRET.as_bytes());
    let padded = |bytes: usize| {
        let mut claims = claims();
        claims["pad"] = json!("x".repeat(bytes));
        signer.token(&claims)
    };
    let bytes = (1..8192).find(|bytes| padded(*bytes).len() >= 8191).unwrap();
    let token = padded(bytes);
    assert!((8191..=8192).contains(&token.len()), "{}", token.len());
    assert_eq!(user(&authenticator(secret(), None), &token).await.unwrap(), USER);
}

#[tokio::test]
async fn a_service_without_a_key_takes_development_tokens() {
    let config = Config::from_lookup(|_| None).unwrap();
    let authenticator = Authenticator::new(&config.auth).unwrap();
    let id: UserId = USER.parse().unwrap();
    let token = presence::auth::development_token(id, Duration::from_secs(60));
    assert_eq!(authenticator.authenticate(Some(&bearer(&token))).await, Ok(id));
    let expired = presence::auth::development_token(id, Duration::ZERO);
    assert_eq!(authenticator.authenticate(Some(&bearer(&expired))).await, Ok(id), "within the leeway");
    let other = Signer::hs256(SECRET.as_bytes()).token(&claims());
    assert!(authenticator.authenticate(Some(&bearer(&other))).await.is_err());
}

fn script(arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String, String) {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/token"))
        .args(arguments)
        .env_remove("JWT_SECRET")
        .env_remove("JWT_PUBLIC_KEY")
        .env_remove("JWT_JWKS_URL")
        .env_remove("JWT_ISSUER")
        .env_remove("JWT_AUDIENCE")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_script_makes_the_tokens_that_the_service_takes() {
    let development = Authenticator::new(&Config::from_lookup(|_| None).unwrap().auth).unwrap();
    let (made, token, told) = script(&[USER], &[]);
    assert!(made, "{told}");
    assert_eq!(user(&development, &token).await.unwrap(), USER);

    let variables = [("JWT_SECRET", SECRET), ("JWT_ISSUER", "presence"), ("JWT_AUDIENCE", "presence")];
    let (made, token, told) = script(&[&USER.to_uppercase(), "--ttl", "60"], &variables);
    assert!(made, "{told}");
    assert_eq!(user(&authenticator(secret(), Some("presence")), &token).await.unwrap(), USER);
    assert!(user(&development, &token).await.is_err());
}

#[tokio::test]
async fn the_script_gives_a_name_the_same_user_every_time() {
    let development = Authenticator::new(&Config::from_lookup(|_| None).unwrap().auth).unwrap();
    let mut users = Vec::new();
    for _ in 0..2 {
        let (made, token, told) = script(&["--ttl", "60", "alice"], &[]);
        assert!(made, "{told}");
        let id = user(&development, &token).await.unwrap();
        assert!(told.contains(&id), "{told} names {id}");
        users.push(id);
    }
    let (_, token, _) = script(&["bob"], &[]);
    users.push(user(&development, &token).await.unwrap());
    assert!(users[0] == users[1] && users[1] != users[2], "{users:?}");
}

#[test]
fn the_script_says_what_it_needs() {
    for (arguments, variables, reason) in [
        (&[][..], &[][..], "usage"),
        (&["alice", "bob"], &[], "usage"),
        (&[""], &[], "usage"),
        (&["alice", "--ttl"], &[], "--ttl"),
        (&["alice", "--ttl", "soon"], &[], "--ttl"),
        (&["alice", "--ttl", "0"], &[], "--ttl"),
        (&["alice", "--ttl", "-5"], &[], "--ttl"),
        (&["alice", "--ttl", "999999999999"], &[], "--ttl"),
        (&["alice", "--tll", "5"], &[], "usage"),
        (&["alice"], &[("JWT_SECRET", "short")], "32 bytes"),
        (&["alice"], &[("JWT_PUBLIC_KEY", "x")], "JWT_PUBLIC_KEY"),
        (&["alice"], &[("JWT_JWKS_URL", "x")], "JWT_JWKS_URL"),
    ] {
        let (made, token, told) = script(arguments, variables);
        assert!(!made && token.is_empty(), "{arguments:?}: {token}");
        assert!(told.contains(reason) && !told.contains("Traceback"), "{arguments:?}: {told}");
    }
}

#[test]
fn the_script_holds_the_published_secret() {
    let script = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/token")).unwrap();
    assert!(script.contains(&format!("\"{DEVELOPMENT_SECRET}\"")));
}
