//! The will of a connection: taken at CONNECT, published when the connection ends without a normal DISCONNECT.

use std::sync::Arc;
use std::time::Duration;

use rumqttd::protocol::{ConnectReturnCode, LastWill, LastWillProperties, PublishProperties};
use sealpost_core::Topic;

use super::joining::{Denial, deny};
use crate::access::admission::Principal;
use crate::access::permission::{Permitted, Refused};
use crate::broker::Broker;
use crate::clock;
use crate::delivery::wills::{Departed, Will};
use crate::order::dispatcher::Ticket;
use crate::order::router_link::{RouterError, Submission};
use crate::protocol::message::split_expiry;
use crate::protocol::outcome::Outcome;
use crate::protocol::topic_name::TopicName;

/// Takes a will, if its owner may publish it now. Whether that still holds is asked again when it is published.
pub(super) async fn take(
    broker: &Broker,
    principal: &Principal,
    will: LastWill,
    properties: Option<LastWillProperties>,
) -> Result<Will, Denial> {
    let LastWill {
        topic,
        message,
        qos,
        retain,
    } = will;
    let topic = match TopicName::parse(&topic) {
        Ok(topic) => topic,
        Err(error) => {
            let code = ConnectReturnCode::TopicNameInvalid;
            return deny(code, format!("the will's topic: {error}"));
        }
    };
    let (properties, delay) = open_up(properties);
    let utf8 = properties
        .as_ref()
        .is_some_and(|properties| properties.payload_format_indicator == Some(1));
    if utf8 && std::str::from_utf8(&message).is_err() {
        let code = ConnectReturnCode::PayloadFormatInvalid;
        return deny(code, "the will says that it is UTF-8 and is not");
    }
    // A slice of the read buffer otherwise, which would stay as long as the connection.
    let payload = bytes::Bytes::copy_from_slice(&message);
    if let Err(Refused { outcome, text }) =
        check(broker, principal, &topic, &payload, retain, &properties).await
    {
        tracing::info!(%principal, ?topic, ?outcome, text, "will refused");
        return deny(refusal(outcome), format!("the will: {text}"));
    }
    let Some(place) = broker.wills.reserve() else {
        let code = ConnectReturnCode::QuotaExceeded;
        return deny(code, "the broker has as many wills as it takes");
    };
    Ok(Will {
        topic,
        payload,
        qos,
        retain,
        properties: properties.map(Box::new),
        delay,
        place,
    })
}

/// The properties that travel on with the message, and the will's delay.
fn open_up(properties: Option<LastWillProperties>) -> (Option<PublishProperties>, Duration) {
    let Some(LastWillProperties {
        delay_interval,
        payload_format_indicator,
        message_expiry_interval,
        content_type,
        response_topic,
        correlation_data,
        user_properties,
    }) = properties
    else {
        return (None, Duration::ZERO);
    };
    let delay = Duration::from_secs(delay_interval.unwrap_or(0).into());
    let travels = PublishProperties {
        payload_format_indicator,
        message_expiry_interval,
        topic_alias: None,
        response_topic,
        correlation_data,
        user_properties,
        subscription_identifiers: Vec::new(),
        content_type,
    };
    let travels = Some(travels).filter(|travels| *travels != PublishProperties::default());
    (travels, delay)
}

async fn check(
    broker: &Broker,
    principal: &Principal,
    topic: &TopicName,
    payload: &[u8],
    retain: bool,
    properties: &Option<PublishProperties>,
) -> Result<(), Refused> {
    let keys = matches!(Topic::parse(topic.as_str()), Ok(Topic::Keys(_)));
    if keys && *principal != Principal::Anyone {
        // A bundle takes effect when it is checked, and keys change by their owner's hand alone.
        return Err(Refused {
            outcome: Outcome::NotAuthorized,
            text: "keys are not changed by a will".into(),
        });
    }
    let now = clock::now();
    let permitted =
        broker
            .permission
            .publish(principal, topic, payload, retain, properties.clone(), now);
    permitted.await.map(drop)
}

fn refusal(outcome: Outcome) -> ConnectReturnCode {
    match outcome {
        Outcome::Accepted | Outcome::NobodyThere | Outcome::Failed => {
            ConnectReturnCode::UnspecifiedError
        }
        Outcome::NotAuthorized => ConnectReturnCode::NotAuthorized,
        Outcome::TopicNameInvalid => ConnectReturnCode::TopicNameInvalid,
        Outcome::QuotaExceeded(_) => ConnectReturnCode::QuotaExceeded,
        Outcome::PayloadFormatInvalid => ConnectReturnCode::PayloadFormatInvalid,
    }
}

/// Publishes wills as they become due, until all are published after [`Wills::close`](crate::delivery::wills::Wills).
///
/// # Errors
/// [`RouterError`] when there is no order to publish into any longer.
pub async fn publish_due(broker: Arc<Broker>) -> Result<(), RouterError> {
    while let Some(departed) = broker.wills.due().await {
        let mut published = Vec::with_capacity(departed.len());
        for departed in departed {
            let wire = Arc::clone(&departed.wire);
            if publish(&broker, departed).await? {
                published.push(wire);
            }
        }
        // So that wills wait here, where they are bounded, and so that all are delivered when this ends.
        for wire in published {
            while !wire.all_dispatched() {
                wire.room.notified().await;
            }
        }
    }
    Ok(())
}

/// Returns whether it was submitted.
async fn publish(broker: &Broker, departed: Departed<Principal>) -> Result<bool, RouterError> {
    let Departed {
        principal,
        will,
        session,
        wire,
    } = departed;
    let Will {
        topic,
        payload,
        qos,
        retain,
        properties,
        delay: _,
        place: _place,
    } = will;
    let properties = properties.map(|properties| *properties);
    let checked = check(broker, &principal, &topic, &payload, retain, &properties).await;
    let permitted = match checked {
        Ok(()) => {
            let now = clock::now();
            let permission = &broker.permission;
            permission
                .publish(&principal, &topic, &payload, retain, properties, now)
                .await
        }
        Err(refused) => Err(refused),
    };
    let Permitted {
        route, properties, ..
    } = match permitted {
        Ok(permitted) => permitted,
        Err(Refused { outcome, text }) => {
            tracing::info!(%principal, ?topic, ?outcome, text, "will refused when it was due");
            return Ok(false);
        }
    };
    let (properties, expires) = split_expiry(properties, clock::now());
    let sender = match &principal {
        Principal::User(name) => Some(name.as_str().into()),
        Principal::Archiver(_) | Principal::Operator(_) | Principal::Anyone => None,
    };
    wire.count_submitted();
    let rider = Ticket {
        topic,
        qos,
        pkid: 0,
        retain,
        supersedes: false,
        properties,
        expires,
        sender,
        // A session that has ended has no subscription left that could ask for no local messages.
        origin: session.upgrade(),
        wire,
        receipt: None,
    };
    let submission = Submission {
        route,
        payload,
        rider,
    };
    broker.order.submit(vec![submission]).await?;
    Ok(true)
}
