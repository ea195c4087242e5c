//! A client in another language, on the text protocol of NATS, tells what gateways tell in every form; what comes of it
//! it checks itself (`tests/clients/gateway_client.py`).

use std::process::Stdio;
use std::time::Duration;

use presence_tests::{Emulator, JetStream, Nats, Service, Store, tool, workspace};
use tokio::process::Command;
use tokio::time::timeout;

use crate::world::World;

/// How long all the stories may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which stories.
#[derive(Debug, Clone, Copy)]
enum Stories {
    /// Those at the times of the documentation.
    All,
    /// Those of silence, for a `HEARTBEAT_TIMEOUT` of two seconds.
    Silence,
}

async fn tell(stories: Stories, url: &str, nats: &Nats) {
    let which = match stories {
        Stories::All => "stories",
        Stories::Silence => "silence",
    };
    let mut client = Command::new(tool("PYTHON_BIN"));
    client
        .arg(workspace().join("tests/clients/gateway_client.py"))
        .args([url, &nats.url(), which])
        .env("PYTHONPATH", workspace().join("scripts/lib"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, client.output()).await.expect("the stories end").expect("python3 runs");
    let (told, failure) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{failure}\nbefore it went well:\n{told}");
    assert!(told.lines().count() >= 3, "the stories were told: {told}");
}

#[tokio::test]
async fn a_python_client_is_understood_by_the_service() {
    let world = World::start().await;
    tell(Stories::All, &world.service.url(), &world.nats).await;
}

#[tokio::test]
async fn a_python_client_hears_of_silence_from_the_service() {
    let world = World::with(|service| service.heartbeat_timeout(2)).await;
    tell(Stories::Silence, &world.service.url(), &world.nats).await;
}

/// The same without the service: the bridge brings the messages to the functions, and sweeps.
async fn tell_functions(stories: Stories, variables: &[(&str, &str)]) {
    let (store, nats) = (Store::start().await, Nats::start(JetStream::On).await);
    let emulator = Emulator::start_with(&store, &nats, variables).await;
    emulator.warm_up().await;
    let bridge = Service::bridge_to(&emulator).store(&store).nats(&nats).envs(variables).start().await;
    tell(stories, &emulator.url(), &nats).await;
    drop(bridge);
    emulator.stop().await;
}

#[tokio::test]
async fn a_python_client_is_understood_by_the_functions_behind_the_bridge() {
    tell_functions(Stories::All, &[]).await;
}

#[tokio::test]
async fn a_python_client_hears_of_silence_from_the_functions_and_the_bridge() {
    tell_functions(Stories::Silence, &[("HEARTBEAT_INTERVAL", "1"), ("HEARTBEAT_TIMEOUT", "2")]).await;
}
