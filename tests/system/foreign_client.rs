//! A WebSocket library of another language, which knows the gateway by its documentation only.

use std::process::Command;

use presence_tests::{Service, User, tool, workspace};

#[tokio::test]
async fn a_python_client_walks_every_documented_frame() {
    let service = Service::builder().start().await;
    let (ada, ben) = (User::new(), User::new());
    let walk = Command::new(tool("PYTHON_BIN"))
        .arg(workspace().join("tests/clients/walk.py"))
        .arg(service.port().to_string())
        .args([ada.id(), ada.token(), ben.id(), ben.token()])
        .output()
        .expect("python");
    assert!(walk.status.success(), "{}", String::from_utf8_lossy(&walk.stderr));
}
