//! Every common client talks to the broker, over every transport that it knows, in both versions.

use std::net::SocketAddr;
use std::process::Command;

use rumqttc::v5::mqttbytes::v5::PubAckReason;
use sealpost_tests::{
    Broker, BrokerOptions, Lab, Link, PATIENCE, Process, assert_round_trip, client_program,
};

/// An open broker with TLS.
fn open_broker(lab: &Lab) -> Broker {
    Broker::start(BrokerOptions {
        open: true,
        settings: lab.settings(),
        ..BrokerOptions::default()
    })
}

#[test]
fn paho_mqtt_in_python_talks_over_tcp_tls_and_websocket_in_both_versions() {
    let lab = Lab::new();
    let broker = open_broker(&lab);
    for version in ["4", "5"] {
        for transport in ["tcp", "websockets"] {
            for tls in [false, true] {
                let mut command = client_program("paho");
                command.args(["--version", version, "--transport", transport]);
                if tls {
                    command.arg("--ca").arg(lab.file("ca.pem"));
                }
                let address = if tls {
                    broker.tls_address()
                } else {
                    broker.address()
                };
                command.args(["--port", &address.port().to_string()]);
                assert_round_trip("paho", command);
            }
        }
    }
}

#[test]
fn mqtt_js_talks_over_tcp_tls_and_websocket_in_both_versions() {
    let lab = Lab::new();
    let broker = open_broker(&lab);
    for version in ["4", "5"] {
        for (scheme, address) in [
            ("mqtt", broker.address()),
            ("ws", broker.address()),
            ("mqtts", broker.tls_address()),
            ("wss", broker.tls_address()),
        ] {
            let mut command = client_program("mqttjs/mqttjs");
            command
                .arg(format!("{scheme}://{address}/mqtt"))
                .arg(version);
            command.arg(lab.file("ca.pem"));
            assert_round_trip("mqtt.js", command);
        }
    }
}

#[test]
fn mosquittos_clients_talk_over_tcp_and_tls_in_both_versions() {
    let lab = Lab::new();
    let broker = open_broker(&lab);
    for version in ["mqttv311", "mqttv5"] {
        for tls in [false, true] {
            let address = if tls {
                broker.tls_address()
            } else {
                broker.address()
            };
            let (port, text) = (address.port().to_string(), format!("{version} {tls}"));
            let run = |program: &str, arguments: &[&str]| {
                let mut command = Command::new(program);
                command.args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-q", "1"]);
                command.args(["-t", &text]).args(arguments);
                if tls {
                    command.arg("--cafile").arg(lab.file("ca.pem"));
                }
                let mut process = Process::spawn(program, &mut command);
                assert!(process.wait().success(), "{:?}", process.stderr());
                process.stdout()
            };
            // Retained, so that the subscriber need not be there first.
            run("mosquitto_pub", &["-r", "-m", &text]);
            assert_eq!(
                run("mosquitto_sub", &["-C", "1", "-W", "30"]),
                std::slice::from_ref(&text)
            );
        }
    }
}

/// A port of this machine that leads to the broker through TLS. rumqttc's own TLS and WebSocket would bring dependencies along
/// that are no longer maintained.
async fn tunnel(lab: Lab, broker: SocketAddr) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = lab.connect(broker, None).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    address
}

#[tokio::test]
async fn rumqttc_talks_over_tcp_and_tls_in_both_versions() {
    let lab = Lab::new();
    let broker = open_broker(&lab);
    let tunnel = tunnel(lab, broker.tls_address()).await;
    for address in [broker.address(), tunnel] {
        let (host, port) = (address.ip().to_string(), address.port());
        let topic = address.to_string();
        let payload = vec![7; 100_000];

        let mut options = rumqttc::MqttOptions::new("four", &host, port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, mut events) = rumqttc::AsyncClient::new(options, 10);
        let qos = rumqttc::QoS::AtLeastOnce;
        client.subscribe(&topic, qos).await.unwrap();
        client
            .publish(&topic, qos, false, payload.clone())
            .await
            .unwrap();
        loop {
            let event = tokio::time::timeout(PATIENCE, events.poll())
                .await
                .expect("an event in time")
                .unwrap();
            if let rumqttc::Event::Incoming(rumqttc::Incoming::Publish(publish)) = event {
                assert_eq!(publish.payload, payload, "{topic}");
                break;
            }
        }

        let mut five = Link::connect(address, "five", None).await.unwrap();
        five.subscribe(&topic).await;
        let reason = five.publish(&topic, false, &payload).await;
        assert_eq!(reason, PubAckReason::Success);
        assert_eq!(five.receive().await.payload, payload, "{topic}");
        five.disconnect().await;
    }
}
