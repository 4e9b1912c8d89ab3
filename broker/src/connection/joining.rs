//! From CONNECT to a session: who it is, what it may have, and the CONNACK.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttd::protocol::{ConnAck, ConnAckProperties, ConnectReturnCode, LastWill, Packet};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{GOODBYE_WAIT, Joined};
use crate::access::admission::{Attempt, Channel, Principal};
use crate::broker::Broker;
use crate::clock;
use crate::delivery::board::SessionKey;
use crate::delivery::session::Attachment;
use crate::delivery::wire::{RECEIVE_MAXIMUM, Wire};
use crate::protocol::packet::{IncomingConnect, Version, encode};

/// Bytes of the longest client id. It is kept for as long as the session.
const MAX_CLIENT_ID: usize = 256;

/// A CONNECT that was turned away.
pub(super) struct Denial {
    pub(super) code: ConnectReturnCode,
    pub(super) text: String,
}

fn deny<T>(code: ConnectReturnCode, text: impl Into<String>) -> Result<T, Denial> {
    Err(Denial {
        code,
        text: text.into(),
    })
}

pub(super) async fn refuse(
    writer: &mut (impl AsyncWrite + Unpin),
    version: Version,
    code: ConnectReturnCode,
    text: &str,
) {
    let code = match (version, code) {
        (Version::V5, code) => code,
        // MQTT 3.1.1 knows five codes; the codec writes no other.
        (
            Version::V311,
            ConnectReturnCode::RefusedProtocolVersion
            | ConnectReturnCode::ClientIdentifierNotValid
            | ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::NotAuthorized,
        ) => code,
        (
            Version::V311,
            ConnectReturnCode::ServerUnavailable | ConnectReturnCode::QuotaExceeded,
        ) => ConnectReturnCode::ServiceUnavailable,
        (Version::V311, _) => ConnectReturnCode::NotAuthorized,
    };
    let properties = ConnAckProperties {
        reason_string: Some(text.to_owned()).filter(|text| !text.is_empty()),
        ..ConnAckProperties::default()
    };
    let mut out = BytesMut::new();
    if encode(
        version,
        Packet::ConnAck(
            ConnAck {
                session_present: false,
                code,
            },
            Some(properties),
        ),
        &mut out,
    )
    .is_ok()
    {
        let _ = timeout(GOODBYE_WAIT, async {
            writer.write_all(&out).await?;
            writer.shutdown().await
        })
        .await;
    }
}

impl Joined {
    pub(super) async fn join(
        broker: &Arc<Broker>,
        channel: &Channel,
        connect: IncomingConnect,
        shutdown: &CancellationToken,
    ) -> Result<Joined, Denial> {
        let IncomingConnect {
            version,
            connect,
            properties,
            will,
            login,
        } = connect;
        if connect.client_id.len() > MAX_CLIENT_ID || connect.client_id.contains('\0') {
            return deny(
                ConnectReturnCode::ClientIdentifierNotValid,
                format!("a client id has at most {MAX_CLIENT_ID} bytes and no NUL"),
            );
        }
        let principal = match &broker.admission {
            None => Principal::Anyone,
            Some(admission) => {
                let attempt = Attempt {
                    login: login.as_ref(),
                    client_id: &connect.client_id,
                    channel,
                    now: clock::now(),
                };
                match admission.admit(attempt).await {
                    Ok(principal) => principal,
                    Err(denied) => return deny(denied.code(), denied.to_string()),
                }
            }
        };
        if let Some(LastWill { .. }) = will {
            return deny(
                ConnectReturnCode::ImplementationSpecificError,
                "wills are not served yet; connect without one",
            );
        }
        let assigned = connect
            .client_id
            .is_empty()
            .then(|| format!("auto-{:032x}", rand::random::<u128>()));
        if assigned.is_some() && version == Version::V311 && !connect.clean_session {
            return deny(
                ConnectReturnCode::ClientIdentifierNotValid,
                "a session that is kept needs a client id",
            );
        }

        let longest = broker.settings.limits.session_expiry;
        let asked = properties
            .as_ref()
            .and_then(|properties| properties.session_expiry_interval);
        let granted = match version {
            Version::V5 => asked.unwrap_or(0).min(longest),
            Version::V311 if connect.clean_session => 0,
            Version::V311 => longest,
        };
        let mut wire = Wire::new(version, shutdown.child_token());
        if properties
            .as_ref()
            .and_then(|properties| properties.request_problem_info)
            == Some(0)
        {
            wire = wire.without_explanations();
        }
        let wire = Arc::new(wire);
        let attachment = Attachment {
            wire: Arc::clone(&wire),
            receive_maximum: properties
                .as_ref()
                .and_then(|properties| properties.receive_maximum),
            max_packet: properties
                .as_ref()
                .and_then(|properties| properties.max_packet_size),
        };
        if attachment.receive_maximum == Some(0) || attachment.max_packet == Some(0) {
            return deny(
                ConnectReturnCode::ProtocolError,
                "Receive Maximum and Maximum Packet Size are not 0",
            );
        }
        let key = SessionKey {
            owner: principal.owner(),
            client_id: assigned.clone().unwrap_or(connect.client_id),
        };
        let share = match principal {
            Principal::User(_) => broker.settings.mailbox(),
            Principal::Archiver(_) => broker.settings.queue(true),
            Principal::Anyone => broker.settings.queue(false),
        };
        let expiry = Duration::from_secs(granted.into());
        let joined = broker.board.join(
            &key,
            connect.clean_session,
            expiry,
            share,
            attachment.clone(),
        );
        let (session, session_present) = match joined {
            Ok(joined) => joined,
            Err(error) => return deny(ConnectReturnCode::QuotaExceeded, error.to_string()),
        };

        let properties = ConnAckProperties {
            session_expiry_interval: (asked.is_some_and(|asked| asked != granted))
                .then_some(granted),
            receive_max: Some(RECEIVE_MAXIMUM),
            max_qos: Some(1),
            max_packet_size: u32::try_from(broker.settings.limits.packet).ok(),
            assigned_client_identifier: assigned,
            shared_subscription_available: Some(0),
            ..ConnAckProperties::default()
        };
        let connack = ConnAck {
            session_present,
            code: ConnectReturnCode::Success,
        };
        wire.answer(Packet::ConnAck(connack, Some(properties)));
        // One and a half times what the client promised; 0 turns the check off (MQTT 5.0, section 3.1.2.10).
        let keep_alive = Some(connect.keep_alive).filter(|seconds| *seconds > 0);
        let keep_alive =
            keep_alive.map(|seconds| Duration::from_millis(u64::from(seconds) * 1_500));
        Ok(Joined {
            broker: Arc::clone(broker),
            principal,
            key,
            session,
            attachment,
            keep_alive,
            expiry: None,
            shutdown: shutdown.clone(),
            refusals: 0,
        })
    }
}
