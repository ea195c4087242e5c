//! The gateway by itself: any number of them run beside the service, over one NATS and one store.

use std::process::ExitCode;

fn main() -> ExitCode {
    presence_service::gateway_main()
}
