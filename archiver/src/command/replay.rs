//! `sealpost-archiver replay`.

use std::io;
use std::time::SystemTime;

use sealpost_archive::layout::LogName;
use sealpost_archive::log_reader::{LogReader, Selection};
use sealpost_core::UserId;

use super::{archive, print};
use crate::cli::ReplayArgs;
use crate::exit::ProgramError;
use crate::key;
use crate::live::timestamp;
use crate::moment::Moment;
use crate::replay::{Operator, Replayed, Wanted, replay};
use crate::settings::{Settings, SettingsError};

/// Gives what is wanted, and says what became of it.
///
/// # Errors
/// [`ProgramError::Replay`] if it broke off, [`ProgramError::NotTaken`] if the broker refused some of it, and what is wrong with flags, keys and the
/// archive.
pub fn run(flags: &ReplayArgs) -> Result<(), ProgramError> {
    let directory = archive(&flags.dir)?;
    let settings = Settings::gather_for_broker(&flags.dir, &flags.broker)?;
    let broker = settings.broker()?.clone();
    broker.check()?;
    let name = |setting, text: &str| {
        UserId::parse(text).map_err(|error| SettingsError::Invalid {
            setting,
            reason: error.to_string(),
        })
    };
    let operator = Operator {
        name: name("--operator", &flags.operator)?,
        identity: key::load_file(flags.operator_key.clone())?,
        realm: settings.realm.clone(),
    };
    let all = Selection::default();
    let wanted = Wanted {
        to: name("--to", &flags.to)?,
        numbers: flags.from_seq..=*all.numbers.end(),
        times: flags.since.map_or(*all.times.start(), |Moment(at)| at)
            ..=flags.until.map_or(*all.times.end(), |Moment(at)| at),
    };
    let log = LogReader::open(&directory, LogName::EncryptedLogs)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error: io::Error| ProgramError::Setup("start the runtime", error.to_string()))?;
    let mut replayed = Replayed::default();
    let ended = runtime.block_on(replay(
        &log,
        &wanted,
        &operator,
        &broker,
        || timestamp(SystemTime::now()),
        &mut replayed,
    ));
    print(&told(&replayed));
    ended.map_err(|source| ProgramError::Replay {
        source: Box::new(source),
        next: replayed.last_seq.max(flags.from_seq.saturating_sub(1)) + 1,
    })?;
    if replayed.refused > 0 {
        return Err(ProgramError::NotTaken(replayed.refused));
    }
    Ok(())
}

fn told(replayed: &Replayed) -> String {
    let mut text = format!("the broker took {} messages\n", replayed.taken);
    if replayed.kept_by_nobody > 0 {
        text += &format!(
            "{} of them are kept by nobody: the recipient has no session at the broker\n",
            replayed.kept_by_nobody
        );
    }
    if replayed.refused > 0 {
        text += &format!("it refused {}:\n", replayed.refused);
        for (seq, reason) in &replayed.reasons {
            text += &format!("  line {seq}: {reason}\n");
        }
        let untold = replayed.refused - replayed.reasons.len() as u64;
        if untold > 0 {
            text += &format!("  and {untold} more\n");
        }
    }
    text
}
