//! `users`: who is registered, and what an operator does about it.

use std::io::{BufWriter, Write};

use clap::Subcommand;
use sealpost_core::Timestamp;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use super::invite::InvitationArguments;
use super::target::Target;
use crate::clock;
use crate::control::answer::UserLine;
use crate::control::request::Request;

#[derive(Debug, clap::Args)]
pub(super) struct UsersArguments {
    #[command(subcommand)]
    command: UsersCommand,
}

#[derive(Debug, Subcommand)]
enum UsersCommand {
    /// List every name that is taken, offered or was removed.
    List {
        /// Print a JSON object for each, a line each.
        #[arg(long)]
        json: bool,
    },
    /// Register a name, with an identity key or, for a device with a password or certificate only, without one.
    Add {
        /// The name.
        #[arg(value_name = "USER")]
        user: String,
        /// The identity key in base64, as `sealpost keys show --json` prints it.
        #[arg(long)]
        key: Option<String>,
    },
    /// Let nobody act as this user, from now on; their connections end, their mail is kept.
    Disable {
        /// The name.
        #[arg(value_name = "USER")]
        user: String,
    },
    /// Let a disabled user act again.
    Enable {
        /// The name.
        #[arg(value_name = "USER")]
        user: String,
    },
    /// Remove a user and their keys for good; the name stays reserved.
    Remove {
        /// The name.
        #[arg(value_name = "USER")]
        user: String,
    },
    /// For a user who has lost their keys: make the name claimable with an invitation, which is printed. Contacts will be
    /// warned that the identity has changed.
    ResetIdentity {
        /// The name.
        #[arg(value_name = "USER")]
        user: String,
        #[command(flatten)]
        invitation: InvitationArguments,
    },
}

/// Administers users.
pub(super) fn run(global: GlobalArguments, arguments: UsersArguments) -> Result<(), Failure> {
    let mut target = Target::find(global)?;
    let request = match arguments.command {
        UsersCommand::List { json } => return list(&mut target, json),
        UsersCommand::ResetIdentity { user, invitation } => {
            return invitation.offer(&mut target, &user, |key, expires| Request::ResetIdentity {
                user: user.clone(),
                key,
                expires,
            });
        }
        UsersCommand::Add { user, key } => Request::AddUser { user, key },
        UsersCommand::Disable { user } => Request::Disable { user },
        UsersCommand::Enable { user } => Request::Enable { user },
        UsersCommand::Remove { user } => Request::Remove { user },
    };
    target.ask(&request, |_| {})
}

/// Prints all users, page by page.
fn list(target: &mut Target, json: bool) -> Result<(), Failure> {
    let mut out = BufWriter::new(std::io::stdout());
    // Only when there is something to head, and no error instead.
    let mut headed = json;
    target.each_user(|user| {
        if json {
            let line = serde_json::to_string(&user).map_err(std::io::Error::from);
            return print(line.and_then(|line| writeln!(out, "{line}")));
        }
        if !headed {
            headed = true;
            print(writeln!(
                out,
                "{:<24} {:<9} {:<10} {:<10} SIGNS IN WITH",
                "USER", "STANDING", "SINCE", "LAST LOGIN"
            ))?;
        }
        print(writeln!(
            out,
            "{:<24} {:<9} {:<10} {:<10} {}",
            user.user,
            user.standing.word(),
            date(user.registered),
            user.last_login.map_or("-".into(), date),
            proofs(&user)
        ))
    })?;
    print(out.flush())
}

fn print(printed: std::io::Result<()>) -> Result<(), Failure> {
    printed.map_err(|error| {
        Failure::new(
            Code::Failed,
            format!("cannot write: {error}"),
            "where does the output go?",
        )
    })
}

fn proofs(user: &UserLine) -> String {
    let mut proofs = Vec::new();
    if let Some(identity) = &user.identity {
        proofs.push(identity.clone());
    }
    if user.password {
        proofs.push("a password".into());
    }
    if let Some(until) = user.invited_until {
        let word = if until < clock::now() {
            "expired"
        } else {
            "until"
        };
        proofs.push(format!("an invitation, {word} {}", date(until)));
    }
    if proofs.is_empty() {
        "-".into()
    } else {
        proofs.join(", ")
    }
}

/// The day (UTC), as 2026-01-31. The arithmetic of the civil calendar in eras of 400 years.
fn date(at: Timestamp) -> String {
    const DAY: u64 = 24 * 60 * 60;
    const ERA: u64 = 146_097;
    // Counted from 1 March of the year 0, so that the leap day comes last.
    let days = at.seconds() / DAY + 719_468;
    let (era, day_of_era) = (days / ERA, days % ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_767_225_599, "2025-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(Timestamp::from_millis(seconds * 1000).unwrap()), day);
        }
    }
}
