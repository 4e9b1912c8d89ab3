//! Sending: each line goes into the outbox, then to the broker, and out of the outbox when the broker has it on disk.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason};
use rumqttc::v5::{AsyncClient, ConnectionError, Event};
use sealpost_core::{
    BundleRefused, Content, Envelope, KeyBundle, MessageId, Sealer, Topic, UserId,
};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::home::{Home, now, say, write};
use crate::link::{Login, Patience, announce};

const CLIENT_ID: &str = "sensor-send";
/// Messages on their way at once: what a crash sends again, and what memory holds.
const WINDOW: usize = 64;
/// After which there is no bundle (10.6).
const NO_BUNDLE: Duration = Duration::from_secs(5);
/// After which a message is sent again that the broker could not take (10.5).
const AGAIN: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Outbox {
    home: Home,
    to: UserId,
    sealer: Option<Sealer>,
    number: u64,
    prev: Option<MessageId>,
    connected: bool,
    /// On disk here, and not yet on the broker's.
    waiting: Vec<String>,
    /// Given to rumqttc, which tells a packet's number when it writes it: in this order. Nothing: our bundle.
    given: VecDeque<Option<String>>,
    flying: HashMap<u16, String>,
    again: VecDeque<(Instant, String)>,
    refused: bool,
}

pub(crate) async fn send(home: Home, login: Login, to: &UserId) -> Result<ExitCode> {
    let mut outbox = Outbox::open(home, to)?;
    let mut lines = Some(BufReader::new(tokio::io::stdin()).lines());
    let mut patience = Patience::NEW;
    let mut no_bundle = None;
    loop {
        let (client, mut polled) = login.connect(&outbox.home, CLIENT_ID, 0);
        let (events, mut event) = mpsc::channel(1);
        let connection = tokio::spawn(async move {
            loop {
                let next = polled.poll().await;
                let ended = next.is_err();
                if events.send(next).await.is_err() || ended {
                    break;
                }
            }
        });
        let error: ConnectionError = loop {
            let room = outbox.sealer.is_some() && outbox.waiting.len() < WINDOW;
            let again = outbox.again.front().map(|(at, _)| *at);
            let deadline = no_bundle.filter(|_| outbox.sealer.is_none());
            tokio::select! {
                event = event.recv() => match event {
                    Some(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                        patience = Patience::NEW;
                        no_bundle = Some(Instant::now() + NO_BUNDLE);
                        outbox.begin(&client)?;
                    }
                    Some(Ok(event)) => outbox.heed(&client, event)?,
                    Some(Err(error)) => break error,
                    None => return Err("rumqttc has ended".into()),
                },
                line = next(&mut lines), if room && lines.is_some() => match line? {
                    Some(line) => outbox.seal(&client, &line)?,
                    None => lines = None,
                },
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    if let Some((_, name)) = outbox.again.pop_front() {
                        outbox.publish(&client, name)?;
                    }
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    return Err(format!("nothing is known of {to}").into());
                }
            }
            if lines.is_none() && outbox.waiting.is_empty() {
                let _ = client.disconnect().await;
                connection.abort();
                return Ok(if outbox.refused {
                    ExitCode::FAILURE
                } else {
                    ExitCode::SUCCESS
                });
            }
        };
        outbox.connected = false;
        patience.after(error).await?;
    }
}

async fn next(
    lines: &mut Option<tokio::io::Lines<BufReader<tokio::io::Stdin>>>,
) -> std::io::Result<Option<String>> {
    match lines {
        Some(lines) => lines.next_line().await,
        None => Ok(None),
    }
}

/// 8.4: a line is any JSON, or else text.
fn reading(number: u64, line: &str) -> Result<Content> {
    let value = serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
    Ok(Content::parse(&format!(
        r#"{{"kind":"reading","number":{number},"at":{},"reading":{value}}}"#,
        now()
    ))?)
}

impl Outbox {
    fn open(home: Home, to: &UserId) -> Result<Outbox> {
        let sent = fs::read_to_string(home.path("sent").join(to.as_str())).unwrap_or_default();
        let last = sent.split_once(' ');
        let known = home.believed(to)?;
        Ok(Outbox {
            sealer: known
                .map(|bundle| Sealer::burst(&home.identity, &home.user, &bundle))
                .transpose()?,
            number: last
                .map(|(number, _)| number.parse())
                .transpose()?
                .unwrap_or(0),
            prev: last.map(|(_, id)| MessageId::parse(id)).transpose()?,
            waiting: home.list("outbox")?, // of a run that was cut off
            connected: false,
            given: VecDeque::new(),
            flying: HashMap::new(),
            again: VecDeque::new(),
            refused: false,
            to: to.clone(),
            home,
        })
    }

    /// A connection begins: what was not acknowledged goes again, the same bytes.
    fn begin(&mut self, client: &AsyncClient) -> Result<()> {
        (self.given, self.flying) = (VecDeque::from([None]), HashMap::new());
        self.again.clear();
        self.connected = true;
        let topic = Topic::Keys(self.to.clone()).to_string();
        let subscribed = client.try_subscribe(topic, QoS::AtLeastOnce).is_ok();
        if announce(client, &self.home).is_err() || !subscribed {
            return Ok(()); // the connection has ended again
        }
        self.waiting
            .clone()
            .into_iter()
            .try_for_each(|name| self.publish(client, name))
    }

    fn publish(&mut self, client: &AsyncClient, name: String) -> Result<()> {
        let bytes = fs::read(self.home.path("outbox").join(&name))?;
        let topic = Topic::Inbox(Envelope::parse(&bytes)?.to().clone()).to_string();
        // Where the connection has ended, the event that says so is still to be read; it goes again with the next.
        if client
            .try_publish(topic, QoS::AtLeastOnce, false, bytes)
            .is_ok()
        {
            self.given.push_back(Some(name));
        }
        Ok(())
    }

    fn heed(&mut self, client: &AsyncClient, event: Event) -> Result<()> {
        match event {
            Event::Outgoing(Outgoing::Publish(packet)) => {
                if let Some(Some(name)) = self.given.pop_front() {
                    self.flying.insert(packet, name);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some(name) = self.flying.remove(&ack.pkid) {
                    self.settle(name, ack.reason)?;
                }
            }
            Event::Incoming(Packet::Publish(message)) => {
                self.meet(&message.payload)?;
                let _ = client.try_ack(&message); // or it has ended
            }
            _ => {}
        }
        Ok(())
    }

    /// 6.6: the bundle to seal for is this one, or that believed before when this is an old one.
    fn meet(&mut self, payload: &[u8]) -> Result<()> {
        let believed = KeyBundle::parse(payload)
            .map_err(Into::into)
            .and_then(|bundle| self.home.believe(&self.to, &bundle));
        if let Err(error) = believed {
            if matches!(
                error.downcast_ref(),
                Some(BundleRefused::IdentityChanged { .. })
            ) {
                return Err(error);
            }
            say(format!("the bundle of {}: {error}", self.to));
        }
        if let Some(bundle) = self.home.believed(&self.to)? {
            self.sealer = Some(Sealer::burst(
                &self.home.identity,
                &self.home.user,
                &bundle,
            )?);
        }
        Ok(())
    }

    fn seal(&mut self, client: &AsyncClient, line: &str) -> Result<()> {
        let sealer = self.sealer.as_mut().ok_or("there is no bundle")?;
        let (number, id) = (self.number + 1, MessageId::new(now(), &mut rand::rng()));
        let envelope = sealer.seal(
            &mut rand::rng(),
            now(),
            id,
            self.prev,
            &reading(number, line)?,
        )?;
        (self.number, self.prev) = (number, Some(id));
        // In this order no number is given twice: what is lost in between is missing, as `prev` shows too.
        write(
            &self.home.path("sent").join(self.to.as_str()),
            format!("{number} {id}").as_bytes(),
        )?;
        let name = format!("{}.{number:012}", self.to);
        write(&self.home.path("outbox").join(&name), envelope.as_bytes())?;
        self.waiting.push(name.clone());
        if self.connected {
            self.publish(client, name)?;
        }
        Ok(())
    }

    /// 10.5
    fn settle(&mut self, name: String, reason: PubAckReason) -> Result<()> {
        use PubAckReason as Reason;
        let path = self.home.path("outbox").join(&name);
        match reason {
            Reason::Success | Reason::NoMatchingSubscribers => fs::remove_file(path)?,
            Reason::UnspecifiedError
            | Reason::ImplementationSpecificError
            | Reason::QuotaExceeded => {
                say(format!("the broker cannot take {name} now: {reason:?}"));
                self.again.push_back((Instant::now() + AGAIN, name));
                return Ok(());
            }
            reason => {
                say(format!("the broker refuses {name}: {reason:?}"));
                fs::rename(path, self.home.path("refused").join(&name))?;
                self.refused = true;
            }
        }
        self.waiting.retain(|waiting| *waiting != name);
        Ok(())
    }
}
