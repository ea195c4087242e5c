//! The HTTP interface as a client uses it.

use std::sync::Once;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use crate::User;

/// Longer than the service may take over any request, so that a hung one fails its test.
const PATIENCE: Duration = Duration::from_secs(15);

/// A host of the API: the service itself, or the local Lambda emulator.
#[derive(Debug, Clone)]
pub struct Api {
    url: String,
    client: Client,
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
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let client = Client::builder().timeout(PATIENCE).no_proxy().build().unwrap();
        Self { url: format!("http://127.0.0.1:{port}"), client }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A request that a test finishes itself and gives to [`send`](Self::send).
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// Sends a request and reads the whole response.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        self.try_send(request).await.expect("a response")
    }

    /// The same where a response may fail to come.
    pub async fn try_send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    /// A request without a token.
    pub async fn get_openly(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// A user's request.
    pub async fn get(&self, user: &User, path: &str) -> Answer {
        self.send(self.request(Method::GET, path).header(AUTHORIZATION, bearer(user))).await
    }

    /// A user's request with a JSON body.
    pub async fn post(&self, user: &User, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path).header(AUTHORIZATION, bearer(user));
        self.send(request.header(CONTENT_TYPE, "application/json").body(body.to_string())).await
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

fn bearer(user: &User) -> String {
    format!("Bearer {}", user.token())
}
