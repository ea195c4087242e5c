//! `docs/openapi.yaml` as a judge: which operation a request is for, and whether a response is one that it may have.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response};
use serde_json::Value;

use crate::document::{Document, faults};

/// Headers that are not of the interface but of HTTP's own making.
const TRANSPORT: [&str; 3] = ["content-type", "content-length", "date"];

/// The HTTP interface as documented.
pub(crate) struct Interface {
    pub(crate) document: Document,
}

/// One method of one path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operation {
    /// In capital letters.
    pub(crate) method: String,
    /// With its parameters in braces.
    pub(crate) path: String,
}

impl Interface {
    pub(crate) fn read() -> Self {
        Self { document: Document::read("docs/openapi.yaml") }
    }

    /// Every operation.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let methods = ["get", "head", "post", "put", "patch", "delete", "options", "trace"];
        let operations = self.document.members("/paths").flat_map(|(path, item)| {
            let methods = methods.iter().filter(|method| item.get(method).is_some());
            methods.map(|method| Operation { method: method.to_uppercase(), path: path.to_owned() })
        });
        operations.collect()
    }

    /// What is documented of an operation.
    pub(crate) fn describe(&self, operation: &Operation) -> &Value {
        &self.document.at("/paths")[&operation.path][operation.method.to_lowercase()]
    }

    /// The responses of an operation by status.
    pub(crate) fn responses(&self, operation: &Operation) -> impl Iterator<Item = (u16, &Value)> {
        let responses = self.describe(operation)["responses"].as_object().unwrap();
        responses.iter().map(|(status, response)| (status.parse().unwrap(), self.document.resolve(response)))
    }

    /// The schema of an operation's body.
    pub(crate) fn body_schema(&self, operation: &Operation) -> &Value {
        &self.describe(operation)["requestBody"]["content"]["application/json"]["schema"]
    }

    /// The operation that a request is for, or what the interface says of requests that are for none: the name of a
    /// response.
    fn operation(&self, method: &Method, path: &str) -> Result<Operation, &'static str> {
        let mut paths: Vec<&str> = self.document.members("/paths").map(|(path, _)| path).collect();
        // A path without parameters goes before one with.
        paths.sort_by_key(|path| path.matches('{').count());
        let Some(found) = paths.into_iter().find(|pattern| matches(pattern, path)) else { return Err("NotFound") };
        let operation = Operation { method: method.to_string(), path: found.to_owned() };
        if self.operations().contains(&operation) { Ok(operation) } else { Err("MethodNotAllowed") }
    }

    /// Judges a response. Gives back the operation and the status if the request was for an operation.
    pub(crate) fn judge(
        &self,
        request: &Request<Bytes>,
        response: &Response<Bytes>,
    ) -> Result<Option<(Operation, u16)>, String> {
        let (method, path, status) = (request.method(), request.uri().path(), response.status().as_u16());
        let operation = self.operation(method, path);
        let documented = match &operation {
            Ok(operation) => {
                self.responses(operation).find(|(known, _)| *known == status).map(|(_, response)| response)
            }
            Err(name) => Some(self.document.at(&format!("/components/responses/{name}"))),
        };
        let told = || format!("{method} {path} is answered {status}");
        let documented = documented.ok_or_else(|| format!("{}, which is not documented", told()))?;
        let mut wrong = self.wrong_headers(documented, response.headers());
        wrong.extend(self.wrong_body(documented, response, *method == Method::HEAD));
        if wrong.is_empty() {
            Ok(operation.ok().map(|operation| (operation, status)))
        } else {
            Err(format!("{}: {}", told(), wrong.join("; ")))
        }
    }

    fn wrong_headers(&self, documented: &Value, headers: &HeaderMap) -> Vec<String> {
        let mut wrong = Vec::new();
        let known = documented["headers"].as_object().unwrap();
        for (name, header) in known {
            let header = self.document.resolve(header);
            match headers.get(name) {
                None if header["required"] == true => wrong.push(format!("there is no {name}")),
                None => {}
                Some(value) => {
                    let validator = self.document.validator(&header["schema"]);
                    let value = header_value(value, &header["schema"]);
                    wrong.extend(faults(&validator, &value).map(|faults| format!("{name}: {faults}")));
                }
            }
        }
        let is_known = |name: &HeaderName| {
            TRANSPORT.contains(&name.as_str()) || known.keys().any(|known| name.as_str().eq_ignore_ascii_case(known))
        };
        wrong.extend(headers.keys().filter(|name| !is_known(name)).map(|name| format!("{name} is not documented")));
        wrong
    }

    fn wrong_body(&self, documented: &Value, response: &Response<Bytes>, is_head: bool) -> Option<String> {
        let body = response.body();
        let content = documented.get("content").filter(|_| !is_head);
        let Some(content) = content.and_then(Value::as_object) else {
            return (!body.is_empty()).then(|| "there is a body".to_owned());
        };
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        let Some(media) = content.get(essence) else { return Some(format!("it is {media_type:?}")) };
        let value = if essence.ends_with("json") {
            serde_json::from_slice(body).unwrap_or_else(|error| panic!("no JSON ({error}): {body:?}"))
        } else {
            Value::String(String::from_utf8(body.to_vec()).expect("text in UTF-8"))
        };
        faults(&self.document.validator(&media["schema"]), &value)
    }
}

/// A header as the value that its schema speaks of.
fn header_value(value: &HeaderValue, schema: &Value) -> Value {
    let text = value.to_str().expect("a header of text");
    match text.parse::<u64>() {
        Ok(number) if schema["type"] == "integer" => number.into(),
        _ => text.into(),
    }
}

/// Whether a path is one of those that a pattern stands for.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    let same = |(pattern, part): (&&str, &&str)| pattern == part || (pattern.starts_with('{') && !part.is_empty());
    pattern.len() == path.len() && pattern.iter().zip(&path).all(same)
}
