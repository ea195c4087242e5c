//! A connection to the server that can go wrong on purpose.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of the connections that exist; those made later are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Nothing passes in either direction, and nobody is told.
    Silence,
    /// What the server says is lost.
    SwallowAnswers,
    /// They are closed.
    Cut,
}

pub(crate) struct Proxy {
    port: u16,
    /// The fault, and the number of the last connection that it holds for.
    fault: Arc<watch::Sender<(Fault, u64)>>,
    accepted: Arc<watch::Sender<u64>>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fault = Arc::new(watch::Sender::new((Fault::None, 0)));
        let accepted = Arc::new(watch::Sender::new(0));
        let (faults, count) = (fault.clone(), accepted.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.send_modify(|count| *count += 1);
                tokio::spawn(carry(client, server, *count.borrow(), faults.subscribe()));
            }
        });
        Self { port, fault, accepted }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn silence(&self) {
        self.set(Fault::Silence);
    }

    pub(crate) fn swallow_answers(&self) {
        self.set(Fault::SwallowAnswers);
    }

    pub(crate) fn cut(&self) {
        self.set(Fault::Cut);
    }

    fn set(&self, fault: Fault) {
        self.fault.send_replace((fault, *self.accepted.borrow()));
    }
}

async fn carry(mut client: TcpStream, server: u16, number: u64, mut faults: watch::Receiver<(Fault, u64)>) {
    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let (fault, last) = *faults.borrow_and_update();
        let fault = if number <= last { fault } else { Fault::None };
        if fault == Fault::Cut {
            return;
        }
        let passes = fault != Fault::Silence;
        tokio::select! {
            biased;
            changed = faults.changed() => if changed.is_err() { return },
            read = client.read(&mut asked), if passes => match read {
                Ok(count @ 1..) => server.write_all(&asked[..count]).await.unwrap(),
                _ => return,
            },
            read = server.read(&mut answered), if passes => match read {
                Ok(count @ 1..) => {
                    if fault == Fault::None && client.write_all(&answered[..count]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}
