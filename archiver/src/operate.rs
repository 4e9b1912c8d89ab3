//! The command line's end of what an operator asks for: of the archiver that runs, or done here when none does.

use std::collections::BTreeSet;

use crate::archive::ArchiveError;
use crate::cli::{EraseArgs, HoldCommand, RetireArgs};
use crate::control::answer::Answer;
use crate::control::caller;
use crate::control::request::Request;
use crate::exit::ProgramError;
use crate::open_archive::{OpenArchive, Running};
use crate::settings::Settings;
use crate::status::Status;

/// Asks the archiver that runs, or does it here.
///
/// # Errors
/// [`ProgramError`]; [`ProgramError::Refused`] when it is not done.
pub fn ask(settings: Settings, request: Request) -> Result<Answer, ProgramError> {
    // There must be an archive: none is made for this.
    Status::of(&settings.dir)?;
    let answer = match caller::ask(&settings.dir, &request)? {
        Some(answer) => answer,
        None => perform_here(settings, request)?,
    };
    match answer {
        Answer::Failed { message, hint } => Err(ProgramError::Refused { message, hint }),
        done => Ok(done),
    }
}

/// Does it here, as an archiver would that gets no messages.
fn perform_here(mut settings: Settings, request: Request) -> Result<Answer, ProgramError> {
    // Nothing arrives that could have come before; and whoever only removes something need not say under which name it signs.
    settings.dedupe_window = 1;
    settings.check_signatures = false;
    settings.broker = None;
    let setup = |error: std::io::Error| ProgramError::Setup("start the runtime", error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(setup)?;
    let Running {
        work,
        receipts: _,
        outcome,
        administration,
        _lock,
    } = OpenArchive::open(&settings)?.start()?;
    runtime.block_on(async {
        let answer = administration.perform(request).await;
        drop(work);
        match outcome.await {
            Ok(Ok(())) => Ok(answer),
            Ok(Err(error)) => Err(ArchiveError::Append(error).into()),
            Err(_) => Err(ArchiveError::WriterDied.into()),
        }
    })
}

impl From<EraseArgs> for Request {
    fn from(flags: EraseArgs) -> Request {
        Request::Erase {
            log: flags.log.into(),
            seq: flags.seq,
            reason: flags.reason,
        }
    }
}

impl From<RetireArgs> for Request {
    fn from(flags: RetireArgs) -> Request {
        Request::Retire {
            before: flags.before.0,
            reason: flags.reason,
        }
    }
}

impl From<HoldCommand> for Request {
    fn from(command: HoldCommand) -> Request {
        match command {
            HoldCommand::Add {
                name,
                from,
                until,
                user,
                reason,
                ..
            } => Request::HoldAdd {
                name,
                from: from.map(|moment| moment.0),
                until: until.map(|moment| moment.0),
                users: (!user.is_empty()).then(|| user.into_iter().collect::<BTreeSet<_>>()),
                reason,
            },
            HoldCommand::List { .. } => Request::HoldList {},
            HoldCommand::Release { name, .. } => Request::HoldRelease { name },
        }
    }
}

/// What is printed of an answer.
#[must_use]
pub fn text_of(answer: &Answer) -> String {
    match answer {
        Answer::Done {} | Answer::Status(_) | Answer::Failed { .. } => "done".to_owned(),
        Answer::Erased { record } => format!("erased; the record is line {record}"),
        Answer::Retired {
            segments,
            until,
            held,
            hold,
        } => {
            let done = match until {
                Some(until) => {
                    format!("retired {segments} segments, up to line {until}")
                }
                None => "nothing to retire".to_owned(),
            };
            match (held, hold) {
                (Some(line), Some(hold)) => {
                    format!(
                        "{done}; line {line} and what comes after it stay under the hold {hold:?}"
                    )
                }
                _ => done,
            }
        }
        Answer::Holds { holds } if holds.is_empty() => "no holds".to_owned(),
        Answer::Holds { holds } => holds
            .iter()
            .map(|hold| {
                let time = |at: Option<sealpost_core::Timestamp>| {
                    at.map_or_else(|| "…".to_owned(), |at| at.to_string())
                };
                let users = hold.users.as_ref().map_or_else(
                    || "everybody".to_owned(),
                    |users| users.iter().cloned().collect::<Vec<_>>().join(","),
                );
                // Escaped: whoever placed it chose the text, and this may be a terminal.
                format!(
                    "{:?}  {} to {}  {users}  placed {}  {:?}",
                    hold.name,
                    time(hold.from),
                    time(hold.until),
                    hold.placed_at,
                    hold.reason
                )
            })
            .collect::<Vec<_>>()
            .join("\n"),
    }
}
