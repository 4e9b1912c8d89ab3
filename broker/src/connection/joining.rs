//! From CONNECT to a session: who it is, what it may have, and the CONNACK.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rumqttd::protocol::{
    ConnAck, ConnAckProperties, ConnectReturnCode, DisconnectReasonCode, Packet,
};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::aliases::{Aliases, TOPIC_ALIAS_MAXIMUM};
use super::{GOODBYE_WAIT, Joined, will};
use crate::access::admission::{Admitted, Attempt, Channel};
use crate::access::audit::Source;
use crate::allowance::{Pace, Ration};
use crate::broker::Broker;
use crate::clock;
use crate::delivery::board::Joining;
use crate::delivery::session::{Attachment, SessionKey};
use crate::delivery::wire::{Goodbye, Wire};
use crate::protocol::packet::{IncomingConnect, PacketError, Version, encode};

/// Bytes of the longest client id. It is kept for as long as the session.
const MAX_CLIENT_ID: usize = 256;

/// A client id for a client that brings none: as no other, in the shape that other brokers give theirs.
fn assign() -> String {
    let id = format!("{:032x}", rand::random::<u128>());
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| id.get(part).unwrap_or_default());
    format!("auto-{}", parts.join("-"))
}

/// A CONNECT that was turned away.
pub(super) struct Denial {
    pub(super) code: ConnectReturnCode,
    pub(super) text: String,
}

pub(super) fn deny<T>(code: ConnectReturnCode, text: impl Into<String>) -> Result<T, Denial> {
    Err(Denial {
        code,
        text: text.into(),
    })
}

/// The CONNACK to a CONNECT that cannot be used. MQTT 3.1.1 has none for a malformed one, which ends without a word
/// (section 3.1.4).
pub(super) fn connect_refusal(
    error: &PacketError,
    version: Option<Version>,
) -> Option<(Version, ConnectReturnCode)> {
    use ConnectReturnCode as Code;
    match (error, version) {
        // What a client of a later version than ours reads.
        (PacketError::UnsupportedVersion(6..), _) => {
            Some((Version::V5, Code::UnsupportedProtocolVersion))
        }
        // MQTT 3.1.1, section 3.1.2.2: the one answer that clients of earlier versions read.
        (PacketError::UnsupportedVersion(_), _) => {
            Some((Version::V311, Code::RefusedProtocolVersion))
        }
        (PacketError::Forbidden(_), Some(Version::V5)) => Some((Version::V5, Code::ProtocolError)),
        (PacketError::PasswordNotText, Some(version)) => Some((version, Code::BadUserNamePassword)),
        (PacketError::Malformed(_), Some(Version::V5)) => {
            Some((Version::V5, Code::MalformedPacket))
        }
        _ => None,
    }
}

pub(super) async fn refuse(
    writer: &mut (impl AsyncWrite + Unpin),
    version: Version,
    code: ConnectReturnCode,
    text: &str,
    max_packet: Option<u32>,
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
            ConnectReturnCode::ServerUnavailable
            | ConnectReturnCode::ServerBusy
            | ConnectReturnCode::QuotaExceeded
            | ConnectReturnCode::ConnectionRateExceeded,
        ) => ConnectReturnCode::ServiceUnavailable,
        (Version::V311, _) => ConnectReturnCode::NotAuthorized,
    };
    let connack = |text: &str| {
        let properties = ConnAckProperties {
            reason_string: Some(text.to_owned()).filter(|text| !text.is_empty()),
            ..ConnAckProperties::default()
        };
        let connack = ConnAck {
            session_present: false,
            code,
        };
        let mut out = BytesMut::new();
        let written = encode(
            version,
            Packet::ConnAck(connack, Some(properties)),
            &mut out,
        );
        written.map(|()| out)
    };
    let max_packet = max_packet.and_then(|bytes| usize::try_from(bytes).ok());
    let fits = |out: &BytesMut| max_packet.is_none_or(|most| out.len() <= most);
    let explained = connack(text).ok().filter(fits);
    if let Some(out) = explained.or_else(|| connack("").ok().filter(fits)) {
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
        ration: Ration,
        connect: IncomingConnect,
        shutdown: &CancellationToken,
    ) -> Result<Joined, Denial> {
        let IncomingConnect {
            version,
            is_3_1,
            connect,
            properties,
            will,
            will_properties,
            login,
        } = connect;
        if broker.life.is_closing() {
            return deny(
                ConnectReturnCode::ServerUnavailable,
                "the broker is shutting down",
            );
        }
        let present = broker.life.client();
        if let Some(method) = properties
            .as_ref()
            .and_then(|properties| properties.authentication_method.as_ref())
        {
            return deny(
                ConnectReturnCode::BadAuthenticationMethod,
                format!("the authentication method {method:?} is not served"),
            );
        }
        if is_3_1 && connect.client_id.is_empty() {
            return deny(
                ConnectReturnCode::ClientIdentifierNotValid,
                "a client of MQTT 3.1 has a client id",
            );
        }
        if connect.client_id.len() > MAX_CLIENT_ID || connect.client_id.contains('\0') {
            return deny(
                ConnectReturnCode::ClientIdentifierNotValid,
                format!("a client id has at most {MAX_CLIENT_ID} bytes and no NUL"),
            );
        }
        let admitted = match &broker.admission {
            None => Admitted::anyone(),
            Some(admission) => {
                let attempt = Attempt {
                    login: login.as_ref(),
                    client_id: &connect.client_id,
                    channel,
                    now: clock::now(),
                };
                match admission.admit(attempt).await {
                    Ok(admitted) => {
                        broker.entrance.logged_in();
                        admitted
                    }
                    Err(denied) => {
                        broker.entrance.turned_away(denied.word());
                        return deny(denied.code(), denied.to_string());
                    }
                }
            }
        };
        let principal = admitted.principal.clone();
        let user_ration = match broker.allowances.log_in(&principal.owner()) {
            Ok(ration) => ration,
            Err(error) => {
                return deny(ConnectReturnCode::ConnectionRateExceeded, error.to_string());
            }
        };
        let will = match will {
            Some(will) => {
                let will = will::take(broker, &principal, will, will_properties).await?;
                Some(Box::new(will))
            }
            None => None,
        };
        let assigned = connect.client_id.is_empty().then(assign);
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
        let max_packet = properties
            .as_ref()
            .and_then(|properties| properties.max_packet_size);
        let receive_maximum = broker.settings.limits.receive_maximum;
        let mut wire = Wire::new(version, shutdown.child_token())
            .with_receive_maximum(receive_maximum)
            .with_max_packet(max_packet);
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
            max_packet,
        };
        let key = SessionKey {
            owner: principal.owner(),
            client_id: assigned.clone().unwrap_or(connect.client_id),
        };
        let share = broker.settings.share(&key.owner);
        let expiry = Duration::from_secs(granted.into());
        let joined = broker.board.join(
            &key,
            connect.clean_session,
            expiry,
            share,
            attachment.clone(),
        );
        let Joining {
            session,
            present: session_present,
            recorded,
        } = match joined {
            Ok(joined) => joined,
            Err(error) => return deny(ConnectReturnCode::QuotaExceeded, error.to_string()),
        };
        // Whoever was disabled in the meantime was not on the board yet to be disconnected.
        if let Some(admission) = &broker.admission
            && !admission.still_holds(&admitted)
        {
            wire.close(Goodbye::new(
                DisconnectReasonCode::NotAuthorized,
                "this user may not log in any longer",
            ));
        }

        if session_present {
            broker.wills.call_off(&key);
        }

        let longest_silence = broker.settings.limits.keep_alive;
        let imposed = longest_silence > 0
            && version == Version::V5
            && (connect.keep_alive == 0 || connect.keep_alive > longest_silence);
        let properties = ConnAckProperties {
            session_expiry_interval: (asked.is_some_and(|asked| asked != granted))
                .then_some(granted),
            receive_max: Some(receive_maximum),
            max_packet_size: u32::try_from(broker.settings.limits.packet).ok(),
            topic_alias_max: Some(TOPIC_ALIAS_MAXIMUM),
            server_keep_alive: imposed.then_some(longest_silence),
            assigned_client_identifier: assigned,
            ..ConnAckProperties::default()
        };
        let connack = ConnAck {
            // MQTT 3.1 reserves that byte.
            session_present: session_present && !is_3_1,
            code: ConnectReturnCode::Success,
        };
        // One and a half times what the client promised; 0 turns the check off (MQTT 5.0, section 3.1.2.10).
        let promised = if imposed {
            longest_silence
        } else {
            connect.keep_alive
        };
        let keep_alive = Some(promised).filter(|seconds| *seconds > 0);
        let keep_alive =
            keep_alive.map(|seconds| Duration::from_millis(u64::from(seconds) * 1_500));
        let carried = session.unreleased();
        let joined = Joined {
            broker: Arc::clone(broker),
            principal,
            session,
            attachment,
            keep_alive,
            granted: expiry,
            expiry: None,
            aliases: Aliases::default(),
            carried,
            will,
            pace: Pace::new(ration, user_ration),
            shutdown: shutdown.clone(),
            source: Source::Address(channel.peer),
            refusals: 0,
            _present: present,
        };
        if recorded {
            // From here on the session is left again if this connection ends meanwhile.
            let (done, kept) = oneshot::channel();
            broker.board.journal().after(move || {
                let _ = done.send(());
            });
            if kept.await.is_err() {
                return deny(ConnectReturnCode::ServerUnavailable, "");
            }
        }
        wire.answer(Packet::ConnAck(connack, Some(properties)));
        Ok(joined)
    }
}
