//! Clients that mean ill, or are broken: each gets what the protocol says, and the others notice nothing.

use std::time::Duration;

use presence::domain::Timestamp;
use presence::events::{Event, Traceparent};
use presence_gateway::Limits;
use presence_tests::User;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::client::{Client, Ended};
use crate::world::{SOON, World};

/// A client that does as it should while a test does to others what it does, and gets every frame in time.
struct Bystander {
    client: Client,
    watched: User,
    number: u32,
}

impl Bystander {
    async fn of(world: &World) -> Self {
        let watched = User::new();
        let (mut client, _) = world.connect(&User::new()).await;
        client.subscribe(&[&watched]).await;
        client.update().await;
        Self { client, watched, number: 0 }
    }

    async fn notices_nothing(&mut self, world: &World) {
        self.number += 1;
        let text = format!("Number {}", self.number);
        world.until_status(&self.watched, "offline").await;
        let (connection, _) = world.connect(&self.watched).await;
        assert_eq!(self.client.update().await["status"], "online");
        let start = Instant::now();
        world.say(&self.watched, &text).await;
        assert_eq!(self.client.update().await["custom_status"], text);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        connection.close(1000).await;
        assert_eq!(self.client.update().await["status"], "offline");
        self.client.beat().await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_with_its_code() {
    let world = World::start().await;
    let mut bystander = Bystander::of(&world).await;
    let large = format!(r#"{{"op":1,"d":"{}"}}"#, "x".repeat(Limits::default().message_bytes));
    for (message, code) in [
        (Message::text("{"), 4002),
        (Message::text("[1]"), 4002),
        (Message::text(r#"{"op":14,"d":{"user_ids":["nobody"]}}"#), 4002),
        (Message::binary(r#"{"op":1,"d":null}"#.as_bytes()), 4002),
        (Message::text(r#"{"op":99}"#), 4001),
        (Message::text(r#"{"op":3,"t":"PRESENCE_UPDATE","d":{}}"#), 4001),
        (Message::text(large), 1009),
    ] {
        let (mut client, _) = world.connect(&User::new()).await;
        client.send_message(message).await;
        assert_eq!(client.ended().await, Ended::Closed(code));
    }
    bystander.notices_nothing(&world).await;
    world.until_connections(1).await;
}

#[tokio::test]
async fn a_frame_far_too_large_is_refused_at_its_head_and_the_client_hears_why() {
    let world = World::start().await;
    let mut bystander = Bystander::of(&world).await;
    let (mut client, _) = world.connect(&User::new()).await;
    // A masked text frame that says it has 1 GiB, and begins to send it.
    let MaybeTlsStream::Plain(stream) = client.socket.get_mut() else { panic!("there is no TLS here") };
    let mut head = vec![0x81, 0xff];
    head.extend((1_u64 << 30).to_be_bytes());
    head.extend([0; 4]);
    stream.write_all(&head).await.unwrap();
    stream.write_all(&vec![0; 256 * 1024]).await.unwrap();
    assert_eq!(client.ended().await, Ended::Closed(1009));
    // A reset would make some systems throw the close frame away: the gateway ends its side and reads on for a while.
    let MaybeTlsStream::Plain(stream) = client.socket.get_mut() else { panic!("there is no TLS here") };
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    for _ in 0..10 {
        stream.write_all(&[0; 1024]).await.expect("no reset");
        bystander.client.beat().await;
    }
}

#[tokio::test]
async fn text_that_is_not_utf8_and_frames_that_are_not_masked_are_refused() {
    let world = World::start().await;
    for (bytes, code) in [
        (vec![0x81, 0x81, 0, 0, 0, 0, 0xff], 1007),
        (vec![0x81, 0x01, b'x'], 1002),
        (vec![0xf1, 0x80, 0, 0, 0, 0], 1002),
    ] {
        let (mut client, _) = world.connect(&User::new()).await;
        let MaybeTlsStream::Plain(stream) = client.socket.get_mut() else { panic!("there is no TLS here") };
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(client.ended().await, Ended::Closed(code), "{bytes:?}");
    }
}

#[tokio::test]
async fn the_121st_frame_within_a_minute_is_one_too_many() {
    let world = World::start().await;
    let mut bystander = Bystander::of(&world).await;
    let (user, mut client) = (User::new(), Client::connect(world.port).await);
    client.identify(&user, json!({})).await;
    for _ in 0..Limits::FRAMES - 1 {
        client.beat().await;
    }
    client.try_send(r#"{"op":1,"d":null}"#).await;
    assert_eq!(client.ended().await, Ended::Closed(4008));
    bystander.notices_nothing(&world).await;
}

#[tokio::test]
async fn a_flood_ends_the_flooder_alone() {
    let world = World::start().await;
    let mut bystander = Bystander::of(&world).await;
    let floods = (0..20).map(async |number| {
        let (mut client, _) = world.connect(&User::new()).await;
        for _ in 0..500 {
            match number % 2 {
                0 => client.try_send(r#"{"op":1,"d":null}"#).await,
                _ => drop(futures::SinkExt::send(&mut client.socket, Message::Ping("x".into())).await),
            }
        }
        let ended = client.ended().await;
        // Whoever goes on sending after the close may lose the frame that says why.
        assert!(matches!(ended, Ended::Closed(4008) | Ended::Broken), "{ended:?}");
    });
    futures::join!(futures::future::join_all(floods), async {
        for _ in 0..3 {
            bystander.notices_nothing(&world).await;
        }
    });
    world.until_connections(1).await;
}

#[tokio::test]
async fn those_who_never_identify_are_closed_in_time() {
    let limits = Limits { identify_time: Duration::from_millis(500), ..Limits::default() };
    let world = World::with(&[], limits).await;
    let mut bystander = Bystander::of(&world).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(world.port).await);
    }
    bystander.notices_nothing(&world).await;
    for mut client in clients {
        assert_eq!(client.ended().await, Ended::Closed(4003));
    }
}

/// First its socket fills, then its queue: it is closed for the length of the queue, or for the time that it took nothing.
#[tokio::test]
async fn a_client_that_does_not_read_is_given_up_and_costs_the_others_nothing() {
    let (long, short) = (Duration::from_secs(60), Duration::from_millis(500));
    for (queued_frames, write_time) in [(200, long), (usize::MAX, short)] {
        let limits = Limits { queued_frames, queued_bytes: usize::MAX, write_time, ..Limits::default() };
        let world = World::with(&[("RESUME_GRACE", "0")], limits).await;
        let mut bystander = Bystander::of(&world).await;
        let (user, channel) = (User::new(), Uuid::new_v4().to_string());
        let (mut client, _) = world.connect(&user).await;
        client.send(&json!({ "op": 14, "d": { "channel_ids": [channel] } })).await;
        client.beat().await;
        world.until_status(&user, "online").await;

        let event = typing_in(&channel);
        let mut told = 0;
        let mut last = Instant::now();
        while world.presence(&user).await.status.as_str() == "online" {
            // Enough to fill any socket, and then the queue; not so much that memory alone ends it.
            if told < 200_000 {
                world.publish(&vec![event.clone(); 100]).await;
                told += 100;
                last = Instant::now();
            }
            tokio::task::yield_now().await;
            assert!(last.elapsed() < SOON, "it was never given up, after {told} frames");
        }
        bystander.notices_nothing(&world).await;
        world.until_connections(1).await;
        assert!(told > 200, "only {told} frames");
    }
}

fn typing_in(channel: &str) -> Event {
    Event::typing(
        "00000000-0000-4000-8000-000000000001".parse().unwrap(),
        channel.parse().unwrap(),
        Timestamp::from_millis(1_704_110_400_000),
        Traceparent::generate(),
    )
}

#[tokio::test]
async fn there_is_room_for_so_many_and_the_next_is_told_to_come_again() {
    let world = World::with(&[], Limits { connections: 2, ..Limits::default() }).await;
    let (first, _) = world.connect(&User::new()).await;
    let _second = world.connect(&User::new()).await;
    let refused = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{}/gateway", world.port)).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!((response.status().as_u16(), response.headers().contains_key("retry-after")), (503, true));
    first.close(1000).await;
    world.until_connections(1).await;
    world.connect(&User::new()).await;
}
