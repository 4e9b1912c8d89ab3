//! The command line: one file for each command. Without a command, the broker serves.

mod backup;
mod certificate;
mod check;
mod check_config;
mod drain;
mod export;
pub mod failure;
mod invite;
mod passwd;
mod reload;
mod restore;
mod serve;
mod span;
mod target;
mod users;

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use crate::command::backup::BackupArguments;
use crate::command::certificate::CertificateArguments;
use crate::command::check_config::CheckConfigArguments;
use crate::command::drain::DrainArguments;
use crate::command::export::ExportArguments;
use crate::command::failure::Failure;
use crate::command::invite::InviteArguments;
use crate::command::passwd::PasswdArguments;
use crate::command::restore::RestoreArguments;
use crate::command::serve::ServeArguments;
use crate::command::users::UsersArguments;
use crate::settings::Overrides;

/// Routes Sealpost's sealed messages over MQTT 3.1.1 and 5.0.
#[derive(Debug, Parser)]
#[command(name = "sealpost-broker", version = sealpost_version::SHORT, long_version = sealpost_version::LONG)]
#[command(about, long_about = None)]
pub struct Arguments {
    #[command(flatten)]
    global: GlobalArguments,
    #[command(flatten)]
    serve: ServeArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes: which broker it is about.
#[derive(Debug, clap::Args)]
struct GlobalArguments {
    /// Read settings from this file (TOML; see config/broker.toml).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep users and their keys in this directory. [default: sealpost-broker]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The deployment's name, as its clients have it. [default: local]
    #[arg(long, global = true)]
    realm: Option<String>,
}

impl GlobalArguments {
    /// The flags as they were given, for a shell, each with a space before it.
    fn flags(&self) -> String {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let given = [
            ("--config", path(&self.config)),
            ("--data", path(&self.data)),
            ("--realm", self.realm.clone()),
        ];
        let flag = |(flag, value): (&str, Option<String>)| {
            value.map(|value| format!(" {flag} {}", quoted(&value)))
        };
        given.into_iter().filter_map(flag).collect()
    }

    /// The same as overrides of settings, and the file to read the others from.
    fn into_overrides(self) -> (Option<PathBuf>, Overrides) {
        let GlobalArguments {
            config,
            data,
            realm,
        } = self;
        let overrides = Overrides {
            realm,
            data,
            ..Overrides::default()
        };
        (config, overrides)
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker; the default.
    Serve(ServeArguments),
    /// Make certificates for a home or a lab: a private authority, the broker's certificate, users' certificates.
    Certificate(CertificateArguments),
    /// Make an invitation, with which a name can be claimed once where registration is closed.
    Invite(InviteArguments),
    /// List and administer users.
    Users(UsersArguments),
    /// Administer static passwords, for devices whose MQTT library knows nothing else.
    Passwd(PasswdArguments),
    /// End the running broker as SIGTERM does: it says that it is not ready any more, goes on for as long as the settings
    /// say, refuses newcomers, disconnects its clients with the reason, and writes all it has. Returns when it has ended.
    Drain(DrainArguments),
    /// Write all that the broker keeps into one file, also while it runs.
    Backup(BackupArguments),
    /// Make a data directory (--data; there must be nothing) from a backup.
    Restore(RestoreArguments),
    /// Give everybody's keys, and the mail that waits, to another broker than ours, from the files of a broker that does not run.
    /// (For another broker of ours: backup and restore.)
    Export(ExportArguments),
    /// Read all that a broker that does not run has kept, and say whether it is whole.
    Check,
    /// Say whether a file of settings can be used, and what is wrong with it.
    CheckConfig(CheckConfigArguments),
    /// Have the running broker read its rule file and certificates again and open its audit log again, as SIGHUP does.
    Reload,
}

/// Does what the command line asks for.
///
/// # Errors
/// [`Failure`]: what to tell, and the exit code.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments {
        global,
        serve,
        command,
    } = arguments;
    if command.is_some() && serve != ServeArguments::default() {
        let text = "flags of `serve` go behind `serve`, and no other command takes them";
        Arguments::command()
            .error(ErrorKind::ArgumentConflict, text)
            .exit();
    }
    let flags = global.flags();
    let done = match command {
        None => serve::run(global, serve),
        Some(Command::Serve(serve)) => serve::run(global, serve),
        Some(Command::Certificate(certificate)) => certificate::run(global, certificate),
        Some(Command::Invite(invite)) => invite::run(global, invite),
        Some(Command::Users(users)) => users::run(global, users),
        Some(Command::Passwd(passwd)) => passwd::run(global, passwd),
        Some(Command::Drain(drain)) => drain::run(global, drain),
        Some(Command::Backup(backup)) => backup::run(global, backup),
        Some(Command::Restore(restore)) => restore::run(global, restore),
        Some(Command::Export(export)) => export::run(global, export),
        Some(Command::Check) => check::run(global),
        Some(Command::CheckConfig(check)) => check_config::run(global, check),
        Some(Command::Reload) => reload::run(global),
    };
    done.map_err(|failure| failure.repeating(&flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_in_hints_repeat_the_flags_that_were_given() {
        let line = [
            "x",
            "check",
            "--config",
            "it's here.toml",
            "--data",
            "/var/lib/x",
        ];
        let arguments = Arguments::try_parse_from(line).unwrap();
        let flags = arguments.global.flags();
        assert_eq!(flags, r" --config 'it'\''s here.toml' --data /var/lib/x");
        let hint =
            "see `sealpost-broker users list`, or `sealpost keys show`, or `sealpost-broker check`";
        let failure = Failure::new(failure::Code::Failed, "no", hint).repeating(" --data d");
        assert_eq!(
            failure.hint,
            "see `sealpost-broker users list --data d`, or `sealpost keys show`, or `sealpost-broker check --data d`"
        );
    }

    #[test]
    fn serving_is_what_happens_without_a_command() {
        for line in [
            "sealpost-broker --config c --data d --realm r --listen l --open --archiver a=b",
            "sealpost-broker serve --config c --data d --realm r --listen l --open --archiver a=b",
            "sealpost-broker --config c --data d serve --realm r --listen l --open --archiver a=b",
        ] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            let serve = match arguments.command {
                Some(Command::Serve(serve)) => serve,
                None => arguments.serve,
                Some(other) => panic!("{other:?}"),
            };
            let (file, mut overrides) = arguments.global.into_overrides();
            serve.add_to(&mut overrides);
            assert_eq!(file, Some("c".into()), "{line}");
            assert_eq!(overrides.data, Some("d".into()), "{line}");
            assert_eq!(overrides.realm.as_deref(), Some("r"), "{line}");
            assert_eq!(overrides.listen.as_deref(), Some("l"), "{line}");
            assert!(overrides.open, "{line}");
            assert_eq!(overrides.archivers, ["a=b"], "{line}");
        }
    }
}
