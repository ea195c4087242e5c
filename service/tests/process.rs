//! The process as its operator and its clients meet it: the real binary, its log, its signals and its port.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on fails")]

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use presence_golden::Host;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};

/// What development tokens are signed with. Written out: a client has no more than this either.
const SECRET: &str = "presence-service-development-secret-known-to-everyone";

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn service(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_presence-service"));
    command.env_clear().env("PORT", "0").env("LOG_FORMAT", "json").envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// A service that listens.
struct Running {
    process: Child,
    address: SocketAddr,
    /// What it said until it listened.
    said: String,
    log: Lines<BufReader<ChildStderr>>,
}

impl Running {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let mut process = service(variables).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = loop {
            let line = tokio::time::timeout(PATIENCE, log.next_line()).await.unwrap().unwrap();
            let line = line.unwrap_or_else(|| panic!("the service ended after saying {said}"));
            said.push_str(&line);
            said.push('\n');
            if let Some(address) = address_after("listening on http://", &line) {
                break address;
            }
        };
        Self { process, address, said, log }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Its exit status, and what it said at the end.
    async fn end(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        while let Some(line) = tokio::time::timeout(PATIENCE, self.log.next_line()).await.unwrap().unwrap() {
            said.push_str(&line);
        }
        (tokio::time::timeout(PATIENCE, self.process.wait()).await.unwrap().unwrap(), said)
    }
}

fn address_after(words: &str, line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(words)?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c))).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Sends one request on a connection of its own.
async fn send(address: SocketAddr, mut request: Request<Bytes>) -> Result<Response<Bytes>, Box<dyn std::error::Error>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let length = request.body().len();
    request.headers_mut().insert(HOST, HeaderValue::try_from(address.to_string())?);
    if length > 0 || request.method() == http::Method::POST {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let (parts, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
}

async fn get(address: SocketAddr, path: &str) -> u16 {
    let request = Request::get(path).body(Bytes::new()).unwrap();
    send(address, request).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn the_service_answers_as_every_host_must() {
    let service = Running::start(&[]).await;
    let address = service.address;
    let mut failures = Vec::new();
    let mut ran = 0;
    for case in presence_golden::cases().unwrap() {
        if case.runs_on(Host::Service) {
            ran += 1;
            let result = case.run(SECRET, async |request| send(address, request).await).await;
            failures.extend(result.err().map(|failure| failure.to_string()));
        }
    }
    assert!(failures.is_empty(), "{} of {ran} cases failed:\n{}", failures.len(), failures.join("\n"));
    assert!(ran > 50, "only {ran} cases ran");
}

#[tokio::test]
async fn with_nothing_configured_it_says_what_it_runs_on_and_how_to_speak_to_it() {
    let service = Running::start(&[]).await;
    for words in ["in memory (nothing is kept)", "inside this process", "scripts/token", "development tokens"] {
        assert!(service.said.contains(words), "{words:?} is missing in:\n{}", service.said);
    }
    assert!(service.address.ip().is_loopback());
}

#[tokio::test]
async fn it_ends_well_when_told_to() {
    for signal in [Signal::TERM, Signal::INT] {
        let service = Running::start(&[]).await;
        // A connection that is idle does not hold it up.
        let mut idle = TcpStream::connect(service.address).await.unwrap();
        assert_eq!(get(service.address, "/health").await, 200);
        service.signal(signal);
        let mut end = [0];
        assert_eq!(idle.read(&mut end).await.unwrap(), 0);
        drop(idle);
        let (status, said) = service.end().await;
        assert_eq!(status.code(), Some(0), "{said}");
    }
}

#[tokio::test]
async fn a_taken_port_is_one_sentence_and_a_failure() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ended = service(&[("PORT", &port)]).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(said, format!("port {port} of 127.0.0.1 is taken by another process; PORT chooses another one\n"));
}

#[tokio::test]
async fn all_that_is_wrong_with_the_configuration_is_told_by_name_before_anything_starts() {
    let wrong = [("PORT", "eighty"), ("HEARTBEAT_TIMEOUT", "-1"), ("REDIS_URL", "redis://:hunter2@"), ("GATEWAY", "?")];
    let ended = service(&wrong).output().await.unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8(ended.stderr).unwrap();
    for (name, _) in wrong {
        assert!(said.contains(name), "{name} is missing in:\n{said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn the_probes_are_on_an_address_of_their_own_too() {
    let service = Running::start(&[("ADMIN_ADDR", "127.0.0.1:0")]).await;
    let probes = service.said.lines().find_map(|line| address_after("probes also on http://", line));
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(get(service.address, path).await, 200, "{path}");
        assert_eq!(get(probes.unwrap(), path).await, 200, "{path}");
    }
    service.signal(Signal::TERM);
    assert_eq!(service.end().await.0.code(), Some(0));
}

#[tokio::test]
async fn the_probe_for_containers_succeeds_only_where_the_answer_is_200() {
    let probe = async |url: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_presence-probe")).arg(url).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let service = Running::start(&[("REDIS_URL", "redis://127.0.0.1:1")]).await;
    let address = service.address;
    assert_eq!(probe(&format!("http://{address}/health")).await, (Some(0), String::new()));
    for (url, reason) in [
        (format!("http://{address}/ready"), "503"),
        (format!("http://{address}/nowhere"), "404"),
        ("http://127.0.0.1:1/health".to_owned(), "refused"),
        (format!("https://{address}/health"), "not of the form"),
        (address.to_string(), "not of the form"),
    ] {
        let (code, said) = probe(&url).await;
        assert!(code == Some(1) && said.contains(reason) && said.contains(&url), "{url}: {code:?} {said}");
    }
}
