//! The HTTP side of the service: one module an endpoint, and [`app`], which makes of any of their routes what a host
//! serves. Whoever serves which routes, a request gets the same answer.

pub mod admission;
pub mod bulk_get_presence;
pub mod explain;
pub mod extract;
pub mod get_presence;
pub mod get_typing;
pub mod health;
pub mod json;
mod layers;
pub mod metrics;
pub mod problem;
pub mod ready;
pub mod start_typing;
pub mod update_status;

pub use layers::{HttpApp, REQUEST_ID, TRACEPARENT};

use axum::Router;
use axum::extract::MatchedPath;
use axum::http::Method;
use axum::routing::MethodRouter;

use self::problem::Problem;
use crate::App;

/// Every presence route, with the methods that its path has, as an `Allow` header lists them.
pub const ENDPOINTS: [(&str, &str); 5] = [
    (update_status::PATH, "POST"),
    (bulk_get_presence::PATH, "POST"),
    (start_typing::PATH, "POST"),
    (get_typing::PATH, "GET,HEAD"),
    (get_presence::PATH, "GET,HEAD"),
];

/// All presence routes, for a process that serves them together.
pub fn presence_routes() -> Router<App> {
    update_status::routes()
        .merge(get_presence::routes())
        .merge(bulk_get_presence::routes())
        .merge(start_typing::routes())
        .merge(get_typing::routes())
}

/// What a host serves: the given routes, with a problem for everything else and the layers that all responses pass.
///
/// A function has one route and knows the paths of the others, so that it does not take them for its own
/// (`/presence/status` for a user id) and answers a wrong method as all of the service would.
pub fn app(routes: Router<App>, app: App) -> HttpApp {
    let routes = ENDPOINTS.iter().fold(routes, |routes, (path, _)| routes.route(path, MethodRouter::new()));
    let routes = routes.fallback(async || Problem::not_found()).method_not_allowed_fallback(method_not_allowed);
    HttpApp::new(routes.with_state(app.clone()), app.limits().request_time, app.cors_origins())
}

/// A method that the path does not have. One that it has elsewhere, in another function, is not to be found here.
async fn method_not_allowed(method: Method, path: MatchedPath) -> Problem {
    let endpoint = ENDPOINTS.iter().find(|(endpoint, _)| *endpoint == path.as_str());
    let allow = endpoint.map(|(_, allow)| *allow);
    match allow {
        Some(allow) if allow.split(',').any(|allowed| allowed == method.as_str()) => Problem::not_found(),
        _ => Problem::method_not_allowed(allow),
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
