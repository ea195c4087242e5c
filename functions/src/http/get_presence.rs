//! `GET /presence/{user_id}`: one user's presence as the caller may see it.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use presence::domain::{Presence, UserId};

use super::extract::{Caller, PathId};
use super::problem::Problem;
use crate::App;

/// Where this endpoint is.
pub const PATH: &str = "/presence/{user_id}";

/// The route of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, get(handle))
}

/// A user who was never seen is offline, not missing.
async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    PathId(user): PathId<UserId>,
) -> Result<Json<Presence>, Problem> {
    Ok(Json(app.service().presence(caller, user).await?))
}
