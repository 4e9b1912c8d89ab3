//! Both ends in memory, under virtual time: the test is the broker, and the network between.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnAckProperties, ConnectReturnCode, Disconnect, PingResp, PubAck, PubAckProperties,
    PubAckReason, SubAck, SubAckProperties,
};
use sealpost_core::{Topic, TopicFilter, UserId};
use sealpost_mqtt::{
    BoxStream, BrokerUrl, ChannelBinding, DialError, Dialled, Dialler, Dialling, Incoming, Route,
};
use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};

use super::super::{Answer, EVENTS, LoginRefusal, Mqtt};
use super::*;

/// What the network does with attempts to connect: gives the other end to the test, or refuses.
struct Wire {
    ends: mpsc::UnboundedSender<(BrokerUrl, DuplexStream)>,
    dead: Mutex<Vec<String>>,
    dialled: Mutex<u8>,
}

impl Dialler for Wire {
    fn dial<'a>(&'a self, broker: &'a BrokerUrl) -> Dialling<'a> {
        Box::pin(async move {
            if self.dead.lock().unwrap().contains(&broker.host()) {
                let refused = std::io::ErrorKind::ConnectionRefused;
                return Err(DialError::Tcp(refused.into()));
            }
            let (ours, theirs) = duplex(64 * 1_024);
            self.ends.send((broker.clone(), theirs)).unwrap();
            let mut dialled = self.dialled.lock().unwrap();
            *dialled += 1;
            Ok(Dialled {
                stream: Box::new(ours) as BoxStream,
                binding: ChannelBinding::new(vec![*dialled; 2]),
                certificates: Vec::new(),
            })
        })
    }
}

struct World {
    mqtt: Mqtt,
    events: mpsc::Receiver<MqttEvent>,
    ends: mpsc::UnboundedReceiver<(BrokerUrl, DuplexStream)>,
    wire: Arc<Wire>,
}

/// One end of a connection, as the broker has it.
struct Peer {
    broker: BrokerUrl,
    incoming: Incoming<ReadHalf<DuplexStream>>,
    outgoing: WriteHalf<DuplexStream>,
}

fn start(urls: &[&str]) -> World {
    let (ends_in, ends) = mpsc::unbounded_channel();
    let wire = Arc::new(Wire {
        ends: ends_in,
        dead: Mutex::default(),
        dialled: Mutex::default(),
    });
    let mut urls = urls.iter().map(|url| url.parse().unwrap());
    let first = urls.next().unwrap();
    let connect = Connect {
        route: Route::over(first, urls.collect(), Arc::clone(&wire) as _),
        client_id: "c".into(),
        durable: true,
        receive_maximum: crate::mqtt::RECEIVE_MAXIMUM,
    };
    let credentials =
        |binding: &ChannelBinding| ("bob".to_owned(), format!("for {:?}", binding.as_bytes()));
    let (mqtt, events) = Mqtt::start(connect, Box::new(credentials));
    World {
        mqtt,
        events,
        ends,
        wire,
    }
}

impl World {
    /// The next connection, before anything was said.
    async fn accept(&mut self) -> Peer {
        let (broker, stream) = self.ends.recv().await.unwrap();
        let (reader, outgoing) = split(stream);
        Peer {
            broker,
            incoming: Incoming::new(reader, u32::MAX, 1_024),
            outgoing,
        }
    }

    /// The next connection, accepted.
    async fn welcome(&mut self, session_present: bool) -> Peer {
        let mut peer = self.accept().await;
        assert!(matches!(peer.packet().await, Packet::Connect(..)));
        peer.answer(ConnectReturnCode::Success, session_present, None)
            .await;
        assert!(matches!(self.event().await, MqttEvent::Connected { .. }));
        peer
    }

    async fn event(&mut self) -> MqttEvent {
        self.events.recv().await.expect("an event")
    }

    async fn disconnected(&mut self) -> String {
        match self.event().await {
            MqttEvent::Disconnected { problem, .. } => problem,
            other => panic!("{other:?}"),
        }
    }

    async fn ended(&mut self) -> MqttError {
        match self.event().await {
            MqttEvent::Ended(error) => error,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&self, text: &str) -> Answer<Result<(), PublishError>> {
        let topic = Topic::Inbox(UserId::parse("alice").unwrap());
        self.mqtt.publish(&topic, text.as_bytes().to_vec(), false)
    }
}

impl Peer {
    /// The next packet but pings.
    async fn packet(&mut self) -> Packet {
        loop {
            match self.incoming.packet().await.unwrap() {
                Packet::PingReq(_) => self.send(Packet::PingResp(PingResp)).await,
                other => return other,
            }
        }
    }

    async fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, None).unwrap();
        self.outgoing.write_all(&bytes).await.unwrap();
    }

    async fn answer(
        &mut self,
        code: ConnectReturnCode,
        session_present: bool,
        words: Option<&str>,
    ) {
        self.send(Packet::ConnAck(ConnAck {
            session_present,
            code,
            properties: words.map(|words| ConnAckProperties {
                session_expiry_interval: None,
                receive_max: None,
                max_qos: None,
                retain_available: None,
                max_packet_size: None,
                assigned_client_identifier: None,
                topic_alias_max: None,
                reason_string: Some(words.to_owned()),
                user_properties: Vec::new(),
                wildcard_subscription_available: None,
                subscription_identifiers_available: None,
                shared_subscription_available: None,
                server_keep_alive: None,
                response_information: None,
                server_reference: None,
                authentication_method: None,
                authentication_data: None,
            }),
        }))
        .await;
    }

    /// The next publish: packet id, DUP, payload.
    async fn published(&mut self) -> (u16, bool, String) {
        match self.packet().await {
            Packet::Publish(publish) => {
                let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
                (publish.pkid, publish.dup, payload)
            }
            other => panic!("{other:?}"),
        }
    }

    async fn deliver(&mut self, packet_id: u16) {
        let mut publish = Publish::new("inbox/bob", QoS::AtLeastOnce, "x", None);
        publish.pkid = packet_id;
        self.send(Packet::Publish(publish)).await;
    }

    async fn subscribe(&mut self) -> (u16, Vec<String>) {
        match self.packet().await {
            Packet::Subscribe(subscribe) => {
                let filters = subscribe.filters.into_iter().map(|filter| filter.path);
                (subscribe.pkid, filters.collect())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn grant(&mut self, codes: &[SubscribeReasonCode], words: Option<&str>) -> Vec<String> {
        let (pkid, filters) = self.subscribe().await;
        self.send(Packet::SubAck(SubAck {
            pkid,
            return_codes: codes.to_vec(),
            properties: words.map(|words| SubAckProperties {
                reason_string: Some(words.to_owned()),
                user_properties: Vec::new(),
            }),
        }))
        .await;
        filters
    }
}

fn filters() -> [TopicFilter; 1] {
    [TopicFilter::Inbox(UserId::parse("bob").unwrap())]
}

const GRANTED: SubscribeReasonCode = SubscribeReasonCode::Success(QoS::AtLeastOnce);

#[tokio::test(start_paused = true)]
async fn each_connection_has_a_login_of_its_own_bound_to_its_channel() {
    let mut world = start(&["mqtts://a"]);
    for number in 1..=3 {
        let mut peer = world.accept().await;
        let Packet::Connect(connect, None, Some(login)) = peer.packet().await else {
            panic!("not a CONNECT with login")
        };
        assert!(!connect.clean_start);
        assert_eq!(login.username, "bob");
        assert_eq!(login.password, format!("for [{number}, {number}]"));
        peer.answer(ConnectReturnCode::Success, true, None).await;
        assert!(matches!(world.event().await, MqttEvent::Connected { .. }));
        drop(peer);
        assert_eq!(
            world.disconnected().await,
            "the broker closed the connection"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_unanswered_goes_again_as_a_duplicate_only_where_the_session_goes_on() {
    let mut world = start(&["mqtts://a"]);
    let mut peer = world.welcome(false).await;
    let (mut one, mut two) = (world.publish("one"), world.publish("two"));
    assert_eq!(peer.published().await, (1, false, "one".into()));
    assert_eq!(peer.published().await, (2, false, "two".into()));
    peer.send(Packet::PubAck(PubAck::new(1, None))).await;
    (&mut one).await.unwrap().unwrap();
    drop(peer);
    world.disconnected().await;

    let mut peer = world.welcome(true).await;
    assert_eq!(peer.published().await, (2, true, "two".into()));
    drop(peer);
    world.disconnected().await;
    let mut peer = world.welcome(false).await;
    assert_eq!(peer.published().await, (1, false, "two".into()));
    two.try_recv().unwrap_err();
    peer.send(Packet::PubAck(PubAck::new(1, None))).await;
    two.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_broker_says_in_its_own_words_why_it_refuses() {
    let mut world = start(&["mqtts://a"]);
    let mut peer = world.accept().await;
    peer.packet().await;
    let words = Some("the login token was made 90 s ago\u{1b}[2J");
    peer.answer(ConnectReturnCode::BadUserNamePassword, false, words)
        .await;
    assert_eq!(
        world.ended().await,
        MqttError::LoginRefused {
            broker: "mqtts://a:8883".into(),
            reason: "the login token was made 90 s ago".into(),
            code: LoginRefusal::BadLogin,
        }
    );

    let mut world = start(&["mqtts://a"]);
    let mut peer = world.welcome(false).await;
    let refused = world.publish("x");
    let (pkid, ..) = peer.published().await;
    peer.send(Packet::PubAck(PubAck {
        pkid,
        reason: PubAckReason::QuotaExceeded,
        properties: Some(PubAckProperties {
            reason_string: Some("alice's mailbox is full".into()),
            user_properties: Vec::new(),
        }),
    }))
    .await;
    let refused = refused.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("alice's mailbox is full"), "{refused}");

    let refused = world.mqtt.subscribe(&filters());
    let code = SubscribeReasonCode::NotAuthorized;
    peer.grant(&[code], Some("not your inbox")).await;
    let refused = refused.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("not your inbox"), "{refused}");

    let mut goodbye = Disconnect::new(DisconnectReasonCode::ServerShuttingDown);
    goodbye.properties = Some(rumqttc::v5::mqttbytes::v5::DisconnectProperties {
        session_expiry_interval: None,
        reason_string: Some("back at noon".into()),
        user_properties: Vec::new(),
        server_reference: None,
    });
    peer.send(Packet::Disconnect(goodbye)).await;
    let problem = world.disconnected().await;
    assert!(problem.contains("back at noon"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn a_short_disconnect_is_understood() {
    let mut world = start(&["mqtts://a"]);
    let mut peer = world.welcome(false).await;
    peer.outgoing.write_all(&[0xE0, 1, 0x8E]).await.unwrap();
    assert_eq!(world.ended().await, MqttError::TakenOver);
}

#[tokio::test(start_paused = true)]
async fn a_dead_broker_costs_one_attempt_and_the_one_that_worked_is_next_times_first() {
    let mut world = start(&["mqtts://a", "mqtts://b"]);
    world.wire.dead.lock().unwrap().push("a".into());
    let peer = world.welcome(false).await;
    assert_eq!(peer.broker.host(), "b");
    world.wire.dead.lock().unwrap().clear();
    drop(peer);
    world.disconnected().await;
    let peer = world.welcome(true).await;
    assert_eq!(peer.broker.host(), "b", "though a is back");
    world.wire.dead.lock().unwrap().push("b".into());
    drop(peer);
    world.disconnected().await;
    assert_eq!(world.welcome(true).await.broker.host(), "a");
}

#[tokio::test(start_paused = true)]
async fn when_no_broker_works_at_first_each_is_named_and_later_they_are_tried_for_ever() {
    let mut world = start(&["mqtts://a", "wss://b"]);
    world
        .wire
        .dead
        .lock()
        .unwrap()
        .extend(["a".into(), "b".into()]);
    match world.ended().await {
        MqttError::Unreachable {
            broker, problem, ..
        } => {
            assert_eq!(broker, "mqtts://a:8883,wss://b:443/mqtt");
            assert!(
                problem.contains("mqtts://a:8883: connection refused"),
                "{problem}"
            );
            assert!(
                problem.contains("wss://b:443/mqtt: connection refused"),
                "{problem}"
            );
        }
        other => panic!("{other:?}"),
    }

    let mut world = start(&["mqtts://a"]);
    let peer = world.welcome(false).await;
    world.wire.dead.lock().unwrap().push("a".into());
    drop(peer);
    for _ in 0..10 {
        world.disconnected().await;
    }
    world.wire.dead.lock().unwrap().clear();
    world.welcome(true).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_another_broker_would_repeat_is_not_asked_for_again() {
    let mut world = start(&["mqtts://a", "mqtts://b"]);
    let mut peer = world.accept().await;
    peer.packet().await;
    peer.answer(ConnectReturnCode::NotAuthorized, false, None)
        .await;
    assert!(matches!(
        world.ended().await,
        MqttError::LoginRefused { .. }
    ));

    // One that is busy may be busy alone.
    let mut world = start(&["mqtts://a", "mqtts://b"]);
    let mut peer = world.accept().await;
    peer.packet().await;
    peer.answer(ConnectReturnCode::ServerBusy, false, None)
        .await;
    assert_eq!(world.welcome(false).await.broker.host(), "b");
}

#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_left_and_a_pinged_one_is_not() {
    let mut world = start(&["mqtts://a"]);
    let mut peer = world.welcome(false).await;
    let started = Instant::now();
    // Answers pings for ten minutes.
    let ten_minutes = Duration::from_secs(600);
    tokio::time::timeout(ten_minutes, peer.packet())
        .await
        .unwrap_err();
    world.events.try_recv().unwrap_err();
    assert_eq!(world.disconnected().await, "the broker has fallen silent");
    assert!(started.elapsed() < ten_minutes + KEEP_ALIVE * 3);
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_to_take_messages_still_pings_publishes_and_acknowledges() {
    let mut world = start(&["mqtts://a"]);
    let mut peer = world.welcome(false).await;
    for packet_id in 1..=2 * EVENTS as u16 {
        peer.deliver(packet_id).await;
    }
    // More than can wait are there; nobody takes them for an hour.
    tokio::time::timeout(Duration::from_secs(3_600), peer.packet())
        .await
        .unwrap_err();
    let answer = world.publish("still here");
    let (packet_id, ..) = peer.published().await;
    peer.send(Packet::PubAck(PubAck::new(packet_id, None)))
        .await;
    for expected in 1..=2 * EVENTS as u16 {
        match world.event().await {
            MqttEvent::Delivery(delivery) => world.mqtt.acknowledge(delivery.receipt),
            other => panic!("{other:?}"),
        }
        match peer.packet().await {
            Packet::PubAck(ack) => assert_eq!(ack.pkid, expected),
            other => panic!("{other:?}"),
        }
    }
    answer.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_lost_connection_is_not_acknowledged_on_the_next() {
    let mut world = start(&["mqtts://a"]);
    let mut peer = world.welcome(false).await;
    peer.deliver(1).await;
    let MqttEvent::Delivery(lost) = world.event().await else {
        panic!("not a delivery")
    };
    drop(peer);
    world.disconnected().await;
    let mut peer = world.welcome(true).await;
    world.mqtt.acknowledge(lost.receipt);
    drop(world.publish("next"));
    assert_eq!(
        peer.published().await.2,
        "next",
        "and no acknowledgement before it"
    );
}

#[tokio::test(start_paused = true)]
async fn subscriptions_stand_again_after_a_loss_and_an_unanswered_one_ends_the_connection() {
    let mut world = start(&["mqtts://a"]);
    let mut peer = world.welcome(false).await;
    let granted = world.mqtt.subscribe(&filters());
    assert_eq!(peer.grant(&[GRANTED], None).await, ["inbox/bob"]);
    granted.await.unwrap().unwrap();
    drop(peer);
    world.disconnected().await;
    let mut peer = world.welcome(false).await;
    assert_eq!(peer.subscribe().await.1, ["inbox/bob"]);
    let problem = world.disconnected().await;
    assert!(problem.contains("no answer to a subscription"), "{problem}");
    drop(peer);
    let mut peer = world.welcome(false).await;
    assert_eq!(peer.grant(&[GRANTED], None).await, ["inbox/bob"]);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_asked_for_at_once_follow_each_other_without_a_wait() {
    let mut world = start(&["mqtt://one"]);
    let mut peer = world.welcome(false).await;
    let answers: Vec<_> = (0..5).map(|_| world.mqtt.subscribe(&filters())).collect();
    let begun = tokio::time::Instant::now();
    for _ in 0..5 {
        let codes = [SubscribeReasonCode::Success(QoS::AtLeastOnce)];
        peer.grant(&codes, None).await;
    }
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_follows_everything_asked_for_before() {
    let mut world = start(&["mqtts://a"]);
    let mut peer = world.welcome(false).await;
    peer.deliver(7).await;
    let MqttEvent::Delivery(delivery) = world.event().await else {
        panic!("not a delivery")
    };
    world.mqtt.acknowledge(delivery.receipt);
    drop(world.publish("last words"));
    let (mqtt, leaving) = (world.mqtt.clone(), Instant::now());
    let (said, ()) = tokio::join!(
        async {
            let mut said = vec![
                peer.packet().await,
                peer.packet().await,
                peer.packet().await,
            ];
            drop(peer);
            said.drain(..)
                .map(|packet| match packet {
                    Packet::PubAck(_) => "PUBACK",
                    Packet::Publish(_) => "PUBLISH",
                    Packet::Disconnect(_) => "DISCONNECT",
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
        },
        mqtt.disconnect()
    );
    assert_eq!(said, ["PUBACK", "PUBLISH", "DISCONNECT"]);
    assert!(leaving.elapsed() < GOODBYE);
}
