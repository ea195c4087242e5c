//! The harness itself: servers come up, die, come back with their data, and faults are what they say they are.

use std::time::{Duration, Instant};

use presence_tests::{Direction, Fault, JetStream, Nats, Proxy, Store, StoreKind, eventually, seen};
use redis::AsyncCommands;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);

/// A server on a loopback port that sends back what it gets.
async fn echo_server() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    port
}

async fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping").await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

#[tokio::test]
async fn the_store_keeps_its_data_over_a_crash_and_forgets_when_told() {
    let mut store = Store::start().await;
    let port = store.port();
    store.connect().await.set::<_, _, ()>("key", "value").await.unwrap();
    store.kill();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "a killed store must not answer");
    store.restart().await;
    assert_eq!(store.port(), port);
    assert_eq!(store.connect().await.get::<_, String>("key").await.unwrap(), "value");
    store.kill();
    store.forget();
    store.restart().await;
    assert_eq!(store.connect().await.get::<_, Option<String>>("key").await.unwrap(), None);
}

#[tokio::test]
async fn the_store_of_this_run_is_the_one_that_it_says() {
    let (name, least) = match StoreKind::of_this_run() {
        StoreKind::Redis => ("redis", 7),
        StoreKind::Valkey => ("valkey", 8),
    };
    let store = Store::start_single().await;
    let info: redis::InfoDict =
        redis::cmd("INFO").arg("server").query_async(&mut store.connect_node().await).await.unwrap();
    let server: String = info.get("server_name").unwrap_or_else(|| "redis".to_owned());
    let version: String = info.get(&format!("{name}_version")).unwrap();
    let major: u32 = version.split('.').next().unwrap().parse().unwrap();
    assert_eq!(server, name);
    assert!(major >= least, "{name} {version} is too old");
}

#[tokio::test]
async fn a_frozen_store_keeps_its_connections_and_answers_when_it_thaws() {
    let store = Store::start_single().await;
    let mut connection = store.connect_node().await;
    store.freeze();
    let mut ping = std::pin::pin!(async { redis::cmd("PING").query_async::<String>(&mut connection).await });
    assert!(timeout(Duration::from_millis(200), &mut ping).await.is_err(), "a frozen store must not answer");
    store.thaw();
    let answer = timeout(SOON, ping).await.expect("a thawed store answers");
    assert!(answer.is_ok() || answer.is_err_and(|error| error.is_timeout()));
    redis::cmd("PING").exec_async(&mut store.connect_node().await).await.unwrap();
}

#[tokio::test]
async fn a_store_in_cluster_mode_refuses_what_touches_two_slots() {
    let store = Store::start_cluster().await;
    let mut connection = store.connect_node().await;
    redis::cmd("SET").arg("one").arg(1).exec_async(&mut connection).await.unwrap();
    let error = redis::cmd("MGET").arg("one").arg("two").exec_async(&mut connection).await.unwrap_err();
    assert_eq!(error.code(), Some("CROSSSLOT"), "{error}");
}

#[tokio::test]
async fn the_store_asks_for_its_password() {
    let store = Store::start_single().await;
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", store.port())).unwrap();
    let stranger = async { redis::cmd("PING").exec_async(&mut client.get_multiplexed_async_connection().await?).await };
    let error = stranger.await.unwrap_err().to_string();
    assert!(error.contains("NOAUTH") || error.contains("uthentication"), "{error}");
}

#[tokio::test]
async fn nats_with_jetstream_keeps_its_streams_over_a_crash() {
    let mut nats = Nats::start(JetStream::On).await;
    let config = async_nats::jetstream::stream::Config {
        name: "KEPT".to_owned(),
        subjects: vec!["kept.>".to_owned()],
        ..Default::default()
    };
    let jetstream = async_nats::jetstream::new(nats.connect().await);
    jetstream.create_stream(config).await.unwrap();
    jetstream.publish("kept.one", "1".into()).await.unwrap().await.unwrap();
    nats.kill();
    nats.restart().await;
    let kept = eventually("the stream to be back", SOON, async || {
        let kept = nats.stream("KEPT").await;
        seen(!kept.is_empty(), kept)
    })
    .await;
    assert_eq!((kept.len(), kept[0].subject.as_str(), kept[0].payload.as_str()), (1, "kept.one", "1"));
}

#[tokio::test]
async fn nats_without_jetstream_says_that_it_has_none() {
    let nats = Nats::start(JetStream::Off).await;
    let client = nats.connect().await;
    assert!(!client.server_info().jetstream);
    assert!(Nats::start(JetStream::On).await.connect().await.server_info().jetstream);
}

#[tokio::test]
async fn a_consumer_sees_every_event_that_was_sent_before_it_asks() {
    let nats = Nats::start(JetStream::Off).await;
    let mut events = nats.events().await;
    for number in 0..100 {
        nats.tell("presence.test", json!({ "d": { "number": number } })).await;
    }
    let numbers: Vec<_> = events.so_far().await.iter().map(|event| event.data()["number"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert!(events.so_far().await.is_empty());
}

#[tokio::test]
async fn a_faultless_proxy_carries_and_a_delay_delays() {
    let proxy = Proxy::to(echo_server().await).await;
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    echo(&mut stream).await.unwrap();

    proxy.set(Fault::Delay(Duration::from_millis(50)));
    let start = Instant::now();
    echo(&mut stream).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100), "50 ms there and 50 ms back");
}

#[tokio::test]
async fn a_reset_is_a_reset_for_old_connections_and_new_ones() {
    let proxy = Proxy::to(echo_server().await).await;
    let mut old = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    echo(&mut old).await.unwrap();
    proxy.set(Fault::Reset);
    let mut byte = [0];
    let error = timeout(SOON, old.read(&mut byte)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let mut new = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    assert!(timeout(SOON, echo(&mut new)).await.unwrap().is_err());
    proxy.set(Fault::None);
    echo(&mut TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_cut_is_an_end_in_good_order() {
    let proxy = Proxy::to(echo_server().await).await;
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    echo(&mut stream).await.unwrap();
    proxy.set(Fault::Cut);
    let mut byte = [0];
    assert_eq!(timeout(SOON, stream.read(&mut byte)).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_black_hole_holds_everything_back_until_it_is_over() {
    let proxy = Proxy::to(echo_server().await).await;
    let mut old = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    echo(&mut old).await.unwrap();
    proxy.set(Fault::BlackHole);
    let mut new = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    for stream in [&mut old, &mut new] {
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        assert!(timeout(Duration::from_millis(100), stream.read_exact(&mut answer)).await.is_err());
    }
    proxy.set(Fault::None);
    for stream in [&mut old, &mut new] {
        let mut answer = [0; 4];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"ping");
    }
}

#[tokio::test]
async fn a_slow_way_carries_so_many_bytes_a_second() {
    let proxy = Proxy::to(echo_server().await).await;
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    echo(&mut stream).await.unwrap();
    proxy.set(Fault::Slow(2000));
    let start = Instant::now();
    stream.write_all(&[7; 400]).await.unwrap();
    let mut answer = [0; 400];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200), "400 bytes at 2000 a second");
}

#[tokio::test]
async fn a_half_open_connection_is_dead_for_good_and_a_new_one_works() {
    let proxy = Proxy::to(echo_server().await).await;
    let mut old = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    echo(&mut old).await.unwrap();
    proxy.set(Fault::HalfOpen);
    let mut new = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    timeout(SOON, echo(&mut new)).await.unwrap().unwrap();
    proxy.set(Fault::None);
    timeout(SOON, echo(&mut new)).await.unwrap().unwrap();
    old.write_all(b"ping").await.unwrap();
    let mut answer = [0; 4];
    assert!(timeout(Duration::from_millis(100), old.read_exact(&mut answer)).await.is_err(), "open, and silent");
}

#[tokio::test]
async fn a_reply_is_cut_in_its_middle() {
    let proxy = Proxy::to(echo_server().await).await;
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
    echo(&mut stream).await.unwrap();
    proxy.set(Fault::CutAfter(Direction::Reply, 3));
    stream.write_all(b"ping").await.unwrap();
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"pin");
}
