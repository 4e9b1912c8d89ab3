//! Listening: what is acknowledged is stored, put aside until its sender's bundle comes, or refused for good (10.6).

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event};
use sealpost_core::{Envelope, KeyBundle, Topic, UserId};

use crate::home::{Home, say, write};
use crate::link::{Login, Patience, announce};

const CLIENT_ID: &str = "sensor-listen";
const MONTH: u32 = 30 * 86_400;
/// Envelopes of senders whose bundle is not here yet, and how many of one (7.8).
const MAX_WAITING: usize = 256;
const MAX_WAITING_OF_ONE: usize = 32;
const MAX_WAIT: Duration = Duration::from_secs(45 * 86_400);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub(crate) async fn listen(mut home: Home, login: Login) -> Result<ExitCode> {
    let mut patience = Patience::NEW;
    loop {
        let (client, mut events) = login.connect(&home, CLIENT_ID, MONTH);
        let error = loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    patience = Patience::NEW;
                    announce(&client, &home)?;
                    for topic in topics(&home)? {
                        client.try_subscribe(topic.to_string(), QoS::AtLeastOnce)?;
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(granted))) => {
                    say(format!("connected: {:?}", granted.return_codes))
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    let topic = String::from_utf8_lossy(&message.topic).into_owned();
                    if let Err(error) = heed(&mut home, &client, &topic, &message.payload) {
                        // A disk that fails is none of the message's fault: it comes again.
                        if error.is::<std::io::Error>() {
                            return Err(error);
                        }
                        say(format!("refused: {error}"));
                    }
                    client.try_ack(&message)?;
                }
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        patience.after(error).await?;
    }
}

/// Our inbox and our bundle, and those of everybody we know or wait for.
fn topics(home: &Home) -> Result<BTreeSet<Topic>> {
    let mut topics = BTreeSet::from([
        Topic::Inbox(home.user.clone()),
        Topic::Keys(home.user.clone()),
    ]);
    for name in home.list("waiting")? {
        let path = home.path("waiting").join(&name);
        if fs::metadata(&path)?
            .modified()?
            .elapsed()
            .is_ok_and(|age| age > MAX_WAIT)
        {
            fs::remove_file(path)?;
        }
        topics.insert(Topic::Keys(UserId::parse(
            name.split('.').next().unwrap_or_default(),
        )?));
    }
    for name in home.list("contacts")? {
        topics.insert(Topic::Keys(UserId::parse(&name)?));
    }
    Ok(topics)
}

fn heed(home: &mut Home, client: &AsyncClient, topic: &str, payload: &[u8]) -> Result<()> {
    match Topic::parse(topic)? {
        Topic::Inbox(_) => {
            let envelope = Envelope::parse(payload)?;
            if envelope.to() != &home.user {
                return Err("not for me".into());
            }
            if !show(home, &envelope)? {
                put_aside(home, &envelope)?;
                client.try_subscribe(
                    Topic::Keys(envelope.from().clone()).to_string(),
                    QoS::AtLeastOnce,
                )?;
            }
        }
        Topic::Keys(user) if user == home.user => {
            if payload != home.bundle {
                say("WARNING: somebody else has published a bundle in my name");
            }
        }
        Topic::Keys(user) => {
            let bundle = KeyBundle::parse(payload)?;
            let waiting = waiting(home, &user)?;
            let envelopes = waiting.iter().map(|name| {
                Ok(Envelope::parse(&fs::read(
                    home.path("waiting").join(name),
                )?)?)
            });
            let envelopes: Vec<Envelope> = envelopes.collect::<Result<_>>()?;
            if home.believed(&user)?.is_none()
                && !envelopes
                    .iter()
                    .any(|envelope| envelope.signer() == bundle.identity())
            {
                return Ok(()); // nobody whose mail we have
            }
            home.believe(&user, &bundle)?;
            for (name, envelope) in waiting.iter().zip(&envelopes) {
                if let Err(error) = show(home, envelope) {
                    say(format!("refused: {error}"));
                }
                fs::remove_file(home.path("waiting").join(name))?;
            }
        }
    }
    Ok(())
}

/// Gives false when the sender's bundle is needed first.
fn show(home: &mut Home, envelope: &Envelope) -> Result<bool> {
    let Some(line) = home.receive(envelope)? else {
        return Ok(false);
    };
    if line
        .pointer("/content/kind")
        .is_some_and(|kind| kind != "receipt")
    {
        // In ASCII: no control characters and no bidirectional overrides reach a terminal (8.1).
        let mut units = [0; 2];
        let ascii = line.to_string().chars().fold(String::new(), |mut text, c| {
            if matches!(c, ' '..='~') {
                text.push(c);
            } else {
                text.extend(
                    c.encode_utf16(&mut units)
                        .iter()
                        .map(|unit| format!("\\u{unit:04x}")),
                );
            }
            text
        });
        writeln!(std::io::stdout(), "{ascii}")?;
    }
    Ok(true)
}

fn waiting(home: &Home, sender: &UserId) -> Result<Vec<String>> {
    let mut names = home.list("waiting")?;
    names.retain(|name| name.split('.').next() == Some(sender.as_str()));
    Ok(names)
}

fn put_aside(home: &Home, envelope: &Envelope) -> Result<()> {
    let ours = waiting(home, envelope.from())?;
    if ours.len() >= MAX_WAITING_OF_ONE || home.list("waiting")?.len() >= MAX_WAITING {
        return Err("too many wait".into());
    }
    let last = ours
        .last()
        .and_then(|name| name.rsplit('.').next()?.parse::<u64>().ok());
    let name = format!(
        "{}.{:012}",
        envelope.from(),
        last.map_or(0, |last| last + 1)
    );
    write(&home.path("waiting").join(name), envelope.as_bytes())
}
