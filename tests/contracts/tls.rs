//! Redis and NATS over TLS, with a password and with credentials, by URLs and variables alone.

use std::path::PathBuf;

use presence_tests::{Access, JetStream, Nats, Service, Store, User, eventually, seen};
use serde_json::json;

use crate::document::root;

fn key_file(name: &str) -> PathBuf {
    root().join("shared/tests/keys").join(name)
}

/// As whom the service comes: a password that has to be encoded in a URL.
const SERVICE: &str = "presence:p%40ss%2Fword@";

/// A NATS that speaks nothing but TLS, and knows the service and the test.
async fn nats_over_tls() -> Nats {
    let config = format!(
        "tls {{ cert_file: {:?}, key_file: {:?} }}\nauthorization {{ users = [\n\
         {{ user: presence, password: \"p@ss/word\" }}\n{{ user: \"test\", password: \"test\" }}\n] }}\n",
        key_file("server.pem"),
        key_file("server.key.pem")
    );
    let authorities = Some(key_file("ca.pem"));
    let access = Access { config, login: "test:test@".to_owned(), authorities };
    Nats::start_with(JetStream::On, access).await
}

#[tokio::test]
async fn the_whole_service_works_over_tls() {
    let store = Store::start_tls(&key_file("server.pem"), &key_file("server.key.pem")).await;
    let nats = nats_over_tls().await;
    let variables = Service::builder().env("REDIS_URL", store.tls_url()).env("NATS_URL", nats.url_as(SERVICE));
    let service = variables.env("TLS_CA_FILE", key_file("ca.pem").display()).start().await;

    let mut events = nats.events().await;
    let user = User::new();
    service.update(&user, &json!({ "status": "dnd" })).await;
    assert_eq!(events.next_of(&user).await.data()["status"], "dnd");
    let other = User::new();
    nats.tell("gateway.connection.opened", json!({ "user_id": other.id(), "session_id": "a" })).await;
    assert_eq!(events.next_of(&other).await.data()["status"], "online");

    let log = service.log();
    for secret in [store.password(), "p@ss", "p%40ss"] {
        assert!(!log.contains(secret), "the log tells {secret}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_is_not_trusted_is_refused_over_tls() {
    let store = Store::start_tls(&key_file("server.pem"), &key_file("server.key.pem")).await;
    let nats = nats_over_tls().await;
    for (redis_url, nats_url, away) in [
        (store.tls_url(), String::new(), "store"),
        (String::new(), nats.url_as(SERVICE), "events"),
        // The name in the certificate is not this one.
        (store.tls_url().replace("localhost", "127.0.0.1"), String::new(), "store"),
    ] {
        let mut variables = Service::builder().env("REDIS_URL", &redis_url).env("NATS_URL", &nats_url);
        if redis_url.contains("127.0.0.1") {
            variables = variables.env("TLS_CA_FILE", key_file("ca.pem").display());
        }
        let service = variables.start_unready().await;
        let ready = eventually("the probe to say what is missing", crate::SOON, async || {
            let ready = service.get_openly("/ready").await;
            seen(ready.status == 503, ready)
        })
        .await;
        assert_eq!(ready.json()[away], false, "{}", ready.text);
    }
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_told_at_the_start() {
    for (path, reason) in [
        (root().join("no-such-file.pem"), "No such file"),
        (root().join("LICENSE"), "no certificate"),
        (key_file("ed25519.pem"), "no certificate"),
    ] {
        let (status, said) = Service::builder().env("TLS_CA_FILE", path.display()).fail().await;
        assert!(!status.success());
        assert!(said.contains("TLS_CA_FILE") && said.contains(reason), "{said}");
    }
}
