//! The HTTP interface as a client uses it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use http::request::Builder;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::User;

/// Longer than the service may take over any request, so that a hung one fails its test.
const PATIENCE: Duration = Duration::from_secs(15);

/// A host of the API: the service itself, or the local Lambda emulator. Every request has a connection of its own.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    port: u16,
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub text: String,
}

impl Api {
    /// The API at a loopback port.
    pub fn at(port: u16) -> Self {
        Self { port }
    }

    /// The URL before the paths.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A request without a token.
    pub async fn get_openly(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Bytes::new()).unwrap()).await
    }

    /// A user's request.
    pub async fn get(&self, user: &User, path: &str) -> Answer {
        self.send(request(Method::GET, path, user).body(Bytes::new()).unwrap()).await
    }

    /// A user's request with a JSON body.
    pub async fn post(&self, user: &User, path: &str, body: &Value) -> Answer {
        self.post_with(user, path, &body.to_string(), &[]).await
    }

    /// A user's request with any body that is said to be JSON, and with headers.
    pub async fn post_with(&self, user: &User, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = request(Method::POST, path, user).header(CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap()).await
    }

    /// Any request, which must have a response.
    pub async fn send(&self, request: Request<Bytes>) -> Answer {
        let response = self.exchange(request).await.unwrap_or_else(|error| panic!("no response: {error}"));
        let (head, body) = response.into_parts();
        let text = String::from_utf8(body.to_vec()).expect("a response in UTF-8");
        Answer { status: head.status.as_u16(), headers: head.headers, text }
    }

    /// Sends a request as it is (but for `Host`, which it gets if it has none) and reads the whole response.
    pub async fn exchange(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let host = HeaderValue::try_from(format!("127.0.0.1:{}", self.port)).unwrap();
        request.headers_mut().entry(HOST).or_insert(host);
        let exchange = async {
            let stream = TcpStream::connect(("127.0.0.1", self.port)).await.map_err(|error| error.to_string())?;
            let connected = http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = connected.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            let response = sender.send_request(request.map(Full::new)).await.map_err(|error| error.to_string())?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        timeout(PATIENCE, exchange).await.map_err(|_| format!("nothing within {PATIENCE:?}"))?
    }

    /// `POST /presence/status` that must succeed: the caller's presence.
    pub async fn update(&self, user: &User, body: &Value) -> Value {
        self.post(user, "/presence/status", body).await.ok()
    }

    /// `GET /presence/{user_id}` that must succeed, by a reader who is somebody else.
    pub async fn presence(&self, user: &User) -> Value {
        self.get(&User::new(), &format!("/presence/{}", user.id())).await.ok()
    }

    /// `POST /presence/bulk` that must succeed, by a reader who is somebody else.
    pub async fn presences(&self, users: &[&User]) -> Vec<Value> {
        let ids: Vec<&str> = users.iter().map(|user| user.id()).collect();
        let body = self.post(&User::new(), "/presence/bulk", &json!({ "user_ids": ids })).await.ok();
        body["presences"].as_array().expect("presences").clone()
    }
}

impl Answer {
    /// The body of a 200, as JSON.
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text))
    }

    /// A header, if it is there once and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none())?.to_str().ok()
    }
}

fn request(method: Method, path: &str, user: &User) -> Builder {
    Request::builder().method(method).uri(path).header(AUTHORIZATION, format!("Bearer {}", user.token()))
}
