//! `POST /presence/status`: the caller says how they want to be seen.

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use presence::domain::{ActivityUpdate, Presence, StatusUpdate};

use super::extract::{Caller, JsonBody, Trace};
use super::json::{FieldErrors, Node, Object, required};
use super::problem::Problem;
use crate::App;

/// Where this endpoint is.
pub const PATH: &str = "/presence/status";

/// The route of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, post(handle))
}

async fn handle(
    State(app): State<App>,
    Caller(caller): Caller,
    Trace(trace): Trace,
    body: JsonBody,
) -> Result<Json<Presence>, Problem> {
    let update = body.read(status_update)?;
    let presence = app.service().update_status(caller, update, trace).await?;
    Ok(Json(presence))
}

/// What is not named stays; `null` clears. A status can't be cleared, only chosen.
fn status_update(body: &Object<'_>, errors: &mut FieldErrors) -> Option<StatusUpdate> {
    Some(StatusUpdate {
        status: body.get("status").and_then(|status| errors.check("/status", status.parse())),
        custom_status: body.get("custom_status").and_then(|custom| match custom {
            Node::Null => Some(None),
            Node::String(text) if text.is_empty() => Some(None),
            text => errors.check("/custom_status", text.parse()).map(Some),
        }),
        activity: body.get("activity").and_then(|activity| match activity {
            Node::Null => Some(None),
            Node::Object(members) => activity_update(members, errors).map(Some),
            _ => {
                errors.add("/activity", "an activity is an object with type and name, or null");
                None
            }
        }),
    })
}

fn activity_update(members: &Object<'_>, errors: &mut FieldErrors) -> Option<ActivityUpdate> {
    let kind = errors.check("/activity/type", required(members.get("type")));
    let name = errors.check("/activity/name", required(members.get("name")));
    Some(ActivityUpdate { kind: kind?, name: name? })
}

#[cfg(test)]
mod tests {
    use presence::domain::{ActivityKind, Intent};
    use serde_json::json;

    use super::super::json::read;
    use super::super::testing::field_errors;
    use super::*;

    fn update(body: &str) -> StatusUpdate {
        read(body.as_bytes(), status_update).unwrap()
    }

    #[test]
    fn what_is_not_named_stays() {
        assert_eq!(update("{}"), StatusUpdate::default());
        assert_eq!(update(r#"{"unknown": 1, "user_id": null}"#), StatusUpdate::default());
    }

    #[test]
    fn null_clears_and_so_does_an_empty_custom_status() {
        let cleared = StatusUpdate { custom_status: Some(None), activity: Some(None), ..StatusUpdate::default() };
        assert_eq!(update(r#"{"custom_status": null, "activity": null}"#), cleared);
        assert_eq!(update(r#"{"custom_status": "", "activity": null}"#), cleared);
    }

    #[test]
    fn everything_named_is_taken() {
        let body =
            r#"{"status": "dnd", "custom_status": "Working", "activity": {"type": "playing", "name": "Rust", "x": 1}}"#;
        let expected = StatusUpdate {
            status: Some(Intent::Dnd),
            custom_status: Some(Some("Working".parse().unwrap())),
            activity: Some(Some(ActivityUpdate { kind: ActivityKind::Playing, name: "Rust".parse().unwrap() })),
        };
        assert_eq!(update(body), expected);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let body = r#"{"status": null, "custom_status": 7, "activity": {"type": "sleeping"}}"#;
        let problem = read(body.as_bytes(), status_update).unwrap_err();
        assert_eq!(
            field_errors(&problem),
            json!([
                {"pointer": "/status", "detail": "must be a string"},
                {"pointer": "/custom_status", "detail": "must be a string"},
                {"pointer": "/activity/type", "detail": "an activity type is one of playing, streaming, listening"},
                {"pointer": "/activity/name", "detail": "is required"},
            ])
        );
        let problem = read(br#"{"activity": ["playing"]}"#, status_update).unwrap_err();
        assert_eq!(field_errors(&problem)[0]["pointer"], "/activity");
    }
}
