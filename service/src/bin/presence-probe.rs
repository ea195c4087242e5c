//! Asks a probe of a process on this machine, for the health checks of containers, whose image has no shell and no
//! other client: `presence-probe http://127.0.0.1:8087/health` succeeds if the answer is 200.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Shorter than the time limit of health checks, so that the reason is told.
const PATIENCE: Duration = Duration::from_secs(4);

/// More of an answer than its first line is of no interest.
const ENOUGH: u64 = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), None) = (arguments.next(), arguments.next()) else {
        return fail("usage: presence-probe http://ADDRESS:PORT/PATH");
    };
    match timeout(PATIENCE, first_line(&url)).await {
        Ok(Ok(line)) if line.split(' ').nth(1) == Some("200") => ExitCode::SUCCESS,
        Ok(Ok(line)) => fail(&format!("{url} answers {line:?}")),
        Ok(Err(error)) => fail(&format!("{url}: {error}")),
        Err(_) => fail(&format!("{url} does not answer within {} s", PATIENCE.as_secs())),
    }
}

async fn first_line(url: &str) -> io::Result<String> {
    let unusable = || io::Error::new(io::ErrorKind::InvalidInput, "not of the form http://ADDRESS:PORT/PATH");
    let (address, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).ok_or_else(unusable)?;
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ENOUGH).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

fn fail(reason: &str) -> ExitCode {
    // With nowhere left to say it, the exit code has to do.
    let _ = writeln!(io::stderr(), "{reason}");
    ExitCode::FAILURE
}
