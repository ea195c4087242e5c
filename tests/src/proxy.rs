//! A TCP proxy that breaks connections in the ways that networks do.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// What happens to connections on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every piece, in both directions, comes this much later.
    Delay(Duration),
    /// Connections stay open, or open, and nothing comes through until it is over, as when a link is down. Nothing is
    /// lost then: TCP sends again.
    BlackHole,
    /// Connections end at once with a reset, old ones and new ones.
    Reset,
    /// Connections end at once in good order, old ones and new ones, as when a server shuts down.
    Cut,
}

/// A loopback port that leads to another. It ends when it is dropped.
pub struct Proxy {
    port: u16,
    fault: watch::Sender<Fault>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A faultless way to a loopback port.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (fault, _) = watch::channel(Fault::None);
        let accepting = tokio::spawn(accept(listener, target, fault.clone()));
        Self { port, fault, accepting }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, for connections that are open and for those that come.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.fault.send_replace(Fault::Cut);
    }
}

async fn accept(listener: TcpListener, target: u16, fault: watch::Sender<Fault>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        tokio::spawn(carry(client, target, fault.subscribe()));
    }
}

/// Carries one connection until one of its ends or a fault ends it.
async fn carry(mut client: TcpStream, target: u16, fault: watch::Receiver<Fault>) {
    let connected = passable(&mut fault.clone()).await && !is_broken(*fault.borrow());
    let server = if connected { TcpStream::connect(("127.0.0.1", target)).await.ok() } else { None };
    let Some(mut server) = server else { return close(&client, *fault.borrow()) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));

    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut breaking = fault.clone();
    tokio::select! {
        () = pump(&mut from_client, &mut to_server, fault.clone()) => {}
        () = pump(&mut from_server, &mut to_client, fault.clone()) => {}
        _ = breaking.wait_for(|fault| is_broken(*fault)) => {}
    }
    close(&client, *fault.borrow());
    close(&server, *fault.borrow());
}

/// Carries one direction.
async fn pump(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, mut fault: watch::Receiver<Fault>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let now = *fault.borrow();
        if let Fault::Delay(delay) = now {
            sleep(delay).await;
        }
        if !passable(&mut fault).await || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Waits for the end of a black hole; false if the proxy ended first.
async fn passable(fault: &mut watch::Receiver<Fault>) -> bool {
    fault.wait_for(|fault| *fault != Fault::BlackHole).await.is_ok()
}

fn is_broken(fault: Fault) -> bool {
    matches!(fault, Fault::Reset | Fault::Cut)
}

/// Decides how the system closes the connection when it is dropped: with a reset, or in good order.
fn close(stream: &TcpStream, fault: Fault) {
    if fault == Fault::Reset {
        let _ = stream.set_zero_linger();
    }
}
