//! A publisher that can be broken.

use std::sync::Arc;

use async_trait::async_trait;

use super::reach;
use crate::events::{Event, EventPublisher, PublishError};

/// Points around what a publisher does.
pub(super) struct Breakable(pub(super) Arc<dyn EventPublisher>);

#[async_trait]
impl EventPublisher for Breakable {
    async fn publish(&self, events: &[Event]) -> Vec<Result<(), PublishError>> {
        if let Err(error) = reach("publish.before").await {
            return events.iter().map(|_| Err(PublishError(error.to_string()))).collect();
        }
        let results = self.0.publish(events).await;
        match reach("publish.after").await {
            Ok(()) => results,
            Err(error) => events.iter().map(|_| Err(PublishError(error.to_string()))).collect(),
        }
    }

    async fn is_ready(&self) -> bool {
        self.0.is_ready().await
    }
}
