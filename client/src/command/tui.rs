//! `sealpost` alone, on a terminal: joins the interface with a session, the store, the terminal and the clock.

use std::io::IsTerminal;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Duration;

use jiff::tz::TimeZone;
use ratatui::crossterm::event::{self, Event as TerminalEvent, MouseButton, MouseEventKind};
use sealpost_mqtt::Route;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Start;
use crate::account::Account;
use crate::cli::Global;
use crate::clock;
use crate::event::{ContactChangeKind, Event, Printer};
use crate::exit::{Code, Failure};
use crate::home::Home;
use crate::own_link::own_link;
use crate::passphrase::{self, Passphrase};
use crate::reaching::{Limits, Pauses, Refusals, reach};
use crate::session::{Happening, Manner, Parts, Session};
use crate::settings::{
    DEFAULT_BROKER, Receipts, Settings, SettingsError, Strangers, default_file, process_environment,
};
use crate::terminal::clean_text;
use crate::tui::desk::{Desk, Order, Us, news, problem};
use crate::tui::draw::draw;
use crate::tui::hint::in_the_chat;
use crate::tui::screen::Screen;
use crate::tui::settings::{ChatSettings, ability};
use crate::tui::setup::{Given, Setup, Step, Wish};
use crate::tui::state::{Connection, Effect, Level, Me, Msg, State};
use crate::tui::theme::Theme;

/// How many messages wait for the interface; then who sends them waits.
const QUEUE: usize = 64;
/// How many are taken before the next frame is drawn.
const BURST: usize = 256;
/// The time between two frames: thirty a second are enough for reading.
const FRAME: Duration = Duration::from_millis(33);
/// How often the clock is looked at, for what is said for a while and for the day.
const TICK: Duration = Duration::from_secs(1);
/// How long the end waits for the session to say goodbye.
const GOODBYE: Duration = Duration::from_secs(4);
/// How often a notification command may run: a flood of messages is no flood of processes.
const NOTIFY_EVERY: Duration = Duration::from_secs(1);
/// What a home that begins in the chat has of its own: `listen` and the others then keep to what the chat does.
const ASK_FIRST: &str = "# Who is new asks first, in the chat and everywhere else: \"accept\" lets them in as they come.\nstrangers = \"request\"\n";
/// How often a passphrase may be mistyped.
const TRIES: u32 = 3;

/// Whether the interface can be used here.
pub(super) fn is_possible(global: &Global) -> bool {
    let term = std::env::var("TERM").unwrap_or_default();
    let dumb = term.is_empty() || term == "dumb";
    !global.json && !dumb && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

pub(super) async fn run(
    global: Global,
    stop: CancellationToken,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    let settings = match Settings::load(&global, &process_environment) {
        Ok(settings) => Some(settings),
        Err(SettingsError::NoUser) => None,
        Err(error) => return Err(error.into()),
    };
    let there = settings
        .as_ref()
        .is_some_and(|settings| Home::at(&settings.home).keystore().exists());
    let events = TerminalEvents::start();
    let Some(settings) = settings.filter(|_| there) else {
        return first_chat(global, events, stop, started).await;
    };
    let home = Home::open(&settings.home)?;
    let start = Start {
        settings,
        home,
        printer: Printer::standard(false),
        stop,
    };
    let account = unlock(&start)?;
    started();
    Box::pin(chat(start, account, events)).await
}

async fn first_chat(
    global: Global,
    mut events: TerminalEvents,
    stop: CancellationToken,
    started: impl FnOnce() + Send,
) -> Result<(), Failure> {
    started();
    let settings = match Settings::load(&global, &process_environment) {
        Ok(settings) => Some(settings),
        Err(SettingsError::NoUser) => None,
        Err(error) => return Err(error.into()),
    };
    let made = Box::pin(first_run(&global, settings, &mut events, &stop)).await?;
    let Some((settings, account)) = made else {
        return Ok(());
    };
    let home = Home::open(&settings.home)?;
    let start = Start {
        settings,
        home,
        printer: Printer::standard(false),
        stop,
    };
    Box::pin(chat(start, account, events)).await
}

/// As every command does, but a slip of the finger is not the end.
fn unlock(start: &Start) -> Result<Account, Failure> {
    let mut tries = 1;
    loop {
        match start.unlock() {
            Err(failure)
                if start.settings.passphrase_command.is_none()
                    && tries < TRIES
                    && failure.code == Code::Failed =>
            {
                eprintln!("sealpost: {}", failure.message);
                tries += 1;
            }
            ended => return ended,
        }
    }
}

/// What the terminal says, from a thread that waits for it.
struct TerminalEvents {
    events: mpsc::Receiver<std::io::Result<TerminalEvent>>,
    begin: Option<std_mpsc::Sender<()>>,
}

impl TerminalEvents {
    /// It reads nothing before [`TerminalEvents::begin`]: a passphrase is asked for in another way.
    fn start() -> TerminalEvents {
        let (begin, begun) = std_mpsc::channel();
        let (out, events) = mpsc::channel(QUEUE);
        std::thread::spawn(move || {
            if begun.recv().is_err() {
                return;
            }
            loop {
                let event = event::read();
                let failed = event.is_err();
                if out.blocking_send(event).is_err() || failed {
                    return;
                }
            }
        });
        TerminalEvents {
            events,
            begin: Some(begin),
        }
    }

    fn begin(&mut self) {
        if let Some(begin) = self.begin.take() {
            let _ = begin.send(());
        }
    }

    /// The next one; an error when the terminal is gone.
    async fn next(&mut self) -> Result<TerminalEvent, Failure> {
        match self.events.recv().await {
            Some(event) => Ok(event?),
            None => Err(Failure::new(Code::Failed, "the terminal is gone", "")),
        }
    }
}

/// Asks for what is needed, makes keys, and says what verifying means. `None`: not now.
async fn first_run(
    global: &Global,
    settings: Option<Settings>,
    events: &mut TerminalEvents,
    stop: &CancellationToken,
) -> Result<Option<(Settings, Account)>, Failure> {
    let (user, broker, command) = match &settings {
        Some(settings) => (
            settings.user.to_string(),
            settings.broker.to_string(),
            settings.passphrase_command.clone(),
        ),
        None => (String::new(), broker_without_user(global)?, None),
    };
    let theme = match &settings {
        Some(settings) => ChatSettings::of(&settings.chat)?.preferences.theme,
        None => crate::tui::theme::ThemeName::Auto,
    };
    let theme = Theme::of(theme, ability(&process_environment));
    let mut setup = Setup::new(&user, &broker, command.is_some(), theme);
    let mut screen = Screen::take(false)?;
    events.begin();
    let mut made = None;
    loop {
        screen.draw(|frame| setup.draw(frame))?;
        let event = tokio::select! {
            event = events.next() => event?,
            () = stop.cancelled() => return Ok(None),
        };
        let wish = match event {
            TerminalEvent::Key(key) => setup.key(&key),
            TerminalEvent::Paste(text) => {
                setup.paste(&text);
                Wish::Nothing
            }
            _ => Wish::Nothing,
        };
        match wish {
            Wish::Nothing => {}
            Wish::Quit => return Ok(None),
            Wish::GoOn => return Ok(made),
            Wish::Make(given) => {
                screen.draw(|frame| setup.draw(frame))?;
                let mut again = global.clone();
                again.user = Some(given.user.clone());
                again.broker = vec![given.broker.clone()];
                again.invitation = given.invitation.clone().or(again.invitation);
                let making = tokio::task::spawn_blocking(move || make(&again, &given));
                let done = making
                    .await
                    .map_err(|_| Failure::new(Code::Failed, "making keys failed", "Try again."))?;
                match done {
                    Ok(done) => {
                        made = Some(done);
                        setup.step = Step::Explaining;
                    }
                    Err(failure) => setup.failed(format!("{}. {}", failure.message, failure.hint)),
                }
            }
        }
    }
}

/// What the layers say of the broker, when they do not say who asks.
fn broker_without_user(global: &Global) -> Result<String, Failure> {
    let somebody = Global {
        user: Some("somebody".to_owned()),
        ..global.clone()
    };
    Ok(match Settings::load(&somebody, &process_environment) {
        Ok(settings) => settings.broker.to_string(),
        Err(SettingsError::NoHome) => DEFAULT_BROKER.to_owned(),
        Err(error) => return Err(error.into()),
    })
}

fn make(global: &Global, given: &Given) -> Result<(Settings, Account), Failure> {
    let settings = Settings::load(global, &process_environment)?;
    let home = Home::open(&settings.home)?;
    if home.keystore().exists() {
        let mut failure: Failure =
            crate::keystore::KeystoreError::Exists(home.path().to_owned()).into();
        failure.hint = format!("Start it as: sealpost --user {}", settings.user);
        return Err(failure);
    }
    let passphrase = match (&given.passphrase, settings.passphrase_command.as_deref()) {
        (Some(text), _) => Some(Passphrase::new(text.clone())?),
        (None, Some(command)) => Some(passphrase::fresh(Some(command), settings.user.as_str())?),
        (None, None) => None,
    };
    let account = Account::create(
        &home,
        &settings.user,
        &settings.realm,
        passphrase.as_ref(),
        clock::now(),
    )?
    .with_invitation(settings.invitation.clone())
    .with_rotation(settings.rotate_keys_after)
    .with_passphrase_command(settings.passphrase_command.clone())
    .with_broker_password_command(settings.broker_password_command.clone());
    remember(&settings, given);
    Ok((settings, account))
}

/// Writes a settings file where there is none, so that `sealpost` alone is enough from now on. Without one it works, too.
fn remember(settings: &Settings, given: &Given) {
    let Some(path) = default_file(&process_environment) else {
        return;
    };
    if settings.file.is_some() || path.exists() {
        return;
    }
    let quoted = |text: &str| format!("{text:?}");
    let brokers: Vec<String> = given
        .broker
        .split(',')
        .map(|url| quoted(url.trim()))
        .collect();
    let brokers = match brokers.as_slice() {
        [one] => one.clone(),
        more => format!("[{}]", more.join(", ")),
    };
    let mut text = format!(
        "# Written at the first start of `sealpost`. All that can stand here: config/client.toml.\nuser = {}\nbroker = {brokers}\n",
        quoted(&given.user)
    );
    if settings.realm.to_string() != crate::settings::DEFAULT_REALM {
        text.push_str(&format!("realm = {}\n", quoted(settings.realm.as_ref())));
    }
    // A home at another place would not be found again.
    let by_default = std::env::var_os("SEALPOST_HOME").is_none()
        && settings.home.file_name() == Some(std::ffi::OsStr::new(&given.user));
    if !by_default && let Some(home) = settings.home.to_str() {
        text.push_str(&format!("home = {}\n", quoted(home)));
    }
    if settings.strangers.is_none() {
        text.push_str(ASK_FIRST);
    }
    let write = |path: &Path| -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, &text)
    };
    if let Err(error) = write(&path) {
        tracing::warn!("the settings were not written: {error}");
    }
}

fn us(account: &Account, broker: &Route) -> Us {
    let link = own_link(account, broker).map(|event| match event {
        Event::ContactLink { link, .. } => link,
        _ => String::new(),
    });
    Us {
        user: account.user().clone(),
        realm: account.realm().clone(),
        identity: account.identity_key(),
        retired: account.is_retired(),
        link,
    }
}

async fn chat(start: Start, account: Account, events: TerminalEvents) -> Result<(), Failure> {
    let chat = ChatSettings::of(&start.settings.chat)?;
    let store = start.open_store(&account)?;
    let _only_one = start.lock_receiving().await?;
    let manner = Manner {
        // They are shown by the interface, which knows what was seen.
        limit: 0,
        // Somebody is there to decide.
        strangers: start.settings.strangers.unwrap_or(Strangers::Request),
        ..start.manner()
    };
    let nudge = Arc::new(Notify::new());
    let desk = Desk {
        store: start.open_store(&account)?,
        us: us(&account, &start.settings.broker),
        policy: start.settings.trust,
        read_receipts: manner.receipts == Receipts::Read,
        broker: start.settings.broker.clone(),
        nudge: nudge.clone(),
    };
    let me = Me {
        user: account.user().clone(),
        realm: account.realm().to_string(),
    };
    let (orders, ordered) = std_mpsc::channel();
    let (out, msgs) = mpsc::channel(QUEUE);
    let told = out.clone();
    std::thread::spawn(move || desk.work(&ordered, told));
    let ability = ability(&process_environment);
    let state = State::new(
        me,
        chat.preferences.clone(),
        ability,
        TimeZone::system(),
        clock::now(),
    );
    let leave = CancellationToken::new();
    let connecting = Connecting {
        broker: start.settings.broker.clone(),
        manner,
        out,
        orders: orders.clone(),
        nudge,
        stop: leave.clone(),
    };
    let (said, sayings) = mpsc::unbounded_channel();
    let parts = Parts {
        account,
        store,
        printer: Printer::to(said),
    };
    let session = tokio::spawn(Box::pin(connecting.work(parts, sayings)));
    let mut interface = Interface {
        state,
        screen: Screen::take(chat.mouse)?,
        events,
        msgs,
        orders,
        chat,
        notified: None,
    };
    let ended = interface.work(&start.stop).await;
    drop(interface);
    leave.cancel();
    // What is not said by then goes with the next connection.
    let _ = tokio::time::timeout(GOODBYE, session).await;
    ended
}

/// The interface, and what it works with.
struct Interface {
    state: State,
    screen: Screen,
    events: TerminalEvents,
    msgs: mpsc::Receiver<Msg>,
    orders: std_mpsc::Sender<Order>,
    chat: ChatSettings,
    notified: Option<Instant>,
}

impl Interface {
    async fn work(&mut self, stop: &CancellationToken) -> Result<(), Failure> {
        let (columns, rows) = self.screen.size()?;
        self.take(Msg::Resize(columns, rows))?;
        self.events.begin();
        let mut tick = tokio::time::interval(TICK);
        let mut stopped = signal(SignalKind::from_raw(signal_hook::consts::SIGTSTP))?;
        let (mut dirty, mut next_frame) = (true, Instant::now());
        let mut fault = std::pin::pin!(fault());
        while !self.state.is_quitting() {
            if dirty && Instant::now() >= next_frame {
                let state = &self.state;
                self.screen.draw(|frame| draw(state, frame))?;
                (dirty, next_frame) = (false, Instant::now() + FRAME);
            }
            let msg = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = &mut fault => break,
                _ = stopped.recv() => {
                    self.screen.suspend()?;
                    dirty = true;
                    continue;
                }
                event = self.events.next() => of_terminal(event?),
                msg = self.msgs.recv() => msg,
                () = tokio::time::sleep_until(next_frame), if dirty => None,
                _ = tick.tick() => {
                    let before = (self.state.notice.is_some(), self.state.now.millis() / 60_000);
                    self.take(Msg::Tick(clock::now()))?;
                    dirty |= before != (self.state.notice.is_some(), self.state.now.millis() / 60_000);
                    continue;
                }
            };
            let Some(msg) = msg else { continue };
            self.take(msg)?;
            dirty = true;
            for _ in 0..BURST {
                let Ok(msg) = self.msgs.try_recv() else { break };
                self.take(msg)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, msg: Msg) -> Result<(), Failure> {
        if matches!(msg, Msg::Key(_) | Msg::Said(..) | Msg::People(_)) {
            self.state.now = clock::now();
        }
        for effect in self.state.update(msg) {
            match effect {
                Effect::Quit => {}
                Effect::Redraw => self.screen.redraw()?,
                Effect::Suspend => self.screen.suspend()?,
                Effect::Copy(text) => {
                    self.screen.copy(&text)?;
                    let copied =
                        "Given to the terminal for the clipboard; not every terminal takes it.";
                    self.state.update(Msg::Said(Level::Note, copied.to_owned()));
                }
                Effect::Notify(title, words) => self.notify(&title, &words)?,
                other => {
                    // The desk ends with this.
                    let _ = self.orders.send(Order::Do(other));
                }
            }
        }
        Ok(())
    }

    fn notify(&mut self, title: &str, words: &str) -> Result<(), Failure> {
        let soon = self.notified.is_some_and(|at| at.elapsed() < NOTIFY_EVERY);
        if soon {
            return Ok(());
        }
        self.notified = Some(Instant::now());
        self.screen
            .notify(self.chat.bell, self.chat.desktop, title, words)?;
        if let Some(command) = &self.chat.notify_command {
            let child = tokio::process::Command::new("/bin/sh")
                .arg("-c")
                .arg(command)
                .env("SEALPOST_FROM", title)
                .env("SEALPOST_TEXT", words)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            // tokio waits for it, so that it does not stay as a zombie.
            drop(child);
        }
        Ok(())
    }
}

/// A fault of our own, for a test of what the terminal is like afterwards: debug builds panic at SIGUSR1, and others never.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "that is what it is for")]
async fn fault() {
    if let Ok(mut asked) = signal(SignalKind::user_defined1()) {
        asked.recv().await;
        panic!("a fault, asked for with SIGUSR1");
    }
}

#[cfg(not(debug_assertions))]
async fn fault() {
    std::future::pending().await
}

fn of_terminal(event: TerminalEvent) -> Option<Msg> {
    const WHEEL: i16 = 3;
    match event {
        TerminalEvent::Key(key) => Some(Msg::Key(key)),
        TerminalEvent::Paste(text) => Some(Msg::Paste(text)),
        TerminalEvent::Resize(columns, rows) => Some(Msg::Resize(columns, rows)),
        TerminalEvent::FocusGained => Some(Msg::Focus(true)),
        TerminalEvent::FocusLost => Some(Msg::Focus(false)),
        TerminalEvent::Mouse(mouse) => match mouse.kind {
            MouseEventKind::ScrollUp => Some(Msg::Wheel(-WHEEL)),
            MouseEventKind::ScrollDown => Some(Msg::Wheel(WHEEL)),
            MouseEventKind::Down(MouseButton::Left) => Some(Msg::Click(mouse.column, mouse.row)),
            _ => None,
        },
    }
}

/// The session, for as long as the interface runs.
struct Connecting {
    broker: Route,
    manner: Manner,
    out: mpsc::Sender<Msg>,
    orders: std_mpsc::Sender<Order>,
    nudge: Arc<Notify>,
    stop: CancellationToken,
}

impl Connecting {
    async fn work(self, parts: Parts, mut sayings: mpsc::UnboundedReceiver<Event>) {
        let failure = match Box::pin(self.sessions(parts, &mut sayings)).await {
            Ok(()) => return,
            Err(failure) => failure,
        };
        let over = Connection::Over {
            reason: failure.message,
            hint: failure.hint,
        };
        self.tell(Msg::Connection(over, self.broker.current().to_string()))
            .await;
    }

    async fn tell(&self, msg: Msg) {
        tokio::select! {
            _ = self.out.send(msg) => {}
            () = self.stop.cancelled() => {}
        }
    }

    async fn sessions(
        &self,
        parts: Parts,
        sayings: &mut mpsc::UnboundedReceiver<Event>,
    ) -> Result<(), Failure> {
        let mut parts = parts;
        let mut pauses = Pauses::default();
        loop {
            let limits = Limits {
                stop: self.stop.clone(),
                time: None,
                // Somebody sees why, and may wait for an operator, or for a clock to be set.
                refusals: Refusals::AllMayPass,
            };
            let reaching = Box::pin(reach(parts, &self.broker, self.manner, limits));
            let Some(mut session) = self.listening(reaching, sayings).await? else {
                return Ok(());
            };
            let since = Instant::now();
            let ended = self.serve(&mut session, sayings).await;
            let (left, closed) = session.leave().await;
            self.pass_on(sayings).await;
            match ended {
                Err(failure) if failure.passes => {
                    parts = left;
                    let pause = pauses.after(since.elapsed());
                    let away = Connection::Away {
                        reason: failure.message,
                        hint: failure.hint,
                    };
                    self.tell(Msg::Connection(away, self.broker.current().to_string()))
                        .await;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.stop.cancelled() => return Ok(()),
                    }
                }
                ended => return ended.and(closed),
            }
        }
    }

    /// Passes on what is said while something else is waited for.
    async fn listening<T>(
        &self,
        what: impl Future<Output = T>,
        sayings: &mut mpsc::UnboundedReceiver<Event>,
    ) -> T {
        let mut what = std::pin::pin!(what);
        loop {
            tokio::select! {
                done = &mut what => return done,
                Some(event) = sayings.recv() => self.say(event).await,
            }
        }
    }

    async fn pass_on(&self, sayings: &mut mpsc::UnboundedReceiver<Event>) {
        while let Ok(event) = sayings.try_recv() {
            self.say(event).await;
        }
    }

    async fn serve(
        &self,
        session: &mut Session,
        sayings: &mut mpsc::UnboundedReceiver<Event>,
    ) -> Result<(), Failure> {
        let mut known = session.account.identity_key();
        loop {
            self.pass_on(sayings).await;
            let now = session.account.identity_key();
            if now != known {
                known = now;
                let us = us(&session.account, &self.broker);
                let _ = self.orders.send(Order::Us(Box::new(us)));
            }
            tokio::select! {
                happening = session.next() => match happening? {
                    Happening::Outgoing(entry) => {
                        self.tell(Msg::Progress(entry.id.to_string(), entry.state, problem(&entry))).await;
                    }
                    Happening::File(entry) => self.tell(news(&entry)).await,
                    _ => {}
                },
                () = self.nudge.notified() => session.carry()?,
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn say(&self, event: Event) {
        let msg = match &event {
            Event::Status {
                state,
                broker,
                reason,
                hint,
                ..
            } => {
                let connection = match (*state, reason) {
                    ("connected", _) => Connection::Up,
                    (_, reason) => Connection::Away {
                        reason: clean_text(reason.as_deref().unwrap_or("disconnected")),
                        hint: hint.clone().unwrap_or_default(),
                    },
                };
                Msg::Connection(connection, broker.clone())
            }
            // The list of people says these, and does not let go of them.
            Event::Alarm { cause, .. } if *cause == "identity_changed" => return,
            Event::Alarm { .. } => Msg::Said(Level::Alarm, in_the_chat(&event.human())),
            Event::Contact {
                change: ContactChangeKind::Pinned,
                user,
                fingerprint,
                ..
            } => {
                let words = format!(
                    "The first keys of {user} ({fingerprint}) are taken for theirs from now on. To be sure: /verify {user}"
                );
                Msg::Said(Level::Note, words)
            }
            Event::Contact { change, .. } => {
                let level = match change {
                    ContactChangeKind::Replaced | ContactChangeKind::Retired => Level::Alarm,
                    _ => Level::Note,
                };
                Msg::Said(level, in_the_chat(&event.human()))
            }
            Event::Refused { .. } | Event::Error { .. } => {
                Msg::Said(Level::Problem, in_the_chat(&event.human()))
            }
            Event::Waiting {
                from,
                reason: "bundle",
                ..
            } => {
                let words =
                    format!("A message of {from} waits for their keys, and is opened then.");
                Msg::Said(Level::Note, words)
            }
            Event::Waiting { .. } | Event::Gap { .. } => {
                Msg::Said(Level::Note, in_the_chat(&event.human()))
            }
            _ => return,
        };
        self.tell(msg).await;
    }
}
