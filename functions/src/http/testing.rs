//! What the tests of the endpoints share.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use futures::FutureExt;
use http_body_util::BodyExt;
use presence::Host;
use presence::auth::{Authenticator, development_token};
use presence::config::Config;
use presence::domain::UserId;
use serde_json::Value;
use uuid::Uuid;

use super::HttpApp;
use super::problem::Problem;
use crate::App;

/// The field errors in the body of a problem.
pub(super) fn field_errors(problem: &Problem) -> Value {
    let mut document: Value = serde_json::from_slice(&problem.document("r")).unwrap();
    document["errors"].take()
}

/// An app on the embedded store and bus that accepts development tokens.
pub(super) fn app() -> App {
    app_on(&[])
}

/// An app on what the variables say.
pub(super) fn app_on(variables: &[(&str, &str)]) -> App {
    let find = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
    let config = Config::from_lookup(find).unwrap();
    // Without NATS there is nothing to wait for.
    let connected = presence::connect(&config, Host::Process).now_or_never().unwrap().unwrap();
    App::new(connected.service, Arc::new(Authenticator::new(&config.auth).unwrap()))
}

/// The header value by which a new user shows who they are.
pub(super) fn bearer() -> String {
    let user = UserId::new(Uuid::new_v4());
    format!("Bearer {}", development_token(user, Duration::from_secs(600)))
}

/// A response, taken apart.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The last part of the type of a problem.
    pub(super) fn problem(&self) -> String {
        let uri = self.json()["type"].as_str().unwrap().to_owned();
        uri.strip_prefix("urn:presence:problem:").unwrap().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Sends a request without a body, with the headers given.
pub(super) async fn send(app: &HttpApp, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(app, request.body(Body::empty()).unwrap()).await
}

/// Sends any request.
pub(super) async fn answer(app: &HttpApp, request: Request<Body>) -> Answer {
    let response = app.answer(request).await;
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, body }
}
