//! Opening connections: as whom, and for how long the broker keeps mail.

use std::time::Duration;

use rand::RngExt;
use sealpost_core::{Identity, LoginPassword, LoginToken, TopicFilter};
use sealpost_mqtt::{ChannelBinding, Route};
use tokio::sync::mpsc;

use super::{Purpose, closed};
use crate::account::Account;
use crate::clock;
use crate::exit::{Failure, not_connected};
use crate::mqtt::{Connect, Mqtt, MqttEvent};
use crate::store::Store;

/// A broker keeps our mail for 30 days after we left. Who only ever sends visits the mailbox this often.
const REOPEN_MAILBOX: Duration = Duration::from_secs(24 * 60 * 60);
/// How long opening the mailbox may take: `chat` and `listen` of the same home wait for it.
pub(crate) const MAILBOX_TIME: Duration = Duration::from_secs(5);

pub(super) fn receiving_client_id(store: &Store) -> Result<String, Failure> {
    Ok(format!("sealpost-{}", store.installation()?))
}

/// Connects; done when the broker has accepted.
pub(super) async fn start(
    account: &Account,
    broker: &Route,
    client_id: String,
    purpose: Purpose,
) -> Result<(Mqtt, mpsc::Receiver<MqttEvent>), Failure> {
    // A file that cannot be read is our own affair, not the broker's.
    broker.check()?;
    let connect = Connect {
        route: broker.clone(),
        client_id: client_id.clone(),
        durable: purpose == Purpose::Receive,
    };
    let credentials = credentials(account, account.identity(), client_id);
    let (mqtt, mut events) = Mqtt::start(connect, credentials);
    match events.recv().await {
        Some(MqttEvent::Connected) => Ok((mqtt, events)),
        Some(MqttEvent::Ended(error)) => Err(error.into()),
        _ => Err(closed()),
    }
}

/// Makes sure that the broker keeps mail for us from the moment our keys are published, and not only from the first
/// `listen`: opens the durable session, subscribes, and leaves it. What is delivered meanwhile is not acknowledged and
/// comes again.
pub(super) async fn open_mailbox(
    account: &Account,
    store: &mut Store,
    broker: &Route,
) -> Result<(), Failure> {
    let now = clock::now();
    let opened = store.mailbox_opened(&broker.to_string())?;
    if opened.is_some_and(|at| now.saturating_since(at) < REOPEN_MAILBOX) {
        return Ok(());
    }
    // Whoever receives right now has opened it.
    let Ok(_lock) = account.home().lock_mailbox() else {
        return Ok(());
    };
    let visit = visit_mailbox(account, store, broker);
    match tokio::time::timeout(MAILBOX_TIME, visit).await {
        Ok(visited) => visited?,
        // It is open already and can be visited by the next command.
        Err(_) if opened.is_some() => return Ok(()),
        Err(_) => return Err(not_connected(broker, MAILBOX_TIME)),
    }
    store.set_mailbox_opened(&broker.to_string(), now)?;
    Ok(())
}

async fn visit_mailbox(account: &Account, store: &Store, broker: &Route) -> Result<(), Failure> {
    let (mqtt, mut events) = start(
        account,
        broker,
        receiving_client_id(store)?,
        Purpose::Receive,
    )
    .await?;
    let mut answer = mqtt.subscribe(&[TopicFilter::Inbox(account.user().clone())]);
    loop {
        tokio::select! {
            answer = &mut answer => {
                answer.map_err(|_| closed())??;
                break;
            }
            event = events.recv() => match event {
                Some(MqttEvent::Ended(error)) => return Err(error.into()),
                Some(_) => {}
                None => return Err(closed()),
            },
        }
    }
    mqtt.disconnect().await;
    Ok(())
}

/// A fresh login token for every connection, bound to its TLS channel: the broker takes each once, and only for a minute.
pub(super) fn credentials(
    account: &Account,
    identity: &Identity,
    client_id: String,
) -> crate::mqtt::Credentials {
    let identity = identity.clone();
    let (realm, user) = (account.realm().clone(), account.user().clone());
    let invitation = account.invitation().cloned();
    Box::new(move |binding: &ChannelBinding| {
        let nonce: [u8; 16] = rand::rng().random();
        let token = LoginToken::mint(
            &identity,
            &realm,
            &user,
            &client_id,
            clock::now(),
            nonce,
            binding.as_bytes(),
        );
        let accepted = invitation.as_ref().and_then(|invitation| {
            let parsed = LoginToken::parse(&token).ok()?;
            let acceptance = invitation.accept(&realm, &user, &parsed);
            Some(LoginPassword::join(&token, &acceptance))
        });
        (user.to_string(), accepted.unwrap_or(token))
    })
}
