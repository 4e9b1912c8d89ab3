//! What is ours alone: the home, the keys, the agent, the clock.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::Doctor;
use crate::account::Account;
use crate::event::{Check, date};
use crate::exit::Failure;
use crate::home::Home;
use crate::keystore::{KeystoreError, Protection};
use crate::passphrase::{self, PassphraseError};

/// Files of a home that nobody else may read or write.
const PRIVATE: [&str; 4] = [
    "keystore.json",
    "store.sqlite",
    "store.sqlite-wal",
    "store.sqlite-shm",
];

impl Doctor {
    /// Whether there is a home; and whose it is.
    pub(super) fn home(&mut self, home: &Home) -> Result<bool, Failure> {
        let path = home.path();
        let shown = crate::terminal::clean_line(&path.display().to_string());
        let Ok(metadata) = path.metadata() else {
            self.problem(
                Check::Home,
                format!("there is no home at {shown}"),
                "Check --user and --home. To begin: sealpost keys init",
            )?;
            return Ok(false);
        };
        let before = self.problems;
        let me = rustix::process::geteuid().as_raw();
        if metadata.uid() != me {
            self.problem(
                Check::Home,
                format!("{shown} belongs to another user of this machine"),
                "Run sealpost as the one whose home it is.",
            )?;
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            self.problem(
                Check::Home,
                format!("{shown} has mode {mode:04o}: others can write to it"),
                "chmod 700 the folder. If it was open for long, think of making new keys.",
            )?;
        } else if mode & 0o055 != 0 {
            self.note(
                Check::Home,
                format!("{shown} has mode {mode:04o}: others can see the names of its files"),
                "chmod 700 the folder.",
            )?;
        }
        for name in PRIVATE {
            self.private(&path.join(name), name)?;
        }
        if self.problems == before {
            self.good(Check::Home, format!("{shown} is yours alone"))?;
        }
        Ok(true)
    }

    fn private(&mut self, path: &Path, name: &str) -> Result<(), Failure> {
        let Ok(metadata) = path.metadata() else {
            // The keys have a word of their own when they are missing, and the others need not be there.
            return Ok(());
        };
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let hint = format!(
                "chmod 600 the file: it is refused until then. If it was open for long, think of making new keys. ({})",
                crate::terminal::clean_line(&path.display().to_string())
            );
            self.problem(
                Check::Home,
                format!("{name} has mode {mode:04o}: others can get at it"),
                &hint,
            )?;
        }
        Ok(())
    }

    /// The keys, unlocked when that is possible without harm.
    pub(super) fn keys(&mut self, home: &Home) -> Result<Option<Account>, Failure> {
        let until = crate::agent::status(home.path());
        let account = match self.look_at_keys(home) {
            Ok(account) => account,
            Err(KeystoreError::Passphrase(PassphraseError::NoTerminal)) => {
                self.note(
                    Check::Keys,
                    "the keys are locked: what depends on them was not looked at",
                    "Give --passphrase-command CMD, or start the agent: sealpost agent",
                )?;
                return Ok(None);
            }
            Err(error) => {
                self.failed(Check::Keys, &error.into())?;
                return Ok(None);
            }
        };
        self.inside(&account)?;
        let protected = account.protection() == Protection::Passphrase;
        match (protected, until) {
            (false, _) => self.note(
                Check::Keys,
                "the private keys lie unencrypted on disk",
                "Where somebody can type, or a keyring is: sealpost keys passphrase",
            )?,
            (true, Some(until)) => {
                let left = until.saturating_since(self.now).as_secs().div_ceil(60);
                self.good(
                    Check::Agent,
                    format!("the agent holds your key for {left} min"),
                )?;
            }
            (true, None) => {
                self.good(Check::Agent, "no agent holds your key: commands ask")?;
            }
        }
        let password = self.settings.broker_password_command.clone();
        Ok(Some(account.with_broker_password_command(password)))
    }

    fn look_at_keys(&self, home: &Home) -> Result<Account, KeystoreError> {
        let (user, realm) = (&self.settings.user, &self.settings.realm);
        if let Some(key) = crate::agent::key(home.path()) {
            match Account::look_with_key(home, user, realm, key) {
                // Of a passphrase before this one.
                Err(KeystoreError::WrongPassphrase(_)) => {}
                looked => return looked,
            }
        }
        let command = self.settings.passphrase_command.as_deref();
        let ask = || passphrase::existing(command, user.as_str());
        Account::look(home, user, realm, ask)
    }

    fn inside(&mut self, account: &Account) -> Result<(), Failure> {
        let now = self.now;
        let bundle = account.bundle();
        let fingerprint = account.identity_key().fingerprint();
        if account.is_retired() {
            self.problem(
                Check::Keys,
                "your keys are withdrawn: nobody can send to you, and you cannot send",
                "They never come back. Begin anew, under another name or with the operator's help.",
            )?;
        } else if bundle.expires() <= now {
            self.problem(
                Check::Keys,
                format!(
                    "your published keys have expired on {}: nobody can send to you",
                    date(bundle.expires())
                ),
                "Any command that connects makes them valid again: sealpost listen --timeout 5s",
            )?;
        } else {
            self.good(
                Check::Keys,
                format!("{fingerprint}, valid until {}", date(bundle.expires())),
            )?;
        }
        if account.handing_over().is_some() {
            self.note(
                Check::Keys,
                "your new identity is not with the broker yet",
                "The next command that connects brings it there: sealpost listen --timeout 5s",
            )?;
        }
        for age in account.key_ages() {
            let old = now.saturating_since(age.created);
            match (age.destroyed, self.settings.rotate_keys_after) {
                (Some(destroyed), _) if destroyed <= now => self.problem(
                    Check::Keys,
                    format!(
                        "an RSA key that was to be destroyed on {} is still there",
                        date(destroyed)
                    ),
                    "Any command that unlocks the keys destroys it: sealpost keys show",
                )?,
                (None, Some(after)) if old >= after && !account.is_retired() => self.note(
                    Check::Keys,
                    format!("your RSA key is {} days old, and due", days(old)),
                    "The next command that connects replaces it.",
                )?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Against what is known without anybody else: our own bundle was not made later than now.
    pub(super) fn clock(&mut self, account: Option<&Account>) -> Result<(), Failure> {
        let Some(account) = account else {
            return Ok(());
        };
        let made = account.bundle().created();
        if made > self.now {
            return self.problem(
                Check::Clock,
                format!(
                    "this machine's clock says {}, and your keys were made on {}",
                    date(self.now),
                    date(made)
                ),
                "Set the clock: with a wrong one the broker refuses the login.",
            );
        }
        Ok(())
    }
}

fn days(time: Duration) -> u64 {
    time.as_secs() / (24 * 60 * 60)
}
