//! What an operator does to a broker: to the running one, or to the files of one that does not run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rumqttd::protocol::DisconnectReasonCode;
use sealpost_core::{IdentityKey, Timestamp, UserId};
use tokio::sync::mpsc;

use super::answer::{Item, UserLine};
use super::request::Request;
use crate::access::audit::{Audit, Entry, Source};
use crate::access::password::PasswordHash;
use crate::access::registry::{
    AdministerError, BundleTurn, Claim, Invited, RegisterError, Registry,
};
use crate::access::rules::Rules;
use crate::backup::taking::{Contents, Taken};
use crate::broker::Broker;
use crate::clock;
use crate::delivery::wire::Goodbye;
use crate::journal::disk::DiskStore;
use crate::journal::store::Store;
use crate::transport::certificates::Certificates;

/// How often whoever waits for a backup is told that it is still being written.
const STILL_WRITING: Duration = Duration::from_secs(5);

/// How often whoever waits for the broker's end is told what it waits for.
const STILL_CLOSING: Duration = Duration::from_secs(1);

/// Users in one page.
const PAGE: usize = 1_000;

/// Who administers what.
#[derive(Debug)]
pub struct Administration {
    registry: Arc<Registry>,
    audit: Arc<Audit>,
    /// None when no broker runs.
    broker: Option<Arc<Broker>>,
    /// Those that TLS is served with, if it is.
    certificates: Option<Arc<Certificates>>,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub message: String,
    /// What to do; may be empty.
    pub hint: String,
}

impl From<AdministerError> for Failed {
    fn from(error: AdministerError) -> Failed {
        let hint = match &error {
            AdministerError::Unknown(_) => "`sealpost-broker users list` lists all names",
            AdministerError::Reserved(_) => "names of roles are nobody's; choose another",
            AdministerError::Removed(_) => {
                "whoever had this name may still be written to by old contacts, so nobody else gets it; choose another"
            }
            AdministerError::Registered(user) => {
                return Failed {
                    hint: format!(
                        "if {user} has lost their keys: `sealpost-broker users reset-identity {user}`"
                    ),
                    message: error.to_string(),
                };
            }
            AdministerError::Full => "limits.users in the settings is the bound",
            AdministerError::Disk(_) => "nothing was changed; look at the data directory's disk",
        };
        Failed {
            message: error.to_string(),
            hint: hint.into(),
        }
    }
}

fn fail<T>(message: impl ToString, hint: &str) -> Result<T, Failed> {
    Err(Failed {
        message: message.to_string(),
        hint: hint.into(),
    })
}

impl Administration {
    /// Of a broker that does not run.
    #[must_use]
    pub fn of_files(registry: Registry, audit: Audit) -> Administration {
        Administration {
            registry: Arc::new(registry),
            audit: Arc::new(audit),
            broker: None,
            certificates: None,
        }
    }

    /// Of a running broker, and of the certificates that it serves TLS with.
    #[must_use]
    pub fn of_broker(
        broker: Arc<Broker>,
        certificates: Option<Arc<Certificates>>,
    ) -> Administration {
        Administration {
            registry: Arc::clone(&broker.registry),
            audit: Arc::clone(&broker.audit),
            broker: Some(broker),
            certificates,
        }
    }

    /// Does what is asked for, and leaves a line in the audit log of what changes anything. Items of the answer go to
    /// `items`; nobody has to listen.
    ///
    /// # Errors
    /// [`Failed`]; nothing was changed then.
    pub async fn perform(&self, request: Request, items: mpsc::Sender<Item>) -> Result<(), Failed> {
        if let Request::Users { after } = request {
            return self.list(after, items).await;
        }
        let (what, user) = describe(&request);
        let user = user.to_owned();
        let wait = request == Request::Drain { wait: true };
        let performed = self.change(request, &items).await;
        let outcome = match &performed {
            Ok(()) => "done",
            Err(failed) => &failed.message,
        };
        if performed.is_ok() {
            tracing::info!(what, ?user, outcome, "administration");
        } else {
            tracing::warn!(what, ?user, outcome, "administration");
        }
        self.audit.record(
            Source::Operator,
            Entry::Administration {
                what,
                user: &user,
                outcome,
            },
        );
        if wait && performed.is_ok() {
            self.tell_until_the_end(&items).await;
        }
        performed
    }

    /// Waits until the audit log is written, before the process ends.
    pub async fn finish(&self) {
        self.audit.flush().await;
    }

    async fn list(&self, after: Option<String>, items: mpsc::Sender<Item>) -> Result<(), Failed> {
        let after = after.map(|name| parse_user(&name)).transpose()?;
        for (user, record) in self.registry.page(after.as_ref(), PAGE) {
            let line = UserLine::new(&user, &record);
            if items.send(Item::User(line)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn change(&self, request: Request, items: &mpsc::Sender<Item>) -> Result<(), Failed> {
        let now = clock::now();
        match request {
            Request::Users { .. } => {}
            Request::AddUser { user, key: None } => {
                self.registry.hold(&parse_user(&user)?, now).await?;
            }
            Request::AddUser {
                user,
                key: Some(key),
            } => self.register(&parse_user(&user)?, &key, now).await?,
            Request::Invite { user, key, expires } => {
                let invited = parse_invited(&key, expires)?;
                let user = parse_user(&user)?;
                self.registry.invite(&user, invited, now).await?;
            }
            Request::Enable { user } => {
                self.registry.set_enabled(&parse_user(&user)?, true).await?;
            }
            Request::Disable { user } => {
                let user = parse_user(&user)?;
                self.registry.set_enabled(&user, false).await?;
                self.disconnect(&user, "the operator has disabled this user");
            }
            Request::Remove { user } => {
                let user = parse_user(&user)?;
                let turn = self.registry.remove(&user).await?;
                if let Some(broker) = &self.broker {
                    let goodbye = goodbye("the operator has removed this user");
                    broker.board.end_owner(user.as_str(), &goodbye);
                }
                self.withdraw(&user, turn).await?;
            }
            Request::ResetIdentity { user, key, expires } => {
                let invited = parse_invited(&key, expires)?;
                let user = parse_user(&user)?;
                let turn = self.registry.reset_identity(&user, invited).await?;
                self.disconnect(&user, "the operator has reset this user's identity");
                self.withdraw(&user, turn).await?;
            }
            Request::SetPassword { user, hash } => {
                let hash = hash.as_deref().map(PasswordHash::parse).transpose();
                let hash = hash.or_else(|error| fail(error, ""))?;
                let user = parse_user(&user)?;
                self.registry.set_password(&user, hash, now).await?;
                self.disconnect(&user, "the password has changed; log in again");
            }
            Request::Backup { file } => self.back_up(file, items).await?,
            Request::Drain { .. } => self.drain()?,
            Request::Reload {} => self.reload().await?,
        }
        Ok(())
    }

    async fn register(&self, user: &UserId, key: &str, now: Timestamp) -> Result<(), Failed> {
        let key = parse_key(key)?;
        let registered = self.registry.register(user, &key, Claim::Operator, now);
        registered.await.map_err(|error| match error {
            RegisterError::Reserved => AdministerError::Reserved(user.clone()).into(),
            RegisterError::Removed => AdministerError::Removed(user.clone()).into(),
            RegisterError::Full => AdministerError::Full.into(),
            RegisterError::Disk(error) => AdministerError::Disk(error).into(),
            RegisterError::Taken | RegisterError::Held | RegisterError::NotInvited => {
                AdministerError::Registered(user.clone()).into()
            }
        })
    }

    /// Writes a backup; tells now and then that it still does, and at the end how much there was.
    async fn back_up(&self, file: PathBuf, items: &mpsc::Sender<Item>) -> Result<(), Failed> {
        if !file.is_absolute() {
            return fail("a backup needs the whole path of its file", "");
        }
        let journal = match &self.broker {
            Some(broker) => broker.board.journal().snapshot().await,
            None => {
                let dir = self.registry.dir().with_file_name("journal");
                if !dir.is_dir() {
                    return fail(format!("there is no journal at {dir:?}"), "");
                }
                DiskStore::open(&dir).and_then(|store| store.snapshot())
            }
        };
        let journal = match journal {
            Ok(journal) => journal,
            Err(error) => return fail(error, "nothing was written"),
        };
        let contents = Contents {
            journal,
            users: self.registry.dir().to_owned(),
            realm: self.registry.realm().clone(),
            now: clock::now(),
        };
        let writing = tokio::task::spawn_blocking(move || contents.write_to(&file));
        tokio::pin!(writing);
        let written = loop {
            tokio::select! {
                written = &mut writing => break written,
                () = tokio::time::sleep(STILL_WRITING) => {
                    // Nobody has to listen.
                    let _ = items.send(Item::Writing).await;
                }
            }
        };
        match written {
            Ok(Ok(taken)) => {
                let Taken { users, rows, bytes } = taken;
                let _ = items.send(Item::Written { users, rows, bytes }).await;
                Ok(())
            }
            Ok(Err(error)) => fail(
                error,
                "the broker writes it, as the user that it runs as: choose a place where it can, and where there is none of that name",
            ),
            Err(error) => fail(error, ""),
        }
    }

    fn drain(&self) -> Result<(), Failed> {
        let Some(broker) = &self.broker else {
            return fail("no broker runs on this data directory", "");
        };
        broker.life.drain();
        Ok(())
    }

    /// Tells how far the end has come, for as long as there is a process to tell and somebody to be told.
    async fn tell_until_the_end(&self, items: &mpsc::Sender<Item>) {
        let Some(broker) = &self.broker else {
            return;
        };
        let notice = broker.settings.shutdown.notice.into();
        let _ = items.send(Item::Draining { notice }).await;
        broker.life.goodbye().cancelled().await;
        loop {
            let clients = u64::try_from(broker.life.clients()).unwrap_or(u64::MAX);
            if items.send(Item::Closing { clients }).await.is_err() {
                return;
            }
            tokio::time::sleep(STILL_CLOSING).await;
        }
    }

    /// Reads every file again. Each that is good is in force afterwards, whatever became of the others.
    async fn reload(&self) -> Result<(), Failed> {
        let Some(broker) = &self.broker else {
            return fail(
                "no broker runs on this data directory",
                "it reads everything when it starts",
            );
        };
        let mut bad = Vec::new();
        if let Err(error) = broker.audit.reopen().await {
            bad.push(format!("the audit log: {error}"));
        }
        if let Some(certificates) = self.certificates.clone() {
            let read = tokio::task::spawn_blocking(move || certificates.reload()).await;
            if let Err(why) = read.unwrap_or_else(|error| Err(error.to_string())) {
                bad.push(format!("TLS: {why}"));
            }
        }
        if let Some(path) = broker.settings.rules.clone() {
            let read = tokio::task::spawn_blocking(move || Rules::read(&path)).await;
            match read {
                Ok(Ok(rules)) => {
                    tracing::info!(rules = rules.len(), "the rule file was read again");
                    broker.permission.set_rules(rules);
                    broker.review_subscriptions();
                }
                Ok(Err(error)) => bad.push(error.to_string()),
                Err(error) => bad.push(error.to_string()),
            }
        }
        if bad.is_empty() {
            return Ok(());
        }
        fail(
            bad.join("; "),
            "what was in use before stays in use; repair the file and reload again",
        )
    }

    /// Ends the connections of a user.
    fn disconnect(&self, user: &UserId, why: &str) {
        if let Some(broker) = &self.broker {
            broker.board.disconnect_owner(user.as_str(), &goodbye(why));
        }
    }

    /// Takes the bundle of a name that is no longer bound out of everybody's sight, in its turn.
    async fn withdraw(&self, user: &UserId, turn: BundleTurn) -> Result<(), Failed> {
        if let Some(broker) = &self.broker
            && let Err(error) = broker.withdraw_bundle(user).await
        {
            return fail(error, "it is done, and the broker is about to end");
        }
        drop(turn);
        Ok(())
    }
}

fn goodbye(why: &str) -> Goodbye {
    Goodbye::new(DisconnectReasonCode::AdministrativeAction, why)
}

/// In a word, and whom it is about.
fn describe(request: &Request) -> (&'static str, &str) {
    match request {
        Request::Users { .. } => ("list", ""),
        Request::AddUser { user, .. } => ("add", user),
        Request::Invite { user, .. } => ("invite", user),
        Request::Enable { user } => ("enable", user),
        Request::Disable { user } => ("disable", user),
        Request::Remove { user } => ("remove", user),
        Request::ResetIdentity { user, .. } => ("reset-identity", user),
        Request::SetPassword { user, hash: None } => ("remove-password", user),
        Request::SetPassword { user, .. } => ("set-password", user),
        Request::Backup { .. } => ("backup", ""),
        Request::Drain { .. } => ("drain", ""),
        Request::Reload {} => ("reload", ""),
    }
}

fn parse_user(name: &str) -> Result<UserId, Failed> {
    UserId::parse(name).or_else(|error| {
        fail(
            format!("{name:?} is not a user name: {error}"),
            "a user name has a-z, 0-9, _ and -, begins with a letter or digit, and has at most 64 characters",
        )
    })
}

fn parse_key(key: &str) -> Result<IdentityKey, Failed> {
    IdentityKey::from_base64(key).or_else(|error| {
        fail(
            format!("{key:?} is not an identity key: {error}"),
            "`sealpost keys show` prints it",
        )
    })
}

fn parse_invited(key: &str, expires: Timestamp) -> Result<Invited, Failed> {
    let key = parse_key(key)?;
    Ok(Invited { key, expires })
}
