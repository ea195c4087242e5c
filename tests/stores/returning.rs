//! A user who is heard of again while somebody tells that they are gone.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use presence::domain::{Input, Rules, Status, UserId};
use presence::events::{Event, EventPublisher, PublishError};
use presence::service::UserInput;
use presence::{PresenceService, Sweeper};

use crate::world::{TIMEOUT, World, beats, on_each_store, opens, somebody};

/// Lets something happen to the user before it has published what it is given.
struct Meanwhile {
    service: Arc<PresenceService>,
    input: Mutex<Option<UserInput>>,
}

#[async_trait]
impl EventPublisher for Meanwhile {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>> {
        let input = self.input.lock().unwrap().take();
        if let Some(input) = input {
            self.service.apply(&[input]).await.remove(0).unwrap();
        }
        events.iter().map(|_| Ok(())).collect()
    }

    async fn is_ready(&self) -> bool {
        true
    }
}

/// A sweeper that is still telling of the user's absence when the heartbeat comes that ends it.
fn slow_sweeper(world: &World, user_id: UserId) -> Sweeper {
    let input = UserInput { user_id, input: Input { at: world.now(), kind: beats("a") }, traceparent: None };
    let events = Arc::new(Meanwhile { service: world.service.clone(), input: Mutex::new(Some(input)) });
    let service = PresenceService::with_clock(world.store.clone(), events, world.clock.clone(), Rules::default());
    Sweeper::new(Arc::new(service))
}

#[tokio::test]
async fn a_user_who_returns_while_their_absence_is_told_is_told_offline_at_the_next_deadline() {
    on_each_store(async |world| {
        let user = somebody();
        world.happens(user, opens("a")).await;
        world.turn(TIMEOUT);
        assert_eq!(slow_sweeper(world, user).tick().await.unwrap().expired, 1);
        assert_eq!(world.service.presence(somebody(), user).await.unwrap().status, Status::Online);
        world.told.take();

        world.turn(TIMEOUT);
        world.sweeper.tick().await.unwrap();
        let told = world.told.take();
        let frames: Vec<serde_json::Value> =
            told.iter().map(|event| serde_json::from_slice(&event.frame).unwrap()).collect();
        assert_eq!(frames.iter().map(|frame| &frame["d"]["status"]).collect::<Vec<_>>(), ["offline"]);
        world.sweeper.tick().await.unwrap();
        assert!(world.told.take().is_empty());
    })
    .await;
}
