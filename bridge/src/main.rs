//! The bridge from NATS to functions behind the Lambda API. Its variables are described in the README.

use std::process::ExitCode;

fn main() -> ExitCode {
    presence_bridge::program::main()
}
