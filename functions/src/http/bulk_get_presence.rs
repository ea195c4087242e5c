//! `POST /presence/bulk`: many users' presences in one answer.

use std::collections::HashSet;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use presence::domain::{Presence, UserId};
use serde::Serialize;

use super::extract::{Caller, JsonBody};
use super::json::{FieldErrors, Node, Object};
use super::problem::Problem;
use crate::App;

/// Where this endpoint is.
pub const PATH: &str = "/presence/bulk";

/// The most ids that one request may name, repeated ones included.
pub const MAX_IDS: usize = 1000;

/// The route of this endpoint.
pub fn routes() -> Router<App> {
    Router::new().route(PATH, post(handle))
}

#[derive(Serialize)]
struct Presences {
    presences: Vec<Presence>,
}

async fn handle(State(app): State<App>, Caller(caller): Caller, body: JsonBody) -> Result<Json<Presences>, Problem> {
    let users = body.read(user_ids)?;
    let presences = app.service().presences(caller, &users).await?;
    Ok(Json(Presences { presences }))
}

/// The users asked for, in their order, each once.
fn user_ids(body: &Object<'_>, errors: &mut FieldErrors) -> Option<Vec<UserId>> {
    let Some(ids) = body.get("user_ids") else {
        errors.add("/user_ids", "is required");
        return None;
    };
    let Node::Array(ids) = ids else {
        errors.add("/user_ids", "must be an array");
        return None;
    };
    if ids.is_empty() || ids.len() > MAX_IDS {
        errors.add("/user_ids", "must have 1 to 1000 ids");
        return None;
    }
    let mut seen = HashSet::with_capacity(ids.len());
    let ids = ids.iter().enumerate();
    let users = ids.filter_map(|(index, id)| errors.check(format!("/user_ids/{index}"), id.parse()));
    Some(users.filter(|user| seen.insert(*user)).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::json::read;
    use super::super::testing::field_errors;
    use super::*;

    const A: &str = "00000000-0000-4000-8000-00000000000a";
    const B: &str = "00000000-0000-4000-8000-00000000000b";

    fn users(body: serde_json::Value) -> Result<Vec<UserId>, Problem> {
        read(body.to_string().as_bytes(), user_ids)
    }

    #[test]
    fn a_repeated_id_counts_once_and_the_order_is_kept() {
        let asked = json!({"user_ids": [B, A, B.to_uppercase(), A]});
        assert_eq!(users(asked).unwrap(), [B.parse().unwrap(), A.parse().unwrap()]);
    }

    #[test]
    fn ids_are_counted_before_repeats_are_dropped() {
        assert_eq!(users(json!({"user_ids": vec![A; 1000]})).unwrap().len(), 1);
        for body in [json!({"user_ids": vec![A; 1001]}), json!({"user_ids": []})] {
            let problem = users(body).unwrap_err();
            assert_eq!(field_errors(&problem), json!([{"pointer": "/user_ids", "detail": "must have 1 to 1000 ids"}]));
        }
    }

    #[test]
    fn every_wrong_id_is_told_by_its_place() {
        let problem = users(json!({"user_ids": [A, "x", B, 7, null]})).unwrap_err();
        assert_eq!(
            field_errors(&problem),
            json!([
                {"pointer": "/user_ids/1", "detail": "a user id is a hyphenated UUID"},
                {"pointer": "/user_ids/3", "detail": "must be a string"},
                {"pointer": "/user_ids/4", "detail": "must be a string"},
            ])
        );
    }

    #[test]
    fn the_ids_are_required_and_a_list() {
        for (body, rule) in [
            (json!({}), "is required"),
            (json!({"ids": [A]}), "is required"),
            (json!({"user_ids": null}), "must be an array"),
            (json!({"user_ids": A}), "must be an array"),
            (json!({"user_ids": {"0": A}}), "must be an array"),
        ] {
            let problem = users(body.clone()).unwrap_err();
            assert_eq!(field_errors(&problem), json!([{"pointer": "/user_ids", "detail": rule}]), "{body}");
        }
    }
}
