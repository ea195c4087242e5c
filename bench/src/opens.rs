//! Connections opened and closed, each stored and told (to a publisher that only counts).

use crate::contest::{self, Contestant};
use crate::crowd::{Crowd, closes, opens};

pub(crate) async fn measure(crowd: &Crowd, rounds: usize) {
    let users = crowd.users.len();
    let (mut opened, mut closed) = (Contestant::new("opened"), Contestant::new("closed"));
    for _ in 0..rounds {
        crowd.clock.turn_ms(1000);
        opened.round(&crowd.redis, users, crowd.apply(&crowd.users, opens)).await;
        crowd.clock.turn_ms(1000);
        closed.round(&crowd.redis, users, crowd.apply(&crowd.users, closes)).await;
    }
    contest::print(&format!("connections of {users} users"), &[opened, closed]);
}
