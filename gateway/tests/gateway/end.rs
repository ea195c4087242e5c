//! The end of a node: its clients are sent away, what happened to them is told, and then it is over.

use std::time::Duration;

use presence::domain::Status;
use presence_gateway::Limits;
use presence_tests::User;

use crate::client::{Client, Ended};
use crate::world::World;

#[tokio::test]
async fn a_node_that_shuts_down_sends_its_clients_away_and_tells_that_they_are_not_here() {
    let mut world = World::with(&[("RESUME_GRACE", "3")], Limits::default()).await;
    let users: Vec<User> = (0..20).map(|_| User::new()).collect();
    let mut clients = Vec::new();
    for user in &users {
        clients.push(world.connect(user).await.0);
    }
    let stranger = Client::connect(world.port).await;
    world.until_status(&users[19], "online").await;
    let ends = async {
        let mut ends = Vec::new();
        for mut client in clients.into_iter().chain([stranger]) {
            ends.push(client.ended().await);
        }
        ends
    };
    let (ends, ()) = futures::join!(ends, world.shut_down());
    assert_eq!(ends, vec![Ended::Closed(1001); 21]);
    // They did not leave: there is time to come back to another node before anyone sees them go.
    let presence = world.presence(&users[0]).await;
    assert_eq!(presence.status, Status::Online);
    for user in &users {
        world.until_status(user, "offline").await;
    }
}

#[tokio::test]
async fn clients_that_do_not_react_hold_up_a_shutdown_only_so_long() {
    let limits = Limits { drain_time: Duration::from_secs(1), ..Limits::default() };
    let mut world = World::with(&[], limits).await;
    let user = User::new();
    let _silent = world.connect(&user).await;
    world.until_status(&user, "online").await;
    let start = tokio::time::Instant::now();
    world.shut_down().await;
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_node_that_shuts_down_takes_no_one_new() {
    let mut world = World::start().await;
    world.shut_down().await;
    let refused = tokio_tungstenite::connect_async(format!("ws://127.0.0.1:{}/gateway", world.port)).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!(response.status().as_u16(), 503);
}
