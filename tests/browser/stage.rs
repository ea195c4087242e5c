//! People in front of their windows.

use std::path::PathBuf;

use presence_tests::{Browser, Look, Service, ServiceBuilder, Window};

/// A desk.
pub(crate) const DESK: Look = Look { size: (1180, 900), dark: false };
/// A phone.
pub(crate) const PHONE: Look = Look { size: (390, 844), dark: false };

/// A service with everything embedded, and a browser.
pub(crate) struct Stage {
    pub(crate) service: Service,
    pub(crate) browser: Browser,
}

/// Someone who is signed in.
pub(crate) struct Person {
    pub(crate) window: Window,
}

impl Stage {
    pub(crate) async fn start() -> Self {
        Self::with(|service| service).await
    }

    pub(crate) async fn with(make: impl FnOnce(ServiceBuilder) -> ServiceBuilder) -> Self {
        let (service, browser) = futures::join!(make(Service::builder()).start(), Browser::start());
        Self { service, browser }
    }

    /// Opens the page.
    pub(crate) async fn window(&self, look: Look) -> Window {
        self.browser.open(&format!("http://127.0.0.1:{}/", self.service.port()), look).await
    }

    /// Opens the page and signs in.
    pub(crate) async fn person(&self, name: &str) -> Person {
        self.person_at(name, DESK).await
    }

    pub(crate) async fn person_at(&self, name: &str, look: Look) -> Person {
        let window = self.window(look).await;
        window.click(&format!("#faces button[data-user={name}]")).await;
        let person = Person { window };
        person.until_connected().await;
        person.sees(name, "online").await;
        person
    }
}

impl Person {
    pub(crate) async fn until_connected(&self) {
        self.window.until_text("#link", "Connected").await;
    }

    /// Waits until the roster shows someone with this status.
    pub(crate) async fn sees(&self, name: &str, status: &str) {
        let row = row(name);
        let shows = format!("document.querySelector('{row}[data-status={status}]')");
        self.window.until(&format!("{name} to be seen {status}"), &shows).await;
    }

    /// Waits until the row of someone tells this.
    pub(crate) async fn reads(&self, name: &str, text: &str) {
        self.window.until_text(&row(name), text).await;
    }

    /// Chooses a status with the mouse.
    pub(crate) async fn chooses(&self, status: &str) {
        self.window.click(&format!("#choices label:has([value={status}])")).await;
    }
}

/// The row of someone in the roster.
pub(crate) fn row(name: &str) -> String {
    format!(".roster [data-user={name}]")
}

/// Where pictures go that nobody keeps.
pub(crate) fn picture(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.parent().unwrap().join("screenshots").join(format!("{name}.png"))
}
