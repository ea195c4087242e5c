//! A TCP proxy that breaks connections in the ways that networks do.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
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
    /// Not more than so many bytes a second come through, in each direction of each connection.
    Slow(usize),
    /// Connections stay open, or open, and nothing comes through until it is over, as when a link is down. Nothing is
    /// lost then: TCP sends again.
    BlackHole,
    /// Connections that were open stay open and are dead for good, as when the other machine has lost its power and
    /// nobody says so. New ones work. What is dead ends with the next fault that ends connections, or with the proxy.
    HalfOpen,
    /// Connections end at once with a reset, old ones and new ones.
    Reset,
    /// Connections end at once in good order, old ones and new ones, as when a server shuts down.
    Cut,
    /// After so many more bytes in one direction, of all connections together, it is [`Fault::Cut`]: in the middle of
    /// a request, or of a reply.
    CutAfter(Direction, usize),
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Reply,
}

/// A loopback port that leads to another. It ends when it is dropped.
pub struct Proxy {
    port: u16,
    way: Way,
    accepting: JoinHandle<()>,
}

/// What all connections share.
#[derive(Clone)]
struct Way {
    target: Arc<AtomicU16>,
    fault: watch::Sender<Fault>,
    /// How many bytes still come through before the cut of [`Fault::CutAfter`].
    left: Arc<AtomicUsize>,
}

impl Proxy {
    /// A faultless way to a loopback port.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Way { target: Arc::new(target.into()), fault: watch::channel(Fault::None).0, left: Arc::default() };
        let accepting = tokio::spawn(accept(listener, way.clone()));
        Self { port, way, accepting }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, for connections that are open and for those that come.
    pub fn set(&self, fault: Fault) {
        if let Fault::CutAfter(_, bytes) = fault {
            self.way.left.store(bytes, Ordering::SeqCst);
        }
        self.way.fault.send_replace(fault);
    }

    /// Leads new connections to another port, as when a name is given to another machine. Those that are open stay.
    pub fn lead_to(&self, target: u16) {
        self.way.target.store(target, Ordering::SeqCst);
    }

    /// Returns when connections are cut.
    pub async fn cut(&self) {
        let _ = self.way.fault.subscribe().wait_for(|fault| *fault == Fault::Cut).await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.way.fault.send_replace(Fault::Cut);
    }
}

async fn accept(listener: TcpListener, way: Way) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        tokio::spawn(carry(client, way.clone()));
    }
}

/// Carries one connection until one of its ends or a fault ends it.
async fn carry(mut client: TcpStream, way: Way) {
    let mut fault = way.fault.subscribe();
    let opened_under = *fault.borrow();
    let connected = passable(&mut fault).await && !is_broken(*fault.borrow());
    let target = way.target.load(Ordering::SeqCst);
    let server = if connected { TcpStream::connect(("127.0.0.1", target)).await.ok() } else { None };
    let Some(mut server) = server else { return close(&client, *fault.borrow()) };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));

    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut breaking = fault.clone();
    let mut dying = fault.clone();
    let ended = tokio::select! {
        () = pump(&mut from_client, &mut to_server, Direction::Request, &way) => true,
        () = pump(&mut from_server, &mut to_client, Direction::Reply, &way) => true,
        _ = breaking.wait_for(|fault| is_broken(*fault)) => true,
        _ = dying.wait_for(|fault| *fault == Fault::HalfOpen && opened_under != Fault::HalfOpen) => false,
    };
    if !ended {
        let _ = breaking.wait_for(|fault| is_broken(*fault)).await;
    }
    close(&client, *fault.borrow());
    close(&server, *fault.borrow());
}

/// Carries one direction.
async fn pump(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, direction: Direction, way: &Way) {
    let mut fault = way.fault.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let most = match *fault.borrow() {
            Fault::Slow(rate) => (rate / 50).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let Ok(length @ 1..) = from.read(&mut buffer[..most]).await else { return };
        let now = *fault.borrow_and_update();
        let mut through = length;
        match now {
            Fault::Delay(delay) => sleep(delay).await,
            Fault::Slow(rate) => sleep(Duration::from_secs_f64(length as f64 / rate.max(1) as f64)).await,
            Fault::CutAfter(where_to, _) if where_to == direction => {
                let left =
                    way.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(length)));
                through = left.unwrap_or_default().min(length);
            }
            _ => {}
        }
        let passes = passable(&mut fault).await && !is_broken(*fault.borrow());
        if !passes || to.write_all(&buffer[..through]).await.is_err() {
            return;
        }
        if through < length {
            let _ = to.flush().await;
            way.fault.send_if_modified(|fault| {
                let due = matches!(fault, Fault::CutAfter(..));
                if due {
                    *fault = Fault::Cut;
                }
                due
            });
            return pending().await;
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
