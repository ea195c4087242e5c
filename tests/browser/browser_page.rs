//! The page, in two windows at once.

use presence_tests::{Look, Window};
use serde_json::json;

use crate::stage::{DESK, PHONE, Stage, picture, row};

/// Fails if the browser found anything wrong with the page.
async fn assert_content(window: &Window) {
    let complaints = window.complaints().await;
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[tokio::test]
async fn what_one_does_the_other_sees() {
    let stage = Stage::start().await;
    let ben = stage.person("Ben").await;
    ben.sees("Ada", "offline").await;
    ben.reads("Ada", "never seen").await;
    let ada = stage.person("Ada").await;
    ben.sees("Ada", "online").await;
    ben.reads("Ada", "web").await;

    ada.chooses("dnd").await;
    ben.sees("Ada", "dnd").await;
    ben.reads("Ada", "Busy").await;
    ben.window.until_text("#news", "Ada is busy").await;
    ada.window.type_into("#custom", "Working on a project\u{E007}").await;
    ben.reads("Ada", "Working on a project").await;
    ada.window.type_into("#activity", "Rust Programming\u{E007}").await;
    ben.reads("Ada", "Playing Rust Programming").await;
    ben.window
        .until(
            "the time of the activity",
            &format!("/0:0[1-9]/.test(document.querySelector('{}').innerText)", row("Ada")),
        )
        .await;
    let shape = format!("document.querySelector('{} .avatar use').getAttribute('href') === '#dnd'", row("Ada"));
    ben.window.until("a shape beside the colour", &shape).await;
    let timed =
        "[...document.querySelectorAll('#frames .got')].some(li => /PRESENCE_UPDATE.*\\+\\d+ ms/s.test(li.innerText))";
    ben.window.until("the time from change to arrival", timed).await;

    ada.window.click("#custom-form button").await;
    ben.window.screenshot(&picture("roster")).await;
    assert_content(&ada.window).await;
    assert_content(&ben.window).await;
}

#[tokio::test]
async fn whoever_closes_the_window_is_gone_and_was_last_seen_just_now() {
    let stage = Stage::start().await;
    let (ada, ben) = futures::join!(stage.person("Ada"), stage.person("Ben"));
    ben.sees("Ada", "online").await;
    ada.window.close().await;
    ben.sees("Ada", "offline").await;
    ben.reads("Ada", "last seen just now").await;
}

#[tokio::test]
async fn whoever_signs_out_is_gone_and_may_come_back_as_someone_else() {
    let stage = Stage::start().await;
    let (ada, ben) = futures::join!(stage.person("Ada"), stage.person("Ben"));
    ben.sees("Ada", "online").await;
    ada.window.click("#sign-out").await;
    ben.sees("Ada", "offline").await;
    ada.window.click("#faces button[data-user=Cleo]").await;
    ben.sees("Cleo", "online").await;
    ada.sees("Ada", "offline").await;
    assert_content(&ada.window).await;
}

#[tokio::test]
async fn the_invisible_see_and_are_not_seen() {
    let stage = Stage::start().await;
    let (ada, ben) = futures::join!(stage.person("Ada"), stage.person("Ben"));
    ben.sees("Ada", "online").await;
    ada.chooses("offline").await;
    ben.sees("Ada", "offline").await;
    ben.chooses("idle").await;
    ada.sees("Ben", "idle").await;
    ada.window.until("her own choice", "document.querySelector('#choices [value=offline]').checked").await;

    // It is a choice that a new connection keeps.
    ada.window.reload().await;
    ada.until_connected().await;
    ada.window.until("her own choice", "document.querySelector('#choices [value=offline]').checked").await;
    ada.window.type_into("#message", "Nobody knows").await;
    ada.chooses("online").await;
    ben.sees("Ada", "online").await;
    assert_eq!(ben.window.text("#typing").await, "");
}

#[tokio::test]
async fn typing_appears_and_goes() {
    let stage = Stage::with(|service| service.env("TYPING_TIMEOUT", 2)).await;
    let (ada, ben, cleo) = futures::join!(stage.person("Ada"), stage.person("Ben"), stage.person("Cleo"));
    ada.window.type_into("#message", "H").await;
    cleo.window.until_text("#typing", "Ada is typing…").await;
    assert_eq!(ada.window.text("#typing").await, "", "nobody is told of themselves");
    ben.window.type_into("#message", "W").await;
    cleo.window
        .until(
            "both to be typing",
            "/^(Ada and Ben|Ben and Ada|Ben) (are|is) typing…$/.test(document.querySelector('#typing').innerText)",
        )
        .await;
    cleo.window.until("nobody to be typing", "document.querySelector('#typing').innerText === ''").await;
    assert_content(&cleo.window).await;
}

#[tokio::test]
async fn a_lost_connection_shows_and_heals_by_itself() {
    let mut stage = Stage::start().await;
    let (ada, ben) = futures::join!(stage.person("Ada"), stage.person("Ben"));
    ben.sees("Ada", "online").await;
    stage.service.process().kill();
    for person in [&ada, &ben] {
        person.window.until_text("#link", "Connection lost").await;
    }
    ben.window.screenshot(&picture("lost")).await;
    stage.service.crash_and_restart().await;
    for person in [&ada, &ben] {
        person.until_connected().await;
        person.sees("Ada", "online").await;
        person.sees("Ben", "online").await;
    }
    ada.chooses("idle").await;
    ben.sees("Ada", "idle").await;
}

#[tokio::test]
async fn the_heart_beats_as_often_as_the_service_says() {
    let stage = Stage::with(|service| service.heartbeat_timeout(2)).await;
    let ada = stage.person("Ada").await;
    let beats = "document.querySelectorAll('#frames .sent.beat').length >= 5";
    ada.window.until("five heartbeats, which take twice the timeout", beats).await;
    let answers = "document.querySelectorAll('#frames .got.beat').length >= 4";
    ada.window.until("the answers", answers).await;
    ada.sees("Ada", "online").await;
    assert_eq!(
        ada.window
            .run("return [...document.querySelectorAll('#frames .op')].filter(op => op.innerText === 'HELLO').length")
            .await,
        1
    );
}

#[tokio::test]
async fn all_of_it_works_by_keyboard() {
    const TAB: char = '\u{E004}';
    const DOWN: char = '\u{E015}';
    let stage = Stage::start().await;
    let ben = stage.person("Ben").await;
    let window = stage.window(DESK).await;
    window.until("the door", "!document.querySelector('#door').hidden").await;
    window.press(&format!("{TAB}\u{E007}")).await;
    window.until_text("#link", "Connected").await;
    ben.sees("Ada", "online").await;
    window.press(&TAB.to_string()).await;
    assert_eq!(window.run("return document.activeElement.value").await, "online");
    window.press(&DOWN.to_string()).await;
    ben.sees("Ada", "idle").await;
    window.press(&format!("{TAB}Tea\u{E007}")).await;
    ben.reads("Ada", "Tea").await;
}

#[tokio::test]
async fn a_token_of_ones_own_signs_in_and_a_bad_one_is_told() {
    let stage = Stage::start().await;
    let window = stage.window(DESK).await;
    window.type_into("#token", "nonsense\u{E007}").await;
    window.until_text("#alarm", "no token").await;
    window.type_into("#token", "a.eyJzdWIiOiI3NDJmNzM3Zi05ZjcyLTVlNjctYWFhOC1kYzFiODkyNGQ1MDkifQ.c\u{E007}").await;
    window.until_text("#alarm", "does not accept").await;
    let user = presence_tests::User::new();
    window.type_into("#token", &format!("{}\u{E007}", user.token())).await;
    window.until_text("#link", "Connected").await;
    window.until_text("#you-person", &user.id()[..8]).await;
    let frames = window.run("return document.querySelector('#frames').textContent").await;
    assert!(!frames.as_str().unwrap().contains(&user.token()[..20]), "the token is shown");
}

#[tokio::test]
async fn without_development_tokens_nobody_is_offered() {
    let stage = Stage::with(|service| service.env("JWT_SECRET", "a secret of at least thirty-two bytes")).await;
    let window = stage.window(DESK).await;
    window.until("the door", "!document.querySelector('#door').hidden").await;
    assert_eq!(window.run("return document.querySelector('#people-door').hidden").await, true);
}

#[tokio::test]
async fn it_fits_a_phone_and_the_dark() {
    let stage = Stage::start().await;
    let ben = stage.person_at("Ben", PHONE).await;
    ben.chooses("dnd").await;
    ben.window.type_into("#custom", "On the train\u{E007}").await;
    ben.window.type_into("#activity", "a podcast whose name does not end, not even here\u{E007}").await;
    ben.reads("Ben", "a podcast").await;
    for (name, look) in [("desk-dark", Look { dark: true, ..DESK }), ("phone-dark", Look { dark: true, ..PHONE })] {
        let ada = stage.person_at("Ada", look).await;
        ada.reads("Ben", "On the train").await;
        assert_eq!(ada.window.run("return matchMedia('(prefers-color-scheme: dark)').matches").await, true);
        fits(&ada.window).await;
        ada.window.screenshot(&picture(name)).await;
    }
    fits(&ben.window).await;
    ben.window.screenshot(&picture("phone")).await;
    let door = stage.window(PHONE).await;
    door.until("the door", "!document.querySelector('#door').hidden").await;
    fits(&door).await;
    door.screenshot(&picture("door-phone")).await;
    let door = stage.window(DESK).await;
    door.until("the door", "!document.querySelector('#door').hidden").await;
    door.screenshot(&picture("door")).await;
}

/// Nothing sticks out to the side, and everything that can be operated has a name and is large enough for a finger.
async fn fits(window: &Window) {
    assert_eq!(window.run("return document.documentElement.scrollWidth <= innerWidth").await, true);
    let nameless = "return [...document.querySelectorAll('button, input, select')].filter(e => e.offsetParent \
                    && !(e.innerText || e.labels?.length || e.ariaLabel)).map(e => e.outerHTML)";
    assert_eq!(window.run(nameless).await, json!([]));
    let small = "return [...document.querySelectorAll('main button, .choices label')].filter(e => e.offsetParent \
                 && e.getBoundingClientRect().height < 24).map(e => e.outerHTML)";
    assert_eq!(window.run(small).await, json!([]));
}

/// The picture of the documentation: `docs/gateway.png` is a small copy of it.
#[tokio::test]
async fn an_evening_with_everyone_is_worth_a_picture() {
    let stage = Stage::start().await;
    let (ada, ben, cleo, dana) =
        futures::join!(stage.person("Ada"), stage.person("Ben"), stage.person_at("Cleo", PHONE), stage.person("Dana"));
    ben.window.type_into("#custom", "Working on a project\u{E007}").await;
    ben.window.type_into("#activity", "Rust Programming\u{E007}").await;
    ben.chooses("dnd").await;
    cleo.chooses("idle").await;
    cleo.window.type_into("#custom", "Back after tea ☕\u{E007}").await;
    dana.window.close().await;
    ada.reads("Ben", "Rust Programming").await;
    ada.reads("Cleo", "Back after tea").await;
    ada.reads("Cleo", "mobile").await;
    ada.sees("Dana", "offline").await;
    ben.window.type_into("#message", "Have you seen").await;
    cleo.window.type_into("#message", "Yes").await;
    ada.window.until_text("#typing", " and ").await;
    ada.window.until_text("#typing", "are typing…").await;
    ada.window.screenshot(&picture("evening")).await;
    assert_content(&ada.window).await;
}
