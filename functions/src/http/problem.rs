//! Errors as clients see them: RFC 9457 problem details. Every kind of problem stands in [`Kind`] and nowhere else.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use presence::auth::AuthError;
use presence::domain::Invalid;
use presence::{Error, ErrorKind};
use serde::Serialize;

/// The media type of a problem.
pub const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A request that did not succeed, with what its sender can do about it. As a response it is a status with headers;
/// the envelope of all responses adds the body, because only it knows the request id.
#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    cause: Option<Error>,
}

/// Everything that can be wrong with a request or with us. The URN of a kind is part of the API and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The path has an id that is not one.
    InvalidId,
    /// The body can't be read.
    MalformedBody,
    /// No token.
    MissingToken,
    /// A token that proves nothing.
    InvalidToken,
    /// No such path.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The body is larger than it may be.
    BodyTooLarge,
    /// The body is not said to be JSON.
    UnsupportedMediaType,
    /// The body can be read and is not allowed.
    InvalidFields,
    /// Too many status updates.
    RateLimited,
    /// A defect of ours.
    Internal,
    /// Something that we need can't be reached.
    Unavailable,
    /// More requests at once than can be served.
    Overloaded,
    /// The request took too long.
    DeadlineExceeded,
}

impl Kind {
    /// All kinds, for the documents and tests that list them.
    pub const ALL: [Kind; 14] = [
        Kind::InvalidId,
        Kind::MalformedBody,
        Kind::MissingToken,
        Kind::InvalidToken,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::BodyTooLarge,
        Kind::UnsupportedMediaType,
        Kind::InvalidFields,
        Kind::RateLimited,
        Kind::Internal,
        Kind::Unavailable,
        Kind::Overloaded,
        Kind::DeadlineExceeded,
    ];

    /// The `type`, the status and the `title` of a problem of this kind.
    pub const fn describe(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Kind::InvalidId => ("urn:presence:problem:invalid-id", StatusCode::BAD_REQUEST, "Invalid id in the path"),
            Kind::MalformedBody => ("urn:presence:problem:malformed-body", StatusCode::BAD_REQUEST, "Unreadable body"),
            Kind::MissingToken => {
                ("urn:presence:problem:missing-token", StatusCode::UNAUTHORIZED, "Authentication required")
            }
            Kind::InvalidToken => ("urn:presence:problem:invalid-token", StatusCode::UNAUTHORIZED, "Invalid token"),
            Kind::NotFound => ("urn:presence:problem:not-found", StatusCode::NOT_FOUND, "Not found"),
            Kind::MethodNotAllowed => {
                ("urn:presence:problem:method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            }
            Kind::BodyTooLarge => {
                ("urn:presence:problem:body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "Body too large")
            }
            Kind::UnsupportedMediaType => (
                "urn:presence:problem:unsupported-media-type",
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported media type",
            ),
            Kind::InvalidFields => {
                ("urn:presence:problem:invalid-fields", StatusCode::UNPROCESSABLE_ENTITY, "Invalid fields")
            }
            Kind::RateLimited => {
                ("urn:presence:problem:rate-limited", StatusCode::TOO_MANY_REQUESTS, "Too many status updates")
            }
            Kind::Internal => ("urn:presence:problem:internal", StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
            Kind::Unavailable => {
                ("urn:presence:problem:unavailable", StatusCode::SERVICE_UNAVAILABLE, "Temporarily unavailable")
            }
            Kind::Overloaded => ("urn:presence:problem:overloaded", StatusCode::SERVICE_UNAVAILABLE, "Overloaded"),
            Kind::DeadlineExceeded => {
                ("urn:presence:problem:deadline-exceeded", StatusCode::SERVICE_UNAVAILABLE, "Took too long")
            }
        }
    }
}

/// What is wrong with one member of a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Where it is (or should be): a JSON pointer, RFC 6901. Empty for the body itself.
    pub pointer: Cow<'static, str>,
    /// The rule that it breaks.
    pub detail: &'static str,
}

/// How long a client waits before it tries again when something of ours is away.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(5);

/// How long a client waits after it was turned away in an overload, which is over sooner than an outage.
const RETRY_OVERLOADED: Duration = Duration::from_secs(1);

impl Problem {
    /// A problem that needs no more than a sentence.
    pub fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after: None, allow: None, cause: None }
    }

    /// A body whose members are not allowed: all that is wrong with it, at once.
    pub fn invalid_fields(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(Kind::InvalidFields, "the body has members that are not allowed") }
    }

    /// An id in the path that breaks a rule.
    pub fn invalid_id(rule: Invalid) -> Self {
        Self::new(Kind::InvalidId, rule.0)
    }

    /// A path that nothing is at.
    pub fn not_found() -> Self {
        Self::new(Kind::NotFound, "there is nothing at this path")
    }

    /// A method that the path does not have. `allow` lists those that it has; none leaves it to the router.
    pub fn method_not_allowed(allow: Option<&'static str>) -> Self {
        Self { allow, ..Self::new(Kind::MethodNotAllowed, "this path does not have this method") }
    }

    /// A request that is turned away rather than queued.
    pub fn overloaded() -> Self {
        let detail = "more requests are being served than this process can take";
        Self { retry_after: Some(RETRY_OVERLOADED), ..Self::new(Kind::Overloaded, detail) }
    }

    /// A request that took longer than it may.
    pub fn deadline_exceeded() -> Self {
        let detail = "the request was given up; whether it changed anything is not known";
        Self { retry_after: Some(RETRY_UNAVAILABLE), ..Self::new(Kind::DeadlineExceeded, detail) }
    }

    /// A defect of ours.
    pub fn internal() -> Self {
        Self::new(Kind::Internal, "the request could not be served; this is a defect of the service")
    }

    /// What kind of problem this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The cause, for the log alone.
    pub fn cause(&self) -> Option<&Error> {
        self.cause.as_ref()
    }

    /// The body of the problem.
    pub(super) fn document(&self, request_id: &str) -> Vec<u8> {
        let (uri, status, title) = self.kind.describe();
        let document =
            Document { uri, title, status: status.as_u16(), detail: &self.detail, request_id, errors: &self.errors };
        let mut body = Vec::with_capacity(USUAL_BYTES);
        // Plain data always has a JSON form.
        let _ = serde_json::to_writer(&mut body, &document);
        body
    }

    /// Writes the body of the problem into its response, where the request id is known. Who asks with `HEAD` is told
    /// its length.
    pub(super) fn write(&self, response: &mut Response, method: &Method, request_id: &str) {
        let document = self.document(request_id);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
        *response.body_mut() = if *method == Method::HEAD { Body::empty() } else { Body::from(document) };
    }

    /// The status and the headers of the problem.
    pub(super) fn head(&self) -> Response {
        let (_, status, _) = self.kind.describe();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.reserve(USUAL_HEADERS);
        match self.kind {
            Kind::MissingToken => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="presence""#));
            }
            Kind::InvalidToken => {
                headers.insert(WWW_AUTHENTICATE, invalid_token_challenge(&self.detail));
            }
            _ => {}
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// Few problems have a longer body, in bytes.
const USUAL_BYTES: usize = 320;

/// Few problems have more headers.
const USUAL_HEADERS: usize = 8;

#[derive(Serialize)]
struct Document<'a> {
    #[serde(rename = "type")]
    uri: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[FieldError]>::is_empty")]
    errors: &'a [FieldError],
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing => Self::new(Kind::MissingToken, "this route needs a bearer token"),
            AuthError::Invalid(reason) => Self::new(Kind::InvalidToken, reason),
            AuthError::Unavailable => Self {
                retry_after: Some(RETRY_UNAVAILABLE),
                ..Self::new(Kind::Unavailable, "tokens cannot be checked at the moment")
            },
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let mut problem = match error.kind() {
            ErrorKind::RateLimited { retry_after } => Self {
                retry_after: Some(retry_after),
                ..Self::new(Kind::RateLimited, "the status was updated too often; this request changed nothing")
            },
            ErrorKind::Unavailable => Self {
                retry_after: Some(RETRY_UNAVAILABLE),
                ..Self::new(Kind::Unavailable, "presence cannot be read or written at the moment")
            },
            ErrorKind::Internal => Self::internal(),
        };
        problem.cause = Some(error);
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.head();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Rounded up, and never "at once": a client that comes back too early is refused again.
fn whole_seconds(wait: Duration) -> u64 {
    let rounded = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    rounded.max(1)
}

/// The challenge of RFC 6750 section 3. What its description can't hold is left out.
fn invalid_token_challenge(description: &str) -> HeaderValue {
    let allowed = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\');
    let description: String = description.chars().filter(allowed).collect();
    let challenge = format!(r#"Bearer realm="presence", error="invalid_token", error_description="{description}""#);
    HeaderValue::try_from(challenge).unwrap_or(HeaderValue::from_static(r#"Bearer error="invalid_token""#))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_problems_are_part_of_the_api() {
        let listed: Vec<String> = Kind::ALL
            .iter()
            .map(|kind| {
                let (uri, status, _) = kind.describe();
                format!("{} {}", status.as_u16(), uri)
            })
            .collect();
        assert_eq!(
            listed,
            [
                "400 urn:presence:problem:invalid-id",
                "400 urn:presence:problem:malformed-body",
                "401 urn:presence:problem:missing-token",
                "401 urn:presence:problem:invalid-token",
                "404 urn:presence:problem:not-found",
                "405 urn:presence:problem:method-not-allowed",
                "413 urn:presence:problem:body-too-large",
                "415 urn:presence:problem:unsupported-media-type",
                "422 urn:presence:problem:invalid-fields",
                "429 urn:presence:problem:rate-limited",
                "500 urn:presence:problem:internal",
                "503 urn:presence:problem:unavailable",
                "503 urn:presence:problem:overloaded",
                "503 urn:presence:problem:deadline-exceeded",
            ]
        );
    }

    #[test]
    fn a_document_has_the_members_of_rfc_9457_and_lists_every_field_error() {
        let errors = vec![
            FieldError { pointer: "/status".into(), detail: "must be a string" },
            FieldError { pointer: "/activity/name".into(), detail: "is required" },
        ];
        let document: serde_json::Value =
            serde_json::from_slice(&Problem::invalid_fields(errors).document("r-1")).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "type": "urn:presence:problem:invalid-fields",
                "title": "Invalid fields",
                "status": 422,
                "detail": "the body has members that are not allowed",
                "request_id": "r-1",
                "errors": [
                    {"pointer": "/status", "detail": "must be a string"},
                    {"pointer": "/activity/name", "detail": "is required"},
                ],
            })
        );
        let document: serde_json::Value = serde_json::from_slice(&Problem::not_found().document("r-2")).unwrap();
        assert_eq!(document.get("errors"), None);
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_too_short() {
        for (wait, told) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (19_999, 20)] {
            let error = Error::from(ErrorKind::RateLimited { retry_after: Duration::from_millis(wait) });
            let response = Problem::from(error).into_response();
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()[RETRY_AFTER], told.to_string(), "{wait} ms");
        }
    }

    #[test]
    fn whatever_is_away_is_worth_another_try_and_a_defect_is_not() {
        for problem in [
            Problem::from(Error::from(ErrorKind::Unavailable)),
            Problem::from(AuthError::Unavailable),
            Problem::overloaded(),
            Problem::deadline_exceeded(),
        ] {
            let response = problem.into_response();
            assert_eq!(response.status(), 503);
            assert!(response.headers().contains_key(RETRY_AFTER));
        }
        let response = Problem::from(Error::from(ErrorKind::Internal)).into_response();
        assert_eq!(response.status(), 500);
        assert!(!response.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn a_cause_never_reaches_the_client() {
        let error = Error::new(ErrorKind::Unavailable, "redis://:secret@10.0.0.1:6379 refused presence:user:1");
        let document = String::from_utf8(Problem::from(error).document("r-3")).unwrap();
        for word in ["redis", "secret", "10.0.0.1", "presence:user"] {
            assert!(!document.contains(word), "{document}");
        }
    }

    #[test]
    fn only_a_bad_token_is_told_what_is_wrong_with_it() {
        let missing = Problem::from(AuthError::Missing).into_response();
        assert_eq!(missing.headers()[WWW_AUTHENTICATE], r#"Bearer realm="presence""#);
        let invalid = Problem::from(AuthError::Invalid("the \"token\"\r\nhas expired")).into_response();
        assert_eq!(
            invalid.headers()[WWW_AUTHENTICATE],
            r#"Bearer realm="presence", error="invalid_token", error_description="the tokenhas expired""#
        );
    }
}
