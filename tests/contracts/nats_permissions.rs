//! The permissions of NATS in `SECURITY.md`: with exactly those everything works, and each of them is missed when it is
//! taken away.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use presence::config::Config;
use presence::domain::{ActivityKind, ActivityUpdate, ChannelId, Intent, StatusUpdate, Traceparent, UserId};
use presence::events::batch::{Batch, Record};
use presence::events::{DEAD_LETTER_PREFIX, SUBJECTS};
use presence::{Host, connect};
use presence_functions::event::{EventHandler, SUBSCRIPTIONS};
use presence_tests::{
    Access, Api, JetStream, Nats, PASSWORD, Service, ServiceBuilder, Store, User, documented_nats, eventually, now_ms,
    seen,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use uuid::Uuid;

use crate::SOON;

/// How many servers and services run at once.
const AT_ONCE: usize = 4;

/// A permission of a user: the line of the configuration on which it stands, and the subject.
fn permissions(user: &str) -> Vec<(usize, String)> {
    let config = documented_nats();
    let lines = config.lines().enumerate().skip_while(|(_, line)| !line.contains(&format!("user: \"{user}\"")));
    let own = lines.skip(1).take_while(|(_, line)| !line.contains("user: "));
    let permissions = own.map(|(number, line)| (number, line.trim())).filter(|(_, line)| line.starts_with('"'));
    permissions.map(|(number, line)| (number, line.trim_matches('"').to_owned())).collect()
}

/// The documented configuration less one line.
fn without(number: usize) -> String {
    let config = documented_nats();
    let lines = config.lines().enumerate().filter(|(other, _)| *other != number);
    lines.flat_map(|(_, line)| [line, "\n"]).collect()
}

/// A list that is empty allows everything: what takes the last permission away must forbid.
fn forbid_where_nothing_is_left(config: &str) -> String {
    let empty = |name: &str| format!("{name} = [\n        ]");
    let forbidden = |name: &str| format!("{name} = {{ deny: \">\" }}");
    config.replace(&empty("subscribe"), &forbidden("subscribe")).replace(&empty("publish"), &forbidden("publish"))
}

async fn nats(config: &str) -> Nats {
    let config = forbid_where_nothing_is_left(config);
    Nats::start_with(JetStream::On, Access { config, login: "test:test@".to_owned(), authorities: None }).await
}

/// A service without a gateway, which is another kind of process.
fn service(nats: &Nats) -> ServiceBuilder {
    Service::builder().env("GATEWAY", "off").env("NATS_URL", nats.url_of("presence-service"))
}

/// Whether the server refused something of that stem.
fn is_missed(stem: &str, log: &str) -> bool {
    log.lines().any(|line| line.to_lowercase().contains("permissions violation") && line.contains(stem))
}

/// Everything that makes the service use NATS.
async fn use_all(service: &Service, nats: &Nats) {
    let user = User::new();
    for body in [
        json!({ "status": "online" }),
        json!({ "activity": { "type": "playing", "name": "Chess" } }),
        json!({ "status": "dnd" }),
    ] {
        service.post(&user, "/presence/status", &body).await;
    }
    let channel = json!({ "channel_id": Uuid::new_v4().to_string() });
    service.post(&user, "/presence/typing", &channel).await;
    for subscription in SUBSCRIPTIONS {
        nats.tell(subscription.subject, json!({ "user_id": User::new().id(), "session_id": "a" })).await;
    }
    nats.tell_raw("gateway.heartbeat.received", "not JSON").await;
}

#[tokio::test]
async fn with_the_permissions_of_the_service_everything_works() {
    let nats = nats(&documented_nats()).await;
    let service = service(&nats).start().await;
    let mut events = nats.subscribe("presence.status.changed").await;
    use_all(&service, &nats).await;
    let user = User::new();
    nats.tell("gateway.connection.opened", json!({ "user_id": user.id(), "session_id": "a" })).await;
    assert_eq!(events.next_of(&user).await.data()["status"], "online");
    eventually("the dead letter", SOON, async || {
        let letters = nats.stream("PRESENCE_DLQ").await.len();
        seen(letters == 1, letters)
    })
    .await;
    let log = service.log();
    assert!(!log.to_lowercase().contains("permissions violation"), "{log}");
}

#[tokio::test]
async fn without_jetstream_the_service_needs_the_inputs_and_an_echo_of_its_own() {
    let own = permissions("presence-service").into_iter().map(|(_, subject)| subject);
    let publish = own.filter(|subject| !subject.starts_with("$JS") || subject.contains("STREAM.INFO"));
    let inputs = SUBSCRIPTIONS.map(|subscription| subscription.subject.to_owned());
    let subscribe = inputs.into_iter().chain(["_INBOX.>".to_owned()]);
    let list = |subjects: Vec<String>| format!("{subjects:?}");
    let config = format!(
        "authorization {{ users = [\n{{ user: \"test\", password: \"test\" }}\n{{ user: \"presence-service\", \
         password: {PASSWORD:?}, permissions {{ publish = {}, subscribe = {} }} }}\n] }}\n",
        list(publish.chain(["_INBOX.>".to_owned()]).collect()),
        list(subscribe.collect()),
    );
    let access = Access { config, login: "test:test@".to_owned(), authorities: None };
    let nats = Nats::start_with(JetStream::Off, access).await;
    let service = service(&nats).start().await;
    let mut events = nats.subscribe("presence.status.changed").await;
    let user = User::new();
    nats.tell("gateway.connection.opened", json!({ "user_id": user.id(), "session_id": "a" })).await;
    assert_eq!(events.next_of(&user).await.data()["status"], "online");
    use_all(&service, &nats).await;
    let log = service.log();
    assert!(!log.to_lowercase().contains("permissions violation"), "{log}");
}

#[tokio::test]
async fn the_service_misses_each_permission_that_is_taken_away() {
    let own = permissions("presence-service");
    assert!(own.len() > 10, "{own:?}");
    let missed = futures::stream::iter(own).map(|(number, permission)| async move {
        let nats = nats(&without(number)).await;
        let service = service(&nats).start_unready().await;
        let stem = permission.trim_end_matches(['*', '>']);
        eventually(&format!("{permission} to be missed"), SOON, async || {
            use_all(&service, &nats).await;
            let log = service.log();
            seen(is_missed(stem, &log), log)
        })
        .await;
    });
    missed.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// What functions do on NATS: each kind of event, and a dead letter. Gives back the subjects that arrived, and whether
/// the functions know it of the letter.
async fn act_as_functions(nats: &Nats) -> (BTreeSet<String>, bool) {
    let variables = [("NATS_URL", nats.url_of("presence-functions"))];
    let lookup = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.clone());
    let connected = connect(&Config::from_lookup(lookup).unwrap(), Host::Function).await.unwrap();
    let service = Arc::clone(&connected.service);
    let user = UserId::new(Uuid::new_v4());
    let chess = ActivityUpdate { kind: ActivityKind::Playing, name: "Chess".to_owned().try_into().unwrap() };
    let update = StatusUpdate { status: Some(Intent::Online), activity: Some(Some(chess)), ..StatusUpdate::default() };
    service.update_status(user, update, Traceparent::generate()).await.unwrap();
    // What is not told is made up for with its next repetition.
    let _ = service.start_typing(user, ChannelId::new(Uuid::new_v4()), Traceparent::generate()).await;
    let handler = EventHandler::new(service, connected.carrier.dead_letters());
    let poison = Record {
        message_id: "PRESENCE:1".to_owned(),
        subject: "gateway.connection.opened".to_owned(),
        data: "not JSON".into(),
        headers: Default::default(),
        num_delivered: 1,
        timestamp: Some(presence::domain::Timestamp::from_millis(now_ms())),
    };
    let batch = Batch { event_source: "nats:jetstream".to_owned(), records: vec![poison] };
    let answer = handler.handle(SUBSCRIPTIONS[0], &batch).await.unwrap();
    let (events, letters) = (nats.stream("PRESENCE_EVENTS").await, nats.stream("PRESENCE_DLQ").await);
    let subjects = events.into_iter().chain(letters).map(|event| event.subject).collect();
    (subjects, answer.batch_item_failures.is_empty())
}

/// A NATS in which the streams are: a service or a bridge makes them.
async fn nats_with_streams(config: &str) -> Nats {
    let nats = nats(config).await;
    let _service = service(&nats).start().await;
    nats
}

#[tokio::test]
async fn functions_tell_and_keep_dead_letters_and_miss_each_permission_that_is_taken_away() {
    let letter = format!("{DEAD_LETTER_PREFIX}.connection-opened");
    let all: BTreeSet<String> = SUBJECTS.map(str::to_owned).into_iter().chain([letter]).collect();
    let nats = nats_with_streams(&documented_nats()).await;
    assert_eq!(act_as_functions(&nats).await, (all.clone(), true));
    let own = permissions("presence-functions");
    assert!(own.len() > 5, "{own:?}");
    let missed = futures::stream::iter(own).map(|(number, permission)| {
        let all = &all;
        async move {
            let nats = nats_with_streams(&without(number)).await;
            assert_ne!(act_as_functions(&nats).await, (all.clone(), true), "functions do without {permission}");
        }
    });
    missed.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// A Lambda whose functions fail at everything.
async fn failing_lambda() -> Api {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = Vec::new();
                // A batch ends with the list of its records.
                while !request.ends_with(b"]}") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
                let answer = "HTTP/1.1 500 Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Api::at(port)
}

/// Users with changes of every kind that the bridge has to tell in the place of somebody else: whoever made them could
/// not reach NATS.
async fn leave_changes(store: &Store) -> Service {
    let cut_off = Service::builder().store(store).env("NATS_URL", "nats://127.0.0.1:1").start_unready().await;
    let activity = json!({ "type": "playing", "name": "Chess" });
    cut_off.post(&User::new(), "/presence/status", &json!({ "status": "online", "activity": activity })).await;
    cut_off
}

/// A bridge whose functions fail at everything, so that it keeps dead letters itself.
async fn bridge(nats: &Nats, store: &Store) -> ServiceBuilder {
    Service::bridge_to(&failing_lambda().await).store(store).nats(nats).env("MAXIMUM_RETRY_ATTEMPTS", 0)
}

/// A message of every kind.
async fn tell_all(nats: &Nats) {
    for subscription in SUBSCRIPTIONS {
        nats.tell(subscription.subject, json!({ "user_id": User::new().id(), "session_id": "a" })).await;
    }
}

#[tokio::test]
async fn with_the_permissions_of_the_bridge_it_takes_messages_keeps_dead_letters_and_sweeps() {
    let (nats, store) = (nats(&documented_nats()).await, Store::start().await);
    let changes = leave_changes(&store).await;
    let bridge = bridge(&nats, &store).await.start().await;
    drop(changes);
    tell_all(&nats).await;
    for (stream, count) in [("PRESENCE_DLQ", SUBSCRIPTIONS.len()), ("PRESENCE_EVENTS", 2)] {
        eventually(&format!("messages in {stream}"), SOON, async || {
            let kept = nats.stream(stream).await;
            seen(kept.len() == count, kept)
        })
        .await;
    }
    let log = bridge.log();
    assert!(!log.to_lowercase().contains("permissions violation"), "{log}");
}

#[tokio::test]
async fn the_bridge_misses_each_permission_that_is_taken_away() {
    let own = permissions("presence-bridge");
    assert!(own.len() > 10, "{own:?}");
    let missed = futures::stream::iter(own).map(|(number, permission)| async move {
        let (nats, store) = (nats(&without(number)).await, Store::start().await);
        let _changes = leave_changes(&store).await;
        let bridge = bridge(&nats, &store).await.start_unready().await;
        let stem = permission.trim_end_matches(['*', '>']);
        eventually(&format!("{permission} to be missed"), SOON, async || {
            tell_all(&nats).await;
            let log = bridge.log();
            seen(is_missed(stem, &log), log)
        })
        .await;
    });
    missed.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// A client comes to the gateway, identifies itself and sends a heartbeat.
pub(crate) async fn arrive(gateway: &Service) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", gateway.port())).await.unwrap();
    let upgrade = "GET /gateway HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    until_read(&mut stream, "heartbeat_interval").await;
    let identify = json!({ "op": 2, "d": { "token": User::new().token() } });
    stream.write_all(&frame(TEXT, identify.to_string().as_bytes())).await.unwrap();
    until_read(&mut stream, "READY").await;
    stream.write_all(&frame(TEXT, br#"{"op":1}"#)).await.unwrap();
    until_read(&mut stream, "11").await;
    stream
}

/// It goes.
pub(crate) async fn leave(mut stream: TcpStream) {
    stream.write_all(&frame(CLOSE, &1000_u16.to_be_bytes())).await.unwrap();
}

const TEXT: u8 = 1;
const CLOSE: u8 = 8;

/// A whole WebSocket frame of a client; its mask changes nothing.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut frame = vec![0x80 | opcode];
    if length < 126 {
        frame.push(0x80 | u8::try_from(length).unwrap());
    } else {
        frame.push(0x80 | 126);
        frame.extend(length.to_be_bytes());
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

async fn until_read(stream: &mut TcpStream, word: &str) {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(word) {
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "the gateway closed before it said {word}");
        }
    };
    timeout(SOON, reading).await.unwrap_or_else(|_| panic!("the gateway does not say {word}"));
}

fn gateway(nats: &Nats, store: &Store) -> ServiceBuilder {
    Service::gateway_alone().store(store).nats(nats).heartbeat_timeout(2)
}

#[tokio::test]
async fn with_the_permissions_of_a_gateway_it_tells_and_hears() {
    let (nats, store) = (nats(&documented_nats()).await, Store::start().await);
    let gateway = gateway(&nats, &store).start().await;
    let mut told = nats.subscribe("gateway.>").await;
    let client = arrive(&gateway).await;
    for subject in ["gateway.connection.opened", "gateway.heartbeat.received"] {
        while told.next().await.subject != subject {}
    }
    leave(client).await;
    while told.next().await.subject != "gateway.connection.closed" {}
    let log = gateway.log();
    assert!(!log.to_lowercase().contains("permissions violation"), "{log}");
}

#[tokio::test]
async fn a_gateway_misses_each_permission_that_is_taken_away() {
    let own = permissions("presence-gateway");
    assert!(own.len() > 10, "{own:?}");
    let missed = futures::stream::iter(own).map(|(number, permission)| async move {
        let (nats, store) = (nats(&without(number)).await, Store::start().await);
        let gateway = gateway(&nats, &store).start_unready().await;
        let stem = permission.trim_end_matches(['*', '>']);
        // It stays until the end, unless its going is what is to be told.
        let mut client = if permission.starts_with("gateway.") { Some(arrive(&gateway).await) } else { None };
        if permission == "gateway.connection.closed"
            && let Some(client) = client.take()
        {
            leave(client).await;
        }
        eventually(&format!("{permission} to be missed"), SOON, async || {
            let log = gateway.log();
            seen(is_missed(stem, &log), log)
        })
        .await;
        drop(client);
    });
    missed.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}
