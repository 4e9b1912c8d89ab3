//! `sealpost-broker`: routes sealed messages, lets in who proves an identity, and can read nothing.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use sealpost_broker::command::{self, Arguments};

fn main() -> ExitCode {
    match command::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
