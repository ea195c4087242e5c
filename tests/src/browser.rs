//! Real browsers, by the W3C WebDriver protocol as `chromedriver` speaks it. The protocol is a few HTTP requests with
//! JSON in them; a client library for it would ask features of others that the binaries under test are then built with.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binaries::tool;
use crate::port::free_port;
use crate::process::Process;
use crate::{Api, eventually, seen};

/// How long the page may take to show what it has to show.
const SHOWN: Duration = Duration::from_secs(15);

/// The key under which the protocol names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Chromium's driver, from which windows are opened. They end with it.
pub struct Browser {
    process: Process,
    api: Api,
    dir: TempDir,
}

/// How a window looks from outside.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Whether the person prefers dark.
    pub dark: bool,
}

/// One window of a browser of its own. Closing it is up to the test; dropping it leaves it to the driver's end.
pub struct Window {
    api: Api,
    session: String,
}

impl Browser {
    /// Starts the driver.
    pub async fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("browser.").tempdir().unwrap();
        let port = free_port();
        let mut command = Command::new(tool("CHROMEDRIVER_BIN"));
        command.arg(format!("--port={port}")).env("TMPDIR", dir.path());
        let mut process = Process::start("chromedriver", &mut command, dir.path());
        let api = Api::at(port);
        process.wait_until_up(port, async || api.get_openly("/status").await.status == 200).await;
        Self { process, api, dir }
    }

    /// Opens a page in a browser of its own: cookies, storage and processes are shared with nobody.
    pub async fn open(&self, url: &str, look: Look) -> Window {
        let profile = tempfile::Builder::new().prefix("profile.").tempdir_in(self.dir.path()).unwrap().keep();
        let (width, height) = look.size;
        let mut arguments = vec![
            format!("--user-data-dir={}", profile.display()),
            format!("--window-size={width},{height}"),
            // The browser ends with its driver, whichever way that ends.
            "--remote-debugging-pipe".to_owned(),
        ];
        if look.dark {
            arguments.push("--blink-settings=preferredColorScheme=0".to_owned());
        }
        arguments.extend(
            [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--lang=en",
            ]
            .map(str::to_owned),
        );
        let options = json!({ "binary": tool("CHROMIUM_BIN"), "args": arguments });
        let capabilities = json!({
            "browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" }
        });
        let answer =
            call(&self.api, Method::POST, "/session", json!({ "capabilities": { "alwaysMatch": capabilities } }));
        let session = answer.await.unwrap_or_else(|error| panic!("no browser: {error}; {}", self.process.log()));
        let session = session["sessionId"].as_str().expect("a session").to_owned();
        let window = Window { api: self.api, session };
        window.exact_size(look.size).await;
        window.call(Method::POST, "url", json!({ "url": url })).await;
        window
    }
}

impl Window {
    /// Clicks the element as a mouse does.
    pub async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.call(Method::POST, &format!("element/{element}/click"), json!({})).await;
    }

    /// Types into the element, after what stands there.
    pub async fn type_into(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.call(Method::POST, &format!("element/{element}/value"), json!({ "text": text })).await;
    }

    /// Presses and lets go of each key, wherever the focus is. Keys without a character are those of the protocol, as
    /// `\u{E004}` for the tabulator.
    pub async fn press(&self, keys: &str) {
        let one = |key: char| [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })];
        let actions: Vec<Value> = keys.chars().flat_map(one).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.call(Method::POST, "actions", json!({ "actions": [keyboard] })).await;
    }

    /// What a function body returns in the page.
    pub async fn run(&self, script: &str) -> Value {
        self.call(Method::POST, "execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// The text that is shown in the first element; null if there is none.
    pub async fn text(&self, css: &str) -> Value {
        self.run(&format!("return document.querySelector({})?.innerText ?? null", json!(css))).await
    }

    /// Waits until an expression is true in the page.
    pub async fn until(&self, what: &str, expression: &str) {
        eventually(what, SHOWN, async || {
            let value = self.run(&format!("return Boolean({expression})")).await;
            if value == json!(true) { Ok(()) } else { Err(self.text("body").await) }
        })
        .await;
    }

    /// Waits until the first element shows a text that has this in it.
    pub async fn until_text(&self, css: &str, part: &str) {
        eventually(&format!("{css} to tell {part:?}"), SHOWN, async || {
            let text = self.text(css).await;
            seen(text.as_str().is_some_and(|text| text.contains(part)), text)
        })
        .await;
    }

    /// What the browser complained about: errors of scripts, refusals of the content security policy, failed requests.
    pub async fn complaints(&self) -> Vec<String> {
        let log = self.call(Method::POST, "se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().expect("a log").iter();
        let severe = entries.filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING");
        severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Writes a picture of what is seen.
    pub async fn screenshot(&self, path: &Path) {
        let picture = self.call(Method::GET, "screenshot", Value::Null).await;
        let bytes = BASE64_STANDARD.decode(picture.as_str().expect("a picture")).unwrap();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Loads the page anew.
    pub async fn reload(&self) {
        self.call(Method::POST, "refresh", json!({})).await;
    }

    /// Closes the window as its owner does.
    pub async fn close(self) {
        self.call(Method::DELETE, "window", Value::Null).await;
    }

    /// A command of the driver that has no name here.
    pub async fn command(&self, path: &str, body: Value) -> Value {
        self.call(Method::POST, path, body).await
    }

    async fn element(&self, css: &str) -> String {
        let find = json!({ "using": "css selector", "value": css });
        let found = eventually(&format!("{css} to be there"), SHOWN, async || {
            call(&self.api, Method::POST, &format!("/session/{}/element", self.session), find.clone()).await
        })
        .await;
        found[ELEMENT].as_str().expect("an element").to_owned()
    }

    /// The size of the page itself: a window has a frame, and a smallest width. A small one is a phone, with fingers.
    async fn exact_size(&self, (width, height): (u32, u32)) {
        let is_phone = width < 600;
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        for (command, parameters) in [
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Emulation.setTouchEmulationEnabled", json!({ "enabled": is_phone })),
        ] {
            self.call(Method::POST, "goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await;
        }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let answer = call(&self.api, method, &format!("/session/{}/{path}", self.session), body).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

async fn call(api: &Api, method: Method, path: &str, body: Value) -> Result<Value, String> {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let response = api.exchange(request.body(body).unwrap()).await?;
    let mut answer: Value = serde_json::from_slice(response.body()).map_err(|error| error.to_string())?;
    let value = answer["value"].take();
    if response.status().is_success() { Ok(value) } else { Err(value["message"].to_string()) }
}
