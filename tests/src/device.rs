//! A device under test: `sealpost-core` and rumqttc, nothing else. It can do what the real client would not.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnectReturnCode, DisconnectReasonCode, Packet, PubAckReason, Publish, SubscribeReasonCode,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use sealpost_core::{
    BundleFields, Content, DecryptionKey, Envelope, Identity, KeyBundle, LoginToken, MessageId,
    Realm, RsaDecryptionKey, Sealer, Timestamp, Topic, UserId,
};

use crate::PATIENCE;

/// Somebody with keys.
#[derive(Debug)]
pub struct Device {
    /// The name.
    pub user: UserId,
    /// The identity.
    pub identity: Identity,
    /// The RSA key.
    pub key: RsaDecryptionKey,
}

/// The deployment that tests run in.
fn realm() -> Realm {
    Realm::default()
}

/// The time.
#[must_use]
pub fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis();
    Timestamp::from_millis(u64::try_from(millis).unwrap()).unwrap()
}

impl Device {
    /// New keys. RSA-2048, because it is made fastest.
    #[must_use]
    pub fn new(name: &str) -> Device {
        let mut rng = rand::rng();
        Device {
            user: UserId::parse(name).unwrap(),
            identity: Identity::generate(&mut rng),
            key: RsaDecryptionKey::generate(&mut rng, 2048).unwrap(),
        }
    }

    /// Somebody else with another identity and, for RSA keys take long to make, the same RSA key.
    #[must_use]
    pub fn under_another_name(&self, name: &str) -> Device {
        let der = self.key.to_pkcs8_der().unwrap();
        Device {
            user: UserId::parse(name).unwrap(),
            identity: Identity::generate(&mut rand::rng()),
            key: RsaDecryptionKey::from_pkcs8_der(&der).unwrap(),
        }
    }

    /// A bundle with the given sequence number.
    #[must_use]
    pub fn bundle(&self, seq: u64) -> KeyBundle {
        let created = now();
        let fields = BundleFields {
            realm: realm(),
            user: self.user.clone(),
            seq,
            created,
            expires: created.saturating_add(Duration::from_secs(3600)),
            encryption: vec![self.key.encryption_key().clone()],
            links: Vec::new(),
        };
        KeyBundle::sign(fields, &self.identity).unwrap()
    }

    /// A sealer from this device to another.
    #[must_use]
    pub fn sealer(&self, to: &Device) -> Sealer {
        Sealer::new(&self.identity, &self.user, &to.bundle(1)).unwrap()
    }

    /// As [`Device::sealer`], with one AES key for many messages: fast.
    #[must_use]
    pub fn burst(&self, to: &Device) -> Sealer {
        Sealer::burst(&self.identity, &self.user, &to.bundle(1)).unwrap()
    }

    /// A message sealed to another.
    #[must_use]
    pub fn seal(&self, to: &Device, text: &str) -> Envelope {
        let mut rng = rand::rng();
        let now = now();
        let id = MessageId::new(now, &mut rng);
        self.sealer(to)
            .seal(
                &mut rng,
                now,
                id,
                None,
                &Content::Text { text: text.into() },
            )
            .unwrap()
    }

    /// Connects to a session that the broker keeps for ten minutes.
    pub async fn connect_kept(&self, broker: SocketAddr, client_id: &str) -> Link {
        let token = self.token(client_id);
        let login = Some((self.user.as_str(), token.as_str()));
        Link::connect_to_session(broker, client_id, login, false, 600)
            .await
            .unwrap()
    }

    /// The login for one connection.
    #[must_use]
    pub fn token(&self, client_id: &str) -> String {
        self.bound_token(client_id, &[])
    }

    /// As [`Device::token`], made by a clock that says this.
    #[must_use]
    pub fn token_at(&self, client_id: &str, now: Timestamp) -> String {
        self.mint(client_id, now, &[])
    }

    /// The login for one TLS connection.
    #[must_use]
    pub fn bound_token(&self, client_id: &str, binding: &[u8]) -> String {
        self.mint(client_id, now(), binding)
    }

    fn mint(&self, client_id: &str, now: Timestamp, binding: &[u8]) -> String {
        LoginToken::mint(
            &self.identity,
            &realm(),
            &self.user,
            client_id,
            now,
            rand::random(),
            binding,
        )
        .to_string()
    }

    /// Connects with an honest login.
    pub async fn connect(&self, broker: SocketAddr, client_id: &str) -> Link {
        let token = self.token(client_id);
        Link::connect(broker, client_id, Some((self.user.as_str(), &token)))
            .await
            .unwrap()
    }

    /// Publishes the bundle and leaves: from now on others can write to this name.
    pub async fn register(&self, broker: SocketAddr) {
        let mut link = self.connect(broker, "register").await;
        let topic = Topic::Keys(self.user.clone()).to_string();
        let reason = link.publish(&topic, true, self.bundle(1).as_bytes()).await;
        // What is retained waits for its readers.
        let taken = [PubAckReason::Success, PubAckReason::NoMatchingSubscribers];
        assert!(taken.contains(&reason), "{reason:?}");
        link.disconnect().await;
    }
}

/// One MQTT 5 connection by rumqttc.
pub struct Link {
    client: AsyncClient,
    events: EventLoop,
    /// Messages that came while something else was waited for.
    pub inbox: VecDeque<Publish>,
    /// Whether the broker had the session already.
    pub session_present: bool,
}

impl Link {
    /// Connects with any login, or none, to a new session.
    ///
    /// # Errors
    /// The CONNACK's code when the broker does not let it in.
    pub async fn connect(
        broker: SocketAddr,
        client_id: &str,
        login: Option<(&str, &str)>,
    ) -> Result<Link, ConnectReturnCode> {
        Link::connect_to_session(broker, client_id, login, true, 0).await
    }

    /// As [`Link::connect`]; the session is kept for `expiry` seconds and taken up again unless `clean_start`.
    ///
    /// # Errors
    /// As [`Link::connect`].
    pub async fn connect_to_session(
        broker: SocketAddr,
        client_id: &str,
        login: Option<(&str, &str)>,
        clean_start: bool,
        expiry: u32,
    ) -> Result<Link, ConnectReturnCode> {
        let mut options = MqttOptions::new(client_id, broker.ip().to_string(), broker.port());
        options
            .set_clean_start(clean_start)
            .set_session_expiry_interval(Some(expiry));
        options.set_max_packet_size(Some(1 << 20));
        if let Some((user, password)) = login {
            options.set_credentials(user, password);
        }
        let (client, events) = AsyncClient::new(options, 100);
        let mut link = Link {
            client,
            events,
            inbox: VecDeque::new(),
            session_present: false,
        };
        loop {
            match tokio::time::timeout(PATIENCE, link.events.poll())
                .await
                .expect("a CONNACK in time")
            {
                Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                    link.session_present = connack.session_present;
                    return Ok(link);
                }
                Ok(_) => {}
                Err(ConnectionError::ConnectionRefused(code)) => return Err(code),
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    async fn poll(&mut self) -> Result<Event, ConnectionError> {
        tokio::time::timeout(PATIENCE, self.events.poll())
            .await
            .expect("an event in time")
    }

    async fn wait_for<T>(&mut self, mut wanted: impl FnMut(&Packet) -> Option<T>) -> T {
        loop {
            match self.poll().await.unwrap() {
                Event::Incoming(packet) => {
                    if let Some(found) = wanted(&packet) {
                        return found;
                    }
                    if let Packet::Publish(publish) = packet {
                        self.inbox.push_back(publish);
                    }
                }
                Event::Outgoing(_) => {}
            }
        }
    }

    /// Publishes at QoS 1 and returns what the broker says.
    pub async fn publish(&mut self, topic: &str, retain: bool, payload: &[u8]) -> PubAckReason {
        self.client
            .publish(topic, QoS::AtLeastOnce, retain, payload.to_vec())
            .await
            .unwrap();
        self.wait_for(|packet| match packet {
            Packet::PubAck(puback) => Some(puback.reason),
            _ => None,
        })
        .await
    }

    /// Subscribes at QoS 1 and returns what the broker says.
    pub async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client
            .subscribe(filter, QoS::AtLeastOnce)
            .await
            .unwrap();
        self.wait_for(|packet| match packet {
            Packet::SubAck(suback) => Some(suback.return_codes[0]),
            _ => None,
        })
        .await
    }

    /// The next message.
    pub async fn receive(&mut self) -> Publish {
        if let Some(publish) = self.inbox.pop_front() {
            return publish;
        }
        self.wait_for(|packet| match packet {
            Packet::Publish(publish) => Some(publish.clone()),
            _ => None,
        })
        .await
    }

    /// Waits for the broker's DISCONNECT: its reason and its words.
    pub async fn dismissed(&mut self) -> (DisconnectReasonCode, String) {
        loop {
            match self.poll().await {
                Ok(_) => {}
                Err(ConnectionError::MqttState(StateError::ServerDisconnect {
                    reason_code,
                    reason_string,
                })) => return (reason_code, reason_string.unwrap_or_default()),
                Err(error) => panic!("not dismissed: {error:?}"),
            }
        }
    }

    /// Waits for the end of the connection.
    pub async fn closed(&mut self) {
        while self.poll().await.is_ok() {}
    }

    /// Leaves as MQTT wants it.
    pub async fn disconnect(mut self) {
        self.client.disconnect().await.unwrap();
        while self.poll().await.is_ok() {}
    }
}
