//! `GET /admin/presence/{user_id}/explain`: why a user looks as they do, for an operator. It tells what the user hides and
//! asks for no token, so it is served on an address for administration alone.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use presence::domain::{Explanation, UserId};

use super::extract::PathId;
use super::problem::Problem;
use crate::App;

/// Where this endpoint is.
pub const PATH: &str = "/admin/presence/{user_id}/explain";

/// The route of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, get(handle))
}

async fn handle(State(app): State<App>, PathId(user): PathId<UserId>) -> Result<Json<Explanation>, Problem> {
    Ok(Json(app.service().explain(user).await?))
}
