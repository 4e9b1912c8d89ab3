//! The command line, as clap sees it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use sealpost::cli::{Global, parse_duration};
use sealpost::settings::DeviceFlags;

const AFTER_HELP: &str = "\
A flag wins over the environment, the environment over the configuration file, whose table [device] has the settings of a device.

Each line of standard input is a reading. At its end, what is kept goes, for as long as --timeout says, and the rest at the next start.

Exit codes:
  0 done, 1 failed, 2 wrong usage, 4 the recipient's identity is not the expected one. A broker that is away or refuses ends
  nothing: it is tried again.

Beginning, with an invitation from the broker's operator and the contact link of the one who is to read (`sealpost invite`):
  export SEALPOST_INVITATION=sealpost-invitation-...
  ./sensor | sealpost-device --user thermo --broker mqtts://broker.example --to 'sealpost:contact?...'
and for the one who reads:
  sealpost-device --user thermo link";

/// Sends readings, sealed, from a machine that nobody attends.
#[derive(Debug, Parser)]
#[command(name = "sealpost-device", version = sealpost_version::SHORT, long_version = sealpost_version::LONG, about, after_help = AFTER_HELP, max_term_width = 110)]
pub struct Cli {
    /// The device's user name: a-z, 0-9, _ and -, at most 64 characters [env: SEALPOST_USER]
    #[arg(long, short, global = true, value_name = "NAME")]
    pub user: Option<String>,
    /// The broker: mqtts://HOST, wss://HOST, or without TLS mqtt:// and ws://; given more than once or with commas, they are
    /// tried in turn [default: mqtt://127.0.0.1:1883] [env: SEALPOST_BROKER]
    #[arg(long, short, global = true, value_name = "URL")]
    pub broker: Vec<String>,
    /// To whom: a contact link (`sealpost invite` prints it), or the name of a verified contact of this home
    /// [env: SEALPOST_DEVICE_TO]
    #[arg(long, value_name = "LINK")]
    pub to: Option<String>,
    /// What lines are: auto (JSON where they are JSON, otherwise text), text, or json [default: auto] [env: SEALPOST_DEVICE_INPUT]
    #[arg(long, value_name = "FORM")]
    pub input: Option<String>,
    /// How many readings are kept while they cannot go, 256 to 100000 [default: 10000] [env: SEALPOST_DEVICE_RING_READINGS]
    #[arg(long, value_name = "N")]
    pub ring_readings: Option<String>,
    /// How many bytes they may take on disk, 1048576 to 268435456 [default: 33554432] [env: SEALPOST_DEVICE_RING_BYTES]
    #[arg(long, value_name = "N")]
    pub ring_bytes: Option<String>,
    /// How long readings are gathered before they are written and sent: what a loss of power takes at most. 10ms to 60s
    /// [default: 5s] [env: SEALPOST_DEVICE_GATHER]
    #[arg(long, value_name = "TIME")]
    pub gather: Option<String>,
    /// How long to go on sending when standard input has ended, such as 10s or 2m [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Trust only the authorities in this PEM file to certify the broker, instead of those that this machine trusts
    /// [env: SEALPOST_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The device's certificate in PEM, for a broker that wants one [env: SEALPOST_CLIENT_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// Its private key in PEM [env: SEALPOST_CLIENT_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Go through this proxy, http://HOST:PORT or socks5://HOST:PORT, or through `none` [default: what ALL_PROXY, HTTPS_PROXY
    /// and NO_PROXY say] [env: SEALPOST_PROXY]
    #[arg(long, global = true, value_name = "URL")]
    pub proxy: Option<String>,
    /// Where keys and readings are [default: $XDG_DATA_HOME/sealpost/NAME] [env: SEALPOST_HOME]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// The deployment's name, the same for all who talk [default: local] [env: SEALPOST_REALM]
    #[arg(long, global = true, value_name = "NAME")]
    pub realm: Option<String>,
    /// The configuration file [default: $XDG_CONFIG_HOME/sealpost/client.toml] [env: SEALPOST_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The invitation that lets the device claim its name at the first login; in the environment no other user of this machine
    /// sees it [env: SEALPOST_INVITATION]
    #[arg(long, global = true, value_name = "INVITATION")]
    pub invitation: Option<String>,
    /// One JSON object a line on standard output, for scripts
    #[arg(long, global = true)]
    pub json: bool,
    /// Log what happens to standard error, never secrets or readings
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// What to do; without it, send.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What a device does beside sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print the device's own contact link, for the one who reads (`sealpost add LINK`); makes its keys if there are none
    Link,
}

impl Cli {
    /// As the client's settings take them.
    #[must_use]
    pub fn global(&self) -> Global {
        Global {
            user: self.user.clone(),
            broker: self.broker.clone(),
            ca: self.ca.clone(),
            client_cert: self.client_cert.clone(),
            client_key: self.client_key.clone(),
            proxy: self.proxy.clone(),
            home: self.home.clone(),
            realm: self.realm.clone(),
            config: self.config.clone(),
            invitation: self.invitation.clone(),
            json: self.json,
            verbose: self.verbose,
            ..Global::default()
        }
    }

    /// The same for those of a device.
    #[must_use]
    pub fn device(&self) -> DeviceFlags {
        DeviceFlags {
            to: self.to.clone(),
            input: self.input.clone(),
            ring_readings: self.ring_readings.clone(),
            ring_bytes: self.ring_bytes.clone(),
            gather: self.gather.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_passphrase_can_be_given_for_nobody_is_there_to_know_it() {
        for line in [
            "sealpost-device --passphrase-command true",
            "sealpost-device frobnicate",
            "sealpost-device --timeout 0",
        ] {
            let refused = Cli::try_parse_from(line.split_whitespace()).expect_err(line);
            assert_eq!(refused.exit_code(), 2, "{line}");
        }
    }
}
