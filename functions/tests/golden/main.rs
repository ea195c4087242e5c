//! The golden suite on the functions: each request becomes an API Gateway event for the function that its path belongs
//! to, and goes through the same adapter as in the cloud.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Context, LambdaEvent, Service, service_fn};
use presence::PresenceService;
use presence::auth::{Authenticator, DEVELOPMENT_SECRET};
use presence::config::Config;
use presence::domain::Rules;
use presence::events::MemoryBus;
use presence::store::MemoryStore;
use presence_functions::App;
use presence_functions::http::{bulk_get_presence, get_presence, get_typing, start_typing, update_status};
use presence_golden::Host;
use serde_json::{Value, json};

#[tokio::test]
async fn the_functions_answer_as_every_host_must() {
    let app = app();
    let mut failures = Vec::new();
    let mut ran = 0;
    for case in presence_golden::cases().unwrap() {
        if case.runs_on(Host::Functions) {
            ran += 1;
            let result = case.run(DEVELOPMENT_SECRET, async |request| call(&app, request).await).await;
            failures.extend(result.err().map(|failure| failure.to_string()));
        }
    }
    assert!(failures.is_empty(), "{} of {ran} cases failed:\n{}", failures.len(), failures.join("\n"));
    assert!(ran > 50, "only {ran} cases ran");
}

fn app() -> App {
    let rules = Rules::default();
    let (store, events) = (Arc::new(MemoryStore::new(rules)), Arc::new(MemoryBus::new()));
    let config = Config::from_lookup(|_| None).unwrap();
    let service = PresenceService::new(store, events, rules);
    App::new(Arc::new(service), Arc::new(Authenticator::new(&config.auth).unwrap()))
}

/// The function that the API's routes send a path to. What no route takes goes where `$default` does.
fn function_of(path: &str) -> Router<App> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments.as_slice() {
        ["presence", "status"] => update_status::routes(),
        ["presence", "bulk"] => bulk_get_presence::routes(),
        ["presence", "typing"] => start_typing::routes(),
        ["presence", "typing", _] => get_typing::routes(),
        _ => get_presence::routes(),
    }
}

async fn call(app: &App, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let function = presence_functions::http::app(function_of(request.uri().path()), app.clone());
    let event: LambdaRequest = serde_json::from_value(event(&request)).map_err(|error| error.to_string())?;
    let invocation = LambdaEvent::new(event, Context::default());
    let function = service_fn(|request: Request<lambda_http::Body>| {
        let function = function.clone();
        async move { Ok::<_, Infallible>(function.answer(request.map(Body::new)).await) }
    });
    let answer = Adapter::from(function).call(invocation).await.map_err(|error| error.to_string())?;
    response(&serde_json::to_value(answer).map_err(|error| error.to_string())?)
}

/// The request as the gateway tells of it: the recorded event, with this request's method, path, headers and body.
fn event(request: &Request<Bytes>) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("event.json")).unwrap();
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    event["rawPath"] = json!(path);
    event["rawQueryString"] = json!(query);
    event["requestContext"]["http"]["path"] = json!(path);
    event["requestContext"]["http"]["method"] = json!(request.method().as_str());
    event["headers"]["content-length"] = json!(request.body().len().to_string());
    for name in request.headers().keys() {
        // A header that comes twice is joined.
        let values: Vec<&str> = request.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        event["headers"][name.as_str()] = json!(values.join(","));
    }
    if !request.body().is_empty() {
        let text = std::str::from_utf8(request.body()).ok().filter(|_| is_text(request.headers()));
        event["isBase64Encoded"] = json!(text.is_none());
        event["body"] = text.map_or_else(|| json!(BASE64_STANDARD.encode(request.body())), |text| json!(text));
    }
    event
}

/// Which bodies the gateway passes on as text.
fn is_text(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    media_type.starts_with("text/") || media_type.starts_with("application/json")
}

/// The answer that the gateway makes of a function's result.
fn response(answer: &Value) -> Result<Response<Bytes>, String> {
    let status = answer["statusCode"].as_u64().ok_or("no status code")?;
    let mut headers = HeaderMap::new();
    for (name, value) in answer["headers"].as_object().into_iter().flatten() {
        let name: HeaderName = name.parse().map_err(|_| format!("{name:?} is no name of a header"))?;
        let value = value.as_str().ok_or_else(|| format!("{name} is there more than once"))?;
        headers.insert(name, HeaderValue::try_from(value).map_err(|error| error.to_string())?);
    }
    let body = answer["body"].as_str().unwrap_or_default();
    let body = if answer["isBase64Encoded"] == true {
        BASE64_STANDARD.decode(body).map_err(|error| error.to_string())?
    } else {
        body.as_bytes().to_vec()
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = u16::try_from(status).ok().and_then(|code| code.try_into().ok()).ok_or("no status")?;
    *response.headers_mut() = headers;
    Ok(response)
}
