//! `sealpost keys`: make, show, rotate.

use std::time::Duration;

use super::{Start, ask};
use crate::account::Account;
use crate::cli::KeysCommand;
use crate::clock;
use crate::event::{Event, KeyInfo, Printer, Time};
use crate::exit::{Code, Failure};
use crate::home::{Home, HomeError};
use crate::keystore::Protection;
use crate::passphrase;
use crate::session::{Manner, Parts, Session, hand_over};
use crate::store::hex;

/// How long to try to publish; the next command that connects does it otherwise.
const PUBLISH_TIME: Duration = Duration::from_secs(10);
/// How often we look whether another process has published.
const GLANCE: Duration = Duration::from_millis(50);

pub(super) async fn run(
    mut start: Start,
    command: KeysCommand,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let (account, publish) = match command {
        KeysCommand::Init {
            no_passphrase,
            no_publish,
        } => (init(&mut start, no_passphrase)?, !no_publish),
        KeysCommand::Show => {
            let account = start.unlock()?;
            start.printer.print(&keys_event(&account, None))?;
            return Ok(());
        }
        KeysCommand::Rotate {
            identity,
            no_publish,
        } => {
            let mut account = start.unlock()?;
            if identity {
                let old = account.identity_key().fingerprint();
                account.rotate_identity(clock::now())?;
                start.printer.note(&format!(
                    "sealpost: your identity was {old} and is {}; contacts are told, and nobody has verified it yet.",
                    account.identity_key().fingerprint()
                ))?;
            } else {
                account.rotate(clock::now())?;
            }
            (account, !no_publish)
        }
        KeysCommand::Passphrase {
            new_command,
            remove,
        } => {
            change_passphrase(&mut start, new_command.as_deref(), remove)?;
            return Ok(());
        }
        KeysCommand::Revoke { yes } => (revoke(&mut start, yes)?, true),
    };
    let event = keys_event(&account, Some(false));
    if !publish {
        start.printer.print(&event)?;
        return Ok(());
    }
    let store = start.open_store(&account)?;
    started();
    let Start {
        settings,
        home,
        mut printer,
        stop,
    } = start;
    let mut remarks = Printer::standard(printer.is_json());
    remarks.let_remarks_go();
    let parts = Parts {
        account,
        store,
        printer: remarks,
    };
    // The keys are made whether or not the broker is there: that it is not is worth a word, not a failure.
    let published = tokio::select! {
        published = publish_now(&home, parts, settings.broker) => published,
        () = stop.cancelled() => Ok(false),
    };
    match published {
        Ok(published) => printer.print(&with_published(event, published))?,
        Err(failure) => {
            printer.print(&with_published(event, false))?;
            if failure.code == Code::Refused {
                return Err(failure);
            }
            printer.note(&format!("sealpost: {}", failure.message))?;
        }
    }
    Ok(())
}

fn change_passphrase(
    start: &mut Start,
    new_command: Option<&str>,
    remove: bool,
) -> Result<(), Failure> {
    // Not with an agent's key: whoever changes the passphrase knows it.
    let mut account = start.ask_and_unlock()?;
    let fresh = if remove {
        None
    } else {
        Some(passphrase::fresh(new_command, account.user().as_str())?)
    };
    account.protect(fresh.as_ref())?;
    // What it holds opens nothing any more.
    let _ = crate::agent::lock(start.home.path());
    start.printer.print(&keys_event(&account, None))?;
    Ok(())
}

fn revoke(start: &mut Start, yes: bool) -> Result<Account, Failure> {
    let mut account = start.unlock()?;
    let fingerprint = account.identity_key().fingerprint();
    if !yes && !account.is_retired() {
        let question = format!(
            "This ends {} ({fingerprint}) for good: nobody can send to you any more, and it cannot be undone. Revoke your keys? \
             Type yes or no: ",
            account.user()
        );
        if !ask(start, &question, "In a script, give --yes.")? {
            return Err(Failure::new(
                Code::Failed,
                "nothing was revoked",
                "Your keys are as they were.",
            ));
        }
    }
    account.revoke(clock::now())?;
    start.printer.note(&format!(
        "sealpost: {fingerprint} is revoked. What to do next:\n  \
         1. Tell your contacts in some other way: a thief with your keys can still sign as you.\n  \
         2. Ask the broker's operator to lock the name: sealpost-broker users disable {user}\n  \
         3. Begin anew with new keys in another --home: under a new name, or under this one when the operator has freed it \
         (sealpost-broker users reset-identity {user}); your contacts then see a changed identity and must accept it.",
        user = account.user()
    ))?;
    Ok(account)
}

fn init(start: &mut Start, no_passphrase: bool) -> Result<Account, Failure> {
    let settings = &start.settings;
    if start.home.keystore().exists() {
        let exists = crate::keystore::KeystoreError::Exists(start.home.path().to_owned());
        return Err(exists.into());
    }
    if settings.user.is_reserved() {
        return Err(Failure::new(
            Code::Usage,
            format!("the name {} is reserved", settings.user),
            "Choose another name.",
        ));
    }
    let passphrase = if no_passphrase {
        start.printer.note(
            "sealpost: the private keys lie unencrypted on disk: whoever can read the file is you",
        )?;
        None
    } else {
        let command = settings.passphrase_command.as_deref();
        Some(passphrase::fresh(command, settings.user.as_str())?)
    };
    Ok(Account::create(
        &start.home,
        &settings.user,
        &settings.realm,
        passphrase.as_ref(),
        clock::now(),
    )?
    .with_invitation(settings.invitation.clone())
    .with_broker_password_command(settings.broker_password_command.clone()))
}

/// Brings the bundle to the broker, or waits until the process that receives for this home has done it.
async fn publish_now(
    home: &Home,
    parts: Parts,
    broker: sealpost_mqtt::Route,
) -> Result<bool, Failure> {
    let lock = home.lock_errand();
    let mut parts = parts;
    let work = async {
        // Over a connection of its own: it works beside whatever runs.
        if parts.account.handing_over().is_some() {
            hand_over(&mut parts.account, &broker).await?;
            if lock.is_err() {
                return Ok(true);
            }
        }
        let Parts { account, store, .. } = &parts;
        match lock {
            Ok(_lock) => {
                let manner = Manner {
                    limit: 0,
                    quiet: true,
                    ..Manner::default()
                };
                let mut session =
                    Session::connect(parts, broker, manner, std::future::pending()).await?;
                while !session.is_own_bundle_settled() {
                    session.next().await?;
                }
                session.close().await?;
                Ok(true)
            }
            Err(HomeError::AlreadyReceiving { .. }) => {
                let digest = hex(&account.bundle().digest());
                while store.published(&broker.to_string())?.as_ref() != Some(&digest) {
                    tokio::time::sleep(GLANCE).await;
                }
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    };
    tokio::time::timeout(PUBLISH_TIME, Box::pin(work))
        .await
        .unwrap_or(Ok(false))
}

fn keys_event(account: &Account, published: Option<bool>) -> Event {
    let bundle = account.bundle();
    Event::Keys {
        user: account.user().to_string(),
        realm: account.realm().to_string(),
        fingerprint: account.identity_key().fingerprint(),
        identity: account.identity_key().to_base64(),
        seq: bundle.seq(),
        expires: Time(bundle.expires()),
        encryption: account
            .key_ages()
            .into_iter()
            .map(|age| KeyInfo {
                created: Time(age.created),
                replaced: age.replaced.map(Time),
                destroyed: age.destroyed.map(Time),
            })
            .collect(),
        passphrase: account.protection() == Protection::Passphrase,
        revoked: account.is_retired(),
        published,
    }
}

fn with_published(mut event: Event, now: bool) -> Event {
    if let Event::Keys { published, .. } = &mut event {
        *published = Some(now);
    }
    event
}
