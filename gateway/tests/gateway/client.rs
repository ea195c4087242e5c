//! A WebSocket client that knows the frames and nothing else of ours.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use presence_tests::User;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long a frame may take that has to come.
const ARRIVAL: Duration = Duration::from_secs(10);

/// One connection.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// How a connection ended, as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With a close frame of this code.
    Closed(u16),
    /// Without any.
    Broken,
}

impl Client {
    /// Connects, and has read nothing yet.
    pub(crate) async fn connect(port: u16) -> Self {
        let (socket, _) = connect_async(format!("ws://127.0.0.1:{port}/gateway")).await.unwrap();
        Self { socket }
    }

    /// Connects and identifies; the session's id too.
    pub(crate) async fn identified(port: u16, user: &User) -> (Self, String) {
        let mut client = Self::connect(port).await;
        let session = client.identify(user, json!({})).await;
        (client, session)
    }

    /// Reads the hello, identifies, with further fields, and gives the session's id.
    pub(crate) async fn identify(&mut self, user: &User, more: Value) -> String {
        assert_eq!(self.frame().await["op"], 10);
        let mut identify = json!({ "token": user.token() });
        identify.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send(&json!({ "op": 2, "d": identify })).await;
        let ready = self.frame().await;
        assert_eq!(
            (&ready["op"], &ready["t"], &ready["d"]["user_id"]),
            (&json!(0), &json!("READY"), &json!(user.id()))
        );
        ready["d"]["session_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn send(&mut self, frame: &Value) {
        self.send_message(Message::text(frame.to_string())).await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Sends what may no longer be welcome.
    pub(crate) async fn try_send(&mut self, text: &str) {
        drop(self.socket.send(Message::text(text)).await);
    }

    /// Subscribes to users alone.
    pub(crate) async fn subscribe(&mut self, users: &[&User]) {
        let ids: Vec<&str> = users.iter().map(|user| user.id()).collect();
        self.send(&json!({ "op": 14, "d": { "user_ids": ids } })).await;
    }

    /// Sends a heartbeat and waits for the answer, which must be the next frame.
    pub(crate) async fn beat(&mut self) {
        self.send(&json!({ "op": 1, "d": null })).await;
        assert_eq!(self.text().await, r#"{"op":11,"d":null}"#);
    }

    /// The next frame, as text.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            match timeout(ARRIVAL, self.socket.next()).await.expect("a frame in time") {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("no frame but {other:?}"),
            }
        }
    }

    /// The next frame.
    pub(crate) async fn frame(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The presence of the next frame, which must be a `PRESENCE_UPDATE`.
    pub(crate) async fn update(&mut self) -> Value {
        let mut frame = self.frame().await;
        assert_eq!((&frame["op"], &frame["t"]), (&json!(3), &json!("PRESENCE_UPDATE")), "{frame}");
        frame["d"].take()
    }

    /// The same, with heartbeats while it waits.
    pub(crate) async fn update_in_good_health(&mut self) -> Value {
        let mut hearts = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                _ = hearts.tick() => self.send(&json!({ "op": 1 })).await,
                mut frame = self.frame() => {
                    if frame["op"] == 3 {
                        return frame["d"].take();
                    }
                    assert_eq!(frame["op"], 11);
                }
            }
        }
    }

    /// Reads to the end.
    pub(crate) async fn ended(&mut self) -> Ended {
        loop {
            match timeout(ARRIVAL, self.socket.next()).await.expect("an end in time") {
                Some(Ok(Message::Close(frame))) => return Ended::Closed(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(Error::Protocol(_) | Error::Io(_))) | None => return Ended::Broken,
                Some(Err(error)) => panic!("{error}"),
            }
        }
    }

    /// Closes with a code and waits until that is done.
    pub(crate) async fn close(mut self, code: u16) {
        use tokio_tungstenite::tungstenite::protocol::CloseFrame;
        self.socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await.unwrap();
        self.ended().await;
    }

    /// Ends the connection without a word, as a client that loses its power.
    pub(crate) fn vanish(self) {
        match self.socket.get_ref() {
            MaybeTlsStream::Plain(stream) => stream.set_zero_linger().unwrap(),
            _ => panic!("there is no TLS here"),
        }
    }
}
