//! `GET /ready`: whether requests can be served right now, and if not, for want of what.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use presence::service::Readiness;

use crate::App;

/// Where this endpoint is.
pub const PATH: &str = "/ready";

/// A dependency that does not answer within this time is not there.
const PATIENCE: Duration = Duration::from_secs(2);

/// The route of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, get(handle))
}

/// 200 when all that this process needs is there, else 503; either way the body names each part.
async fn handle(State(app): State<App>) -> (StatusCode, Json<BTreeMap<&'static str, bool>>) {
    let nothing = Readiness { store: false, events: false };
    let readiness = tokio::time::timeout(PATIENCE, app.service().readiness()).await.unwrap_or(nothing);
    let parts: BTreeMap<&'static str, bool> =
        [("store", readiness.store), ("events", readiness.events)].into_iter().chain(app.probes()).collect();
    let status = if parts.values().all(|ready| *ready) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(parts))
}
