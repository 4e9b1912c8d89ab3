//! Opening connections: as whom.

use rand::RngExt;
use sealpost_core::{Identity, LoginPassword, LoginToken};
use sealpost_mqtt::{ChannelBinding, Route};
use tokio::sync::{mpsc, watch};

use super::closed;
use crate::account::Account;
use crate::clock;
use crate::exit::Failure;
use crate::mqtt::{Connect, Mqtt, MqttEvent};
use crate::passphrase;
use crate::store::Store;

pub(super) fn receiving_client_id(store: &Store) -> Result<String, Failure> {
    Ok(format!("sealpost-{}", store.installation()?))
}

/// Connects; done when the broker has accepted. Every connection is made as who `identity` says at that time.
pub(super) async fn start(
    account: &Account,
    broker: &Route,
    client_id: String,
    identity: watch::Receiver<Identity>,
    receive_maximum: u16,
) -> Result<(Mqtt, mpsc::Receiver<MqttEvent>), Failure> {
    // A file that cannot be read is our own affair, not the broker's.
    broker.check()?;
    let connect = Connect {
        route: broker.clone(),
        client_id: client_id.clone(),
        durable: true,
        receive_maximum,
    };
    let credentials = credentials(account, identity, client_id).await?;
    let (mqtt, mut events) = Mqtt::start(connect, credentials);
    match events.recv().await {
        Some(MqttEvent::Connected { .. }) => Ok((mqtt, events)),
        Some(MqttEvent::Ended(error)) => Err(error.into()),
        _ => Err(closed()),
    }
}

/// A fresh login token for every connection, bound to its TLS channel: the broker takes each once, and only for a minute.
/// Where a command prints a password, that one every time.
pub(crate) async fn credentials(
    account: &Account,
    identity: watch::Receiver<Identity>,
    client_id: String,
) -> Result<crate::mqtt::Credentials, Failure> {
    if let Some(command) = account.broker_password_command() {
        let (user, command) = (account.user().to_string(), command.to_owned());
        // It may take its time, and ask a person.
        let printed = tokio::task::spawn_blocking(move || passphrase::at_broker(&command));
        let password = printed.await.map_err(|_| closed())??;
        return Ok(Box::new(move |_: &ChannelBinding| {
            (user.clone(), password.as_str().to_owned())
        }));
    }
    let (realm, user) = (account.realm().clone(), account.user().clone());
    let invitation = account.invitation().cloned();
    Ok(Box::new(move |binding: &ChannelBinding| {
        let nonce: [u8; 16] = rand::rng().random();
        let identity = identity.borrow();
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
    }))
}
