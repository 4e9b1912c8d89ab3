//! `sealpost doctor`: looks at everything that has to be well, says what is not and what to do. It changes nothing.

mod broker;
mod own;
mod records;

use std::path::Path;

use sealpost_core::Timestamp;

use crate::account::Account;
use crate::clock;
use crate::event::{Check, Event, Printer, Verdict};
use crate::exit::{Code, Failure};
use crate::home::Home;
use crate::settings::Settings;
use crate::store::Store;

/// What is looked at, and what was found.
struct Doctor {
    settings: Settings,
    printer: Printer,
    now: Timestamp,
    /// How many findings must be mended.
    problems: u32,
}

/// Looks at everything.
pub(super) async fn run(
    settings: Settings,
    printer: Printer,
    started: impl FnOnce(),
) -> Result<(), Failure> {
    let mut doctor = Doctor {
        settings,
        printer,
        now: clock::now(),
        problems: 0,
    };
    let home = Home::at(&doctor.settings.home);
    let there = doctor.home(&home)?;
    let account = match there {
        true => doctor.keys(&home)?,
        false => None,
    };
    started();
    doctor.clock(account.as_ref())?;
    let store = match &account {
        Some(account) => doctor.store(&home, account)?,
        None => None,
    };
    doctor.brokers(account.as_ref(), store.as_ref()).await?;
    if let Some(store) = &store {
        doctor.outbox(store)?;
        doctor.contacts(store)?;
    }
    if there {
        doctor.disk(home.path())?;
    }
    match doctor.problems {
        0 => Ok(()),
        1 => Err(doctor.diagnosis("1 thing must be mended")),
        problems => Err(doctor.diagnosis(&format!("{problems} things must be mended"))),
    }
}

impl Doctor {
    fn diagnosis(&self, message: &str) -> Failure {
        Failure::new(
            Code::Failed,
            message,
            "The findings above say how. Then look again: sealpost doctor",
        )
    }

    fn say(
        &mut self,
        check: Check,
        verdict: Verdict,
        message: impl Into<String>,
        hint: Option<&str>,
    ) -> Result<(), Failure> {
        if verdict == Verdict::Problem {
            self.problems += 1;
        }
        self.printer.print(&Event::Finding {
            check,
            verdict,
            message: message.into(),
            hint: hint.map(str::to_owned),
        })?;
        Ok(())
    }

    fn good(&mut self, check: Check, message: impl Into<String>) -> Result<(), Failure> {
        self.say(check, Verdict::Good, message, None)
    }

    fn note(
        &mut self,
        check: Check,
        message: impl Into<String>,
        hint: &str,
    ) -> Result<(), Failure> {
        self.say(check, Verdict::Note, message, Some(hint))
    }

    fn problem(
        &mut self,
        check: Check,
        message: impl Into<String>,
        hint: &str,
    ) -> Result<(), Failure> {
        self.say(check, Verdict::Problem, message, Some(hint))
    }

    fn failed(&mut self, check: Check, failure: &Failure) -> Result<(), Failure> {
        self.problem(check, &failure.message, &failure.hint)
    }

    /// The store as it is, when there is one that can be looked into.
    fn store(&mut self, home: &Home, account: &Account) -> Result<Option<Store>, Failure> {
        match Store::look(&home.store(), account.store_key()) {
            Ok(Some(store)) => Ok(Some(store)),
            Ok(None) => {
                self.note(
                    Check::Outbox,
                    "there is no store of this version yet",
                    "The next command that needs it makes it.",
                )?;
                Ok(None)
            }
            Err(error) => {
                self.failed(Check::Outbox, &error.into())?;
                Ok(None)
            }
        }
    }

    fn disk(&mut self, home: &Path) -> Result<(), Failure> {
        const MIB: u64 = 1024 * 1024;
        /// Less may not hold what a full outbox needs while it is written: 256 MiB.
        const LITTLE: u64 = 256 * MIB;
        /// Less holds no message for long.
        const TOO_LITTLE: u64 = 16 * MIB;
        let Ok(disk) = rustix::fs::statvfs(home) else {
            return self.note(
                Check::Disk,
                "the free space under the home is not known",
                "Look yourself: df",
            );
        };
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let message = format!("{} MiB are free under the home", free / MIB);
        match free {
            ..TOO_LITTLE => self.problem(
                Check::Disk,
                message,
                "Make room: without it nothing is received, and nothing can be sent.",
            ),
            TOO_LITTLE..LITTLE => self.note(Check::Disk, message, "Make room before it is needed."),
            _ => self.good(Check::Disk, message),
        }
    }
}
