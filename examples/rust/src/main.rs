//! A device that speaks Sealpost: it sends readings sealed, and receives what is sealed for it. MQTT 5, with rumqttc.
//!
//! ```text
//! sealpost-sensor --user NAME --home DIR send TO    # seals each line of standard input
//! sealpost-sensor --user NAME --home DIR listen     # prints a line of JSON for each message
//! ```
//!
//! Numbers in comments are sections of core/SPEC.md.

mod home;
mod link;
mod listen;
mod received;
mod send;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sealpost_core::{Realm, UserId};

use crate::home::{Home, say};

#[derive(Parser)]
#[command(about = "A device that speaks Sealpost")]
struct Options {
    /// mqtt://HOST:PORT. For TLS, give rumqttc's options a transport (`link.rs`)
    #[arg(long, default_value = "mqtt://127.0.0.1:1883")]
    broker: String,
    #[arg(long, default_value = "local", value_parser = |text: &str| Realm::parse(text))]
    realm: Realm,
    #[arg(long, value_parser = |text: &str| UserId::parse(text))]
    user: UserId,
    /// The folder for keys and mail
    #[arg(long)]
    home: PathBuf,
    /// Sign in with the password in this file, not with the identity key
    #[arg(long)]
    password_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Seals each line of standard input
    Send {
        #[arg(value_parser = |text: &str| UserId::parse(text))]
        to: UserId,
    },
    /// Prints a line of JSON for each message
    Listen,
}

async fn run(options: Options) -> Result<ExitCode, Box<dyn Error>> {
    let home = Home::open(options.home, options.realm, options.user)?;
    let login = link::Login::new(&options.broker, options.password_file.as_deref())?;
    match options.command {
        Command::Send { to } => send::send(home, login, &to).await,
        Command::Listen => listen::listen(home, login).await,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(code) => code,
        Err(error) => {
            say(format!("refused: {error}"));
            ExitCode::FAILURE
        }
    }
}
