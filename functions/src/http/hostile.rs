//! Requests as no client makes them: each has an answer that says what is wrong, and none is our fault.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{Method, Request, Uri};
use presence_corpus::hostile;
use proptest::prelude::*;
use proptest::sample::select;

use super::testing::{Answer, answer, app, bearer};
use super::{ENDPOINTS, HttpApp, app as serve, presence_routes};

static HOST: LazyLock<HttpApp> = LazyLock::new(|| serve(presence_routes(), app()));

fn ask(request: Request<Body>) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(answer(&HOST, request))
}

/// It was served, or the caller is told in words what to change.
fn assert_in_order(answer: &Answer) {
    if answer.status.is_success() {
        return;
    }
    assert!(answer.status.is_client_error(), "{}: {}", answer.status, answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status.as_u16());
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{problem}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_body_is_taken_or_refused(path in select(ENDPOINTS.map(|(path, _)| path).to_vec()), body in hostile("body")) {
        let request = Request::post(path.replace(['{', '}'], "")).header("authorization", bearer());
        assert_in_order(&ask(request.header("content-type", "application/json").body(Body::from(body)).unwrap()));
    }

    #[test]
    fn any_target_is_found_or_not(method in select(vec![Method::GET, Method::HEAD, Method::POST]), uri in hostile("uri")) {
        let Ok(uri) = Uri::try_from(uri.as_slice()) else { return Ok(()) };
        let request = Request::builder().method(&method).uri(uri).header("authorization", bearer());
        let answer = ask(request.body(Body::empty()).unwrap());
        if method == Method::HEAD {
            assert!(!answer.status.is_server_error(), "{}", answer.status);
        } else {
            assert_in_order(&answer);
        }
    }

    #[test]
    fn any_header_is_taken_or_refused(
        name in select(vec!["authorization", "content-type", "x-request-id", "traceparent", "origin", "accept", "content-length"]),
        value in hostile("uri"),
    ) {
        let request = Request::post("/presence/typing").header(name, value);
        let Ok(request) = request.body(Body::from("{}")) else { return Ok(()) };
        assert_in_order(&ask(request));
    }
}
