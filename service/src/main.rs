//! The presence service as one process. `HOST`, `PORT` and the other variables are described in the README.

use std::process::ExitCode;

fn main() -> ExitCode {
    presence_service::main()
}
