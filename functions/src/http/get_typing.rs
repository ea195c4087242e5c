//! `GET /presence/typing/{channel_id}`: who types in a channel now.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use presence::domain::ChannelId;
use presence::service::Typist;
use serde::Serialize;

use super::extract::{Caller, PathId};
use super::problem::Problem;
use crate::App;

/// Where this endpoint is.
pub const PATH: &str = "/presence/typing/{channel_id}";

/// The route of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, get(handle))
}

#[derive(Serialize)]
struct Typing {
    channel_id: ChannelId,
    users: Vec<Typist>,
}

async fn handle(
    State(app): State<App>,
    Caller(_): Caller,
    PathId(channel_id): PathId<ChannelId>,
) -> Result<Json<Typing>, Problem> {
    let users = app.service().typing(channel_id).await?;
    Ok(Json(Typing { channel_id, users }))
}
