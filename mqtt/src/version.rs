//! MQTT 3.1.1 for brokers that do not speak MQTT 5: the same packets, less what the older standard has no words for.
//!
//! Everybody else in this workspace deals with packets of MQTT 5. What gets lost on the way to 3.1.1: how long the session is
//! to be kept (the broker decides), how much may come unacknowledged and how large (whoever reads takes what comes), and
//! reasons: a PUBACK of 3.1.1 says nothing, not even that the message was thrown away.

use std::fmt;

use bytes::BytesMut;
use rumqttc::mqttbytes::{self, QoS as QoS4, v4};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, Disconnect, DisconnectReasonCode, Packet, PingReq, PingResp,
    PubAck, PubAckReason, Publish, SubAck, SubscribeReasonCode, UnsubAck,
};

use crate::connection::ConnectionError;

/// The largest packet taken of a broker that cannot be told how much we take, in bytes: 1 MiB, the most that NATS passes on
/// unless it is told otherwise, and room for the topic. What is no envelope is refused where envelopes are read.
const MAX_PACKET: usize = (1 << 20) + 65_536 + 16;

/// The MQTT that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// MQTT 5.0, tried first.
    #[default]
    V5,
    /// MQTT 3.1.1, for brokers that refuse MQTT 5 with the code for it.
    V311,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V5 => "MQTT 5",
            Version::V311 => "MQTT 3.1.1",
        })
    }
}

/// The next packet, if all its bytes are there.
pub(crate) fn read(buffer: &mut BytesMut) -> Result<Option<Packet>, ConnectionError> {
    let before = buffer.len();
    match v4::Packet::read(buffer, MAX_PACKET) {
        Ok(packet) => newer(packet).map(Some),
        Err(mqttbytes::Error::InsufficientBytes(_)) if buffer.len() == before => Ok(None),
        Err(error) => Err(ConnectionError::Malformed(error.to_string())),
    }
}

/// Writes what both standards know.
pub(crate) fn write(packet: &Packet, buffer: &mut BytesMut) -> Result<(), ConnectionError> {
    let malformed = |error: mqttbytes::Error| ConnectionError::Malformed(error.to_string());
    older(packet)?
        .write(buffer, usize::MAX)
        .map_err(malformed)?;
    Ok(())
}

fn newer(packet: v4::Packet) -> Result<Packet, ConnectionError> {
    Ok(match packet {
        v4::Packet::ConnAck(answer) => Packet::ConnAck(ConnAck {
            session_present: answer.session_present,
            code: return_code(answer.code),
            properties: None,
        }),
        v4::Packet::Publish(publish) => Packet::Publish(Publish {
            dup: publish.dup,
            qos: quality(publish.qos),
            retain: publish.retain,
            topic: publish.topic.into(),
            pkid: publish.pkid,
            payload: publish.payload,
            properties: None,
        }),
        v4::Packet::PubAck(answer) => Packet::PubAck(PubAck {
            pkid: answer.pkid,
            reason: PubAckReason::Success,
            properties: None,
        }),
        v4::Packet::SubAck(answer) => Packet::SubAck(SubAck {
            pkid: answer.pkid,
            return_codes: answer.return_codes.into_iter().map(granted).collect(),
            properties: None,
        }),
        v4::Packet::UnsubAck(answer) => Packet::UnsubAck(UnsubAck {
            pkid: answer.pkid,
            reasons: Vec::new(),
            properties: None,
        }),
        v4::Packet::PingResp => Packet::PingResp(PingResp),
        v4::Packet::PingReq => Packet::PingReq(PingReq),
        v4::Packet::Disconnect => {
            Packet::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection))
        }
        v4::Packet::PubRec(_) => return Err(ConnectionError::Unexpected("PUBREC")),
        v4::Packet::PubRel(_) => return Err(ConnectionError::Unexpected("PUBREL")),
        v4::Packet::PubComp(_) => return Err(ConnectionError::Unexpected("PUBCOMP")),
        v4::Packet::Connect(_) => return Err(ConnectionError::Unexpected("CONNECT")),
        v4::Packet::Subscribe(_) => return Err(ConnectionError::Unexpected("SUBSCRIBE")),
        v4::Packet::Unsubscribe(_) => return Err(ConnectionError::Unexpected("UNSUBSCRIBE")),
    })
}

fn older(packet: &Packet) -> Result<v4::Packet, ConnectionError> {
    Ok(match packet {
        Packet::Connect(connect, None, login) => {
            let mut older = v4::Connect::new(connect.client_id.clone());
            older.keep_alive = connect.keep_alive;
            older.clean_session = connect.clean_start;
            if let Some(login) = login {
                older.set_login(login.username.clone(), login.password.clone());
            }
            v4::Packet::Connect(older)
        }
        Packet::Publish(publish) => {
            let topic = std::str::from_utf8(&publish.topic)
                .map_err(|error| ConnectionError::Malformed(error.to_string()))?;
            let qos = quality4(publish.qos);
            let mut older = v4::Publish::from_bytes(topic, qos, publish.payload.clone());
            older.dup = publish.dup;
            older.retain = publish.retain;
            older.pkid = publish.pkid;
            v4::Packet::Publish(older)
        }
        Packet::PubAck(answer) => v4::Packet::PubAck(v4::PubAck::new(answer.pkid)),
        Packet::Subscribe(subscribe) => {
            let filters = subscribe
                .filters
                .iter()
                .map(|filter| v4::SubscribeFilter::new(filter.path.clone(), quality4(filter.qos)));
            let mut older = v4::Subscribe::new_many(filters);
            older.pkid = subscribe.pkid;
            v4::Packet::Subscribe(older)
        }
        Packet::Unsubscribe(unsubscribe) => v4::Packet::Unsubscribe(v4::Unsubscribe {
            pkid: unsubscribe.pkid,
            topics: unsubscribe.filters.clone(),
        }),
        Packet::PingReq(_) => v4::Packet::PingReq,
        Packet::PingResp(_) => v4::Packet::PingResp,
        Packet::Disconnect(_) => v4::Packet::Disconnect,
        // Nobody here makes others.
        _ => {
            let problem = "a packet of ours has no form in MQTT 3.1.1";
            return Err(ConnectionError::Malformed(problem.to_owned()));
        }
    })
}

fn return_code(code: v4::ConnectReturnCode) -> ConnectReturnCode {
    match code {
        v4::ConnectReturnCode::Success => ConnectReturnCode::Success,
        v4::ConnectReturnCode::RefusedProtocolVersion => ConnectReturnCode::RefusedProtocolVersion,
        v4::ConnectReturnCode::BadClientId => ConnectReturnCode::BadClientId,
        v4::ConnectReturnCode::ServiceUnavailable => ConnectReturnCode::ServiceUnavailable,
        v4::ConnectReturnCode::BadUserNamePassword => ConnectReturnCode::BadUserNamePassword,
        v4::ConnectReturnCode::NotAuthorized => ConnectReturnCode::NotAuthorized,
    }
}

fn granted(code: v4::SubscribeReasonCode) -> SubscribeReasonCode {
    match code {
        v4::SubscribeReasonCode::Success(qos) => SubscribeReasonCode::Success(quality(qos)),
        v4::SubscribeReasonCode::Failure => SubscribeReasonCode::Failure,
    }
}

fn quality(qos: QoS4) -> QoS {
    match qos {
        QoS4::AtMostOnce => QoS::AtMostOnce,
        QoS4::AtLeastOnce => QoS::AtLeastOnce,
        QoS4::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn quality4(qos: QoS) -> QoS4 {
    match qos {
        QoS::AtMostOnce => QoS4::AtMostOnce,
        QoS::AtLeastOnce => QoS4::AtLeastOnce,
        QoS::ExactlyOnce => QoS4::ExactlyOnce,
    }
}

#[cfg(test)]
mod tests;
