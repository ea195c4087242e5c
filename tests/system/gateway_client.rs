//! A client in another language, on the text protocol of NATS, tells what gateways tell in every form; what comes of it
//! it checks itself (`tests/clients/gateway_client.py`).

use std::process::Stdio;
use std::time::Duration;

use presence_tests::{Nats, tool, workspace};
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

async fn tell(stories: Stories, port: u16, nats: &Nats) {
    let which = match stories {
        Stories::All => "stories",
        Stories::Silence => "silence",
    };
    let mut client = Command::new(tool("PYTHON_BIN"));
    client
        .arg(workspace().join("tests/clients/gateway_client.py"))
        .args([format!("http://127.0.0.1:{port}"), nats.url(), which.to_owned()])
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
    tell(Stories::All, world.service.port(), &world.nats).await;
}

#[tokio::test]
async fn a_python_client_hears_of_silence_from_the_service() {
    let world = World::with(|service| service.heartbeat_timeout(2)).await;
    tell(Stories::Silence, world.service.port(), &world.nats).await;
}
