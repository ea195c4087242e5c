//! `NATS_URL`: which servers, and as whom.

use std::fmt;
use std::str::FromStr;

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::domain::Invalid;

/// The servers of `NATS_URL`, separated by commas: `nats://[user:password@ | token@]host[:port]`, or `tls://…`. One set
/// of credentials holds for all of them, also for those that a cluster tells of. Its `Debug` shows no secret.
#[derive(Clone)]
pub struct NatsServers {
    /// Without their credentials: the client library logs addresses.
    addresses: Vec<ServerAddr>,
    credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Token(String),
    User { name: String, password: String },
}

impl NatsServers {
    pub(super) fn addresses(&self) -> &[ServerAddr] {
        &self.addresses
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// One `tls://` address is enough: credentials must not reach another server in the clear.
    pub(super) fn tls_required(&self) -> bool {
        self.addresses.iter().any(ServerAddr::tls_required)
    }
}

impl FromStr for NatsServers {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut servers = Self { addresses: Vec::new(), credentials: None };
        for (index, part) in text.split(',').map(str::trim).enumerate() {
            let (address, credentials) = server(part)?;
            if index > 0 && servers.credentials != credentials {
                return Err(Invalid("the servers of one NATS URL list take the same credentials"));
            }
            servers.addresses.push(address);
            servers.credentials = credentials;
        }
        Ok(servers)
    }
}

fn server(text: &str) -> Result<(ServerAddr, Option<Credentials>), Invalid> {
    const RULE: Invalid = Invalid("a NATS URL is nats://host:port or tls://host:port, several separated by commas");
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let mut url: Url = with_scheme.parse().map_err(|_| RULE)?;
    let plain = url.path().trim_matches('/').is_empty() && url.query().is_none() && url.fragment().is_none();
    let known = matches!(url.scheme(), "nats" | "tls");
    if !known || !plain || url.host_str().is_none_or(str::is_empty) {
        return Err(RULE);
    }
    let credentials = credentials(&url)?;
    // Neither fails for a URL with a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok((ServerAddr::from_url(url).map_err(|_| RULE)?, credentials))
}

fn credentials(url: &Url) -> Result<Option<Credentials>, Invalid> {
    let decoded = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Invalid("the credentials of a NATS URL are percent-encoded UTF-8")),
    };
    let name = decoded(url.username())?;
    match url.password() {
        Some(_) if name.is_empty() => Err(Invalid("a password in a NATS URL needs a user before it")),
        Some(password) => Ok(Some(Credentials::User { name, password: decoded(password)? })),
        None if name.is_empty() => Ok(None),
        None => Ok(Some(Credentials::Token(name))),
    }
}

impl fmt::Debug for NatsServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.addresses.iter().map(|a| format!("{}://{}:{}", a.scheme(), a.host(), a.port()));
        f.debug_list().entries(hosts).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> NatsServers {
        text.parse().unwrap()
    }

    #[test]
    fn servers_are_a_list_with_default_scheme_and_port() {
        let servers = parsed("nats://a:4223, b ,tls://[::1]:4224/");
        assert_eq!(format!("{servers:?}"), r#"["nats://a:4223", "nats://b:4222", "tls://::1:4224"]"#);
        assert!(servers.credentials().is_none() && servers.tls_required());
        assert!(!parsed("nats://a").tls_required());
    }

    #[test]
    fn credentials_are_decoded_and_leave_the_address() {
        let user = parsed("nats://us%40er:p%3Aw%2F@a:4222,nats://us%40er:p%3Aw%2F@b:4222");
        let expected = Credentials::User { name: "us@er".into(), password: "p:w/".into() };
        assert!(user.credentials() == Some(&expected));
        assert!(parsed("nats://t0ken@a").credentials() == Some(&Credentials::Token("t0ken".into())));
        let shown = format!("{user:?} {:?}", user.addresses());
        assert!(
            !shown.contains("us%40") && !shown.contains("us@") && !shown.contains("p:w") && !shown.contains("p%3A"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_no_list_of_servers_is_refused_without_repeating_it() {
        for bad in [
            "",
            "nats://",
            "http://a",
            "ws://a",
            "nats://a:99999",
            "nats://a/path",
            "nats://a?x=1",
            "nats://a,,nats://b",
            "nats://:secret@a",
            "nats://u:%FF@a",
            "nats://u:one@a,nats://u:two@b",
            "nats://a,nats://u:secret@b",
        ] {
            let error = bad.parse::<NatsServers>().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{bad}: {error}");
        }
    }
}
