//! `passwd`: static passwords, for devices whose MQTT library knows nothing else.

use std::io::{BufRead, IsTerminal, Read, Write};

use clap::Subcommand;
use zeroize::Zeroizing;

use super::GlobalArguments;
use super::failure::{Code, Failure};
use super::target::Target;
use crate::access::password::{Password, PasswordHash, invented};
use crate::control::request::Request;

/// Bytes of a line of standard input that is read for a password.
const MAX_LINE: u64 = 1_024;

#[derive(Debug, clap::Args)]
pub(super) struct PasswdArguments {
    #[command(subcommand)]
    command: PasswdCommand,
}

#[derive(Debug, Subcommand)]
enum PasswdCommand {
    /// Give a user a password, asked for or read from standard input. A free name is registered with it, without an identity.
    Add {
        /// The name.
        #[arg(value_name = "USER")]
        user: String,
        /// Make one up and print it.
        #[arg(long)]
        generate: bool,
    },
    /// Take a user's password away.
    Remove {
        /// The name.
        #[arg(value_name = "USER")]
        user: String,
    },
    /// List the users who have one.
    List,
}

/// Administers passwords. A running broker goes by the change at once, and ends the user's connections.
pub(super) fn run(global: GlobalArguments, arguments: PasswdArguments) -> Result<(), Failure> {
    let mut target = Target::find(global)?;
    match arguments.command {
        PasswdCommand::Add { user, generate } => add(&mut target, user, generate),
        PasswdCommand::Remove { user } => {
            let request = Request::SetPassword { user, hash: None };
            target.ask(&request, |_| {})
        }
        PasswdCommand::List => list(&mut target),
    }
}

fn add(target: &mut Target, user: String, generate: bool) -> Result<(), Failure> {
    let password = if generate {
        invented()
    } else {
        if std::io::stdin().is_terminal() {
            ask_twice(&user)?
        } else {
            parse(&first_line()?)?
        }
    };
    let hash = PasswordHash::of(&password).map_err(|_| {
        Failure::new(
            Code::Failed,
            "the password could not be hashed",
            "it takes 19 MiB of memory",
        )
    })?;
    let request = Request::SetPassword {
        user,
        hash: Some(hash.as_str().to_owned()),
    };
    target.ask(&request, |_| {})?;
    if generate {
        let mut stdout = std::io::stdout();
        let printed = writeln!(stdout, "{}", password.expose()).and_then(|()| stdout.flush());
        printed.map_err(|error| {
            Failure::new(
                Code::Failed,
                format!("the password could not be printed: {error}"),
                "run the command again for another one",
            )
        })?;
    }
    Ok(())
}

fn parse(text: &str) -> Result<Password, Failure> {
    Password::parse(text).map_err(|error| {
        Failure::new(
            Code::Usage,
            error,
            "choose another, or have one made up with --generate",
        )
    })
}

fn ask_twice(user: &str) -> Result<Password, Failure> {
    let ask = |prompt: String| {
        rpassword::prompt_password(prompt)
            .map(Zeroizing::new)
            .map_err(|error| not_read(&error))
    };
    let first = ask(format!("Password for {user}: "))?;
    // Said before it is typed again.
    let password = parse(&first)?;
    let second = ask("The same again: ".into())?;
    if *first == *second {
        Ok(password)
    } else {
        Err(Failure::new(
            Code::Usage,
            "these are two different passwords",
            "nothing was changed; try again",
        ))
    }
}

fn first_line() -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(String::new());
    std::io::stdin()
        .lock()
        .take(MAX_LINE)
        .read_line(&mut line)
        .map_err(|error| not_read(&error))?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(line)
}

fn not_read(error: &std::io::Error) -> Failure {
    Failure::new(
        Code::Failed,
        format!("the password could not be read: {error}"),
        "type it, or give it as the first line of standard input",
    )
}

fn list(target: &mut Target) -> Result<(), Failure> {
    let mut names = String::new();
    target.each_user(|line| {
        if line.password {
            names.push_str(&line.user);
            names.push('\n');
        }
        Ok(())
    })?;
    std::io::stdout()
        .write_all(names.as_bytes())
        .map_err(|error| Failure::new(Code::Failed, format!("cannot write: {error}"), ""))
}
