//! One case: its steps, how a step becomes a request, and what its response must be.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fill::Filler;
use crate::pattern;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// The functions, called with API Gateway events.
    Functions,
    /// The long-running process on its port.
    Service,
    /// The functions in the local Lambda emulator.
    Emulator,
}

/// How many characters of a body that is not as it should be are shown.
const EXCERPT: usize = 500;

/// A sentence about the service, and the requests that show it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    name: String,
    hosts: Option<Vec<Host>>,
    because: Option<String>,
    steps: Vec<Step>,
}

/// A case that does not hold.
#[derive(Debug, thiserror::Error)]
#[error("{case}, step {step}: {reason}")]
pub struct Failure {
    case: String,
    step: usize,
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    #[serde(rename = "about")]
    _about: String,
    pub(crate) cases: Vec<Case>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    request: Asked,
    response: Expected,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    method: String,
    path: String,
    #[serde(rename = "as")]
    caller: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Values>,
    json: Option<Value>,
    text: Option<String>,
    base64: Option<String>,
    pad_to: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    json: Option<Value>,
    problem: Option<String>,
    errors: Option<Value>,
    #[serde(default)]
    empty: bool,
}

impl Case {
    /// What holds, as a sentence.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the host can be asked.
    pub fn runs_on(&self, host: Host) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.contains(&host))
    }

    /// Sends each request and compares its response; the first that differs fails the case. `secret` is the HS256
    /// secret that the host accepts.
    pub async fn run<E: std::fmt::Display>(
        &self,
        secret: &str,
        send: impl AsyncFn(Request<Bytes>) -> Result<Response<Bytes>, E>,
    ) -> Result<(), Failure> {
        let mut filler = Filler::new(secret);
        for (index, step) in self.steps.iter().enumerate() {
            let failure = |reason| Failure { case: self.name.clone(), step: index + 1, reason };
            let request = step.request.build(&mut filler).map_err(failure)?;
            let sent = request.headers().clone();
            let response = send(request).await.map_err(|error| failure(error.to_string()))?;
            step.response.check(&response, &sent, &mut filler).map_err(failure)?;
        }
        Ok(())
    }

    /// Finds mistakes of whoever wrote the case, before any host is blamed for them.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.steps.is_empty() {
            return Err(format!("{:?} has no steps", self.name));
        }
        if self.hosts.is_some() != self.because.is_some() {
            return Err(format!("{:?} must say `because` beside `hosts`", self.name));
        }
        for step in &self.steps {
            let expected = &step.response;
            let bodies = [expected.json.is_some(), expected.problem.is_some(), expected.empty];
            if bodies.iter().filter(|body| **body).count() != 1 {
                return Err(format!("{:?} must expect one of json, problem and empty", self.name));
            }
            step.request.build(&mut Filler::new("secret")).map_err(|reason| format!("{:?}: {reason}", self.name))?;
        }
        Ok(())
    }
}

impl Asked {
    fn build(&self, filler: &mut Filler) -> Result<Request<Bytes>, String> {
        let mut headers = HeaderMap::new();
        let mut body = Vec::new();
        if let Some(json) = &self.json {
            body = filler.json(json)?.to_string().into_bytes();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        } else if let Some(text) = &self.text {
            body = filler.text(text)?.into_bytes();
        } else if let Some(base64) = &self.base64 {
            body = BASE64_STANDARD.decode(base64).map_err(|error| error.to_string())?;
        }
        if let Some(size) = self.pad_to {
            if body.len() > size {
                return Err(format!("the body has {} bytes and cannot be padded to {size}", body.len()));
            }
            body.resize(size, b' ');
        }
        if let Some(caller) = &self.caller {
            let token = filler.text(&format!("Bearer {{{{token:{caller}}}}}"))?;
            headers.insert(AUTHORIZATION, HeaderValue::try_from(token).map_err(|error| error.to_string())?);
        }
        for (name, values) in &self.headers {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            headers.remove(&name);
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Several(values) => values,
            };
            for value in values {
                let value = HeaderValue::try_from(filler.text(value)?).map_err(|error| error.to_string())?;
                headers.append(&name, value);
            }
        }
        let request = Request::builder().method(self.method.as_str()).uri(filler.text(&self.path)?);
        let mut request = request.body(Bytes::from(body)).map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

impl Expected {
    fn check(&self, response: &Response<Bytes>, sent: &HeaderMap, filler: &mut Filler) -> Result<(), String> {
        let body = excerpt(response.body());
        if response.status() != self.status {
            return Err(format!("the status is {}, not {}: {body}", response.status(), self.status));
        }
        let headers = response.headers();
        for (name, expected) in &self.headers {
            match expected {
                Some(expected) => pattern::header(&filler.text(expected)?, headers, name)?,
                None if headers.contains_key(name) => return Err(format!("there is a header {name}")),
                None => {}
            }
        }
        common_headers(headers, sent)?;
        if self.empty {
            return if response.body().is_empty() { Ok(()) } else { Err(format!("there is a body: {body}")) };
        }
        let actual: Value = serde_json::from_slice(response.body())
            .map_err(|error| format!("the body is not JSON ({error}): {body}"))?;
        if let Some(kind) = &self.problem {
            pattern::header("application/problem+json", headers, CONTENT_TYPE.as_str())?;
            pattern::json(&self.problem_pattern(kind, headers, filler)?, &actual)
        } else {
            pattern::header("application/json", headers, CONTENT_TYPE.as_str())?;
            pattern::json(&filler.json(self.json.as_ref().unwrap_or(&Value::Null))?, &actual)
        }
    }

    fn problem_pattern(&self, kind: &str, headers: &HeaderMap, filler: &mut Filler) -> Result<Value, String> {
        let mut pattern = json!({
            "type": format!("urn:presence:problem:{kind}"),
            "title": "$text",
            "status": self.status,
            "detail": "$text",
            "request_id": header_text(headers, "x-request-id"),
        });
        if let Some(errors) = &self.errors {
            pattern["errors"] = filler.json(errors)?;
        }
        Ok(pattern)
    }
}

/// What every response has, whatever it says.
fn common_headers(headers: &HeaderMap, sent: &HeaderMap) -> Result<(), String> {
    pattern::header("no-store", headers, CACHE_CONTROL.as_str())?;
    let fit =
        |id: &str| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let (id, asked) = (header_text(headers, "x-request-id"), header_text(sent, "x-request-id"));
    if !fit(id) || (fit(asked) && id != asked) {
        return Err(format!("x-request-id is {id:?}; the request had {asked:?}"));
    }
    let (trace, asked) = (header_text(headers, "traceparent"), header_text(sent, "traceparent"));
    if !pattern::is_traceparent(trace) || (pattern::is_traceparent(asked) && trace != asked) {
        return Err(format!("traceparent is {trace:?}; the request had {asked:?}"));
    }
    Ok(())
}

/// As much of a body as is needed to see what it is.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let end = text.char_indices().nth(EXCERPT).map(|(index, _)| index);
    end.map_or_else(|| text.to_string(), |end| format!("{}…", &text[..end]))
}

/// The value of a header that is there once, else nothing.
fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
