//! What a handler takes from a request: who calls, the id in the path, the trace, the body. The order of a handler's
//! arguments is the order in which they are judged: the caller first, the body last.

use std::convert::Infallible;
use std::str::FromStr;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use presence::auth::AuthError;
use presence::domain::{Invalid, UserId};
use presence::events::Traceparent;

use super::json::{self, FieldErrors, Object};
use super::problem::{Kind, Problem};
use crate::App;
use crate::app::Limits;

/// The user whose token came with the request.
#[derive(Debug, Clone, Copy)]
pub struct Caller(pub UserId);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let authorization = values.next();
        if values.next().is_some() {
            return Err(AuthError::Invalid("there is more than one Authorization header").into());
        }
        Ok(Self(app.authenticator().authenticate(authorization).await?))
    }
}

/// The one id in the path.
#[derive(Debug, Clone, Copy)]
pub struct PathId<T>(pub T);

impl<T: FromStr<Err = Invalid>> FromRequestParts<App> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let text = Path::<String>::from_request_parts(parts, app).await;
        let Path(text) = text.map_err(|_| Problem::invalid_id(Invalid("the id in the path is not UTF-8")))?;
        text.parse().map(Self).map_err(Problem::invalid_id)
    }
}

/// The trace that the request belongs to: the caller's, or a new one. Put there by the envelope of all requests.
#[derive(Debug, Clone)]
pub struct Trace(pub Traceparent);

impl<S: Sync> FromRequestParts<S> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Trace>().cloned().unwrap_or_else(|| Trace(Traceparent::generate())))
    }
}

/// A body that is said to be JSON, complete and of bounded size, not yet read as JSON.
#[derive(Debug)]
pub struct JsonBody(Bytes);

impl JsonBody {
    /// Makes a value of the members of the body, or tells all that is wrong with them.
    pub fn read<T>(&self, make: impl FnOnce(&Object<'_>, &mut FieldErrors) -> Option<T>) -> Result<T, Problem> {
        json::read(&self.0, make)
    }
}

impl FromRequest<App> for JsonBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        if body.is_end_stream() {
            // Nothing was sent: then the missing body is what is wrong, not its missing type.
            return Ok(Self(Bytes::new()));
        }
        check_media_type(&parts.headers)?;
        collect(body, app.limits()).await.map(Self)
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let unsupported = |detail| Err(Problem::new(Kind::UnsupportedMediaType, detail));
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    match (types.next(), types.next()) {
        (Some(media_type), None) if is_json(media_type) => {}
        _ => return unsupported("the body must be sent as application/json"),
    }
    match headers.get(CONTENT_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            unsupported("the body must be sent without a content coding")
        }
        _ => Ok(()),
    }
}

/// `application/json` or any `application/…+json`. Parameters are ignored: JSON is UTF-8, whatever they say.
fn is_json(media_type: &HeaderValue) -> bool {
    let Ok(media_type) = media_type.to_str() else { return false };
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(c);
    subtype == "json" || (subtype.len() > "+json".len() && subtype.ends_with("+json") && subtype.chars().all(token))
}

async fn collect(body: Body, limits: Limits) -> Result<Bytes, Problem> {
    let unreadable = |detail| Err(Problem::new(Kind::MalformedBody, detail));
    let too_large = || Problem::new(Kind::BodyTooLarge, format!("a body has at most {} bytes", limits.body_bytes));
    if HttpBody::size_hint(&body).lower() > limits.body_bytes as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(limits.body_time, Limited::new(body, limits.body_bytes).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => unreadable("the body broke off"),
        Err(_) => unreadable("the body did not arrive in time"),
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn json_by_any_of_its_names_is_accepted() {
        for media_type in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8;q=1",
            "application/merge-patch+json",
            "application/vnd.example.v2+json ; x=y",
        ] {
            assert!(check_media_type(&headers(&[("content-type", media_type)])).is_ok(), "{media_type}");
        }
    }

    #[test]
    fn everything_else_is_not_json() {
        for wrong in [
            &[][..],
            &[("content-type", "")],
            &[("content-type", "text/plain")],
            &[("content-type", "text/json")],
            &[("content-type", "application/jsonp")],
            &[("content-type", "application/+json")],
            &[("content-type", "application/x y+json")],
            &[("content-type", "application/x-www-form-urlencoded")],
            &[("content-type", "application/json, text/plain")],
            &[("content-type", "application/json"), ("content-type", "text/plain")],
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
        ] {
            let problem = check_media_type(&headers(wrong)).unwrap_err();
            assert_eq!(problem.kind(), Kind::UnsupportedMediaType, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
        let limits = Limits { body_bytes: 10, ..Limits::default() };
        assert_eq!(collect(Body::from("x".repeat(10)), limits).await.unwrap().len(), 10);
        assert_eq!(collect(Body::from("x".repeat(11)), limits).await.unwrap_err().kind(), Kind::BodyTooLarge);
        let pieces = ["x".repeat(6), "x".repeat(5)].map(Ok::<_, Infallible>);
        let unannounced = Body::from_stream(stream::iter(pieces));
        assert_eq!(collect(unannounced, limits).await.unwrap_err().kind(), Kind::BodyTooLarge);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let stalled = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let problem = collect(stalled, Limits::default()).await.unwrap_err();
        assert_eq!(problem.kind(), Kind::MalformedBody);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_unreadable() {
        let pieces = [Ok("{"), Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))];
        let problem = collect(Body::from_stream(stream::iter(pieces)), Limits::default()).await.unwrap_err();
        assert_eq!(problem.kind(), Kind::MalformedBody);
    }
}
