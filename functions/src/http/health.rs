//! `GET /health`: the process is alive. Says nothing of what it depends on: restarting it would not help.

use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use crate::App;

/// Where this endpoint is.
pub const PATH: &str = "/health";

/// The route of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, get(handle))
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

async fn handle() -> Json<Health> {
    Json(Health { status: "ok" })
}
