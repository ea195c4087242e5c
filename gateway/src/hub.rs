//! Who hears what: the index from users and channels to connections, and what each connection has of each user.
//!
//! No change is missed between a snapshot and what follows, and none goes backwards: a connection is registered before
//! its snapshot is read, and gets a presence only if its version is higher than the one it has. An event that comes
//! before the snapshot counts as the answer for its user, and an older snapshot is not sent after it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use presence::domain::{ChannelId, UserId};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::frame::{About, Outgoing, Subscribe};
use crate::outbox::Outbox;

/// So many keys may stand in a queue in vain before it is tidied.
const SLACK: usize = 1024;

/// The index of one gateway node.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    index: Mutex<Index>,
    /// Something is to be read.
    wanted: Notify,
    last_listener: AtomicU64,
}

#[derive(Debug, Default)]
struct Index {
    users: Topics<UserId, PresencePlace>,
    channels: Topics<ChannelId, TypingPlace>,
}

/// Users, or channels, that somebody subscribed to.
#[derive(Debug)]
struct Topics<K, P> {
    topics: HashMap<K, Topic<P>>,
    /// Those to be read, in the order in which they were asked for. Some may be gone from `topics` since.
    wanted: VecDeque<K>,
}

#[derive(Debug)]
struct Topic<P> {
    /// By listener.
    places: HashMap<u64, P>,
    /// It stands in the queue of what is to be read.
    is_wanted: bool,
}

/// A connection's place among those who hear of a user.
#[derive(Debug)]
struct PresencePlace {
    outbox: Arc<Outbox>,
    /// What the connection has; 0 is less than, or equal to, anything that may come.
    version: u64,
    /// It subscribed and was not answered yet.
    awaits: bool,
}

/// A connection's place among those who hear of a channel.
#[derive(Debug)]
struct TypingPlace {
    outbox: Arc<Outbox>,
    /// It subscribed and was not told yet who types.
    awaits: bool,
}

/// What is to be read from the store.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) users: Vec<UserId>,
    pub(crate) channels: Vec<ChannelId>,
}

/// One connection's part of the index, which ends with it.
#[derive(Debug)]
pub(crate) struct Listener {
    hub: Arc<Hub>,
    id: u64,
    outbox: Arc<Outbox>,
    users: Vec<UserId>,
    channels: Vec<ChannelId>,
}

impl Hub {
    /// A connection that hears of nobody yet, and gets what it hears in its outbox.
    pub(crate) fn listener(self: &Arc<Self>, outbox: Arc<Outbox>) -> Listener {
        let id = self.last_listener.fetch_add(1, Ordering::Relaxed) + 1;
        Listener { hub: self.clone(), id, outbox, users: Vec::new(), channels: Vec::new() }
    }

    /// Gives an event to all whom it is for.
    pub(crate) fn event(&self, event: &Outgoing) {
        let index = &mut *self.index();
        match event.about {
            About::User(user, version) => {
                let places = index.users.places(user);
                for place in places.filter(|place| place.version < version) {
                    place.give(version, &event.frame);
                }
            }
            About::Channel(channel) => {
                for place in index.channels.places(channel) {
                    place.outbox.push(event.frame.clone());
                }
            }
        }
    }

    /// Gives what was read of a user to all who have less, and to those who asked and have just this.
    pub(crate) fn presence_read(&self, user: UserId, version: u64, frame: &Utf8Bytes) {
        let index = &mut *self.index();
        let places = index.users.places(user);
        for place in places.filter(|place| place.version < version || (place.awaits && place.version == version)) {
            place.give(version, frame);
        }
    }

    /// Tells those who asked who types in a channel. Whoever asked since the reading began is told again by the next.
    pub(crate) fn typing_read(&self, channel: ChannelId, frames: &[Utf8Bytes]) {
        let index = &mut *self.index();
        let Some(topic) = index.channels.topics.get_mut(&channel) else { return };
        for place in topic.places.values_mut().filter(|place| place.awaits) {
            place.awaits = topic.is_wanted;
            frames.iter().for_each(|frame| place.outbox.push(frame.clone()));
        }
    }

    /// After events may have been missed: everything that anybody subscribed to is to be read.
    pub(crate) fn want_everything(&self) {
        let index = &mut *self.index();
        let users: Vec<UserId> = index.users.topics.keys().copied().collect();
        users.into_iter().for_each(|user| index.users.want(user));
        let channels: Vec<ChannelId> = index.channels.topics.keys().copied().collect();
        for channel in channels {
            index.channels.places(channel).for_each(|place| place.awaits = true);
            index.channels.want(channel);
        }
        self.wanted.notify_one();
    }

    /// What was taken but could not be read is to be read after all, before anything else.
    pub(crate) fn want_again(&self, wanted: &Wanted) {
        let index = &mut *self.index();
        wanted.users.iter().rev().for_each(|user| index.users.want_first(*user));
        wanted.channels.iter().rev().for_each(|channel| index.channels.want_first(*channel));
        self.wanted.notify_one();
    }

    /// Waits until something is to be read, and takes at most so much of it.
    pub(crate) async fn wanted(&self, most_users: usize, most_channels: usize) -> Wanted {
        loop {
            let wanted = {
                let index = &mut *self.index();
                Wanted { users: index.users.take(most_users), channels: index.channels.take(most_channels) }
            };
            if !wanted.users.is_empty() || !wanted.channels.is_empty() {
                return wanted;
            }
            self.wanted.notified().await;
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PresencePlace {
    fn give(&mut self, version: u64, frame: &Utf8Bytes) {
        self.version = version;
        self.awaits = false;
        self.outbox.push(frame.clone());
    }
}

impl Listener {
    /// Hears from now on of these instead of those before, where a list is given, and is answered for each of them.
    pub(crate) fn subscribe(&mut self, to: Subscribe) {
        let hub = self.hub.clone();
        let index = &mut *hub.index();
        if let Some(users) = to.users {
            index.users.leave(self.id, &self.users, &users);
            for user in &users {
                let new = || PresencePlace { outbox: self.outbox.clone(), version: 0, awaits: true };
                index.users.join(self.id, *user, new).awaits = true;
                index.users.want(*user);
            }
            self.users = users;
        }
        if let Some(channels) = to.channels {
            index.channels.leave(self.id, &self.channels, &channels);
            for channel in &channels {
                let new = || TypingPlace { outbox: self.outbox.clone(), awaits: true };
                index.channels.join(self.id, *channel, new).awaits = true;
                index.channels.want(*channel);
            }
            self.channels = channels;
        }
        hub.wanted.notify_one();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let index = &mut *self.hub.index();
        index.users.leave(self.id, &self.users, &[]);
        index.channels.leave(self.id, &self.channels, &[]);
    }
}

impl<K: Copy + Eq + Hash, P> Topics<K, P> {
    fn places(&mut self, key: K) -> impl Iterator<Item = &mut P> {
        self.topics.get_mut(&key).into_iter().flat_map(|topic| topic.places.values_mut())
    }

    fn join(&mut self, listener: u64, key: K, new: impl FnOnce() -> P) -> &mut P {
        let topic = self.topics.entry(key).or_insert_with(|| Topic { places: HashMap::new(), is_wanted: false });
        topic.places.entry(listener).or_insert_with(new)
    }

    /// Takes the listener out of what it had and is not to keep.
    fn leave(&mut self, listener: u64, had: &[K], keeps: &[K]) {
        let keeps: HashSet<&K> = keeps.iter().collect();
        for key in had.iter().filter(|key| !keeps.contains(key)) {
            let Some(topic) = self.topics.get_mut(key) else { continue };
            topic.places.remove(&listener);
            if topic.places.is_empty() {
                self.topics.remove(key);
            }
        }
    }

    fn want(&mut self, key: K) {
        if self.is_newly_wanted(key) {
            self.wanted.push_back(key);
        }
    }

    fn want_first(&mut self, key: K) {
        if self.is_newly_wanted(key) {
            self.wanted.push_front(key);
        }
    }

    fn is_newly_wanted(&mut self, key: K) -> bool {
        if self.wanted.len() > 2 * self.topics.len() + SLACK {
            self.tidy();
        }
        self.topics.get_mut(&key).is_some_and(|topic| !std::mem::replace(&mut topic.is_wanted, true))
    }

    /// Takes out of the queue what is gone, or stands there twice: while nothing can be read, connections come and go.
    fn tidy(&mut self) {
        let mut seen = HashSet::with_capacity(self.topics.len());
        let topics = &self.topics;
        self.wanted.retain(|key| topics.get(key).is_some_and(|topic| topic.is_wanted) && seen.insert(*key));
    }

    fn take(&mut self, most: usize) -> Vec<K> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(key) = self.wanted.pop_front()
        {
            // One that nobody wants any more, or that came back and stands in the queue a second time.
            if let Some(topic) = self.topics.get_mut(&key)
                && std::mem::replace(&mut topic.is_wanted, false)
            {
                taken.push(key);
            }
        }
        taken
    }
}

impl<K, P> Default for Topics<K, P> {
    fn default() -> Self {
        Self { topics: HashMap::new(), wanted: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests;
