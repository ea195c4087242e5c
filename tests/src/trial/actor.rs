//! One user of a trial, with the gateways that tell of them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream;
use bytes::Bytes;
use fastrand::Rng;
use http::Request;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};
use tokio::time::{Instant, interval, sleep};

use super::stage::Stage;
use crate::history::{Life, Outcome, Read, Sign, Update};
use crate::{Api, User, now_ms};

/// A user's sessions, each of which runs in one place.
const SESSIONS: [(&str, &str); 3] = [("a", "desktop"), ("b", "mobile"), ("c", "web")];
/// The session of those who are connected at the end.
pub(super) const LAST_SESSION: &str = "last";
/// How soon a gateway tries again to tell something.
const PACE: Duration = Duration::from_millis(50);
/// How long it tries.
const INSISTENCE: Duration = Duration::from_secs(20);

/// What all users share.
pub(super) struct Scene {
    pub(super) apis: Vec<Api>,
    /// What was answered or told that never should be.
    pub(super) unexpected: Mutex<Vec<String>>,
    /// What was answered by nobody, or by a 503: from when to when it was asked.
    pub(super) refused: Mutex<Vec<(Range<i64>, String)>>,
    jetstream: jetstream::Context,
    heartbeat_timeout: i64,
    users: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// A user.
pub(super) struct Actor {
    user: User,
    rng: Rng,
    scene: Arc<Scene>,
    life: Life,
    open: Vec<(&'static str, &'static str)>,
    beaten: Instant,
}

/// What a user did.
pub(super) struct Lived {
    pub(super) user: User,
    pub(super) life: Life,
    pub(super) is_connected: bool,
}

impl Scene {
    pub(super) async fn new(stage: &Stage) -> Self {
        let mut jetstream = jetstream::new(stage.nats.connect().await);
        jetstream.set_timeout(Duration::from_millis(500));
        Self {
            apis: stage.services.iter().map(|service| **service).collect(),
            unexpected: Mutex::default(),
            refused: Mutex::default(),
            jetstream,
            heartbeat_timeout: i64::from(stage.heartbeat_timeout) * 1000,
            users: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    pub(super) fn users(&self) -> Vec<String> {
        self.users.lock().unwrap().clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Tells it until the stream has it, and says when that was known. None if nobody could be told.
    pub(super) async fn tell(&self, subject: &'static str, message: &Value) -> Option<i64> {
        let payload = Bytes::from(message.to_string());
        let deadline = Instant::now() + INSISTENCE;
        let mut pace = interval(PACE);
        while Instant::now() < deadline {
            pace.tick().await;
            if let Ok(sent) = self.jetstream.publish(subject, payload.clone()).await
                && sent.await.is_ok()
            {
                return Some(now_ms());
            }
        }
        None
    }

    /// A request, and the answer if it is a 200. One that is no refusal and no absence is written down.
    pub(super) async fn ask(&self, api: Api, user: &User, path: &str, body: Option<&str>) -> Option<Value> {
        self.request(api, user, path, body).await.filter(|(status, _)| *status == 200).map(|(_, answer)| answer)
    }

    async fn request(&self, api: Api, user: &User, path: &str, body: Option<&str>) -> Option<(u16, Value)> {
        let method = if body.is_some() { "POST" } else { "GET" };
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(AUTHORIZATION, format!("Bearer {}", user.token()));
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Bytes::copy_from_slice(body.unwrap_or_default().as_bytes())).unwrap();
        let began = now_ms();
        let refuse = |why: &str| {
            let what = format!("{method} {path} of {}: {why}", user.id());
            self.refused.lock().unwrap().push((began..now_ms(), what));
        };
        let response = api.exchange(request).await.inspect_err(|error| refuse(error)).ok()?;
        let status = response.status().as_u16();
        let text = || String::from_utf8_lossy(response.body());
        match status {
            200 | 429 => {}
            503 => refuse(&text()),
            _ => self.unexpected.lock().unwrap().push(format!("{method} {path}: {status} {}", text())),
        }
        Some((status, serde_json::from_slice(response.body()).unwrap_or_default()))
    }
}

impl Actor {
    pub(super) fn new(mut rng: Rng, scene: Arc<Scene>) -> Self {
        let id = uuid::Builder::from_random_bytes(rng.u128(..).to_be_bytes()).into_uuid();
        let user = User::with_id(&id.to_string());
        scene.users.lock().unwrap().push(user.id().to_owned());
        let life = Life { user: user.id().to_owned(), ..Life::default() };
        Self { user, rng, scene, life, open: Vec::new(), beaten: Instant::now() }
    }

    /// Lives until then, and ends either connected by one session or by none.
    pub(super) async fn live(mut self, until: Instant) -> Lived {
        while Instant::now() < until {
            self.pass_time().await;
            match self.rng.u8(..20) {
                0..4 => self.open().await,
                4..7 => self.close().await,
                7..11 => self.update().await,
                11..16 => self.read().await,
                16 => self.fall_silent().await,
                17 => self.speak().await,
                _ => self.beat().await,
            }
        }
        while !self.open.is_empty() {
            self.close().await;
        }
        let is_connected = self.rng.bool();
        if is_connected {
            sleep(Duration::from_millis(5)).await;
            self.tell("gateway.connection.opened", LAST_SESSION, json!({ "platform": "desktop" }), true).await;
        }
        Lived { user: self.user, life: self.life, is_connected }
    }

    /// Some time, in which gateways send the heartbeats that are due.
    async fn pass_time(&mut self) {
        sleep(Duration::from_millis(self.rng.u64(20..500))).await;
        if self.beaten.elapsed() > Duration::from_secs(1) {
            self.beat().await;
        }
    }

    async fn open(&mut self) {
        let session = SESSIONS[self.rng.usize(..SESSIONS.len())];
        if !self.open.contains(&session) {
            self.open.push(session);
            self.tell("gateway.connection.opened", session.0, json!({ "platform": session.1 }), true).await;
        }
    }

    async fn close(&mut self) {
        if let Some(place) = self.open.len().checked_sub(1).map(|last| self.rng.usize(..=last)) {
            let (session, _) = self.open.remove(place);
            let code = if self.rng.u8(..4) == 0 { json!({ "close_code": 1006 }) } else { json!({}) };
            self.tell("gateway.connection.closed", session, code, false).await;
        }
    }

    async fn beat(&mut self) {
        self.beaten = Instant::now();
        for (session, platform) in self.open.clone() {
            self.tell("gateway.heartbeat.received", session, json!({ "platform": platform }), true).await;
        }
    }

    async fn speak(&mut self) {
        let subject = if self.rng.bool() { "voice.session.created" } else { "voice.session.ended" };
        self.tell(subject, "voice", json!({ "channel_name": "Lounge" }), false).await;
    }

    /// The user's machine loses its power.
    async fn fall_silent(&mut self) {
        if !self.open.is_empty() {
            self.open.clear();
            sleep(Duration::from_millis(self.scene.heartbeat_timeout as u64 + self.rng.u64(100..1500))).await;
        }
    }

    async fn update(&mut self) {
        let mut body = json!({});
        if self.rng.u8(..3) > 0 {
            body["status"] = json!(["online", "idle", "dnd", "offline", "invisible"][self.rng.usize(..5)]);
        }
        if self.rng.bool() {
            body["custom_status"] = json!(format!("number {}", self.rng.u16(..)));
        }
        if self.rng.u8(..4) == 0 {
            body["activity"] = json!({ "type": "playing", "name": "Chess" });
        }
        let api = self.any_service();
        let began = now_ms();
        let answer = self.scene.request(api, &self.user, "/presence/status", Some(&body.to_string())).await;
        let outcome = match answer {
            Some((200, presence)) => Outcome::Done(presence),
            Some((429, _)) => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        self.life.updates.push(Update { began, ended: now_ms(), body, outcome });
    }

    async fn read(&mut self) {
        let (api, path) = (self.any_service(), super::path(&self.user));
        let began = now_ms();
        if let Some(presence) = self.scene.ask(api, &User::new(), &path, None).await {
            self.life.reads.push(Read { began, ended: now_ms(), presence });
        }
    }

    fn any_service(&mut self) -> Api {
        self.scene.apis[self.rng.usize(..self.scene.apis.len())]
    }

    /// A gateway tells of a session of the user.
    async fn tell(&mut self, subject: &'static str, session: &str, more: Value, is_sign: bool) {
        let at = now_ms();
        let mut message = json!({ "user_id": self.user.id(), "session_id": session, "timestamp": at });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let had = self.scene.tell(subject, &message).await;
        if had.is_none() {
            self.scene.unexpected.lock().unwrap().push(format!("{subject} could not be told for {INSISTENCE:?}"));
        }
        if is_sign {
            // The time in a message that comes later than a timeout after it does not count, but the message's own.
            let had = had.unwrap_or_else(|| now_ms() + self.scene.heartbeat_timeout);
            self.life.signs.push(Sign { at });
            if had - at > self.scene.heartbeat_timeout {
                self.life.signs.push(Sign { at: had });
            }
        }
    }
}
