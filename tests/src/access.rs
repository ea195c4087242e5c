//! Who may do what on the servers of the tests: exactly what `SECURITY.md` says that each kind of process needs.

use std::fs;
use std::path::PathBuf;

use crate::binaries::workspace;
use crate::nats::JetStream;

/// The password of every documented user of NATS.
pub const PASSWORD: &str = "0a1b2c3d4e5f";

/// How a NATS lets others in.
#[derive(Debug, Clone)]
pub struct Access {
    /// What its configuration file says.
    pub config: String,
    /// As whom the test itself comes: `user:password@` of plain characters.
    pub login: String,
    /// Whose certificates the test itself trusts, where the server speaks TLS.
    pub authorities: Option<PathBuf>,
}

impl Access {
    /// The documented users, the test, which may do everything, and a service with a gateway inside, which may do what
    /// both of them may.
    pub(crate) fn documented(jetstream: JetStream) -> Self {
        let mut config = documented_nats();
        if jetstream == JetStream::Off {
            // Without acknowledgements everyone listens for an echo.
            let (before, functions) = config.split_once("user: \"presence-functions\"").unwrap();
            let functions = functions.replacen("publish = [\n", "publish = [\n          \"_INBOX.>\"\n", 1);
            config = format!("{before}user: \"presence-functions\"{functions}");
        }
        let mut publish = subjects(&config, "presence-service", "publish");
        let mut subscribe = subjects(&config, "presence-service", "subscribe");
        publish.extend(subjects(&config, "presence-gateway", "publish"));
        subscribe.extend(subjects(&config, "presence-gateway", "subscribe"));
        if jetstream == JetStream::Off {
            publish.push("_INBOX.>".to_owned());
            publish.retain(|subject| !subject.starts_with("$JS") || subject.contains("STREAM.INFO"));
            subscribe.extend(["gateway.connection.*", "gateway.heartbeat.*", "voice.session.*"].map(str::to_owned));
        }
        let both = format!(
            "    {{ user: \"presence\", password: \"{PASSWORD}\", permissions {{ publish = {publish:?}, subscribe = \
             {subscribe:?} }} }}\n"
        );
        let config = config.replacen("users = [\n", &format!("users = [\n{both}"), 1);
        Self { config, login: "test:test@".to_owned(), authorities: None }
    }
}

/// The `authorization` block of `SECURITY.md`, and the test as a user who may do everything.
pub fn documented_nats() -> String {
    let security = security();
    let (_, rest) = security.split_once("```nats\n").expect("a block of NATS in SECURITY.md");
    let (config, _) = rest.split_once("```").unwrap();
    let test = "users = [\n    { user: \"test\", password: \"test\" }\n";
    config.replace("PASSWORD", PASSWORD).replacen("users = [\n", test, 1)
}

/// The words of `ACL SETUSER` for a user of Redis that `SECURITY.md` documents, after its name.
pub fn documented_acl(user: &str, password: &str) -> Vec<String> {
    let security = security();
    let start = format!("```acl\nACL SETUSER {user} ");
    let (_, rest) = security.split_once(&start).unwrap_or_else(|| panic!("{user} is not documented"));
    let (words, _) = rest.split_once("```").unwrap();
    words.split_whitespace().map(|word| word.replace("PASSWORD", password)).collect()
}

fn subjects(config: &str, user: &str, direction: &str) -> Vec<String> {
    let (_, own) = config.split_once(&format!("user: \"{user}\"")).unwrap();
    let (_, list) = own.split_once(&format!("{direction} = [")).unwrap();
    let (list, _) = list.split_once(']').unwrap();
    list.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| line.trim_matches('"').to_owned()).collect()
}

fn security() -> String {
    fs::read_to_string(workspace().join("SECURITY.md")).unwrap()
}
