//! `GET /metrics`: what this process did, for Prometheus. Labels are words of our own, never of a caller.

use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use presence::metrics::{HTTP_REFUSED, HTTP_REQUESTS, HTTP_SECONDS};

use super::{ENDPOINTS, explain, health, ready};
use crate::App;

/// Where this endpoint is.
pub const PATH: &str = "/metrics";

/// The upper bounds of the latency buckets, in seconds: from the embedded store to the deadline of a request.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Installs the recorder of this process. To be called once, before anything is counted.
pub fn install() -> Result<PrometheusHandle, MetricsError> {
    let recorder = recorder()?;
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Installed)?;
    presence::metrics::describe();
    // Metrics without labels are told from the start on, so that their first rise is seen as one.
    metrics::counter!(HTTP_REFUSED).increment(0);
    Ok(handle)
}

/// Why a process can't count.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The buckets are not in order: a defect.
    #[error(transparent)]
    Buckets(#[from] BuildError),
    /// The process has a recorder already.
    #[error("metrics are recorded already")]
    Installed,
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    Ok(PrometheusBuilder::new().set_buckets_for_metric(seconds, &BUCKETS)?.build_recorder())
}

/// The route of this endpoint.
pub fn routes(handle: PrometheusHandle) -> Router<App> {
    let text = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Router::new().route(
        PATH,
        get(move || async move {
            handle.run_upkeep();
            (text, handle.render())
        }),
    )
}

/// Counts one request.
pub(super) fn record(route: &'static str, method: &Method, status: StatusCode, took: Duration) {
    let method = method_label(method);
    metrics::counter!(HTTP_REQUESTS, "route" => route, "method" => method, "status" => status_class(status))
        .increment(1);
    metrics::histogram!(HTTP_SECONDS, "route" => route, "method" => method).record(took);
}

/// Counts one request that was turned away.
pub(super) fn refused() {
    metrics::counter!(HTTP_REFUSED).increment(1);
}

/// The pattern of the route, or `other`: paths that are not ours are all one.
pub(super) fn route_label(path: &str) -> &'static str {
    let ours = ENDPOINTS.iter().map(|(path, _)| *path).chain([health::PATH, ready::PATH, PATH, explain::PATH]);
    ours.into_iter().find(|pattern| fits(pattern, path)).unwrap_or("other")
}

/// Whether a path is one of the pattern's, which has at most one id, as the router would say.
fn fits(pattern: &str, path: &str) -> bool {
    let Some((start, end)) = pattern.split_once('{') else { return pattern == path };
    let (_, end) = end.split_once('}').unwrap_or_default();
    let id = path.strip_prefix(start).and_then(|rest| rest.strip_suffix(end));
    id.is_some_and(|id| !id.is_empty() && !id.contains('/'))
}

/// A caller may send any word as a method.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{app, bearer, send};
    use super::super::{app as serve, presence_routes};
    use super::*;

    #[test]
    fn a_path_is_known_by_its_pattern() {
        for (path, label) in [
            ("/presence/status", "/presence/status"),
            ("/presence/typing", "/presence/typing"),
            ("/presence/typing/x", "/presence/typing/{channel_id}"),
            ("/presence/x", "/presence/{user_id}"),
            ("/presence/statuses", "/presence/{user_id}"),
            ("/admin/presence/x/explain", "/admin/presence/{user_id}/explain"),
            ("/health", "/health"),
            ("/presence/", "other"),
            ("/presence", "other"),
            ("/presence/x/", "other"),
            ("/presence/typing/", "other"),
            ("/presence/typing/x/y", "other"),
            ("/admin/presence//explain", "other"),
            ("/healthy", "other"),
            ("*", "other"),
        ] {
            assert_eq!(route_label(path), label, "{path}");
        }
    }

    #[tokio::test]
    async fn requests_are_counted_by_words_of_our_own() {
        let recorder = recorder().unwrap();
        let _on_this_thread = metrics::set_default_local_recorder(&recorder);
        let router = serve(presence_routes().merge(routes(recorder.handle())), app());
        let id = "00000000-0000-4000-8000-000000000001";
        send(&router, "GET", &format!("/presence/{id}"), &[]).await;
        send(&router, "GET", "/presence/whatever-a-caller-says", &[("authorization", &bearer())]).await;
        send(&router, "BREW", "/a/path/of/a/caller", &[]).await;

        let answer = send(&router, "GET", PATH, &[]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        for line in [
            r#"presence_http_requests_total{route="/presence/{user_id}",method="GET",status="4xx"} 2"#,
            r#"presence_http_requests_total{route="other",method="other",status="4xx"} 1"#,
            r#"presence_http_request_duration_seconds_count{route="/presence/{user_id}",method="GET"} 2"#,
        ] {
            assert!(answer.body.lines().any(|told| told == line), "{line} is missing in:\n{}", answer.body);
        }
        for word in ["whatever", "caller", "BREW", id] {
            assert!(!answer.body.contains(word), "{word}");
        }
    }
}
