//! The walk through the API that the documentation shows, on every way to run the service.

use std::process::Command;
use std::time::Duration;

use presence_tests::{Api, Service, User, now_ms, seen, workspace};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{CLOCK_ERROR, World, assert_problem, is_between, is_second_between, millis};

#[tokio::test]
async fn everything_in_the_documentation_works_on_real_servers() {
    let world = World::start().await;
    walk(&world.service).await;
    let log = world.service.log();
    for secret in [world.store.password(), "Bearer", "Working on a project"] {
        assert!(!log.contains(secret), "the log tells {secret}");
    }
}

#[tokio::test]
async fn everything_in_the_documentation_works_with_nothing_but_the_service() {
    let service = Service::builder().start().await;
    walk(&service).await;
    let said = service.log();
    assert!(said.contains("memory") || said.contains("embedded"), "it says that nothing is kept: {said}");
}

#[tokio::test]
async fn everything_in_the_documentation_works_on_a_cluster() {
    let world = World::on_cluster(|service| service).await;
    walk(&world.service).await;
}

async fn walk(api: &Api) {
    let (user, reader, stranger) = (User::new(), User::new(), User::new());
    let before = now_ms();
    let own = api
        .update(
            &user,
            &json!({
                "status": "online",
                "custom_status": "Working on a project",
                "activity": { "type": "playing", "name": "Rust Programming" }
            }),
        )
        .await;
    let after = now_ms();
    assert_eq!(own["own"]["intent"], "online");

    let presence = api.get(&reader, &format!("/presence/{}", user.id())).await.ok();
    let started_at = millis(&presence["activity"]["started_at"]);
    let last_seen = millis(&presence["last_seen"]);
    let activity = json!({
        "type": "playing", "name": "Rust Programming", "started_at": presence["activity"]["started_at"]
    });
    assert!(is_between(before, started_at, after) && is_between(before, last_seen, after), "{presence}");
    assert!(is_between(before, presence["version"].as_i64().unwrap(), after), "{presence}");
    assert_eq!(
        presence,
        json!({
            "user_id": user.id(),
            "status": "online",
            "custom_status": "Working on a project",
            "activity": activity,
            "activities": [activity],
            "client_status": { "web": "online" },
            "last_seen": presence["last_seen"],
            "version": presence["version"],
        }),
        "exactly these fields, and `own` for nobody else"
    );

    let never_seen = api.presence(&stranger).await;
    assert_eq!(
        never_seen,
        json!({
            "user_id": stranger.id(), "status": "offline", "custom_status": null, "activity": null, "activities": [],
            "client_status": {}, "last_seen": null, "version": never_seen["version"],
        })
    );

    let ids = json!({ "user_ids": [stranger.id(), user.id(), stranger.id()] });
    let bulk = api.post(&reader, "/presence/bulk", &ids).await.ok();
    assert_eq!(bulk, json!({ "presences": [never_seen, presence] }), "in the order asked, each once");

    let channel = Uuid::new_v4().to_string();
    let typing = api.post(&user, "/presence/typing", &json!({ "channel_id": channel })).await;
    assert_eq!((typing.status, typing.text.as_str()), (204, ""));
    let who = api.get(&reader, &format!("/presence/typing/{channel}")).await.ok();
    let timestamp = who["users"][0]["timestamp"].as_i64().unwrap();
    assert_eq!(who, json!({ "channel_id": channel, "users": [{ "user_id": user.id(), "timestamp": timestamp }] }));
    assert!(is_second_between(before, timestamp, now_ms()), "a Unix timestamp in seconds: {timestamp}");

    for path in ["/health", "/ready"] {
        assert_eq!(api.get_openly(path).await.status, 200, "{path}");
    }
    let metrics = api.get_openly("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.text.lines().any(|line| line.starts_with("# TYPE ")), "{}", metrics.text);
}

/// The commands of the README, typed as they stand there; only the port is this test's.
#[tokio::test]
async fn the_walk_of_the_readme_works_as_it_is_written() {
    let service = Service::builder().start().await;
    let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let section = readme.split("\n## ").find(|section| section.starts_with("A walk")).expect("a section \"A walk\"");
    let commands: String = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(commands.matches("curl ").count() >= 5 && commands.contains("http://127.0.0.1:8087"), "{commands}");

    // A failed request ends the walk, and each answer has its line.
    let strict = "set -euo pipefail; curl() { command curl -sS --fail-with-body --max-time 10 \"$@\"; echo; }\n";
    let commands = strict.to_owned() + &commands.replace("http://127.0.0.1:8087", &service.url());
    let walk = Command::new("bash").arg("-c").arg(&commands).current_dir(workspace()).output().expect("bash");
    let (said, complaints) = (String::from_utf8_lossy(&walk.stdout), String::from_utf8_lossy(&walk.stderr));
    assert!(walk.status.success(), "{said}\n{complaints}");
    let seen = said.matches(r#""custom_status":"Working on a project""#).count();
    assert!(seen >= 3, "the update, the read and the bulk read show it: {said}");
    assert!(said.contains("HTTP/1.1 204") && said.contains(r#""users":[{"user_id":"#), "typing shows: {said}");
}

#[tokio::test]
async fn what_an_update_does_not_name_stays_and_null_clears() {
    let service = Service::builder().start().await;
    let user = User::new();
    let activity = json!({ "type": "streaming", "name": "A game" });
    service.update(&user, &json!({ "status": "dnd", "custom_status": "Busy", "activity": activity })).await;

    let first = service.update(&user, &json!({ "status": "idle" })).await;
    assert_eq!(first["status"], "idle");
    assert_eq!((&first["custom_status"], &first["activity"]["name"]), (&json!("Busy"), &json!("A game")));

    let again = service.update(&user, &json!({ "activity": activity })).await;
    assert_eq!(again["activity"]["started_at"], first["activity"]["started_at"], "the same activity goes on");
    assert_eq!(again["version"], first["version"], "nothing visible changed");

    let cleared = service.update(&user, &json!({ "custom_status": null, "activity": null })).await;
    assert_eq!((&cleared["custom_status"], &cleared["activity"]), (&Value::Null, &Value::Null));
    assert_eq!(cleared["status"], "idle");
    assert!(cleared["version"].as_u64() > again["version"].as_u64());
}

#[tokio::test]
async fn a_bad_request_says_why_and_changes_nothing() {
    let service = Service::builder().start().await;
    let user = User::new();
    let before = service.update(&user, &json!({ "status": "dnd" })).await;

    for (body, pointer) in [
        (json!({ "status": "away" }), "/status"),
        (json!({ "status": "idle", "custom_status": "x".repeat(129) }), "/custom_status"),
        (json!({ "status": "idle", "activity": { "type": "reading", "name": "A book" } }), "/activity/type"),
        (json!({ "status": "idle", "activity": { "type": "playing", "name": "" } }), "/activity/name"),
    ] {
        let problem = assert_problem(&service.post(&user, "/presence/status", &body).await, 422);
        assert!(problem.to_string().contains(&format!("\"{pointer}\"")), "no pointer {pointer}: {problem}");
    }
    assert_problem(&service.post(&user, "/presence/bulk", &json!({ "user_ids": [] })).await, 422);
    assert_problem(&service.get(&user, "/presence/not-a-uuid").await, 400);
    assert_problem(&service.get(&user, "/nowhere").await, 404);
    let wrong_method = service.get(&user, "/presence/status").await;
    assert_problem(&wrong_method, 405);
    assert!(wrong_method.header("allow").is_some_and(|allow| allow.contains("POST")));

    let unauthorised = service.get_openly(&format!("/presence/{}", user.id())).await;
    assert_problem(&unauthorised, 401);
    assert!(unauthorised.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
    assert_problem(&service.post_with(&user, "/presence/status", "{", &[]).await, 400);

    let after = service.get(&user, &format!("/presence/{}", user.id())).await.ok();
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_service_that_is_asked_to_end_ends_well() {
    let mut world = World::start().await;
    let user = world.online_user().await;
    world.service.update(&user, &json!({ "custom_status": "Soon back" })).await;
    let status = world.service.terminate().await;
    assert!(status.success(), "{status}: {}", world.service.log());
}

#[tokio::test]
async fn what_a_user_chose_survives_a_crash_of_the_service() {
    let mut world = World::start().await;
    let user = world.online_user().await;
    let chosen = world.service.update(&user, &json!({ "status": "dnd", "custom_status": "Back at ten" })).await;
    world.service.crash_and_restart().await;
    let read = world.service.get(&user, &format!("/presence/{}", user.id())).await.ok();
    assert_eq!(read, chosen);
}

#[tokio::test]
async fn typing_ends_when_its_time_is_over() {
    let service = Service::builder().env("TYPING_TIMEOUT", 1).start().await;
    let (user, channel) = (User::new(), Uuid::new_v4().to_string());
    service.update(&user, &json!({ "status": "online" })).await;
    let path = format!("/presence/typing/{channel}");
    let start = now_ms();
    assert_eq!(service.post(&user, "/presence/typing", &json!({ "channel_id": channel })).await.status, 204);
    presence_tests::eventually("the indicator to end", Duration::from_secs(5), async || {
        let users = service.get(&user, &path).await.ok()["users"].as_array().unwrap().len();
        seen(users == 0, users)
    })
    .await;
    let lasted = now_ms() - start;
    assert!((1000 - CLOCK_ERROR..2000).contains(&lasted), "it lasted {lasted} ms");
}
