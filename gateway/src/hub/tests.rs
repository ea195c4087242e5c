use futures::FutureExt;
use presence::domain::{ChannelId, UserId};
use uuid::Uuid;

use super::*;
use crate::Limits;

fn user(number: u128) -> UserId {
    UserId::new(Uuid::from_u128(number))
}

fn channel(number: u128) -> ChannelId {
    ChannelId::new(Uuid::from_u128(number))
}

fn hub() -> Arc<Hub> {
    Arc::default()
}

/// A connection, and what it was sent since it was last asked.
struct Client {
    listener: Listener,
    outbox: Arc<Outbox>,
}

impl Client {
    fn of(hub: &Arc<Hub>) -> Self {
        let outbox = Arc::new(Outbox::new(&Limits::default()));
        Self { listener: hub.listener(outbox.clone()), outbox }
    }

    fn subscribe(&mut self, users: &[u128], channels: &[u128]) {
        let users = Some(users.iter().map(|number| user(*number)).collect());
        let channels = Some(channels.iter().map(|number| channel(*number)).collect());
        self.listener.subscribe(Subscribe { users, channels });
    }

    fn got(&self) -> Vec<String> {
        let frames = self.outbox.take().now_or_never();
        frames.map_or(Vec::new(), |frames| frames.unwrap().iter().map(|frame| frame.to_string()).collect())
    }
}

fn event(hub: &Hub, number: u128, version: u64) {
    hub.event(&Outgoing { about: About::User(user(number), version), frame: format!("event {version}").into() });
}

fn typing(hub: &Hub, number: u128, text: &'static str) {
    hub.event(&Outgoing { about: About::Channel(channel(number)), frame: text.into() });
}

fn read(hub: &Hub, number: u128, version: u64) {
    hub.presence_read(user(number), version, &format!("read {version}").into());
}

fn wanted(hub: &Hub) -> Wanted {
    let nothing = Wanted { users: Vec::new(), channels: Vec::new() };
    hub.wanted(100, 100).now_or_never().unwrap_or(nothing)
}

#[test]
fn an_event_reaches_those_who_subscribed_to_its_user_and_no_others() {
    let hub = hub();
    let (mut one, mut two, three) = (Client::of(&hub), Client::of(&hub), Client::of(&hub));
    one.subscribe(&[1, 2], &[]);
    two.subscribe(&[2], &[]);
    event(&hub, 1, 10);
    assert_eq!((one.got(), two.got(), three.got()), (vec!["event 10".to_owned()], vec![], vec![]));
    drop(one);
    event(&hub, 2, 11);
    assert_eq!(two.got(), ["event 11"]);
}

#[test]
fn a_subscription_is_answered_once_also_for_a_user_who_was_never_seen() {
    let hub = hub();
    let mut client = Client::of(&hub);
    client.subscribe(&[1, 2], &[]);
    assert_eq!(wanted(&hub).users, [user(1), user(2)]);
    read(&hub, 1, 0);
    read(&hub, 1, 0);
    assert_eq!(client.got(), ["read 0"]);
    read(&hub, 2, 5);
    assert_eq!(client.got(), ["read 5"]);
}

#[test]
fn events_up_to_the_snapshot_are_dropped_and_later_ones_are_not() {
    let hub = hub();
    let mut client = Client::of(&hub);
    client.subscribe(&[1], &[]);
    read(&hub, 1, 5);
    for version in [4, 5, 6, 6, 5, 8, 7] {
        event(&hub, 1, version);
    }
    assert_eq!(client.got(), ["read 5", "event 6", "event 8"]);
}

#[test]
fn an_event_before_the_snapshot_is_the_answer_and_nothing_goes_backwards_after_it() {
    let hub = hub();
    let mut client = Client::of(&hub);
    client.subscribe(&[1], &[]);
    event(&hub, 1, 6);
    read(&hub, 1, 5);
    read(&hub, 1, 6);
    assert_eq!(client.got(), ["event 6"]);
}

#[test]
fn a_reading_that_began_before_the_subscription_answers_it_and_the_next_brings_what_it_missed() {
    let hub = hub();
    let (mut first, mut second) = (Client::of(&hub), Client::of(&hub));
    first.subscribe(&[1], &[]);
    assert_eq!(wanted(&hub).users, [user(1)]);
    // The store is being read. A change comes, of which the second connection hears nothing, and then it subscribes.
    event(&hub, 1, 6);
    second.subscribe(&[1], &[]);
    read(&hub, 1, 5);
    assert_eq!((first.got(), second.got()), (vec!["event 6".to_owned()], vec!["read 5".to_owned()]));
    assert_eq!(wanted(&hub).users, [user(1)], "it is read again for the second");
    read(&hub, 1, 6);
    assert_eq!((first.got(), second.got()), (vec![], vec!["read 6".to_owned()]));
}

#[test]
fn whoever_subscribes_again_is_answered_again_and_never_with_less() {
    let hub = hub();
    let mut client = Client::of(&hub);
    client.subscribe(&[1], &[]);
    read(&hub, 1, 5);
    client.subscribe(&[1], &[]);
    read(&hub, 1, 4);
    read(&hub, 1, 5);
    read(&hub, 1, 5);
    assert_eq!(client.got(), ["read 5", "read 5"]);
}

#[test]
fn a_new_list_takes_the_place_of_the_old_one_and_a_list_that_is_not_given_stays() {
    let hub = hub();
    let mut client = Client::of(&hub);
    client.subscribe(&[1, 2], &[7]);
    client.listener.subscribe(Subscribe { users: Some(vec![user(2), user(3)]), channels: None });
    for number in 1..=3 {
        event(&hub, number, 10 + number as u64);
    }
    typing(&hub, 7, "typing");
    assert_eq!(client.got(), ["event 12", "event 13", "typing"]);
    client.listener.subscribe(Subscribe { users: None, channels: Some(vec![]) });
    typing(&hub, 7, "typing");
    event(&hub, 3, 20);
    assert_eq!(client.got(), ["event 20"]);
}

#[test]
fn who_types_is_told_to_those_who_asked_and_again_to_those_who_asked_during_the_reading() {
    let hub = hub();
    let (mut first, mut second) = (Client::of(&hub), Client::of(&hub));
    first.subscribe(&[], &[7]);
    assert_eq!(wanted(&hub).channels, [channel(7)]);
    hub.typing_read(channel(7), &["ada".into(), "ben".into()]);
    assert_eq!(first.got(), ["ada", "ben"]);
    second.subscribe(&[], &[7]);
    assert_eq!(wanted(&hub).channels, [channel(7)]);
    let mut third = Client::of(&hub);
    third.subscribe(&[], &[7]);
    hub.typing_read(channel(7), &["ada".into()]);
    assert_eq!((first.got(), second.got()), (vec![], vec!["ada".to_owned()]));
    assert_eq!(wanted(&hub).channels, [channel(7)]);
    third.got();
    hub.typing_read(channel(7), &["cleo".into()]);
    assert_eq!(third.got(), ["cleo"]);
    hub.typing_read(channel(7), &["cleo".into()]);
    assert_eq!(third.got(), Vec::<String>::new());
}

#[test]
fn after_a_gap_everything_is_read_and_only_what_is_news_is_sent() {
    let hub = hub();
    let mut client = Client::of(&hub);
    client.subscribe(&[1, 2], &[7]);
    read(&hub, 1, 5);
    read(&hub, 2, 5);
    hub.typing_read(channel(7), &[]);
    client.got();
    wanted(&hub);
    hub.want_everything();
    hub.want_everything();
    let Wanted { mut users, channels } = wanted(&hub);
    users.sort_unstable();
    assert_eq!((users, channels), (vec![user(1), user(2)], vec![channel(7)]));
    assert_eq!(wanted(&hub), Wanted { users: vec![], channels: vec![] });
    read(&hub, 1, 5);
    read(&hub, 2, 6);
    hub.typing_read(channel(7), &["ada".into()]);
    assert_eq!(client.got(), ["read 6", "ada"]);
}

#[test]
fn what_could_not_be_read_comes_first_the_next_time() {
    let hub = hub();
    let mut client = Client::of(&hub);
    client.subscribe(&[1, 2, 3], &[]);
    let taken = hub.wanted(2, 2).now_or_never().unwrap();
    assert_eq!(taken.users, [user(1), user(2)]);
    hub.want_again(&taken);
    assert_eq!(wanted(&hub).users, [user(1), user(2), user(3)]);
}

#[test]
fn while_nothing_can_be_read_the_queue_does_not_grow_with_those_who_come_and_go() {
    let hub = hub();
    let mut stays = Client::of(&hub);
    stays.subscribe(&[1], &[]);
    let everyone: Vec<u128> = (1..=500).collect();
    for _ in 0..100 {
        Client::of(&hub).subscribe(&everyone, &[]);
    }
    assert!(hub.index().users.wanted.len() <= SLACK + 500 + 2);
    assert_eq!(wanted(&hub).users, [user(1)]);
}

#[test]
fn nothing_is_left_of_connections_that_are_gone() {
    let hub = hub();
    let mut client = Client::of(&hub);
    client.subscribe(&[1, 2], &[7]);
    drop(client);
    assert_eq!(wanted(&hub), Wanted { users: vec![], channels: vec![] });
    let index = hub.index();
    assert!(index.users.topics.is_empty() && index.channels.topics.is_empty() && index.users.wanted.is_empty());
}
