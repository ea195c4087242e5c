//! The limit, as processes of their own: what the service does, without any of its rules. No token is checked, nothing
//! is decided, nothing is told twice.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use async_nats::jetstream;
use async_nats::jetstream::consumer::pull;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use clap::Subcommand;
use futures::StreamExt;
use presence::domain::{SessionId, UserId};
use presence::events::inputs::HEARTBEAT_RECEIVED;
use presence::events::nats::INPUT_STREAM;
use redis::aio::MultiplexedConnection;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::crowd::{AT_ONCE, BATCH, Member};
use crate::peers;
use crate::stage::{Servers, Stage};

/// The subject of the bare consumer's heartbeats: captured by the same stream, and taken by nobody else.
pub(crate) const SUBJECT: &str = "gateway.bench.received";
/// The name of its consumer.
pub(crate) const CONSUMER: &str = "bench-bare";
/// Where the bare server publishes; the stream of inputs keeps it, as that of events keeps the service's.
const PUBLISHED: &str = "gateway.bench.changed";

#[derive(Subcommand)]
pub(crate) enum Bare {
    /// An HTTP server that does one thing in Redis for each request.
    Server,
    /// A consumer of heartbeats from JetStream.
    Consumer,
    /// A function that answers every event with nothing, to the runtime interface at this address.
    Function {
        /// Host and port.
        address: String,
    },
}

#[derive(Clone)]
struct Server {
    redis: MultiplexedConnection,
    jetstream: jetstream::Context,
}

/// A heartbeat as gateways tell of it.
#[derive(Deserialize)]
struct Element {
    user_id: UserId,
    session_id: SessionId,
}

#[derive(Deserialize)]
struct Asked {
    user_ids: Vec<UserId>,
}

impl Bare {
    pub(crate) fn run(&self, servers: &Servers) {
        let stage = Stage { servers: servers.clone(), users: 0, rounds: 0, short: false, results: None };
        match self {
            // One thread, as in our functions.
            Bare::Function { address } => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(crate::runtime_api::bare_function(address));
            }
            Bare::Server => tokio::runtime::Runtime::new().unwrap().block_on(serve(&stage)),
            Bare::Consumer => tokio::runtime::Runtime::new().unwrap().block_on(consume(&stage)),
        }
    }
}

async fn serve(stage: &Stage) {
    let server = Server { redis: stage.redis().await, jetstream: jetstream::new(stage.nats().await) };
    let routes = Router::new()
        .route("/presence/{user_id}", get(read))
        .route("/presence/bulk", post(read_many))
        .route("/presence/status", post(update))
        .route("/presence/typing", post(type_in))
        .with_state(server);
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    axum::serve(listener, routes).await.unwrap();
}

fn hash(user: &UserId) -> redis::Cmd {
    let mut command = redis::cmd("HGETALL");
    command.arg(format!("presence:user:{user}"));
    command
}

fn presence(user: UserId, fields: &[(String, String)]) -> Value {
    let status = fields.iter().find(|(name, _)| name == "status").map_or("offline", |(_, value)| value);
    json!({ "user_id": user, "status": status, "custom_status": null, "activity": null })
}

async fn read(State(mut server): State<Server>, Path(user): Path<UserId>) -> Json<Value> {
    let fields: Vec<(String, String)> = hash(&user).query_async(&mut server.redis).await.unwrap();
    Json(presence(user, &fields))
}

async fn read_many(State(mut server): State<Server>, Json(asked): Json<Asked>) -> Json<Value> {
    let mut pipe = redis::pipe();
    for user in &asked.user_ids {
        pipe.add_command(hash(user));
    }
    let found: Vec<Vec<(String, String)>> = pipe.query_async(&mut server.redis).await.unwrap();
    let presences = asked.user_ids.into_iter().zip(found).map(|(user, fields)| presence(user, &fields));
    Json(json!({ "presences": presences.collect::<Vec<Value>>() }))
}

async fn update(State(server): State<Server>, Json(_): Json<Value>) -> Json<Value> {
    let user = UserId::new(uuid::Uuid::new_v4());
    let session: SessionId = "http".parse().unwrap();
    peers::pipelined(&server.redis, &[(user, session)], peers::raw_open).await;
    let event = presence(user, &[("status".to_owned(), "dnd".to_owned())]);
    publish(&server, event.to_string()).await;
    Json(event)
}

async fn type_in(State(mut server): State<Server>, Json(body): Json<Value>) -> StatusCode {
    let key = format!("raw:typing:{}", body["channel_id"].as_str().unwrap_or_default());
    let user = UserId::new(uuid::Uuid::new_v4());
    let mut pipe = redis::pipe();
    pipe.cmd("ZADD").arg(&key).arg(1_700_000_000).arg(user.to_string()).ignore();
    pipe.cmd("EXPIRE").arg(&key).arg(10).ignore();
    pipe.exec_async(&mut server.redis).await.unwrap();
    publish(&server, json!({ "op": 8, "d": { "user_id": user } }).to_string()).await;
    StatusCode::NO_CONTENT
}

async fn publish(server: &Server, event: String) {
    server.jetstream.publish(PUBLISHED, event.into()).await.unwrap().await.unwrap();
}

/// Takes messages in batches like ours, as many at once, and acknowledges them when their commands are done.
async fn consume(stage: &Stage) {
    let (redis, nats) = (stage.redis().await, stage.nats().await);
    let stream = jetstream::new(nats).get_stream(INPUT_STREAM).await.expect("the stream, which the service makes");
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        filter_subject: SUBJECT.to_owned(),
        max_ack_pending: 50_000,
        ..pull::Config::default()
    };
    let consumer = stream.get_or_create_consumer(CONSUMER, config).await.unwrap();
    let messages = consumer.stream().max_messages_per_batch(4 * BATCH).messages().await.unwrap();
    // It has no address; whoever waits for it waits for the words.
    println!("listening on http://127.0.0.1:1");
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut batches = messages.ready_chunks(BATCH);
    let mut at_ms = 1_700_000_000_000;
    while let Some(batch) = batches.next().await {
        at_ms += 1000;
        let (redis, place) = (redis.clone(), places.clone().acquire_owned().await.unwrap());
        tokio::spawn(async move {
            let batch: Vec<_> = batch.into_iter().map(Result::unwrap).collect();
            let users: Vec<Member> = batch.iter().flat_map(|message| elements(&message.payload)).collect();
            peers::raw_heartbeats(&redis, &users, at_ms).await;
            for message in batch {
                message.ack().await.unwrap();
            }
            drop(place);
        });
    }
}

fn elements(payload: &Bytes) -> Vec<Member> {
    let elements: Vec<Element> = match payload.first() {
        Some(b'[') => serde_json::from_slice(payload).unwrap(),
        _ => vec![serde_json::from_slice(payload).unwrap()],
    };
    elements.into_iter().map(|element| (element.user_id, element.session_id)).collect()
}

/// The subject of heartbeats for the service, or for the bare consumer.
pub(crate) fn heartbeat_subject(bare: bool) -> &'static str {
    if bare { SUBJECT } else { HEARTBEAT_RECEIVED }
}
