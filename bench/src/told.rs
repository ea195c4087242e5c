//! What the service tells over NATS, as a subscriber hears it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt;
use presence::domain::UserId;
use presence::events::EventKind;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::stage::Stage;

/// The first event that told of a user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) version: i64,
    pub(crate) at: Instant,
}

/// What was heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) first: HashMap<UserId, Told>,
    /// Events that told of a user once more: delivery is at least once.
    pub(crate) again: usize,
}

/// The statuses that are listened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Offline,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    d: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    user_id: UserId,
    status: &'a str,
    version: i64,
}

/// A subscriber of status events, who notes when each arrives.
pub(crate) struct Listener {
    users: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Heard>,
}

impl Listener {
    /// Listens from now on.
    pub(crate) async fn start(stage: &Stage, wanted: Wanted) -> Self {
        let nats = stage.nats().await;
        let mut events = nats.subscribe(EventKind::Status.subject()).await.unwrap();
        nats.flush().await.unwrap();
        let (stop, mut stopped) = oneshot::channel();
        let users = Arc::new(AtomicUsize::new(0));
        let count = users.clone();
        let task = tokio::spawn(async move {
            let mut heard = Heard::default();
            loop {
                tokio::select! {
                    Some(message) = events.next() => {
                        heard.note(&message.payload, wanted);
                        count.store(heard.first.len(), Ordering::Relaxed);
                    }
                    _ = &mut stopped => return heard,
                }
            }
        });
        Self { users, stop, task }
    }

    /// Waits until so many users were told of, or until the time is over.
    pub(crate) async fn wait_for(&self, users: usize, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.users.load(Ordering::Relaxed) < users && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything that was heard.
    pub(crate) async fn end(self) -> Heard {
        let _ = self.stop.send(());
        self.task.await.unwrap()
    }
}

impl Heard {
    fn note(&mut self, payload: &[u8], wanted: Wanted) {
        let at = Instant::now();
        let Frame { d } = serde_json::from_slice(payload).expect("a frame");
        if wanted == Wanted::Offline && d.status != "offline" {
            return;
        }
        match self.first.entry(d.user_id) {
            Entry::Vacant(place) => {
                place.insert(Told { version: d.version, at });
            }
            Entry::Occupied(_) => self.again += 1,
        }
    }
}
