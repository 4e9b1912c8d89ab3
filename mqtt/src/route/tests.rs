use std::sync::Mutex;

use rumqttc::v5::mqttbytes::v5::Packet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;
use crate::dial::Dialling;

/// A broker that answers every CONNECT by the protocol's level in it, as 4 is MQTT 3.1.1 and 5 is 5.
struct Fake {
    answer: Box<dyn Fn(u8) -> Vec<u8> + Send + Sync>,
    /// The levels that it was asked for.
    asked: Arc<Mutex<Vec<u8>>>,
}

impl Dialler for Fake {
    fn dial<'a>(&'a self, _: &'a BrokerUrl) -> Dialling<'a> {
        Box::pin(async move {
            let (ours, mut theirs) = duplex(4_096);
            let asked = Arc::clone(&self.asked);
            let [old, new] = [(self.answer)(4), (self.answer)(5)];
            tokio::spawn(async move {
                let mut first = [0; 9];
                theirs.read_exact(&mut first).await.unwrap();
                asked.lock().unwrap().push(first[8]);
                let answer = if first[8] == 4 { old } else { new };
                theirs.write_all(&answer).await.unwrap();
                // Until the other side goes.
                let _ = theirs.read_to_end(&mut Vec::new()).await;
            });
            Ok(Dialled {
                stream: Box::new(ours) as BoxStream,
                binding: ChannelBinding::default(),
                certificates: Vec::new(),
            })
        })
    }
}

type Asked = Arc<Mutex<Vec<u8>>>;

fn route(answer: impl Fn(u8) -> Vec<u8> + Send + Sync + 'static) -> (Route, Asked) {
    let asked = Asked::default();
    let fake = Fake {
        answer: Box::new(answer),
        asked: Arc::clone(&asked),
    };
    let url = "mqtt://127.0.0.1".parse().unwrap();
    (Route::over(url, Vec::new(), Arc::new(fake)), asked)
}

async fn connect(route: &Route) -> Result<Connection, ConnectError> {
    let hello = Hello {
        client_id: "c".into(),
        session_expiry: Some(100),
        receive_maximum: 10,
        max_packet: 1_000,
        keep_alive: Duration::from_secs(30),
        read_ahead: 1_024,
    };
    let mut login = |_: &ChannelBinding| Login {
        user: "bob".into(),
        password: "secret".into(),
    };
    route.connect(&hello, &mut login).await
}

#[tokio::test]
async fn a_broker_that_knows_no_mqtt_5_is_spoken_to_in_3_1_1_and_not_asked_again() {
    // Its answer, and a message right behind it.
    let (route, asked) = route(|level| match level {
        5 => b"\x20\x02\x00\x01".to_vec(),
        _ => b"\x20\x02\x01\x00\x32\x09\x00\x04keys\x00\x01x".to_vec(),
    });
    for _ in 0..2 {
        let mut connection = connect(&route).await.unwrap();
        assert_eq!(connection.welcome.version, Version::V311);
        assert!(connection.welcome.session_present);
        match connection.incoming.packet().await.unwrap() {
            Packet::Publish(publish) => assert_eq!(publish.payload, &b"x"[..]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(*asked.lock().unwrap(), [5, 4, 4]);
}

#[tokio::test]
async fn a_broker_that_came_back_as_another_is_asked_for_mqtt_5_again() {
    let upgraded = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&upgraded);
    let (route, asked) = route(move |level| match (now.load(Ordering::Relaxed), level) {
        (false, 5) => b"\x20\x02\x00\x01".to_vec(),
        (false, _) => b"\x20\x02\x00\x00".to_vec(),
        (true, 5) => b"\x20\x03\x00\x00\x00".to_vec(),
        (true, _) => b"\x20\x02\x00\x03".to_vec(),
    });
    connect(&route).await.unwrap();
    upgraded.store(true, Ordering::Relaxed);
    connect(&route).await.unwrap_err();
    let connection = connect(&route).await.unwrap();
    assert_eq!(connection.welcome.version, Version::V5);
    assert_eq!(*asked.lock().unwrap(), [5, 4, 4, 5]);
}

#[tokio::test]
async fn a_broker_that_knows_neither_and_one_that_refuses_the_login_are_told() {
    let (neither, asked) = route(|_| b"\x20\x02\x00\x01".to_vec());
    let error = connect(&neither).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the broker refused the login: it speaks neither MQTT 5 nor 3.1.1"
    );
    assert_eq!(*asked.lock().unwrap(), [5, 4]);
    let (refusing, asked) = route(|level| match level {
        5 => b"\x20\x03\x00\x87\x00".to_vec(),
        _ => b"\x20\x02\x00\x00".to_vec(),
    });
    let error = connect(&refusing).await.unwrap_err();
    assert!(error.to_string().contains("not authorised"), "{error}");
    assert_eq!(*asked.lock().unwrap(), [5]);
}
