//! Everyone vanishes at once.

use std::sync::atomic::Ordering;
use std::time::Instant;

use presence::Sweeper;

use crate::crowd::Crowd;

const IDLE_TICKS: u32 = 100;

pub(crate) async fn measure(crowd: &Crowd) {
    crowd.open_all().await;
    let sweeper = Sweeper::new(crowd.service.clone());
    sweeper.tick().await.unwrap();
    let start = Instant::now();
    for _ in 0..IDLE_TICKS {
        sweeper.tick().await.unwrap();
    }
    let idle = start.elapsed() / IDLE_TICKS;

    crowd.clock.turn_ms(60_000);
    let told = crowd.told.load(Ordering::Relaxed);
    let start = Instant::now();
    let swept = sweeper.tick().await.unwrap();
    let elapsed = start.elapsed();
    let told = crowd.told.load(Ordering::Relaxed) - told;
    let (users, rate) = (crowd.users.len(), swept.expired as f64 / elapsed.as_secs_f64());
    println!("\n### sweep, {users} users online\n\n| | |\n| --- | ---: |");
    println!("| a tick with nobody due | {idle:.1?} |");
    println!("| all vanish at once: told after | {elapsed:.2?} |");
    println!("| events told | {told} |");
    println!("| users a second | {rate:.0} |");
}
