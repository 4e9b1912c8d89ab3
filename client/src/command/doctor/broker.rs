//! What others have to do with: each broker, its certificate, the login, and our keys there.

use std::time::Duration;

use rand::RngExt;
use sealpost_core::{Timestamp, Topic, TopicFilter};
use sealpost_mqtt::{BrokerUrl, Certificate, Dialled, Route, dial_advice};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::Doctor;
use crate::account::Account;
use crate::event::{Check, Event, date};
use crate::exit::Failure;
use crate::mqtt::{Connect, Mqtt, MqttEvent, RECEIVE_MAXIMUM};
use crate::own_bundle::{self, OwnBundle};
use crate::session::credentials;
use crate::store::Store;

/// How long one broker may take for everything.
const BROKER_TIME: Duration = Duration::from_secs(30);
/// How long the broker's retained copy of our keys may take, once we are subscribed: brokers send it at once.
const KEYS_TIME: Duration = Duration::from_secs(2);
/// A certificate with less left than this should have been renewed.
const RENEW: Duration = Duration::from_secs(14 * 24 * 60 * 60);

impl Doctor {
    /// Each broker by itself.
    pub(super) async fn brokers(
        &mut self,
        account: Option<&Account>,
        store: Option<&Store>,
    ) -> Result<(), Failure> {
        let route = self.settings.broker.clone();
        if let Err(error) = route.check() {
            return self.failed(Check::Tls, &error.into());
        }
        let all = route.to_string();
        let published = store.and_then(|store| store.published(&all).ok()).flatten();
        let mut clock = false;
        for url in route.brokers() {
            let only = route.only(url);
            if !self.reach(url, &only).await? {
                continue;
            }
            let Some(account) = account else {
                continue;
            };
            if account.handing_over().is_some() {
                continue;
            }
            if published.is_none() {
                // A first login would claim the name, which is more than looking.
                self.note(
                    Check::Login,
                    format!("{url}: you have not been there yet, so no login was tried"),
                    "The next command that connects introduces you: sealpost listen --timeout 5s",
                )?;
                continue;
            }
            clock |= self.log_in(url, only, account).await?;
        }
        if clock {
            self.good(
                Check::Clock,
                "this machine's clock is the broker's, give or take a minute",
            )?;
        }
        Ok(())
    }

    /// Whether it answers, and how it proves who it is.
    async fn reach(&mut self, url: &BrokerUrl, only: &Route) -> Result<bool, Failure> {
        let dialled = match only.dial().await {
            Ok(dialled) => dialled,
            Err(error) => {
                let hint = dial_advice(url, &error)
                    .unwrap_or_else(|| "Is it running, and is --broker right?".to_owned());
                self.problem(Check::Broker, format!("{url}: {error}"), &hint)?;
                return Ok(false);
            }
        };
        self.good(Check::Broker, format!("{url} is reached"))?;
        let Dialled { certificates, .. } = dialled;
        if only.is_exposed() {
            self.note(
                Check::Tls,
                format!("{url}: the connection is not encrypted: who talks to whom shows, and it can be taken over"),
                "Use mqtts:// or wss://.",
            )?;
        }
        for (place, certificate) in certificates.iter().enumerate() {
            self.certificate(url, place, certificate)?;
        }
        Ok(true)
    }

    fn certificate(
        &mut self,
        url: &BrokerUrl,
        place: usize,
        certificate: &Certificate,
    ) -> Result<(), Failure> {
        let whose = match place {
            0 => format!(
                "{url}: its certificate for {}",
                certificate.names.join(", ")
            ),
            _ => format!("{url}: the certificate of {} above it", certificate.subject),
        };
        let whose = crate::terminal::clean_line(&whose);
        let expires = certificate.expires.map(|seconds| {
            // Some certificates "never" end, after the last time that we can tell.
            Timestamp::from_millis(seconds.saturating_mul(1_000)).unwrap_or(Timestamp::MAX)
        });
        let Some(expires) = expires else {
            return self.note(
                Check::Tls,
                format!("{whose} does not parse"),
                "TLS takes it all the same.",
            );
        };
        let message = format!("{whose} is valid until {}", date(expires));
        match self.now.saturating_add(RENEW) >= expires {
            true => self.problem(
                Check::Tls,
                message,
                "The broker's operator has to renew it; it should have happened by now.",
            ),
            false => self.good(Check::Tls, message),
        }
    }

    /// Whether we are let in; and what it has for our name.
    async fn log_in(
        &mut self,
        url: &BrokerUrl,
        only: Route,
        account: &Account,
    ) -> Result<bool, Failure> {
        let until = Instant::now() + BROKER_TIME;
        let client_id = format!("sealpost-doctor-{:016x}", rand::rng().random::<u64>());
        let connect = Connect {
            route: only,
            client_id: client_id.clone(),
            // Beside whatever runs for this home, and leaving nothing behind.
            durable: false,
            receive_maximum: RECEIVE_MAXIMUM,
        };
        let (_, identity) = watch::channel(account.identity().clone());
        let login = match credentials(account, identity, client_id).await {
            Ok(login) => login,
            Err(failure) => {
                self.failed(Check::Login, &failure)?;
                return Ok(false);
            }
        };
        let (mqtt, mut events) = Mqtt::start(connect, login);
        let answer = match timeout_at(until, events.recv()).await {
            Ok(Some(MqttEvent::Connected { version })) => Ok(version),
            Ok(Some(MqttEvent::Ended(error))) => Err(error.into()),
            _ => Err(crate::exit::not_connected(url, BROKER_TIME)),
        };
        let version = match answer {
            Ok(version) => version,
            Err(failure) => {
                self.failed(Check::Login, &failure)?;
                return Ok(false);
            }
        };
        self.good(
            Check::Login,
            format!("{url} lets {} in, and speaks {version}", account.user()),
        )?;
        let there = their_copy(&mqtt, &mut events, account).await;
        mqtt.disconnect().await;
        match there {
            Ok(payload) => self.published(url, account, &payload)?,
            Err(failure) => self.failed(Check::Published, &failure)?,
        }
        Ok(true)
    }

    fn published(
        &mut self,
        url: &BrokerUrl,
        account: &Account,
        payload: &[u8],
    ) -> Result<(), Failure> {
        match own_bundle::look(account, payload) {
            OwnBundle::Current => {
                self.good(Check::Published, format!("{url} gives out your current keys"))
            }
            OwnBundle::Publish if payload.is_empty() => self.problem(
                Check::Published,
                format!("{url} gives out no keys for you any more: nobody new can write to you"),
                "The next command that connects publishes them again; ask the operator why they were gone.",
            ),
            OwnBundle::Publish => self.note(
                Check::Published,
                format!("{url} gives out older keys of yours"),
                "The next command that connects publishes the current ones.",
            ),
            OwnBundle::Foreign(foreign) => match own_bundle::alarm(account, &foreign) {
                Event::Alarm { message, hint, .. } => self.problem(Check::Published, message, &hint),
                _ => Ok(()),
            },
        }
    }
}

/// The bundle that the broker has for us; empty when it has none.
async fn their_copy(
    mqtt: &Mqtt,
    events: &mut mpsc::Receiver<MqttEvent>,
    account: &Account,
) -> Result<Vec<u8>, Failure> {
    let topic = Topic::Keys(account.user().clone()).to_string();
    let mut answer = mqtt.subscribe(&[TopicFilter::Keys(account.user().clone())]);
    let mut until = Instant::now() + BROKER_TIME;
    let mut granted = false;
    loop {
        tokio::select! {
            answer = &mut answer, if !granted => {
                answer.unwrap_or(Err(crate::mqtt::MqttError::Closed))?;
                granted = true;
                until = Instant::now() + KEYS_TIME;
            }
            event = timeout_at(until, events.recv()) => match event {
                // Not acknowledged: nothing of this session is kept.
                Ok(Some(MqttEvent::Delivery(delivery))) if delivery.topic == topic => {
                    return Ok(delivery.payload.to_vec());
                }
                Ok(Some(MqttEvent::Ended(error))) => return Err(error.into()),
                Ok(Some(_)) => {}
                Ok(None) => return Err(crate::mqtt::MqttError::Closed.into()),
                Err(_) => return Ok(Vec::new()),
            }
        }
    }
}
