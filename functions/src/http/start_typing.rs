//! `POST /presence/typing`: the caller types in a channel.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use presence::domain::ChannelId;

use super::extract::{Caller, JsonBody, Trace};
use super::json::{FieldErrors, Object, required};
use super::problem::Problem;
use crate::App;

/// Where this endpoint is.
pub const PATH: &str = "/presence/typing";

/// The route of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, post(handle))
}

/// The same answer for everyone: it must not tell whether anyone else was told.
async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Trace(trace): Trace,
    body: JsonBody,
) -> Result<StatusCode, Problem> {
    let channel = body.read(channel_id)?;
    app.service().start_typing(caller, channel, trace).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn channel_id(body: &Object<'_>, errors: &mut FieldErrors) -> Option<ChannelId> {
    errors.check("/channel_id", required(body.get("channel_id")))
}
