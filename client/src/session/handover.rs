//! After a change of identity: bringing the broker the bundle that links the old one to the new one.
//!
//! The broker binds a name to an identity, and moves the binding when it takes the linked bundle, which only the old
//! identity can bring (SPEC 10.3). So this is done before anything else, over a connection of its own, and it can be
//! begun again after a crash at any instant: if the old identity is let in, the bundle has not arrived; if it is not
//! and the new one is, it has.

use std::time::Duration;

use rand::RngExt;
use sealpost_core::{Identity, Topic};
use sealpost_mqtt::Route;
use tokio::sync::watch;

use super::closed;
use super::opening::credentials;
use crate::account::Account;
use crate::exit::{Failure, not_connected, not_published};
use crate::mqtt::{Connect, Mqtt, MqttError, MqttEvent, RECEIVE_MAXIMUM};

/// How long it may take.
const HAND_OVER_TIME: Duration = Duration::from_secs(10);

/// Moves our name at the broker to the new identity, if there is one that it may not know.
pub(crate) async fn hand_over(account: &mut Account, broker: &Route) -> Result<(), Failure> {
    if account.handing_over().is_none() {
        return Ok(());
    }
    // A file that cannot be read is our own affair, not the broker's.
    broker.check()?;
    tokio::time::timeout(HAND_OVER_TIME, bring(account, broker))
        .await
        .map_err(|_| not_connected(broker, HAND_OVER_TIME))??;
    Ok(account.handed_over()?)
}

async fn bring(account: &Account, broker: &Route) -> Result<(), Failure> {
    let Some(old) = account.handing_over() else {
        return Ok(());
    };
    let mqtt = match log_in(account, old, broker).await? {
        Ok(mqtt) => mqtt,
        // Then the broker has the bundle already, or our name is not ours any more: the new identity is the test.
        Err(MqttError::LoginRefused { .. }) => {
            let mqtt = log_in(account, account.identity(), broker).await??;
            mqtt.disconnect().await;
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let topic = Topic::Keys(account.user().clone());
    let bundle = account.bundle().as_bytes().to_vec();
    let answer = mqtt.publish(&topic, bundle, true).await;
    mqtt.disconnect().await;
    answer
        .map_err(|_| closed())?
        .map_err(|error| not_published(&error))
}

/// Connects as the identity, beside whatever else is connected for this home, and without a session that stays.
async fn log_in(
    account: &Account,
    identity: &Identity,
    broker: &Route,
) -> Result<Result<Mqtt, MqttError>, Failure> {
    let client_id = format!("sealpost-identity-{:016x}", rand::rng().random::<u64>());
    let connect = Connect {
        route: broker.clone(),
        client_id: client_id.clone(),
        durable: false,
        receive_maximum: RECEIVE_MAXIMUM,
    };
    let (_, identity) = watch::channel(identity.clone());
    let credentials = credentials(account, identity, client_id).await?;
    let (mqtt, mut events) = Mqtt::start(connect, credentials);
    match events.recv().await {
        Some(MqttEvent::Connected { .. }) => {
            // Nothing is subscribed, so nothing but the end of the connection can come; its answers tell of that.
            tokio::spawn(async move { while events.recv().await.is_some() {} });
            Ok(Ok(mqtt))
        }
        Some(MqttEvent::Ended(error)) => Ok(Err(error)),
        _ => Err(closed()),
    }
}
