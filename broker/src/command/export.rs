//! `export`: gives everybody's keys and the mail that waits to another broker.

use std::path::PathBuf;
use std::sync::Arc;

use sealpost_core::{Topic, UserId};
use sealpost_mqtt::{
    BrokerPassword, ChannelBinding, CourierError, Delivered, Login, Parcel, Route, RouteOptions,
    advice, courier_hello, publish_all,
};

use super::GlobalArguments;
use super::failure::{Code, Failure};
use crate::access::registry::{OpenError, Registry};
use crate::clock;
use crate::export::Mail;
use crate::journal::disk::DiskStore;
use crate::journal::store::{Store, StoreError};
use crate::settings::Settings;

/// How many refused messages are told one by one.
const TOLD: usize = 20;

/// What exporting takes.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub(super) struct ExportArguments {
    /// The other broker: mqtts://HOST, wss://HOST, or without TLS mqtt:// and ws://; given more than once or with commas, they are
    /// tried in turn.
    #[arg(long, value_name = "URL", required = true)]
    to: Vec<String>,
    /// The name to log in with there. It has to be allowed to publish to every `keys/…` and `inbox/…`.
    #[arg(long = "as", value_name = "NAME", default_value = "migration")]
    name: UserId,
    /// A file whose first line is the password of that name.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// The keys alone, before clients move; the mail goes when they have.
    #[arg(long)]
    keys_only: bool,
    /// Trust only the authorities in this PEM file to certify the other broker.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Go through this proxy, http://HOST:PORT or socks5://HOST:PORT.
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
}

/// What became of it.
#[derive(Debug, Default)]
struct Counts {
    keys: u64,
    mail: u64,
    kept_by_nobody: u64,
    refused: u64,
    reasons: Vec<String>,
}

impl Counts {
    fn note(&mut self, topic: &Topic, answer: Delivered) {
        match (topic, answer) {
            (Topic::Inbox(_), Delivered::KeptByNobody) => self.kept_by_nobody += 1,
            (Topic::Keys(_), Delivered::Taken | Delivered::KeptByNobody) => self.keys += 1,
            (Topic::Inbox(_), Delivered::Taken) => self.mail += 1,
            (_, Delivered::Refused(reason)) => {
                self.refused += 1;
                if self.reasons.len() < TOLD {
                    self.reasons.push(format!("{topic}: {reason}"));
                }
            }
        }
    }
}

/// Publishes what the files of a broker have that does not run.
pub(super) fn run(global: GlobalArguments, arguments: ExportArguments) -> Result<(), Failure> {
    let (config, overrides) = global.into_overrides();
    let Settings {
        data,
        realm,
        limits,
        ..
    } = Settings::load(config, overrides)?;
    let route = RouteOptions {
        brokers: arguments.to.clone(),
        ca: arguments.ca.clone(),
        proxy: arguments.proxy.clone(),
        ..RouteOptions::default()
    };
    let route = route
        .parse()
        .map_err(|error| Failure::new(Code::Usage, error, "--to takes a broker's URL"))?;
    let password = BrokerPassword::read(&arguments.password_file)
        .map_err(|error| Failure::new(Code::Usage, &error, error.hint()))?;
    let journal = data.join("journal");
    // Opening would make them.
    if !journal.is_dir() || !data.join("users").is_dir() {
        let text = format!("{data:?} is not the data directory of a broker");
        let hint = "name it with --data, or the broker's settings with --config";
        return Err(Failure::new(Code::Failed, text, hint));
    }
    let running = || {
        Failure::new(
            Code::Failed,
            format!("a broker runs on {data:?}"),
            "stop it first, or mail that comes meanwhile stays behind: `sealpost-broker drain`",
        )
    };
    let registry = Registry::open(&data, realm, limits.users).map_err(|error| match error {
        OpenError::InUse(_) => running(),
        error => Failure::new(Code::Failed, error, "look at that path"),
    })?;
    let store = DiskStore::open(&journal).map_err(|error| match error {
        StoreError::InUse(_) => running(),
        error => unreadable(&error),
    })?;
    let store: Arc<dyn Store> = Arc::new(store);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, format!("cannot start: {error}"), ""))?;
    let mut mail = Mail::new(&*store, clock::now());
    let mut counts = Counts::default();
    let published = runtime.block_on(publish(
        &route,
        &arguments,
        &password,
        &registry,
        &mut mail,
        &mut counts,
    ));
    println!(
        "{route}: {} key bundles and {} messages are there",
        counts.keys, counts.mail
    );
    if mail.left_out() > 0 {
        println!(
            "{} messages of other topics than inbox/… stay here",
            mail.left_out()
        );
    }
    for reason in &counts.reasons {
        eprintln!("sealpost-broker: refused: {reason}");
    }
    published?;
    if counts.refused > 0 {
        let hint = format!(
            "{} has to be allowed to publish to every keys/… and inbox/… there; what arrived already is harmless to send again",
            arguments.name
        );
        let text = format!("{} were refused", counts.refused);
        return Err(Failure::new(Code::Failed, text, hint));
    }
    if counts.kept_by_nobody > 0 {
        return Err(Failure::new(
            Code::Failed,
            format!(
                "{} messages are for people who have no mailbox there",
                counts.kept_by_nobody
            ),
            "have them connect there once, and run this again: what arrived already is not shown twice",
        ));
    }
    Ok(())
}

fn unreadable(error: &StoreError) -> Failure {
    let text = format!("the journal cannot be read: {error}");
    Failure::new(Code::Failed, text, "see `sealpost-broker check`")
}

async fn publish(
    route: &Route,
    arguments: &ExportArguments,
    password: &BrokerPassword,
    registry: &Registry,
    mail: &mut Mail<'_>,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let hello = courier_hello(format!("sealpost-export-{}", arguments.name));
    let mut login = |_: &ChannelBinding| Login {
        user: arguments.name.to_string(),
        password: password.as_str().to_owned(),
    };
    let connection = Box::pin(route.connect(&hello, &mut login)).await;
    let connection = connection.map_err(|error| {
        let hint = advice(&error).unwrap_or_else(|| "is it there, and is the login right?".into());
        Failure::new(Code::Failed, format!("{route}: {error}"), hint)
    })?;
    let mut bundles = registry.bundles().into_iter();
    let next = || {
        if let Some((user, bundle)) = bundles.next() {
            return Ok(Some(parcel(Topic::Keys(user), true, bundle.into())));
        }
        if arguments.keys_only {
            return Ok(None);
        }
        let envelope = mail.next_envelope()?;
        Ok(envelope.map(|(topic, payload)| parcel(topic, false, payload)))
    };
    let published = publish_all(connection, next, |topic, answer| {
        counts.note(&topic, answer);
    });
    published.await.map_err(|error| match error {
        CourierError::Source(error) => unreadable(&error),
        error => Failure::new(
            Code::Failed,
            error,
            "run it again: what arrived already is not shown twice",
        ),
    })
}

fn parcel(topic: Topic, retain: bool, payload: bytes::Bytes) -> Parcel<Topic> {
    Parcel {
        topic: topic.to_string(),
        name: topic,
        retain,
        payload,
    }
}
