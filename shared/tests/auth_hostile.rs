//! Tokens that must prove nothing. Each is a good token with one thing wrong, and signed with the right key wherever
//! the signature is not what is wrong, so that nothing else refuses it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

mod auth_keys;

use std::collections::BTreeSet;

use auth_keys::{ED25519_PUBLIC, P256_PUBLIC, RSA_PUBLIC, SECRET, Signer, USER, b64, bearer, now};
use futures::FutureExt;
use presence::auth::{AuthConfig, AuthError, Authenticator, DEVELOPMENT_SECRET, KeySource, VerifyingKey};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_oneof, proptest};
use serde_json::{Value, json};

const ISSUER: &str = "https://issuer.example.com/";
const AUDIENCE: &str = "presence";

type Cases = Vec<(String, Vec<u8>)>;

fn good_claims() -> Value {
    json!({ "sub": USER, "exp": now() + 60, "iss": ISSUER, "aud": AUDIENCE })
}

fn authenticator(keys: KeySource) -> Authenticator {
    let (issuer, audience) = (Some(ISSUER.to_owned()), Some(AUDIENCE.to_owned()));
    Authenticator::new(&AuthConfig { keys, issuer, audience }).unwrap()
}

async fn refuses_all(authenticator: &Authenticator, good: &str, cases: Cases) {
    let user = authenticator.authenticate(Some(&bearer(good))).await.unwrap();
    assert_eq!(user.to_string(), USER, "the token that the others are made from is good");
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let names: BTreeSet<&String> = cases.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), cases.len(), "a case stands twice");
    for (name, header) in &cases {
        match authenticator.authenticate(Some(header)).await {
            Err(AuthError::Invalid(text)) => {
                let quotable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && !b"\"\\".contains(&byte));
                assert!(quotable, "{text}");
            }
            other => panic!("{name}: {other:?} for {}", String::from_utf8_lossy(header)),
        }
    }
}

#[tokio::test]
async fn a_secret_trusts_no_hostile_token() {
    let signer = Signer::hs256(SECRET.as_bytes());
    let mut cases = hostile(&signer, &json!({ "alg": "HS256" }));
    for (name, secret) in [
        ("no secret", ""),
        ("the development secret", DEVELOPMENT_SECRET),
        ("half the secret", &SECRET[..SECRET.len() / 2]),
        ("the secret and a space", &format!("{SECRET} ")),
        ("the secret in capitals", &SECRET.to_uppercase()),
        ("a famous secret", "secret"),
    ] {
        cases.push((format!("signed with {name}"), bearer(&Signer::hs256(secret.as_bytes()).token(&good_claims()))));
    }
    let good = signer.token(&good_claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    cases.push(("half the mac".into(), bearer(&format!("{message}.{}", &signature[..22]))));
    let key = VerifyingKey::from_secret(SECRET.as_bytes()).unwrap();
    refuses_all(&authenticator(KeySource::Key(key)), &good, cases).await;
}

#[tokio::test]
async fn a_public_key_trusts_no_hostile_token() {
    for (signer, pem) in
        [(Signer::rs256(), RSA_PUBLIC), (Signer::es256(), P256_PUBLIC), (Signer::eddsa(), ED25519_PUBLIC)]
    {
        let mut cases = hostile(&signer, &json!({ "alg": signer.alg() }));
        cases.extend(confused(&signer, pem, &json!({ "alg": "HS256" })));
        let key = VerifyingKey::from_pem(pem).unwrap();
        refuses_all(&authenticator(KeySource::Key(key)), &signer.token(&good_claims()), cases).await;
    }
}

#[tokio::test]
async fn a_key_set_trusts_no_hostile_token() {
    let signers = [("rsa", Signer::rs256()), ("p256", Signer::es256()), ("ed25519", Signer::eddsa())];
    let mut keys: Vec<Value> = signers.iter().map(|(kid, signer)| signer.jwk(kid)).collect();
    // A secret in a public set is everyone's.
    keys.push(Signer::hs256(SECRET.as_bytes()).jwk("secret"));
    let set = json!({ "keys": keys }).to_string();
    let app = axum::Router::new().route("/keys", axum::routing::get(move || std::future::ready(set.clone())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let authenticator = authenticator(KeySource::Jwks(url.parse().unwrap()));

    for ((kid, signer), pem) in signers.iter().zip([RSA_PUBLIC, P256_PUBLIC, ED25519_PUBLIC]) {
        let mut cases = hostile(signer, &json!({ "alg": signer.alg(), "kid": kid }));
        cases.extend(confused(signer, pem, &json!({ "alg": "HS256", "kid": kid })));
        let claims = good_claims();
        for (other, _) in signers.iter().filter(|(other, _)| other != kid) {
            cases.push((format!("the kid of {other}"), bearer(&signer.token_with_kid(other, &claims))));
        }
        for odd in [
            "",
            " ",
            "RSA",
            "secret",
            "unknown",
            "../../../../dev/null",
            "/proc/self/environ",
            "file:///etc/passwd",
            "http://127.0.0.1/keys",
            "' OR '1'='1",
            "rsa\u{0}",
            "*",
            "\u{1b}[2J",
        ] {
            cases.push((format!("kid {odd:?}"), bearer(&signer.token_with_kid(odd, &claims))));
        }
        let header = json!({ "alg": signer.alg(), "kid": "k".repeat(4096) }).to_string();
        cases.push(("a long kid".into(), bearer(&signer.token_of(&header, &claims.to_string()))));
        for bad in [json!(7), json!([kid]), json!({}), json!(true)] {
            let header = json!({ "alg": signer.alg(), "kid": bad }).to_string();
            cases.push((format!("kid {bad} as JSON"), bearer(&signer.token_of(&header, &claims.to_string()))));
        }
        let secret = Signer::hs256(SECRET.as_bytes());
        cases.push(("a shared secret of the set".into(), bearer(&secret.token_with_kid("secret", &claims))));
        cases.push(("a shared secret, nameless".into(), bearer(&secret.token(&claims))));
        refuses_all(&authenticator, &signer.token_with_kid(kid, &claims), cases).await;
    }
}

#[tokio::test]
async fn without_a_bearer_token_the_caller_is_only_asked_for_one() {
    let key = VerifyingKey::from_secret(SECRET.as_bytes()).unwrap();
    let authenticator = authenticator(KeySource::Key(key));
    let good = Signer::hs256(SECRET.as_bytes()).token(&good_claims());
    let missing: [Option<&[u8]>; 8] = [
        None,
        Some(b""),
        Some(b" \t "),
        Some(b"Basic dXNlcjpwYXNzd29yZA=="),
        Some(b"Negotiate"),
        Some(&*format!("DPoP {good}").into_bytes().leak()),
        Some(&*format!("BearerToken {good}").into_bytes().leak()),
        Some(good.as_bytes()),
    ];
    for header in missing {
        assert_eq!(authenticator.authenticate(header).await, Err(AuthError::Missing), "{header:?}");
    }
}

#[tokio::test]
async fn no_changed_character_leaves_a_token_good() {
    let signer = Signer::eddsa();
    let authenticator = authenticator(KeySource::Key(VerifyingKey::from_pem(ED25519_PUBLIC).unwrap()));
    let good = signer.token(&good_claims());
    for index in 0..good.len() {
        for other in ["A", "_", ".", "=", "\u{e9}", ""] {
            if &good[index..=index] == other {
                continue;
            }
            let changed = format!("{}{other}{}", &good[..index], &good[index + 1..]);
            let result = authenticator.authenticate(Some(&bearer(&changed))).await;
            assert!(matches!(result, Err(AuthError::Invalid(_))), "{changed}: {result:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_are_a_token_by_chance(
        scheme in "(Bearer|bearer|)[ \t]{0,2}",
        parts in vec(prop_oneof![vec(any::<u8>(), 0..40), "[A-Za-z0-9_-]{0,40}".prop_map(String::into_bytes)], 0..6),
    ) {
        let key = VerifyingKey::from_secret(SECRET.as_bytes()).unwrap();
        let header = [scheme.into_bytes(), parts.join(&b'.')].concat();
        // A fixed key is waited for by nobody.
        let result = authenticator(KeySource::Key(key)).authenticate(Some(&header)).now_or_never().unwrap();
        prop_assert!(matches!(result, Err(AuthError::Invalid(_) | AuthError::Missing)));
    }
}

#[tokio::test]
async fn a_process_that_takes_no_tokens_takes_none() {
    let authenticator =
        Authenticator::new(&AuthConfig { keys: KeySource::Nowhere, issuer: None, audience: None }).unwrap();
    for signer in [Signer::hs256(DEVELOPMENT_SECRET.as_bytes()), Signer::rs256(), Signer::es256(), Signer::eddsa()] {
        let result = authenticator.authenticate(Some(&bearer(&signer.token(&good_claims())))).await;
        assert!(matches!(result, Err(AuthError::Invalid(_))), "{result:?}");
    }
}

/// Public keys taken for secrets.
fn confused(signer: &Signer, pem: &str, header: &Value) -> Cases {
    let claims = good_claims().to_string();
    let jwk = signer.jwk("k").to_string();
    let der = pem.lines().filter(|line| !line.starts_with("---")).collect::<String>();
    [("PEM", pem), ("PEM without its last line break", pem.trim_end()), ("base64", &der), ("JWK", &jwk)]
        .map(|(name, secret)| {
            let token = Signer::hs256(secret.as_bytes()).token_of(&header.to_string(), &claims);
            (format!("HS256 with the public key as {name}"), bearer(&token))
        })
        .into()
}

/// What is wrong whatever the key. `header` is the good one.
fn hostile(signer: &Signer, header: &Value) -> Cases {
    [bad_headers(signer, header), bad_claims(signer, header), bad_forms(signer, header), bad_bearers(signer, header)]
        .concat()
}

fn bad_headers(signer: &Signer, header: &Value) -> Cases {
    let claims = good_claims().to_string();
    let with = |name: &str, value: Value| {
        let mut changed = header.clone();
        changed[name] = value;
        changed.to_string()
    };
    let text = header.to_string();
    let inner = &text[1..text.len() - 1];
    let mut headers: Vec<String> = vec![
        json!({ "kid": header["kid"] }).to_string(),
        with("alg", json!(null)),
        with("alg", json!(256)),
        with("alg", json!([signer.alg()])),
        with("alg", json!("")),
        with("alg", json!(format!("{} ", signer.alg()))),
        with("alg", json!(format!("{}\u{0}", signer.alg()))),
        with("alg", json!(signer.alg().to_lowercase())),
        with("crit", json!([])),
        with("crit", json!(["exp"])),
        with("crit", json!(null)),
        with("crit", json!("b64")),
        with("b64", json!(false)),
        with("zip", json!("DEF")),
        with("enc", json!("A256GCM")),
        with("typ", json!("logout+jwt")),
        with("typ", json!("DPoP+JWT")),
        with("typ", json!(7)),
        format!("{{{inner},\"alg\":\"{}\"}}", signer.alg()),
        format!("{{\"alg\":\"none\",{inner}}}"),
        format!("[\"{}\"]", signer.alg()),
        format!("\"{}\"", signer.alg()),
        format!("{text} {text}"),
        format!("{text},"),
        format!("\u{feff}{text}"),
        text.replace('"', "'"),
        text.trim_end_matches('}').to_owned(),
        "{}".into(),
        "null".into(),
        "7".into(),
        String::new(),
    ];
    for alg in [
        "none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "ES256",
        "ES384", "ES512", "ES256K", "EdDSA", "Ed25519", "Ed448", "dir", "RSA-OAEP",
    ] {
        if alg != signer.alg() {
            headers.push(with("alg", json!(alg)));
        }
    }
    let mut cases: Cases = headers
        .into_iter()
        .map(|header| (format!("header {header}"), bearer(&signer.token_of(&header, &claims))))
        .collect();

    for alg in ["none", "None", "", signer.alg()] {
        let token = format!("{}.{}.", b64(with("alg", json!(alg))), b64(&claims));
        cases.push((format!("alg {alg:?} without a signature"), bearer(&token)));
    }
    // Keys that the token brings along.
    let stranger = Signer::stranger();
    let jwk = stranger.jwk("stranger");
    for (name, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!("http://127.0.0.1:1/keys")),
        ("x5u", json!("http://127.0.0.1:1/cert")),
        ("x5c", json!([jwk["x"]])),
        ("x5t", json!(jwk["x"])),
    ] {
        for alg in [signer.alg(), stranger.alg()] {
            let mut header = header.clone();
            header["alg"] = json!(alg);
            header[name] = value.clone();
            let token = stranger.token_of(&header.to_string(), &claims);
            cases.push((format!("a stranger's {name} as {alg}"), bearer(&token)));
        }
        cases.dedup_by(|a, b| a.0 == b.0);
    }
    cases
}

fn bad_claims(signer: &Signer, header: &Value) -> Cases {
    let with = |name: &str, value: Value| {
        let mut changed = good_claims();
        changed[name] = value;
        changed.to_string()
    };
    let without = |name: &str| {
        let mut changed = good_claims();
        changed.as_object_mut().unwrap().remove(name);
        changed.to_string()
    };
    let good = good_claims().to_string();
    let inner = &good[1..good.len() - 1];
    let (now, later) = (now(), now() + 60);
    let exp = |number: &str| good.replace(&format!("\"exp\":{later}"), &format!("\"exp\":{number}"));
    assert_ne!(exp("1"), good, "the replacement finds its place");

    let mut all: Vec<String> = vec![
        without("exp"),
        with("exp", json!(null)),
        with("exp", json!(later.to_string())),
        with("exp", json!("never")),
        with("exp", json!(true)),
        with("exp", json!([later])),
        with("exp", json!({ "$date": later })),
        with("exp", json!(0)),
        with("exp", json!(-1)),
        with("exp", json!(now - 31)),
        with("exp", json!((now - 31) as f64 + 0.5)),
        with("exp", json!(later * 1000)),
        with("exp", json!(253_402_300_800_u64)),
        with("exp", json!(u64::MAX)),
        with("exp", json!(1e300)),
        exp("1e400"),
        exp("-1e400"),
        exp("NaN"),
        exp("Infinity"),
        exp("0x7fffffff"),
        exp(&format!("+{later}")),
        exp(&format!("0{later}")),
        exp(&"9".repeat(400)),
        format!("{{{inner},\"exp\":{later}}}"),
        format!("{{\"exp\":0,{inner}}}"),
        with("nbf", json!(now + 120)),
        with("nbf", json!(1e300)),
        with("nbf", json!(now.to_string())),
        with("nbf", json!(null)),
        with("nbf", json!(false)),
        format!("{{{inner},\"nbf\":0,\"nbf\":0}}"),
        without("sub"),
        format!("{{{inner},\"sub\":\"{USER}\"}}"),
        format!("{{\"sub\":\"00000000-0000-4000-8000-000000000000\",{inner}}}"),
        without("iss"),
        with("iss", json!(null)),
        with("iss", json!("")),
        with("iss", json!("https://issuer.example.com")),
        with("iss", json!("https://issuer.example.com/x")),
        with("iss", json!([ISSUER])),
        without("aud"),
        with("aud", json!(null)),
        with("aud", json!("")),
        with("aud", json!("Presence")),
        with("aud", json!("presence,other")),
        with("aud", json!([])),
        with("aud", json!(["other", "another"])),
        with("aud", json!([AUDIENCE, 7])),
        with("aud", json!([[AUDIENCE]])),
        with("aud", json!({ "presence": true })),
        format!("[\"{USER}\",{later},0,\"{ISSUER}\",\"{AUDIENCE}\"]"),
        format!("[{good}]"),
        format!("\"{}\"", signer.token(&good_claims())),
        signer.token(&good_claims()),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
        good.replace('"', "'"),
        good.trim_end_matches('}').to_owned(),
        format!("{good} // trust me"),
        "{}".into(),
        "null".into(),
        "[]".into(),
        String::new(),
    ];
    for sub in [
        json!(null),
        json!(7),
        json!([USER]),
        json!({ "id": USER }),
        json!(""),
        json!("admin"),
        json!(USER.replace('-', "")),
        json!(format!("{{{USER}}}")),
        json!(format!("urn:uuid:{USER}")),
        json!(format!(" {USER}")),
        json!(format!("{USER}\n")),
        json!(format!("{USER}\u{0}")),
        json!(&USER[1..]),
        json!(USER.replace('3', "\u{ff13}")),
        json!(USER.replacen('-', "_", 1)),
        json!(USER.replace('a', "g")),
    ] {
        all.push(with("sub", sub));
    }
    let mut cases: Cases = all
        .into_iter()
        .map(|claims| (format!("claims {claims}"), bearer(&signer.token_of(&header.to_string(), &claims))))
        .collect();
    let latin1 = [&b"{\"x\":\"\xe9\","[..], inner.as_bytes(), b"}"].concat();
    let message = format!("{}.{}", b64(header.to_string()), b64(latin1));
    let token = format!("{message}.{}", b64(signer.sign(message.as_bytes())));
    cases.push(("claims that are not UTF-8".into(), bearer(&token)));
    cases
}

fn bad_forms(signer: &Signer, header: &Value) -> Cases {
    let good = signer.token_of(&header.to_string(), &good_claims().to_string());
    let parts: Vec<&str> = good.split('.').collect();
    let [head, payload, signature] = parts.as_slice() else { panic!("{good}") };
    let mut other_claims = good_claims();
    other_claims["sub"] = json!("00000000-0000-4000-8000-000000000000");
    let zeros = b64(vec![0; signer.sign(b"").len()]);
    let long = |bytes: usize| {
        let mut claims = good_claims();
        claims["pad"] = json!("x".repeat(bytes));
        signer.token_of(&header.to_string(), &claims.to_string())
    };
    // The last character of a part holds bits that no byte is made of.
    let trailing_bits = |part: &str| {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let last = alphabet.iter().position(|byte| Some(byte) == part.as_bytes().last()).unwrap();
        format!("{}{}", &part[..part.len() - 1], alphabet[last ^ 1] as char)
    };
    let forms = [
        ("nothing but dots", "..".into()),
        ("one dot", ".".into()),
        ("three dots", "...".into()),
        ("one part", (*head).into()),
        ("two parts", format!("{head}.{payload}")),
        ("an empty signature", format!("{head}.{payload}.")),
        ("an empty payload", format!("{head}..{signature}")),
        ("an empty header", format!(".{payload}.{signature}")),
        ("a dot at the end", format!("{good}.")),
        ("a dot at the start", format!(".{good}")),
        ("four parts", format!("{good}.{signature}")),
        ("the five parts of a JWE", format!("{head}.{payload}.{signature}.{payload}.{signature}")),
        ("a part twice", format!("{head}.{payload}.{payload}.{signature}")),
        ("another user's claims", format!("{head}.{}.{signature}", b64(other_claims.to_string()))),
        ("the signature of another token", {
            let other = signer.token(&other_claims);
            format!("{head}.{payload}.{}", other.rsplit_once('.').unwrap().1)
        }),
        ("a stranger's signature", Signer::stranger().token_of(&header.to_string(), &good_claims().to_string())),
        ("a signature of zeros", format!("{head}.{payload}.{zeros}")),
        ("a short signature", format!("{head}.{payload}.{}", &signature[..signature.len() - 4])),
        ("a long signature", format!("{good}AAAA")),
        ("a signature of one byte", format!("{head}.{payload}.AA")),
        ("other trailing bits", format!("{head}.{payload}.{}", trailing_bits(signature))),
        ("padding", format!("{good}=")),
        ("more padding", format!("{good}==")),
        ("padding inside", format!("{head}=.{payload}.{signature}")),
        ("the alphabet of base64", format!("{head}.{payload}.+/{}", &signature[2..])),
        ("a line break", format!("{head}.{payload}\n.{signature}")),
        ("a line break at the end", format!("{good}\r\n")),
        ("capitals", good.to_uppercase()),
        ("the reverse", good.chars().rev().collect()),
        ("a percent sign", good.replace('.', "%2E")),
        ("more than 8 KB", long(8192)),
        ("a megabyte", long(1 << 20)),
        ("a megabyte of dots", ".".repeat(1 << 20)),
        ("JSON serialization", {
            json!({ "payload": payload, "protected": head, "signature": signature }).to_string()
        }),
    ];
    forms.into_iter().map(|(name, token): (&str, String)| (name.to_owned(), bearer(&token))).collect()
}

fn bad_bearers(signer: &Signer, header: &Value) -> Cases {
    let good = signer.token_of(&header.to_string(), &good_claims().to_string());
    let mut cases: Cases = [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "bearer     ".to_owned(),
        format!("Bearer\t{good}"),
        format!("Bearer \t{good}"),
        format!("Bearer {good} {good}"),
        format!("Bearer {good},"),
        format!("Bearer {good}, Bearer {good}"),
        format!("Bearer {good};"),
        format!("Bearer \"{good}\""),
        format!("Bearer <{good}>"),
        format!("Bearer token={good}"),
        format!("Bearer Bearer {good}"),
        format!("Bearer: {good}"),
        format!("Bearer\u{a0}{good}"),
        format!("\u{feff}Bearer {good}"),
        format!("Bearer {good}\r\nX-User: admin"),
        format!("Bearer {good}\0"),
        format!("Bearer\0 {good}"),
        format!("Bearer {good} realm=\"x\""),
    ]
    .into_iter()
    .map(|value| (format!("value {value:?}"), value.into_bytes()))
    .collect();
    cases.push(("bytes that are no text".into(), [b"Bearer \xff\xfe", good.as_bytes()].concat()));
    cases.push(("a scheme that is no text".into(), [b"B\xe9arer ", good.as_bytes()].concat()));
    cases.push(("all bytes there are".into(), (0..=255).collect()));
    cases
}
