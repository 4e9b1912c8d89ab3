//! A broker that does exactly what a test tells it to.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Packet, Publish, SubAck, SubscribeReasonCode,
};
use rumqttc::v5::mqttbytes::{Error, QoS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Nothing here takes this long unless it is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A listening broker.
pub(crate) struct ScriptedBroker {
    listener: TcpListener,
}

/// One connection to it.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    buffer: BytesMut,
}

impl ScriptedBroker {
    pub(crate) async fn listen() -> ScriptedBroker {
        ScriptedBroker {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("mqtt://{}", self.listener.local_addr().unwrap())
    }

    /// Waits for a connection, before anything was said.
    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = timeout(PATIENCE, self.listener.accept())
            .await
            .expect("a connection in time")
            .unwrap();
        Peer {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Waits for a connection, and takes it through CONNECT and SUBSCRIBE.
    pub(crate) async fn accept_subscriber(&self) -> Peer {
        let mut peer = self.accept().await;
        assert!(matches!(peer.packet().await, Packet::Connect(..)));
        peer.send(Packet::ConnAck(accepted())).await;
        peer.grant().await;
        peer
    }
}

impl Peer {
    /// The next packet.
    pub(crate) async fn packet(&mut self) -> Packet {
        self.packet_or_end().await.expect("a packet, not the end")
    }

    /// The next packet, or nothing when the other side has closed.
    pub(crate) async fn packet_or_end(&mut self) -> Option<Packet> {
        loop {
            // Two bytes that rumqttc's decoder does not know, and writes all the same.
            if self.buffer.starts_with(&[0xE0, 0]) {
                let _ = self.buffer.split_to(2);
                return Some(Packet::Disconnect(
                    rumqttc::v5::mqttbytes::v5::Disconnect::new(
                        rumqttc::v5::mqttbytes::v5::DisconnectReasonCode::NormalDisconnection,
                    ),
                ));
            }
            match Packet::read(&mut self.buffer, None) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("the archiver sent {error}"),
            }
            if timeout(PATIENCE, self.stream.read_buf(&mut self.buffer))
                .await
                .expect("bytes in time")
                .unwrap()
                == 0
            {
                return None;
            }
        }
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes))
            .await
            .expect("written in time")
            .unwrap();
    }

    /// Grants the SUBSCRIBE that comes next.
    pub(crate) async fn grant(&mut self) {
        let Packet::Subscribe(subscribe) = self.packet().await else {
            panic!("not a SUBSCRIBE")
        };
        let filters: Vec<_> = subscribe
            .filters
            .iter()
            .map(|filter| (filter.path.as_str(), filter.qos))
            .collect();
        assert_eq!(
            filters,
            [("inbox/+", QoS::AtLeastOnce), ("keys/+", QoS::AtLeastOnce)]
        );
        let return_codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce); 2];
        self.send(Packet::SubAck(SubAck {
            pkid: subscribe.pkid,
            return_codes,
            properties: None,
        }))
        .await;
    }

    pub(crate) async fn publish(&mut self, packet_id: u16, payload: &str) {
        self.send(publish(packet_id, payload)).await;
    }

    /// The packet identifier of the PUBACK that comes next.
    pub(crate) async fn acknowledged(&mut self) -> u16 {
        match self.packet().await {
            Packet::PubAck(ack) => ack.pkid,
            other => panic!("not a PUBACK: {other:?}"),
        }
    }
}

pub(crate) fn publish(packet_id: u16, payload: &str) -> Packet {
    let mut publish = Publish::new("inbox/bob", QoS::AtLeastOnce, payload.to_owned(), None);
    publish.pkid = packet_id;
    Packet::Publish(publish)
}

pub(crate) fn accepted() -> ConnAck {
    ConnAck {
        session_present: false,
        code: ConnectReturnCode::Success,
        properties: None,
    }
}

pub(crate) fn refused(reason: &str) -> ConnAck {
    let properties = ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: Some(reason.to_owned()),
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    };
    ConnAck {
        session_present: false,
        code: ConnectReturnCode::BadUserNamePassword,
        properties: Some(properties),
    }
}
