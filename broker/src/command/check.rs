//! `check`: whether what a broker has kept is whole.

use super::GlobalArguments;
use super::failure::{Code, Failure};
use crate::access::registry::OpenError;
use crate::inspection;
use crate::journal::disk::DiskStore;
use crate::journal::store::StoreError;
use crate::settings::Settings;

/// Reads everything, and says what is wrong.
pub(super) fn run(global: GlobalArguments) -> Result<(), Failure> {
    let (config, overrides) = global.into_overrides();
    let Settings { data, realm, .. } = Settings::load(config, overrides)?;
    let (journal, users) = (data.join("journal"), data.join("users"));
    // Opening would make them.
    if !journal.is_dir() || !users.is_dir() {
        let text = format!("{data:?} is not the data directory of a broker");
        let hint = "name it with --data, or the broker's settings with --config";
        return Err(Failure::new(Code::Failed, text, hint));
    }
    let store = DiskStore::open(&journal).map_err(|error| match error {
        StoreError::InUse(_) => Failure::new(
            Code::Failed,
            format!("a broker runs on {data:?}"),
            "stop it first: while it writes, nothing can be said of what is on the disk",
        ),
        error => Failure::new(
            Code::Failed,
            format!("the journal cannot be opened: {error}"),
            "restore a backup",
        ),
    })?;
    let mut findings = inspection::journal(&store).map_err(|error| {
        Failure::new(
            Code::Failed,
            format!("the journal cannot be read to its end: {error}"),
            "restore a backup",
        )
    })?;
    inspection::users(&users, &realm, &mut findings)
        .map_err(|why| OpenError::Io { path: users, why })
        .map_err(|error| Failure::new(Code::Failed, error, ""))?;
    for (name, count) in &findings.counts {
        println!("{name:>13}: {count}");
    }
    for remark in &findings.remarks {
        println!("{remark}");
    }
    if findings.problems.is_empty() {
        println!("all is well");
        return Ok(());
    }
    for problem in &findings.problems {
        eprintln!("sealpost-broker: {problem}");
    }
    let all = findings.further + findings.problems.len() as u64;
    Err(Failure::new(
        Code::Failed,
        format!("{all} problems"),
        "keep a copy of the directory as it is, and restore a backup",
    ))
}
