use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use presence_corpus::{hostile, seeds};
use proptest::prelude::{ProptestConfig, prop_assert, proptest};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::*;
use crate::auth::test_keys::{Signer, USER, bearer, claims};
use crate::auth::{Authenticator, Keys as AuthenticatorKeys, Now, calendar};
use crate::domain::UserId;

/// An issuer that serves a key set, counts how often it is asked and can be told to misbehave.
struct Issuer {
    asked: AtomicUsize,
    answer: watch::Sender<Answer>,
}

#[derive(Clone)]
enum Answer {
    Keys(Value),
    Text(StatusCode, String),
    Elsewhere(String),
    /// None until the answer changes.
    Later,
}

impl Issuer {
    async fn start(answer: Answer) -> (Arc<Self>, String) {
        let issuer = Arc::new(Self { asked: AtomicUsize::new(0), answer: watch::channel(answer).0 });
        let served = Arc::clone(&issuer);
        let handler = move || {
            let issuer = Arc::clone(&served);
            async move { issuer.respond().await }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(axum::routing::get(handler));
        tokio::spawn(async move { axum::serve(listener, app).await });
        (issuer, url)
    }

    async fn respond(&self) -> Response {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answer.subscribe();
        let answer = answers.wait_for(|answer| !matches!(answer, Answer::Later)).await.unwrap().clone();
        match answer {
            Answer::Keys(set) => set.to_string().into_response(),
            Answer::Text(status, text) => (status, text).into_response(),
            Answer::Elsewhere(url) => (StatusCode::FOUND, [("location", url)]).into_response(),
            Answer::Later => unreachable!("waited for"),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn answers(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }
}

fn keys(signers: &[(&str, &Signer)]) -> Answer {
    Answer::Keys(json!({ "keys": signers.iter().map(|(kid, signer)| signer.jwk(kid)).collect::<Vec<_>>() }))
}

fn authenticator(url: &str) -> Authenticator {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    trusting(url, roots)
}

fn trusting(url: &str, roots: RootCertStore) -> Authenticator {
    let jwks = Jwks::with_roots(url.parse().unwrap(), roots).unwrap();
    Authenticator { keys: AuthenticatorKeys::Fetched(jwks), issuer: None, audience: None }
}

/// A service whose steady clock is told what to say.
struct Service {
    authenticator: Authenticator,
    start: Instant,
}

impl Service {
    fn new(url: &str) -> Self {
        Self { authenticator: authenticator(url), start: Instant::now() }
    }

    async fn at(&self, seconds: u64, token: &str) -> Result<UserId, AuthError> {
        let now = Now { calendar: calendar(), steady: self.start + Duration::from_secs(seconds) };
        self.authenticator.authenticate_at(Some(&bearer(token)), now).await
    }

    /// No fetch is under way any more.
    async fn settled(&self) {
        let AuthenticatorKeys::Fetched(jwks) = &self.authenticator.keys else { panic!("keys are not fetched") };
        let under_way = jwks.0.cache().under_way.clone();
        if let Some(mut done) = under_way {
            while done.changed().await.is_ok() {}
        }
    }
}

/// Lets others work until the condition holds; the condition must come about by itself.
async fn until(condition: impl Fn() -> bool) {
    let turns = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), turns).await.unwrap();
}

async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures::future::join_all(futures).await
}

fn good() -> Result<UserId, AuthError> {
    Ok(USER.parse().unwrap())
}

fn refused(result: &Result<UserId, AuthError>) -> bool {
    matches!(result, Err(AuthError::Invalid(_)))
}

#[tokio::test]
async fn the_keys_are_fetched_once_for_all_requests() {
    let signer = Signer::eddsa();
    let (issuer, url) = Issuer::start(Answer::Later).await;
    let service = Service::new(&url);
    let token = signer.token_with_kid("a", &claims());
    let requests = all((0..50).map(|_| service.at(0, &token)));
    let release = async {
        until(|| issuer.asked() == 1).await;
        issuer.answers(keys(&[("a", &signer)]));
    };
    let (results, ()) = tokio::join!(requests, release);
    assert!(results.iter().all(|result| *result == good()), "{results:?}");
    for second in 0..299 {
        assert_eq!(service.at(second, &token).await, good());
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn every_kind_of_key_can_be_fetched() {
    let signers = [("rsa", Signer::rs256()), ("p256", Signer::es256()), ("ed25519", Signer::eddsa())];
    let all: Vec<(&str, &Signer)> = signers.iter().map(|(kid, signer)| (*kid, signer)).collect();
    let (_issuer, url) = Issuer::start(keys(&all)).await;
    let service = Service::new(&url);
    for (kid, signer) in &signers {
        assert_eq!(service.at(0, &signer.token_with_kid(kid, &claims())).await, good(), "{kid}");
        assert_eq!(service.at(0, &signer.token(&claims())).await, good(), "{kid}: the only key of its algorithm");
    }
}

#[tokio::test]
async fn a_token_that_names_no_key_has_no_choice_between_two() {
    let (ours, other) = (Signer::eddsa(), Signer::stranger());
    let (_issuer, url) = Issuer::start(keys(&[("a", &ours), ("b", &other)])).await;
    let service = Service::new(&url);
    assert!(refused(&service.at(0, &ours.token(&claims())).await));
    assert_eq!(service.at(0, &ours.token_with_kid("a", &claims())).await, good());
    assert!(refused(&service.at(0, &ours.token_with_kid("b", &claims())).await));
}

#[tokio::test]
async fn unknown_keys_are_asked_for_once_in_ten_seconds_whatever_the_load() {
    let signer = Signer::eddsa();
    let (issuer, url) = Issuer::start(keys(&[("a", &signer)])).await;
    let service = Service::new(&url);
    assert_eq!(service.at(0, &signer.token_with_kid("a", &claims())).await, good());
    for second in 0..=100 {
        let tokens: Vec<String> = (0..20).map(|n| signer.token_with_kid(&format!("{second}-{n}"), &claims())).collect();
        let results = all(tokens.iter().map(|token| service.at(second, token))).await;
        assert!(results.iter().all(refused), "{results:?}");
        assert_eq!(issuer.asked() as u64, 1 + second / 10, "at second {second}");
    }
}

#[tokio::test]
async fn a_token_that_names_no_key_or_the_wrong_one_costs_no_fetch() {
    let signer = Signer::eddsa();
    let (issuer, url) = Issuer::start(keys(&[("a", &signer), ("b", &Signer::es256())])).await;
    let service = Service::new(&url);
    assert_eq!(service.at(0, &signer.token_with_kid("a", &claims())).await, good());
    for token in [
        Signer::stranger().token(&claims()),
        Signer::rs256().token(&claims()),
        Signer::stranger().token_with_kid("a", &claims()),
        signer.token_with_kid("b", &claims()),
    ] {
        assert!(refused(&service.at(60, &token).await));
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_by_its_first_token_and_the_old_one_is_let_go() {
    let (old, new) = (Signer::es256(), Signer::eddsa());
    let (issuer, url) = Issuer::start(keys(&[("old", &old)])).await;
    let service = Service::new(&url);
    let (old_token, new_token) = (old.token_with_kid("old", &claims()), new.token_with_kid("new", &claims()));
    assert_eq!(service.at(0, &old_token).await, good());

    issuer.answers(keys(&[("old", &old), ("new", &new)]));
    assert!(refused(&service.at(9, &new_token).await), "too soon to ask again");
    assert_eq!(service.at(10, &new_token).await, good());
    assert_eq!(service.at(10, &old_token).await, good());

    issuer.answers(keys(&[("new", &new)]));
    assert_eq!(service.at(11, &old_token).await, good(), "not asked yet");
    assert_eq!(service.at(310, &new_token).await, good());
    service.settled().await;
    assert!(refused(&service.at(311, &old_token).await));
}

#[tokio::test]
async fn a_key_replaced_under_the_same_name_is_replaced_here() {
    let (old, new) = (Signer::stranger(), Signer::eddsa());
    let (issuer, url) = Issuer::start(keys(&[("a", &old)])).await;
    let service = Service::new(&url);
    let (old_token, new_token) = (old.token_with_kid("a", &claims()), new.token_with_kid("a", &claims()));
    assert_eq!(service.at(0, &old_token).await, good());
    issuer.answers(keys(&[("a", &new)]));
    assert!(refused(&service.at(299, &new_token).await));
    let _either_way = service.at(300, &old_token).await;
    service.settled().await;
    assert_eq!(service.at(301, &new_token).await, good());
    assert!(refused(&service.at(301, &old_token).await));
}

#[tokio::test]
async fn requests_are_served_while_the_keys_are_refreshed() {
    let signer = Signer::eddsa();
    let (issuer, url) = Issuer::start(keys(&[("a", &signer)])).await;
    let service = Service::new(&url);
    let token = signer.token_with_kid("a", &claims());
    assert_eq!(service.at(0, &token).await, good());

    issuer.answers(Answer::Later);
    assert_eq!(service.at(300, &token).await, good());
    until(|| issuer.asked() == 2).await;
    for _ in 0..50 {
        let at_once = service.at(301, &token).now_or_never();
        assert_eq!(at_once, Some(good()), "only the request that started the refresh waits for it, and not for long");
    }
    assert_eq!(issuer.asked(), 2, "the refresh under way is everyone's");

    issuer.answers(keys(&[("b", &signer)]));
    let renewed = signer.token_with_kid("b", &claims());
    assert_eq!(service.at(302, &renewed).await, good(), "an unknown key waits for the refresh under way");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn a_fetch_outlives_the_request_that_started_it() {
    let signer = Signer::eddsa();
    let (issuer, url) = Issuer::start(Answer::Later).await;
    let service = Service::new(&url);
    let token = signer.token_with_kid("a", &claims());
    tokio::select! {
        _ = service.at(0, &token) => panic!("nothing to be served with yet"),
        () = until(|| issuer.asked() == 1) => {}
    }
    issuer.answers(keys(&[("a", &signer)]));
    assert_eq!(service.at(1, &token).await, good());
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn known_keys_outlast_an_outage_of_the_issuer_for_a_day() {
    let signer = Signer::eddsa();
    let (issuer, url) = Issuer::start(keys(&[("a", &signer)])).await;
    let service = Service::new(&url);
    let token = signer.token_with_kid("a", &claims());
    assert_eq!(service.at(0, &token).await, good());

    issuer.answers(Answer::Text(StatusCode::SERVICE_UNAVAILABLE, String::new()));
    let day = 24 * 60 * 60;
    for second in [300, 600, 3600, day - 1] {
        assert_eq!(service.at(second, &token).await, good(), "at second {second}");
        assert!(refused(&service.at(second, &signer.token_with_kid("b", &claims())).await));
    }
    assert_eq!(service.at(day + 10, &token).await, Err(AuthError::Unavailable));
    issuer.answers(keys(&[("a", &signer)]));
    assert_eq!(service.at(day + 20, &token).await, good());
}

#[tokio::test]
async fn without_keys_the_service_is_unavailable_and_asks_no_more_than_it_may() {
    let signer = Signer::eddsa();
    let (issuer, url) = Issuer::start(Answer::Text(StatusCode::INTERNAL_SERVER_ERROR, String::new())).await;
    let service = Service::new(&url);
    let token = signer.token_with_kid("a", &claims());
    for second in 0..30 {
        let results = all((0..20).map(|_| service.at(second, &token))).await;
        assert!(results.iter().all(|result| *result == Err(AuthError::Unavailable)), "{results:?}");
        assert_eq!(issuer.asked() as u64, 1 + second / 10, "at second {second}");
    }
    assert!(refused(&service.at(30, "no.token.atall").await), "what is no token needs no key");
    issuer.answers(keys(&[("a", &signer)]));
    assert_eq!(service.at(30, &token).await, good());
}

#[tokio::test]
async fn an_answer_that_is_no_key_set_is_not_taken() {
    let signer = Signer::eddsa();
    let (other_issuer, other_url) = Issuer::start(keys(&[("a", &signer)])).await;
    let huge = json!({ "keys": [signer.jwk("a")], "pad": "x".repeat(BODY_LIMIT) });
    for answer in [
        Answer::Text(StatusCode::OK, String::new()),
        Answer::Text(StatusCode::OK, "<html>".into()),
        Answer::Text(StatusCode::CREATED, json!({ "keys": [signer.jwk("a")] }).to_string()),
        Answer::Keys(json!([])),
        Answer::Keys(json!({ "keys": {} })),
        Answer::Keys(json!({ "keys": [] })),
        Answer::Keys(json!({ "keys": [{ "kty": "unknown", "kid": "a" }] })),
        Answer::Keys(huge),
        Answer::Elsewhere(other_url),
    ] {
        let (issuer, url) = Issuer::start(answer).await;
        let service = Service::new(&url);
        let token = signer.token_with_kid("a", &claims());
        assert_eq!(service.at(0, &token).await, Err(AuthError::Unavailable), "{:?}", issuer.asked());
        assert_eq!(issuer.asked(), 1);
        issuer.answers(keys(&[("a", &signer)]));
        assert_eq!(service.at(10, &token).await, good());
    }
    assert_eq!(other_issuer.asked(), 0, "a redirection leads nowhere");
}

#[tokio::test]
async fn keys_that_cannot_be_used_do_not_spoil_the_others() {
    let signer = Signer::eddsa();
    let mut for_encryption = signer.jwk("enc");
    for_encryption["use"] = json!("enc");
    let mut of_another_algorithm = Signer::rs256().jwk("rs512");
    of_another_algorithm["alg"] = json!("RS512");
    let weak = json!({ "kid": "weak", "kty": "RSA", "e": "AQAB", "n": crate::auth::test_keys::b64([0xff; 128]) });
    let (_issuer, url) = Issuer::start(Answer::Keys(json!({ "keys": [
        7,
        {},
        { "kty": "PQC", "kid": "new" },
        { "kty": "EC", "crv": "P-384", "kid": "p384", "x": "AA", "y": "AA" },
        Signer::hs256(&[7; 32]).jwk("secret"),
        for_encryption,
        of_another_algorithm,
        weak,
        signer.jwk("good"),
    ]})))
    .await;
    let service = Service::new(&url);
    assert_eq!(service.at(0, &signer.token_with_kid("good", &claims())).await, good());
    assert!(refused(&service.at(0, &signer.token_with_kid("enc", &claims())).await));
    assert!(refused(&service.at(0, &Signer::hs256(&[7; 32]).token_with_kid("secret", &claims())).await));
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_waited_for_no_longer_than_the_deadline() {
    let (_issuer, url) = Issuer::start(Answer::Later).await;
    let service = Service::new(&url);
    let token = Signer::eddsa().token_with_kid("a", &claims());
    let result = tokio::time::timeout(FETCH_DEADLINE * 2, service.at(0, &token)).await.unwrap();
    assert_eq!(result, Err(AuthError::Unavailable));
}

#[tokio::test]
async fn an_issuer_that_is_gone_leaves_the_service_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    drop(listener);
    let result = Service::new(&url).at(0, &Signer::eddsa().token_with_kid("a", &claims())).await;
    assert_eq!(result, Err(AuthError::Unavailable));
}

#[tokio::test]
async fn keys_come_over_tls_from_a_server_that_is_trusted_and_from_no_other() {
    let signer = Signer::eddsa();
    let address = tls_server(json!({ "keys": [signer.jwk("a")] }).to_string()).await;
    let token = bearer(&signer.token_with_kid("a", &claims()));
    let mut roots = RootCertStore::empty();
    roots.add(certificate(include_str!("../../../tests/keys/ca.pem"))).unwrap();
    let url = format!("https://localhost:{}/keys", address.port());

    assert_eq!(trusting(&url, roots.clone()).authenticate(Some(&token)).await, good());
    assert_eq!(authenticator(&url).authenticate(Some(&token)).await, Err(AuthError::Unavailable), "not a public CA");
    let wrong_name = url.replace("localhost", "127.0.0.1");
    assert_eq!(trusting(&wrong_name, roots).authenticate(Some(&token)).await, Err(AuthError::Unavailable));
}

/// Answers every request with the text, over TLS, with the certificate of the tests.
async fn tls_server(body: String) -> SocketAddr {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let key = rustls::pki_types::pem::PemObject::from_pem_slice(include_bytes!("../../../tests/keys/server.key.pem"));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate(include_str!("../../../tests/keys/server.pem"))], key.unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok() {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    address
}

fn certificate(pem: &str) -> rustls::pki_types::CertificateDer<'static> {
    rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn the_seeds_hold_usable_keys() {
    let keys = seeds("jwks").iter().map(|set| parse(set).unwrap().len()).sum::<usize>();
    assert_eq!(keys, 3);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_set_of_keys_is_read_or_refused(bytes in hostile("jwks")) {
        for key in parse(&bytes).into_iter().flatten() {
            prop_assert!(!key.key.verifies(b"a message", &bytes), "no key verifies what nobody signed");
        }
    }
}
