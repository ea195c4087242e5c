//! What is the same for every route, whoever serves it. What single routes answer is in the golden suite.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get;
use serde_json::json;

use super::testing::{Answer, answer, app, app_on, bearer, send};
use super::{
    ENDPOINTS, app as serve, bulk_get_presence, get_presence, get_typing, health, presence_routes, ready, start_typing,
    update_status,
};
use crate::App;
use crate::app::Limits;

const ID: &str = "00000000-0000-4000-8000-000000000001";

/// What a function serves.
type Routes = fn() -> Router<App>;

/// A path that the pattern of an endpoint matches.
fn example(pattern: &str) -> String {
    pattern.replace("{user_id}", ID).replace("{channel_id}", ID)
}

#[tokio::test]
async fn every_path_has_the_methods_that_it_is_said_to_have() {
    let router = serve(presence_routes(), app());
    for (path, allow) in ENDPOINTS {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let answer = send(&router, method, &example(path), &[]).await;
            if allow.split(',').any(|allowed| allowed == method) {
                assert_eq!(answer.status, 401, "{method} {path}");
            } else {
                assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some(allow)), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_function_does_not_take_the_paths_of_others_for_its_own() {
    let functions: [(&str, Routes); 5] = [
        (update_status::PATH, update_status::routes),
        (get_presence::PATH, get_presence::routes),
        (bulk_get_presence::PATH, bulk_get_presence::routes),
        (start_typing::PATH, start_typing::routes),
        (get_typing::PATH, get_typing::routes),
    ];
    for (own, routes) in functions {
        let function = serve(routes(), app());
        for (path, allow) in ENDPOINTS {
            let method = if allow == "POST" { "POST" } else { "GET" };
            let right = send(&function, method, &example(path), &[]).await;
            assert_eq!(right.status, if own == path { 401 } else { 404 }, "{method} {path} of {own}");
            let wrong = send(&function, "DELETE", &example(path), &[]).await;
            assert_eq!((wrong.status.as_u16(), wrong.header("allow")), (405, Some(allow)), "{path} of {own}");
        }
        assert_eq!(send(&function, "GET", "/health", &[]).await.problem(), "not-found");
    }
}

#[tokio::test]
async fn a_panic_is_a_problem_like_any_other() {
    let broken = Router::new().route("/broken", get(async || -> &'static str { panic!("secret words") }));
    let answer = send(&serve(broken, app()), "GET", "/broken", &[("x-request-id", "r-7")]).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (500, "internal"));
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("x-request-id"), Some("r-7"));
    assert_eq!(answer.json()["request_id"], "r-7");
    assert!(!answer.body.contains("secret"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_too_long_is_given_up() {
    let stuck = Router::new().route("/stuck", get(std::future::pending::<()>));
    let limits = Limits { request_time: Duration::from_secs(3), ..Limits::default() };
    let router = serve(stuck, app().with_limits(limits));
    let begun = tokio::time::Instant::now();
    let answer = send(&router, "GET", "/stuck", &[]).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "deadline-exceeded"));
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn pages_of_known_origins_may_call_and_read_problems() {
    let router = serve(presence_routes(), app().with_cors_origins(["https://app.example.com"]));
    let preflight = [
        ("origin", "https://app.example.com"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    let allowed = send(&router, "OPTIONS", "/presence/status", &preflight).await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(allowed.header("access-control-allow-methods"), Some("GET,POST"));
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert!(allowed.header("x-request-id").is_some());

    let refused = send(&router, "POST", "/presence/status", &preflight[..1]).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert!(refused.header("access-control-expose-headers").unwrap().contains("retry-after"));

    let stranger = send(&router, "POST", "/presence/status", &[("origin", "https://evil.example.com")]).await;
    assert_eq!(stranger.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn without_configured_origins_no_page_may_call() {
    let router = serve(presence_routes(), app());
    let origin = [("origin", "https://app.example.com"), ("access-control-request-method", "POST")];
    let answer = send(&router, "OPTIONS", "/presence/status", &origin).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("POST")));
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn a_process_is_ready_when_all_its_parts_are() {
    let subscribed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let probe = Arc::clone(&subscribed);
    let app = app().with_probe("subscriptions", move || probe.load(std::sync::atomic::Ordering::Relaxed));
    let router = serve(ready::routes(), app);
    let answer = send(&router, "GET", "/ready", &[]).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json(), json!({"store": true, "events": true, "subscriptions": false}));

    subscribed.store(true, std::sync::atomic::Ordering::Relaxed);
    let answer = send(&router, "GET", "/ready", &[]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), json!({"store": true, "events": true, "subscriptions": true}));
}

/// A port of this machine that nobody listens on, as far as anyone can tell.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    format!("redis://:hunter2@127.0.0.1:{port}")
}

#[tokio::test]
async fn with_the_store_away_every_route_says_so_and_nothing_of_where_it_is() {
    let url = nowhere();
    let app = app_on(&[("REDIS_URL", &url)]);
    let router = serve(presence_routes().merge(health::routes()).merge(ready::routes()), app);
    let token = bearer();
    let post = |path: &str, body: serde_json::Value| {
        let request = Request::post(path).header("authorization", &token).header("content-type", "application/json");
        request.body(Body::from(body.to_string())).unwrap()
    };
    let read = |path: &str| Request::get(path).header("authorization", &token).body(Body::empty()).unwrap();
    for request in [
        post("/presence/status", json!({"status": "online"})),
        post("/presence/bulk", json!({"user_ids": [ID]})),
        post("/presence/typing", json!({"channel_id": ID})),
        read(&example(get_presence::PATH)),
        read(&example(get_typing::PATH)),
    ] {
        let asked = request.uri().path().to_owned();
        let answer = answer(&router, request).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "unavailable"), "{asked}");
        assert!(answer.header("retry-after").is_some(), "{asked}");
        assert_tells_nothing(&answer);
    }
    assert_eq!(send(&router, "GET", "/health", &[]).await.status, 200);
    let readiness = send(&router, "GET", "/ready", &[]).await;
    assert_eq!((readiness.status.as_u16(), readiness.json()), (503, json!({"store": false, "events": true})));
}

fn assert_tells_nothing(answer: &Answer) {
    let told = format!("{:?} {}", answer.headers, answer.body).to_lowercase();
    for word in ["redis", "127.0.0.1", "hunter2", "presence:user", "refused", "panicked", ".rs"] {
        assert!(!told.contains(word), "{word}: {told}");
    }
}
