//! A store, a NATS and a service on them: what most tests need, and nothing that another test can touch.

use std::time::{Duration, Instant};

use presence_tests::{
    Cluster, Event, JetStream, Nats, Service, ServiceBuilder, Store, User, eventually, now_ms, seen, setting,
};
use serde_json::{Value, json};

/// How long a change may take that nothing holds up.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// How far the service's idea of the store's clock may be off, in milliseconds, on a machine that is busy with tests.
pub(crate) const CLOCK_ERROR: i64 = 100;

pub(crate) struct World {
    // Dropped in this order, so that the service can end in peace.
    pub(crate) service: Service,
    pub(crate) nats: Nats,
    pub(crate) store: Store,
}

/// Lets an outage last: for as long as the test needs it, or by hand for as long as it is told
/// (`PRESENCE_TEST_OUTAGE_SECONDS`).
pub(crate) async fn let_last(least: Duration) {
    let (since, length) = (Instant::now(), least.max(Duration::from_secs(setting("OUTAGE_SECONDS", 0))));
    eventually("the outage to last", length + SOON, async || seen(since.elapsed() > length, ())).await;
}

impl World {
    /// With JetStream and the times of the documentation.
    pub(crate) async fn start() -> Self {
        Self::with(|service| service).await
    }

    /// With JetStream, and a service of one's own making.
    pub(crate) async fn with(make: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Self {
        Self::on(JetStream::On, make).await
    }

    /// The same on either kind of NATS.
    pub(crate) async fn on(jetstream: JetStream, make: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Self {
        Self::of(Store::start().await, Nats::start(jetstream).await, make).await
    }

    /// The same on a cluster.
    pub(crate) async fn on_cluster(make: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Self {
        Self::of(Cluster::start().await.into_store(), Nats::start(JetStream::On).await, make).await
    }

    async fn of(store: Store, nats: Nats, make: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Self {
        let service = make(Service::builder().store(&store).nats(&nats)).start().await;
        Self::around(service, nats, store)
    }

    /// A service that runs already, and what it runs on.
    pub(crate) fn around(service: Service, nats: Nats, store: Store) -> Self {
        Self { service, nats, store }
    }

    /// What a gateway tells of a session, now.
    pub(crate) async fn opened(&self, user: &User, session: &str) {
        self.tell("gateway.connection.opened", user, session, json!({})).await;
    }

    pub(crate) async fn closed(&self, user: &User, session: &str) {
        self.tell("gateway.connection.closed", user, session, json!({})).await;
    }

    pub(crate) async fn heartbeat(&self, user: &User, session: &str) {
        self.tell("gateway.heartbeat.received", user, session, json!({})).await;
    }

    /// The same with further fields.
    pub(crate) async fn tell(&self, subject: &'static str, user: &User, session: &str, more: Value) {
        let mut message = json!({ "user_id": user.id(), "session_id": session });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.nats.tell(subject, message).await;
    }

    /// A user with one session, who is seen online.
    pub(crate) async fn online_user(&self) -> User {
        let user = User::new();
        self.opened(&user, "first").await;
        self.until_status(&user, "online").await;
        user
    }

    /// Waits until a reader sees the status; the presence then read.
    pub(crate) async fn until_status(&self, user: &User, status: &str) -> Value {
        self.until(user, &format!("to be read {status}"), |presence| presence["status"] == status).await
    }

    /// Waits until a reader sees what the condition asks for.
    pub(crate) async fn until(&self, user: &User, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        eventually(what, SOON, async || {
            let presence = self.service.presence(user).await;
            seen(is_it(&presence), presence)
        })
        .await
    }

    /// Waits until what a gateway tells from now on is later than every update so far by every clock: an update counts
    /// from the service's idea of the store's clock, a message from the clock of NATS.
    pub(crate) async fn later(&self) {
        let now = now_ms();
        eventually("the clocks to agree", SOON, async || seen(now_ms() > now + CLOCK_ERROR, ())).await;
    }

    /// Returns when everything that was told before has been decided. Each input subject has its own way through the
    /// service, so a message to a new user goes down each of them and must show.
    pub(crate) async fn settle(&self) {
        let [opened, beaten, closed, talking, silent] = [(); 5].map(|()| User::new());
        self.opened(&opened, "fence").await;
        self.heartbeat(&beaten, "fence").await;
        self.tell("voice.session.created", &talking, "voice", json!({})).await;
        for user in [&closed, &talking, &silent] {
            self.opened(user, "fence").await;
        }
        for user in [&opened, &beaten, &closed, &silent] {
            self.until_status(user, "online").await;
        }
        self.until(&talking, "the voice fence", |presence| presence["activity"]["type"] == "listening").await;
        self.closed(&closed, "fence").await;
        self.until_status(&closed, "offline").await;
        self.tell("voice.session.ended", &talking, "voice", json!({})).await;
        self.until(&talking, "the end of the voice fence", |presence| presence["activity"].is_null()).await;
    }
}

/// The events of one user.
pub(crate) fn of<'a>(user: &User, events: &'a [Event]) -> Vec<&'a Event> {
    events.iter().filter(|event| event.data()["user_id"] == user.id()).collect()
}

/// Whether an RFC 3339 time with milliseconds, as the service writes it, in milliseconds since the epoch.
pub(crate) fn millis(time: &Value) -> i64 {
    let text = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
    chrono::DateTime::parse_from_rfc3339(text).unwrap_or_else(|_| panic!("no RFC 3339 time: {text}")).timestamp_millis()
}

/// Whether a moment that the service wrote lies between two moments of this test's own clock.
pub(crate) fn is_between(before: i64, moment: i64, after: i64) -> bool {
    (before - CLOCK_ERROR..=after + CLOCK_ERROR).contains(&moment)
}

/// The same in whole seconds.
pub(crate) fn is_second_between(before: i64, second: i64, after: i64) -> bool {
    ((before - CLOCK_ERROR) / 1000..=(after + CLOCK_ERROR) / 1000).contains(&second)
}

/// Asserts that it is a problem as RFC 9457 has it, of that status, and that it tells nothing of our insides.
pub(crate) fn assert_problem(answer: &presence_tests::Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    for field in ["type", "title", "detail", "request_id"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field} is missing: {problem}");
    }
    for inside in ["redis", "Redis", "nats", "presence:user", "127.0.0.1", "password", "panicked", ".rs:"] {
        assert!(!answer.text.contains(inside), "a problem tells of {inside}: {problem}");
    }
    problem
}

/// The whole seconds of `Retry-After`, of which there is at least one.
pub(crate) fn retry_after(answer: &presence_tests::Answer) -> u64 {
    let seconds = answer.header("retry-after").unwrap_or_else(|| panic!("no Retry-After: {}", answer.text));
    let seconds = seconds.parse().unwrap_or_else(|_| panic!("Retry-After is whole seconds, not {seconds}"));
    assert!(seconds >= 1, "Retry-After: 0 invites at once");
    seconds
}
