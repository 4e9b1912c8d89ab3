//! What happens before the first reading: keys are made when there are none, and the recipient is found out.

use sealpost::account::Account;
use sealpost::clock;
use sealpost::contact::{self, Added};
use sealpost::event::{ContactChangeKind, Event, Printer};
use sealpost::exit::{Code, Failure};
use sealpost::home::Home;
use sealpost::keystore::KeystoreError;
use sealpost::passphrase::{self, PassphraseError};
use sealpost::settings::{Receiver, Settings};
use sealpost::store::Store;
use sealpost_core::{ContactLink, UserId};

/// The keys of a device, made now if there are none. Says whether they were.
///
/// # Errors
/// When they cannot be read or written, or belong to another name.
pub fn keys(home: &Home, settings: &Settings) -> Result<(Account, bool), Failure> {
    let Settings { user, realm, .. } = settings;
    let now = clock::now();
    let (account, made) = match home.keystore().exists() {
        true => {
            // Nobody is there to be asked.
            let passphrase = || match settings.passphrase_command.as_deref() {
                Some(command) => passphrase::existing(Some(command), user.as_str()),
                None => Err(PassphraseError::NoTerminal),
            };
            (Account::open(home, user, realm, passphrase, now)?, false)
        }
        false if user.is_reserved() => {
            return Err(Failure::new(
                Code::Usage,
                format!("the name {user} is reserved"),
                "Choose another name.",
            ));
        }
        false => match Account::create(home, user, realm, None, now) {
            // Another process was faster.
            Err(KeystoreError::Exists(_)) => (
                Account::open(home, user, realm, || Err(PassphraseError::NoTerminal), now)?,
                false,
            ),
            created => (created?, true),
        },
    };
    let account = account
        .with_invitation(settings.invitation.clone())
        .with_rotation(settings.rotate_keys_after)
        .with_passphrase_command(settings.passphrase_command.clone())
        .with_broker_password_command(settings.broker_password_command.clone());
    Ok((account, made))
}

/// To whom readings go. Whoever a link names is pinned by it, the first time that it is given: afterwards their own word counts, for
/// they may have new keys.
///
/// # Errors
/// When the link is of another realm, or contradicts what is known; when a name is not that of a verified contact.
pub fn recipient(
    store: &mut Store,
    account: &Account,
    to: Option<&Receiver>,
    log: &mut Printer,
) -> Result<UserId, Failure> {
    let to = to.ok_or_else(|| {
        Failure::new(
            Code::Usage,
            "nobody said to whom readings go",
            "Give the contact link of the one who is to read them (`sealpost invite` prints it): --to LINK, SEALPOST_DEVICE_TO, or \
             `to` in the table [device] of the configuration file. It is needed at each start.",
        )
    })?;
    let user = to.user();
    if user == account.user() {
        return Err(Failure::new(
            Code::Usage,
            format!("{user} is this device"),
            "Name somebody else.",
        ));
    }
    let name = match to {
        Receiver::Link(link) => link.to_string(),
        Receiver::Contact(user) => user.to_string(),
    };
    let followed = store.followed_link()?.as_deref() == Some(name.as_str());
    if !followed {
        match to {
            Receiver::Link(link) => follow(store, account, link, log)?,
            Receiver::Contact(user) => {
                let contact = store.contact(user)?;
                if !contact.is_some_and(|contact| contact.pin.verified) {
                    return Err(Failure::new(
                        Code::Untrusted,
                        format!("{user} is no verified contact of this device"),
                        format!(
                            "Give the contact link of {user} instead of the name: `sealpost invite` prints it."
                        ),
                    ));
                }
            }
        }
        store.set_followed_link(&name)?;
    }
    Ok(user.clone())
}

fn follow(
    store: &mut Store,
    account: &Account,
    link: &ContactLink,
    log: &mut Printer,
) -> Result<(), Failure> {
    if link.realm != *account.realm() {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "the link is for the realm {}, and the device's is {}",
                link.realm,
                account.realm()
            ),
            "Give --realm: everybody who talks to each other needs the same one.",
        ));
    }
    let (user, identity) = (&link.user, &link.identity);
    match contact::add(store, user, identity, clock::now())? {
        Added::Pinned => {
            log.print(&Event::contact(
                user,
                ContactChangeKind::Added,
                identity,
                true,
            ))?;
        }
        Added::Verified => {
            log.print(&Event::contact(
                user,
                ContactChangeKind::Verified,
                identity,
                true,
            ))?;
        }
        Added::Contradicts { pinned } => {
            log.print(&contact::contradiction_event(user, &pinned, identity))?;
            return Err(Failure::new(
                Code::Untrusted,
                format!("the link and what is known of {user} contradict each other"),
                "Nothing was changed.",
            ));
        }
    }
    Ok(())
}
