//! The subscription over good and bad connections. The test plays both the broker and the committer.

use std::time::Duration;

use bytes::BytesMut;
use rumqttc::v5::mqttbytes::v5::{Packet, PingResp};
use sealpost_archiver::arrival::{Arrival, Receipt};
use sealpost_archiver::subscription::{CommitterGone, KEEP_ALIVE, Subscription};
use sealpost_archiver::work::Work;
use sealpost_mqtt::{Backoff, ChannelBinding, Login, RouteOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::scripted_broker::{PATIENCE, ScriptedBroker, accepted, publish, refused};

/// A running subscription, seen from the committer's side.
struct Running {
    arrivals: UnboundedReceiver<Work>,
    receipts: UnboundedSender<Vec<Receipt>>,
    subscribed: UnboundedReceiver<()>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), CommitterGone>>,
}

fn start(broker: &ScriptedBroker) -> Running {
    let (arrivals_in, arrivals) = mpsc::unbounded_channel();
    let (receipts, receipts_out) = mpsc::unbounded_channel();
    let (grants, subscribed) = mpsc::unbounded_channel();
    let mut logins = 0;
    let sign_in = Box::new(move |binding: &ChannelBinding| {
        assert!(binding.as_bytes().is_empty(), "there is no TLS here");
        logins += 1;
        Login {
            user: "archiver".to_owned(),
            password: format!("login {logins}"),
        }
    });
    let on_subscribed = Box::new(move || _ = grants.send(()));
    let route = RouteOptions {
        brokers: vec![broker.address()],
        ..RouteOptions::default()
    };
    let backoff = Backoff::between(Duration::from_millis(1), Duration::from_millis(10));
    let subscription = Subscription::new(
        route.parse().unwrap(),
        "stable".to_owned(),
        sign_in,
        on_subscribed,
        arrivals_in,
        receipts_out,
        false,
    )
    .with_backoff(backoff);
    let stop = CancellationToken::new();
    let task = tokio::spawn(subscription.run(stop.clone()));
    Running {
        arrivals,
        receipts,
        subscribed,
        stop,
        task,
    }
}

impl Running {
    async fn arrival(&mut self) -> Arrival {
        let work = timeout(PATIENCE, self.arrivals.recv())
            .await
            .expect("an arrival in time");
        match work.expect("an arrival") {
            Work::Arrival(arrival) => arrival,
            Work::Order(order) => panic!("{order:?} is no arrival"),
        }
    }

    fn commit(&self, arrivals: &[Arrival]) {
        self.receipts
            .send(arrivals.iter().map(|arrival| arrival.receipt).collect())
            .unwrap();
    }
}

#[tokio::test]
async fn it_keeps_one_durable_session_and_makes_a_login_for_each_connection() {
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    for number in 1..=3 {
        let mut peer = broker.accept().await;
        let Packet::Connect(connect, None, Some(login)) = peer.packet().await else {
            panic!("not a CONNECT with login")
        };
        assert_eq!(
            (connect.client_id.as_str(), connect.clean_start),
            ("stable", false)
        );
        let properties = connect.properties.unwrap();
        assert_eq!(properties.session_expiry_interval, Some(u32::MAX));
        assert_eq!(properties.receive_maximum, Some(u16::MAX));
        assert!(properties.max_packet_size.unwrap() as usize > sealpost_core::MAX_ENVELOPE + 1000);
        assert_eq!(
            (login.username.as_str(), login.password),
            ("archiver", format!("login {number}"))
        );
        peer.send(Packet::ConnAck(accepted())).await;
        peer.grant().await;
        timeout(PATIENCE, running.subscribed.recv())
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn nothing_is_acknowledged_before_its_receipt_and_all_in_order() {
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    let mut peer = broker.accept_subscriber().await;
    let mut arrivals = Vec::new();
    // Identifiers go round at a broker's choice; the order of arrival is what counts.
    for packet_id in [7, 65_535, 1, 3, 2] {
        peer.publish(packet_id, &format!("message {packet_id}"))
            .await;
        arrivals.push(running.arrival().await);
    }
    // Nothing but the answer to a ping could come now; a PUBACK would be in front of the next ones.
    running.commit(&arrivals[..2]);
    assert_eq!(
        (peer.acknowledged().await, peer.acknowledged().await),
        (7, 65_535)
    );
    running.commit(&arrivals[2..]);
    assert_eq!(
        (
            peer.acknowledged().await,
            peer.acknowledged().await,
            peer.acknowledged().await
        ),
        (1, 3, 2)
    );
}

#[tokio::test]
async fn a_receipt_of_a_lost_connection_is_not_acknowledged_on_the_next() {
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    let mut peer = broker.accept_subscriber().await;
    peer.publish(1, "first").await;
    peer.publish(2, "second").await;
    let lost = [running.arrival().await, running.arrival().await];
    drop(peer);

    let mut peer = broker.accept_subscriber().await;
    running.commit(&lost);
    // On this connection, 1 is another message.
    peer.publish(1, "second").await;
    peer.publish(2, "third").await;
    let here = [running.arrival().await, running.arrival().await];
    running.commit(&here[1..]);
    assert_eq!(
        peer.acknowledged().await,
        2,
        "and not 1, which no receipt of this connection named"
    );
    running.commit(&here[..1]);
    assert_eq!(peer.acknowledged().await, 1);
}

#[tokio::test]
async fn half_a_packet_of_a_lost_connection_is_forgotten() {
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    let mut peer = broker.accept_subscriber().await;
    let mut bytes = BytesMut::new();
    publish(1, "whole").write(&mut bytes, None).unwrap();
    let whole = bytes.len();
    publish(2, "half").write(&mut bytes, None).unwrap();
    peer.send_bytes(&bytes[..whole + 5]).await;
    assert_eq!(running.arrival().await.payload, "whole");
    drop(peer);
    let mut peer = broker.accept_subscriber().await;
    peer.publish(1, "next").await;
    assert_eq!(running.arrival().await.payload, "next");
}

#[tokio::test]
async fn a_refused_login_is_tried_again() {
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    for _ in 0..2 {
        let mut peer = broker.accept().await;
        peer.packet().await;
        peer.send(Packet::ConnAck(refused("no such\x1b[31m archiver")))
            .await;
    }
    broker.accept_subscriber().await;
    timeout(PATIENCE, running.subscribed.recv())
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_is_no_mqtt_only_costs_a_connection() {
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    for bytes in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        // A PUBLISH instead of a CONNACK; a packet of 200 MB; a reserved packet type; a length of five bytes; nothing.
        &[0x30, 5, 0, 1, b'a', 0, 0],
        &[0x30, 0xFF, 0xFF, 0xFF, 0x5F],
        &[0xF0, 2, 0, 0],
        &[0x20, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        &[0x20, 2, 0],
        &[],
    ] {
        let mut peer = broker.accept().await;
        peer.packet().await;
        peer.send_bytes(bytes).await;
        peer.stream.shutdown().await.unwrap();
        running.receipts.send(Vec::new()).unwrap();
    }
    let mut peer = broker.accept_subscriber().await;
    peer.publish(1, "after all").await;
    assert_eq!(running.arrival().await.payload, "after all");
}

#[tokio::test]
async fn a_stop_waits_for_the_disk_acknowledges_and_says_goodbye() {
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    let mut peer = broker.accept_subscriber().await;
    peer.publish(1, "one").await;
    peer.publish(2, "two").await;
    let arrivals = [running.arrival().await, running.arrival().await];
    running.stop.cancel();
    assert!(
        timeout(PATIENCE, running.arrivals.recv())
            .await
            .unwrap()
            .is_none(),
        "nothing more is taken in"
    );
    assert!(!running.task.is_finished());
    running.commit(&arrivals);
    drop(running.receipts);
    assert_eq!(
        (peer.acknowledged().await, peer.acknowledged().await),
        (1, 2)
    );
    assert!(matches!(peer.packet().await, Packet::Disconnect(_)));
    assert!(peer.packet_or_end().await.is_none());
    assert_eq!(running.task.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_committer_that_ends_by_itself_ends_the_subscription_without_a_goodbye() {
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    let mut peer = broker.accept_subscriber().await;
    peer.publish(1, "one").await;
    running.arrival().await;
    drop(running.receipts);
    assert_eq!(running.task.await.unwrap(), Err(CommitterGone));
    assert!(peer.packet_or_end().await.is_none(), "no acknowledgement");
}

#[tokio::test]
async fn a_stop_and_a_dead_committer_are_noticed_without_a_connection_too() {
    let broker = ScriptedBroker::listen().await;
    let running = start(&broker);
    drop(broker);
    running.stop.cancel();
    drop(running.receipts);
    assert_eq!(
        timeout(PATIENCE, running.task).await.unwrap().unwrap(),
        Ok(())
    );

    let broker = ScriptedBroker::listen().await;
    let running = start(&broker);
    drop(broker);
    drop(running.receipts);
    assert_eq!(
        timeout(PATIENCE, running.task).await.unwrap().unwrap(),
        Err(CommitterGone)
    );
}

#[tokio::test]
async fn a_slow_disk_stops_the_reading_and_not_the_pings() {
    const MESSAGES: usize = 300;
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    let mut peer = broker.accept_subscriber().await;
    let (mut reader, mut writer) = peer.stream.split();
    let payload = "x".repeat(1_000_000);
    let sending = async {
        for packet_id in 1..=MESSAGES as u16 {
            let mut bytes = BytesMut::new();
            publish(packet_id, &payload)
                .write(&mut bytes, None)
                .unwrap();
            writer.write_all(&bytes).await.unwrap();
        }
    };
    let committing = async {
        let mut held = Vec::new();
        // 64 MiB and not much more is taken in. That the rest stays with the broker shows in what it cannot get rid of.
        while held
            .iter()
            .map(|arrival: &Arrival| arrival.receipt.cost)
            .sum::<usize>()
            < 64 << 20
        {
            held.push(running.arrival().await);
        }
        assert!(running.arrivals.try_recv().is_err());
        let mut seen = held.len();
        while seen < MESSAGES {
            running.commit(&held);
            held.clear();
            held.push(running.arrival().await);
            seen += 1;
        }
    };
    let draining = async {
        let mut bytes = [0; 4096];
        loop {
            tokio::io::AsyncReadExt::read(&mut reader, &mut bytes)
                .await
                .unwrap();
        }
    };
    tokio::select! {
        _ = async { tokio::join!(sending, committing) } => {}
        () = draining => {}
    }
}

#[tokio::test]
async fn a_silent_broker_is_left_and_a_pinged_one_is_not() {
    let broker = ScriptedBroker::listen().await;
    let mut running = start(&broker);
    let mut peer = broker.accept_subscriber().await;
    timeout(PATIENCE, running.subscribed.recv())
        .await
        .unwrap()
        .unwrap();
    tokio::time::pause();
    for _ in 0..10 {
        assert!(matches!(peer.packet().await, Packet::PingReq(_)));
        peer.send(Packet::PingResp(PingResp)).await;
    }
    let started = tokio::time::Instant::now();
    while peer.packet_or_end().await.is_some() {}
    assert!(started.elapsed() <= KEEP_ALIVE * 3);
    tokio::time::resume();
    broker.accept_subscriber().await;
}
