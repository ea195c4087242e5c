//! The way from an HTTP request to a connection.
//!
//! The handshake is the WebSocket library's; the extractor of the HTTP library is not used, because it hides the
//! socket: a client that sends too much would never see why it is closed, since that takes reading on for a moment.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::Gateway;
use crate::connection;

/// Where the gateway is.
pub const PATH: &str = "/gateway";

/// How long the HTTP server may take to hand the connection over.
const UPGRADE_TIME: Duration = Duration::from_secs(10);

/// The route of the gateway.
pub fn router(gateway: Gateway) -> Router {
    Router::new().route(PATH, get(upgrade)).with_state(gateway)
}

async fn upgrade(State(Gateway { shared }): State<Gateway>, mut request: Request) -> Response {
    let Ok(response) = create_response_with_body(&request, Body::empty) else {
        let mut response = problem(StatusCode::UPGRADE_REQUIRED, "This is a WebSocket endpoint.");
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return response;
    };
    let place = shared.places.clone().try_acquire_owned();
    let (Ok(place), false) = (place, shared.shutdown.is_cancelled()) else {
        let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, "There is no room for another connection now.");
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let connections = shared.connections.clone();
    connections.spawn(async move {
        let _place = place;
        if let Ok(Ok(upgraded)) = timeout(UPGRADE_TIME, upgraded).await {
            let _counted = Counted::new();
            connection::serve(TokioIo::new(upgraded), shared).await;
        }
    });
    response
}

/// A connection among those that are counted, however it ends.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("presence_gateway_connections").increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("presence_gateway_connections").decrement(1);
    }
}

/// A refusal in the form of RFC 9457.
fn problem(status: StatusCode, detail: &'static str) -> Response {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail
    });
    (status, [(CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
